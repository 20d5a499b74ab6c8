"""The facts about a set as lines of text."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import numpy as np

from simgan_fast.data.set_facts import Bin, LabelFacts
from simgan_fast.data.suspicions import POSITIONS
from simgan_fast.jobs.show import SetFacts

BAR = 30  # characters of the longest bar of the histogram
SINGLE = 4  # numbers of a label that get a line each; of more they share one


def facts_table(facts: SetFacts) -> str:
    """The facts for people, aligned."""
    channels, height, width = facts.shape
    count = len(facts.shown)
    kind = f"{channels} channel{'s' * (channels > 1)}, {facts.dtype}"
    lines = [
        f"images      {facts.images} of {height}x{width}, {kind}; {facts.rejects} rejected",
        f"values      {facts.low} to {facts.high}, mean {facts.mean:.1f}, spread {facts.spread:.1f}",
        *_histogram_lines(facts.histogram),
        *_label_lines(facts.labels),
    ]
    if facts.pitch and facts.yaw:
        ranges = [f"{low:.1f} to {high:.1f}" for low, high in (facts.pitch, facts.yaw)]
        lines.append(f"gaze        pitch {ranges[0]}, yaw {ranges[1]} degrees")
    lines.append(f"suspicions  {'' if facts.suspicions else 'none'}".rstrip())
    for suspicion in facts.suspicions:
        names = f": {', '.join(suspicion.examples)}" if suspicion.examples else ""
        lines.append(f"  - {suspicion.sentence}{names}")
    return "\n".join([*lines, f"sheet       {facts.sheet}, {count} image{'s' * (count > 1)}"])


def _histogram_lines(bins: list[Bin]) -> list[str]:
    total, most = sum(bin.count for bin in bins), max(bin.count for bin in bins)
    digits = len(str(bins[-1].last))
    return [
        f"  {bin.first:>{digits}} - {bin.last:>{digits}}  {bin.count / total:6.1%}  "
        f"{'#' * math.ceil(bin.count / most * BAR)}"
        for bin in bins
    ]


def _label_lines(labels: Mapping[str, LabelFacts]) -> list[str]:
    """A line for each number of a label of few, x and y of positions, one line for other labels of many."""
    rows = [row for name, facts in labels.items() for row in _label_rows(name, facts)]
    if not rows:
        return ["labels      none"]
    wide = max(len(name) for name, _ in rows) + 2
    lines = [f"{'labels':<{max(wide, 12)}}{'min':>12}{'mean':>12}{'max':>12}"]
    for name, values in rows:
        texts = "".join(f"{'-' if x is None else f'{x:.4g}':>12}" for x in values)
        lines.append(f"  {name:<{max(wide, 12) - 2}}{texts}")
    return lines


def _label_rows(name: str, facts: LabelFacts) -> Iterator[tuple[str, list[float | None]]]:
    """Texts with smallest, mean and largest."""
    width = len(facts.min)
    shown = name if name.isprintable() else ascii(name)
    if name in POSITIONS and width % 2 == 0:
        groups = {f"{shown} x": range(0, width, 2), f"{shown} y": range(1, width, 2)}
    elif 1 < width <= SINGLE:
        groups = {f"{shown}.{i}": range(i, i + 1) for i in range(width)}
    else:
        groups = {shown if width == 1 else f"{shown} ({width})": range(width)}
    for text, columns in groups.items():
        known = [i for i in columns if facts.mean[i] is not None]
        pairs = ((facts.min, np.min), (facts.mean, np.mean), (facts.max, np.max))
        yield (
            text,
            [
                float(reduce([values[i] for i in known])) if known else None
                for values, reduce in pairs
            ],
        )
