"""Labels as a CSV file: one row per image, the image's name first.

A label of k > 1 numbers takes the columns `gaze.0`, `gaze.1`, ..., one of a single number plainly
`pitch`.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from simgan_fast.errors import InputError

NAME_HEADERS = ("name", "file", "filename")
DIGITS = 6  # of a column's index, at most
LARGEST = 3.4028235e38  # the largest float32 as `rows` writes it, a little more than it is


def header(labels: Mapping[str, int]) -> list[str]:
    """Return the first row of the file for `labels` (name -> how many numbers)."""
    columns = ["name"]
    for name, width in labels.items():
        columns += [name] if width == 1 else [f"{name}.{i}" for i in range(width)]
    return columns


def rows(names: Sequence[str], labels: Mapping[str, np.ndarray]) -> Iterator[list[str]]:
    """Yield a row per image, float32 in the shortest text that reads back as the same float32."""
    values = np.concatenate([np.empty((len(names), 0), np.float32), *labels.values()], axis=1)
    for name, row in zip(names, values, strict=True):
        yield [name, *map(str, row)]


def read_labels(file: str | Path, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Read the labels of the images `names`: label -> float32 [n, k], in the order of `names`.

    Raises InputError where the rows are not exactly the images, or a cell is not a finite number.
    """
    file = Path(file)
    try:
        with open(file, newline="", encoding="utf-8-sig") as stream:
            table = csv.reader(stream)
            columns = next(table, [])
            groups = _groups(file, columns)
            found = _read_rows(file, table, columns)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(
            f"the labels {file} cannot be read ({error}): want a CSV file in UTF-8."
        ) from None
    check_match(file, names, found)
    values = np.array([found[name] for name in names], np.float32).reshape(len(names), -1)
    return {label: np.ascontiguousarray(values[:, part]) for label, part in groups.items()}


def _groups(file: Path, columns: Sequence[str]) -> dict[str, slice]:
    """Which of the value columns (the name not counted) belong to each label."""
    if not columns or columns[0].strip().lower() not in NAME_HEADERS:
        raise InputError(
            f"{file} begins with the column {columns[:1]}: want 'name' (or 'file', 'filename') "
            "first, then the labels."
        )
    if len(columns) == 1:
        raise InputError(
            f"{file} has no label column: want at least one behind {columns[0]!r}, or no such file."
        )
    groups: dict[str, slice] = {}
    for i, column in enumerate(columns[1:]):
        label, _, index = column.strip().rpartition(".")
        if not (label and index.isascii() and index.isdigit() and len(index) <= DIGITS):
            label, index = column.strip(), "0"
        first = groups[label].start if label in groups else i
        if not label or int(index) != i - first or (label in groups and groups[label].stop != i):
            raise InputError(
                f"{file}: the column {column!r} is not in its place: a label of several numbers "
                f"takes the columns '{label or 'x'}.0', '{label or 'x'}.1', ... side by side, and "
                "no name comes twice."
            )
        groups[label] = slice(first, i + 1)
    return groups


def _read_rows(
    file: Path, table: Iterator[list[str]], columns: Sequence[str]
) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for line, row in enumerate(table, start=2):
        if not row:
            continue
        if len(row) != len(columns):
            raise InputError(
                f"{file}, line {line}: {len(row)} cells came, and the header has {len(columns)}."
            )
        if row[0] in found:
            raise InputError(f"{file}, line {line}: a second row for {row[0]!r}: keep one.")
        found[row[0]] = [_number(file, line, row[0], cell) for cell in row[1:]]
    return found


def _number(file: Path, line: int, name: str, cell: str) -> float:
    try:
        value = float("nan" if "_" in cell else cell)  # Python reads 1_0 as 10
    except ValueError:
        value = float("nan")
    if not abs(value) <= LARGEST:  # NaN too
        raise InputError(
            f"{file}, line {line}: the cell {cell!r} of {name!r} is not a finite number: mend or "
            "remove it."
        )
    return value


def check_match(file: Path, names: Sequence[str], found: Mapping[str, object]) -> None:
    """Raise InputError unless the names with labels, `found`, are exactly the images `names`."""
    missing = [name for name in names if name not in found]
    if missing:
        raise InputError(
            f"{file} has no row for {missing[0]!r} ({len(missing)} of {len(names)} images lack "
            "one): add the rows, or take the images out."
        )
    if len(found) > len(names):
        extra = found.keys() - set(names)
        first = next(name for name in found if name in extra)
        raise InputError(
            f"{file} has a row for {first!r}, which is not in the folder ({len(extra)} such rows): "
            "add the images, or take the rows out."
        )
