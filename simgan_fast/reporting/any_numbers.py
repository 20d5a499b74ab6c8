"""Numbers of any measure as tables, by the names that they have in its JSON file."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from simgan_fast.reporting.html_parts import number, paragraph, table

MOST_ROWS = 200  # of a table
MOST_COLUMNS = 12  # sets side by side; more are listed
DEPTH = 6  # of numbers within numbers that are still shown
LONGEST = 200  # letters of a text

Rows = dict[str, str]


def numbers_html(content: Mapping[str, Any]) -> str:
    """Every number by its path; of lists only how long they are.

    What holds the same numbers for each of some names becomes a table with a column per name, and what lies beside it
    and is alike, as a reference, a column too.
    """
    left, tables = dict(content), []
    for name, value in content.items():
        columns = _compared(value)
        if columns and name in left:
            same = next(iter(columns.values())).keys()
            alike = [key for key in left if key != name and _rows(content[key]).keys() == same]
            columns = {**{other: _rows(content[other]) for other in alike}, **columns}
            tables.append(table(("", *columns), _side_by_side(columns)))
            left = {key: rest for key, rest in left.items() if key not in (name, *alike)}
    rows = list(_flat(left))
    more = [(f"and {len(rows) - MOST_ROWS} more", "")] if len(rows) > MOST_ROWS else []
    if rows:
        tables.append(table((), [*rows[:MOST_ROWS], *more]))
    return "".join(tables) or paragraph("There is no number in it.")


def _compared(value: object) -> dict[str, Rows]:
    """A column for each of the names in `value`, nothing where they do not hold the same numbers."""
    if not isinstance(value, dict) or not 1 <= len(value) <= MOST_COLUMNS:
        return {}
    columns = {name: _rows(inner) for name, inner in value.items()}
    first = next(iter(columns.values()))
    alike = all(column.keys() == first.keys() for column in columns.values())
    return columns if alike and 1 <= len(first) <= MOST_ROWS else {}


def _side_by_side(columns: Mapping[str, Rows]) -> Iterator[list[str]]:
    for row in next(iter(columns.values())):
        yield [row, *(column[row] for column in columns.values())]


def _rows(value: object) -> Rows:
    """The numbers in `value` by their paths; none where it is one itself, or a mean with its deviation."""
    return dict(_flat(value)) if isinstance(value, dict) and not _is_pair(value) else {}


def _flat(
    content: Mapping[str, Any], prefix: str = "", depth: int = 0
) -> Iterator[tuple[str, str]]:
    for name, value in content.items():
        label = f"{prefix}{name}"
        if _is_pair(value):
            yield label, f"{_text(value['mean'])} ± {_text(value['std'])}"
        elif isinstance(value, dict) and depth < DEPTH:
            yield from _flat(value, f"{label} / ", depth + 1)
        elif isinstance(value, list | dict):
            yield label, f"{len(value)} values" if len(value) != 1 else "1 value"
        elif value is not None:
            yield label, _text(value)


def _is_pair(value: object) -> bool:
    return isinstance(value, dict) and {"mean", "std"} <= value.keys()


def _text(value: object) -> str:
    if isinstance(value, float) and math.isfinite(value):
        return number(value)
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 10**15:
        return number(value)
    return str(value)[:LONGEST]
