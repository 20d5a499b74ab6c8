"""What a refiner's model card says of its training: settings, image sets, and measures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice
from pathlib import Path

import numpy as np

from simgan_fast.jobs.report import demo_files
from simgan_fast.reporting.any_numbers import MOST_ROWS, flat_numbers
from simgan_fast.reporting.measures import read_measure
from simgan_fast.reporting.run_facts import RunFacts, run_facts

_LAST = ("mean_abs_change", "diversity", "accuracy_refined", "accuracy_real", "decision_spread")


def model_card(run: str | Path, measures: Mapping[str, str | Path] | None = None) -> str:
    """Markdown for `Refiner.card`: how the run in the folder `run` trained, and what was measured of it.

    Args:
        run: a run folder, finished or not, or a demo's folder, whose measures are shown by themselves.
        measures: name -> a JSON file that `evaluate` wrote.

    Raises InputError where `run` is no run folder or damaged, or a file of `measures` is not JSON. Paths of image sets
    are left out but for their last part.

    >>> refiner = Refiner.from_pretrained("runs/first")  # doctest: +SKIP
    >>> refiner.card = model_card("runs/first", {"gaze": "gaze.json"})  # doctest: +SKIP
    >>> refiner.push_to_hub("me/eyes")  # doctest: +SKIP
    """
    run = Path(run)
    of_demo = demo_files(run)
    facts = run_facts(run / "train" if of_demo else run)
    of_demo.pop("record", None)
    parts = [_settings(facts), _last_numbers(facts)]
    for name, file in {**of_demo, **(measures or {})}.items():
        numbers = islice(flat_numbers(read_measure(file)), MOST_ROWS)
        parts.append(f"### Measured: {_cell(name)}\n\n{_table(('what', 'value'), numbers)}")
    return "\n\n".join(parts)


def _settings(facts: RunFacts) -> str:
    changed = ", ".join(f"{name} {getattr(facts.config, name)}" for name in facts.changed)
    rows = [
        ("preset", f"{facts.preset}, but {changed}" if changed else facts.preset),
        ("updates", f"{facts.update} of {facts.total}"),
    ]
    for images in facts.sets:
        known = f"{images.images} images {images.dtype} {list(images.shape)}"
        rows.append(
            (f"{images.side} images", images.problem or f"{Path(images.path).name}: {known}")
        )
    return _table(("training", ""), rows)


def _last_numbers(facts: RunFacts) -> str:
    found = {name: facts.metrics[name][np.isfinite(facts.metrics[name])] for name in _LAST}
    rows = [(name, f"{values[-1]:.3f}") for name, values in found.items() if len(values)]
    return _table(("last logged in training", "value"), rows)


def _table(head: tuple[str, str], rows: Iterable[tuple[str, str]]) -> str:
    lines = [" | ".join(map(_cell, row)) for row in (head, ("---", "---"), *rows)]
    return "\n".join(f"| {line} |" for line in lines)


def _cell(text: str) -> str:
    """`text` on one line, and nothing in it that ends a cell or is HTML."""
    return " ".join(text.replace("|", "\\|").replace("<", "&lt;").split())
