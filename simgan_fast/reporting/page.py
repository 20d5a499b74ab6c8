"""The report of a run as one HTML page that needs nothing beside it, no script and no network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from simgan_fast.config import PRESETS
from simgan_fast.reporting.curves import curves
from simgan_fast.reporting.html_parts import (
    duration,
    escaped,
    number,
    paragraph,
    section,
    table,
)
from simgan_fast.reporting.measures import measure_html
from simgan_fast.reporting.run_facts import PhaseTime, RunFacts
from simgan_fast.reporting.sample_pictures import sample_pictures
from simgan_fast.reporting.style import STYLE

PHASES = {  # as people read them
    "pretrain_refiner": "refiner alone, to begin with",
    "pretrain_discriminator": "discriminator alone, after that",
    "train": "Algorithm 1",
}
MOST_WARNINGS, LONGEST = 100, 1000  # that are shown, and letters of each
# Even what slipped through all escaping could fetch and run nothing.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def page(
    run: RunFacts,
    *,
    versions: Mapping[str, str],
    measures: Mapping[str, Mapping[str, Any]],
    seconds: Mapping[str, float],
) -> str:
    """The whole page.

    Args:
        run: the run.
        versions: name -> text, of what wrote the page.
        measures: name -> numbers, as `read_measure` gives them.
        seconds: of a demo's parts, by name; empty for other runs.
    """
    name = escaped("/".join(run.folder.resolve().parts[-2:]))  # a demo's own is always `train`
    body = "".join(
        [
            f"<header><h1>Training run {name}</h1>{_state(run)}{_cards(run)}</header>",
            section("Warnings", _warnings(run.warnings)),
            section("Measures", *(_measure(key, value) for key, value in measures.items())),
            section("Samples", sample_pictures(run.samples)),
            section("Curves", curves(run)),
            section("Time", _times(run.phases), _parts(seconds)),
            section("Images", _sets(run)),
            section("Settings", _settings(run)),
            section("Versions", _versions(versions)),
        ]
    )
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Run {name}</title><style>{STYLE}</style></head><body>{body}</body></html>\n"
    )


def _state(run: RunFacts) -> str:
    """How far the run is, and which refiner was selected, if one was."""
    if run.selected is None:
        return paragraph(_progress(run))
    update, value = run.selected
    by = run.config.select_by
    return paragraph(
        f"{_progress(run)} The refiner selected by {by} is that of update {update:,}, with {value:.4g}: best/."
    )


def _progress(run: RunFacts) -> str:
    if run.finished:
        return f"Finished after {run.total:,} updates."
    where = (
        "there is no checkpoint yet"
        if run.checkpoint is None
        else f"the newest checkpoint is that of update {run.checkpoint:,}"
    )
    return f"Not finished: update {run.update:,} of {run.total:,}; {where}."


def _cards(run: RunFacts) -> str:
    known = [phase.seconds for phase in run.phases if phase.seconds is not None]
    facts = {
        "updates": f"{run.update:,}",
        "of training": duration(sum(known)) if known else "-",
        "images/s": number(_last(run, "images_per_second"), 3),
        "mean change, of 2": number(_last(run, "mean_abs_change"), 3),
        "right on refined patches": _percent(_last(run, "accuracy_refined")),
        "warning" if len(run.warnings) == 1 else "warnings": str(len(run.warnings)),
    }
    cards = [
        f"<div><b>{escaped(value)}</b><span>{escaped(key)}</span></div>"
        for key, value in facts.items()
    ]
    return f'<div class="cards">{"".join(cards)}</div>'


def _last(run: RunFacts, name: str) -> float | None:
    """The mean of the last ten values that are known: one mini-batch says little."""
    values = run.metrics[name]
    known = values[np.isfinite(values)][-10:]
    return float(known.mean()) if len(known) else None


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.0%}"


def _warnings(warnings: Sequence[tuple[int, str]]) -> str:
    lines = [
        f"<p><b>update {update:,}</b>: {escaped(text[:LONGEST])}</p>"
        for update, text in warnings[:MOST_WARNINGS]
    ]
    if len(warnings) > MOST_WARNINGS:
        lines.append(paragraph(f"and {len(warnings) - MOST_WARNINGS} more"))
    return f'<div class="warnings">{"".join(lines)}</div>' if lines else ""


def _measure(name: str, content: Mapping[str, Any]) -> str:
    return f"<h3>{escaped(name)}</h3>{measure_html(content)}"


def _times(phases: Sequence[PhaseTime]) -> str:
    head = ("phase", "updates", "of", "time", "images/s", "waiting for images")
    rows = [
        (
            PHASES[phase.name],
            f"{phase.done:,}",
            f"{phase.total:,}",
            duration(phase.seconds),
            number(phase.images_per_second, 3),
            "-" if phase.feed_share is None else f"{phase.feed_share:.1%}",
        )
        for phase in phases
    ]
    return table(head, rows)


def _parts(seconds: Mapping[str, float]) -> str:
    """Seconds of a demo's parts, `train` with all that is around it."""
    if not seconds:
        return ""
    rows = [(name, duration(value)) for name, value in seconds.items()]
    return "<h3>The demo's parts</h3>" + table((), rows)


def _sets(run: RunFacts) -> str:
    head = ("side", "images", "size", "channels", "values", "digest", "folder")
    rows = [
        (
            images.side,
            number(images.images) if images.shape else "-",
            "{1}x{2}".format(*images.shape) if images.shape else "-",
            images.shape[0] if images.shape else "-",
            images.dtype or "-",
            images.digest[:16],
            images.path,
        )
        for images in run.sets
    ]
    problems = [
        paragraph(f"The {images.side} images: {images.problem.rstrip('.')}.")
        for images in run.sets
        if images.problem
    ]
    sides = f'<div class="texts">{table(head, rows)}</div>'
    return sides + paragraph(_drawn(run)) + "".join(problems)


def _drawn(run: RunFacts) -> str:
    """How long the training is for so many real images, the measure of docs/training.md."""
    feed = f"The feed was {run.feed}. " if run.feed else ""
    real = run.sets[1].images
    if not real:
        return feed
    times = run.config.steps * run.config.batch_size / real
    return f"{feed}Steps times mini-batch are {times:.3g} times the real images; 3 to 16 times has worked."


def _settings(run: RunFacts) -> str:
    usual = asdict(PRESETS[run.preset])
    lines = [
        f'<div class="changed"><span>{escaped(name)} <small>{escaped(usual[name])} in the preset</small></span>'
        f"<span>{escaped(value)}</span></div>"
        if name in run.changed
        else f"<div><span>{escaped(name)}</span><span>{escaped(value)}</span></div>"
        for name, value in asdict(run.config).items()
    ]
    count = {0: "No setting differs", 1: "1 setting differs"}.get(
        len(run.changed), f"{len(run.changed)} settings differ"
    )
    text = f"{count} from the preset {run.preset}, the nearest one."
    return f'{paragraph(text)}<div class="settings">{"".join(lines)}</div>'


def _versions(versions: Mapping[str, str]) -> str:
    note = paragraph("Of the program that wrote this page.")
    return f'{note}<div class="texts">{table((), versions.items())}</div>'
