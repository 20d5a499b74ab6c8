"""A training run as one page to read and to pass on."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from simgan_fast.errors import InputError
from simgan_fast.files import require_output_file, write_json, written_whole
from simgan_fast.jobs.info import info
from simgan_fast.reporting.measures import read_measure
from simgan_fast.reporting.page import page
from simgan_fast.reporting.run_facts import RunFacts, run_facts


def report(
    run: str | Path,
    out: str | Path | None = None,
    *,
    measures: Mapping[str, str | Path] | None = None,
    json_out: str | Path | None = None,
) -> Path:
    """Write what is known of the run in the folder `run` as one HTML file that needs nothing beside it.

    Args:
        run: a run folder, finished or not, or a demo's folder.
        out: the page, whose name ends in .html; `run`/report.html by default. One from before is replaced.
        measures: name -> a JSON file that `evaluate` wrote; a demo's own are shown by themselves.
        json_out: a file, whose name ends in .json, for the facts; not those of `measures`.

    Returns the path of the page. Raises InputError where `run` is no run folder, of another version or damaged, a
    file of `measures` is not JSON, or a name does not end as it should.

    >>> report("runs/first", measures={"gaze": "gaze.json"})  # doctest: +SKIP
    PosixPath('runs/first/report.html')
    """
    run, named = Path(run), {name: Path(file) for name, file in (measures or {}).items()}
    out = Path(out) if out is not None else run / "report.html"
    json_file = Path(json_out) if json_out is not None else None
    of_demo = _demo_files(run)
    facts = run_facts(run / "train" if of_demo else run)
    _check_files(run, out, json_file, [*of_demo.values(), *named.values()])
    record = read_measure(of_demo.pop("record")) if of_demo else {}
    content = {name: read_measure(file) for name, file in {**of_demo, **named}.items()}
    text = page(facts, versions=info(), measures=content, seconds=_seconds(record))
    with written_whole(out) as stream:
        stream.write(text.encode("utf-8", "replace"))  # a path may hold what is no text
    if json_file is not None:
        write_json(json_file, _plain(facts))
    return out


def _demo_files(folder: Path) -> dict[str, Path]:
    """What a demo keeps beside its run, the folder `train`; nothing where `folder` is no demo's."""
    names = {
        "record": "demo.json",
        "demo": "summary.json",
        "gaze evaluation": "gaze.json",
        "pose evaluation": "pose.json",
    }
    found = {name: folder / file for name, file in names.items() if (folder / file).is_file()}
    return found if "record" in found and not (folder / "config.toml").exists() else {}


def _check_files(run: Path, out: Path, json_file: Path | None, read: list[Path]) -> None:
    """Raise InputError where a name cannot be written, is to be read, or lies in a folder of the run."""
    for file, end in ((out, ".html"), (json_file, ".json")):
        if file is None:
            continue
        if file.suffix.lower() != end:
            raise InputError(f"{file} cannot be written: want a name that ends in {end}.")
        require_output_file(file)
        if not file.parent.is_dir():
            raise InputError(f"{file} cannot be written: {file.parent} is no folder.")
        if file.resolve() in {path.resolve() for path in read}:
            raise InputError(f"{file} is to be read: name another file to write.")
        if run.resolve() in file.resolve().parents[1:]:
            raise InputError(f"{file} would lie among the run's own files: name one beside them.")


def _seconds(record: Mapping[str, Any]) -> dict[str, float]:
    """The seconds of a demo's parts that its record holds."""
    seconds = record.get("seconds")
    found = seconds.items() if isinstance(seconds, dict) else ()
    return {name: float(value) for name, value in found if isinstance(value, int | float)}


def _plain(facts: RunFacts) -> dict[str, Any]:
    """The facts as JSON has them: null where a number is not there."""
    known = {name: getattr(facts, name) for name in (f.name for f in dataclasses.fields(facts))}
    return {
        **known,
        "folder": str(facts.folder),
        "config": dataclasses.asdict(facts.config),
        "sets": [dataclasses.asdict(images) for images in facts.sets],
        "phases": [dataclasses.asdict(phase) for phase in facts.phases],
        "metrics": {
            name: [value if np.isfinite(value) else None for value in column.tolist()]
            for name, column in facts.metrics.items()
        },
        "selection": [
            [update, value if np.isfinite(value) else None] for update, value in facts.selection
        ],
        "samples": [[update, str(path)] for update, path in facts.samples],
    }
