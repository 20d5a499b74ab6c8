"""Pieces of a page, out of text that may come from anywhere: all of it is escaped here."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Mapping, Sequence

MOST_SETS = 30  # of an evaluation, in a table and a chart
UNITS = (("h", 3600.0), ("min", 60.0))


def escaped(text: object) -> str:
    """`text` as it is read, whatever is in it."""
    return html.escape(str(text))


def paragraph(text: str) -> str:
    return f"<p>{escaped(text)}</p>"


def table(head: Sequence[object], rows: Iterable[Sequence[object]]) -> str:
    """A table; cells after the first are numbers, or texts of the same role, and stand to the right."""
    columns = "".join(f"<th>{escaped(cell)}</th>" for cell in head)
    lines = "".join(
        f"<tr>{''.join(f'<td>{escaped(cell)}</td>' for cell in row)}</tr>" for row in rows
    )
    start = f"<thead><tr>{columns}</tr></thead>" if head else ""
    return f'<div class="wide"><table>{start}<tbody>{lines}</tbody></table></div>'


def section(title: str, *parts: str) -> str:
    """A part of the page under a heading; nothing where all parts are empty."""
    inner = "".join(parts)
    return f"<section><h2>{escaped(title)}</h2>{inner}</section>" if inner else ""


def number(value: float | None, digits: int = 4) -> str:
    """A value with about `digits` digits, and a dash where there is none.

    >>> number(1234.5678), number(None)
    ('1,235', '-')
    """
    if value is None:
        return "-"
    if isinstance(value, int) or (math.isfinite(value) and abs(value) >= 10**digits):
        return f"{value:,.0f}"
    return f"{value:,.{digits}g}"


def duration(seconds: float | None) -> str:
    """Seconds as people say them.

    >>> duration(14.25), duration(169.2), duration(8000)
    ('14 s', '2.8 min', '2.2 h')
    """
    if seconds is None or not math.isfinite(seconds):
        return "-"
    for unit, size in UNITS:
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"


def plus_minus(summary: Mapping[str, float], percent: bool = False) -> str:
    """Mean and standard deviation, as 7.17 ± 0.16."""
    mean, spread = float(summary["mean"]), float(summary["std"])
    return f"{100 * mean:.1f} ± {100 * spread:.1f} %" if percent else f"{mean:.2f} ± {spread:.2f}"
