"""Labels as JSON: of one image an object such as {"gaze": [0.1, -0.2, -0.97], "pitch": 0.2}, and files of many."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from simgan_fast.data.labels_csv import LARGEST, NAME_HEADERS, check_match
from simgan_fast.errors import InputError

# What json.loads and float make of text that is no JSON, nested a million deep, or of numbers without end.
BROKEN = (ValueError, RecursionError, OverflowError)


def label_numbers(value: object) -> list[float] | None:
    """The numbers [k] of a label's value, a number or a list of them; None where it is something else.

    Raises ValueError for a number that float32 cannot hold, or is not finite.

    >>> label_numbers([1, 2.5]), label_numbers("left")
    ([1.0, 2.5], None)
    """
    values: list[Any] = value if isinstance(value, list) else [value]
    if not values or any(type(x) not in (int, float) for x in values):  # True is no number here
        return None
    if not all(abs(x) <= LARGEST for x in values):  # NaN too
        raise ValueError(f"{str(values)[:80]} is not finite")
    return [float(x) for x in values]


def object_labels(text: str | bytes) -> tuple[dict[str, list[float]], dict[str, str]]:
    """Of one image's JSON object, the members that are numbers or lists of numbers, and those that are texts.

    Raises one of `BROKEN` for other text.
    """
    content = json.loads(text)
    if not isinstance(content, dict):
        raise ValueError("it is no object")
    numbers = {name: label_numbers(value) for name, value in content.items()}
    texts = {name: value for name, value in content.items() if isinstance(value, str)}
    return {name: values for name, values in numbers.items() if values is not None}, texts


def read_labels_json(file: str | Path, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Read the labels of the images `names` from one file: label -> float32 [n, k], in the order of `names`.

    The file holds {"a.png": {"gaze": [...], "pitch": 0.2}, ...} or [{"name": "a.png", "gaze": [...]}, ...], with `file`
    or `filename` in place of `name` if you like. Every image has the same labels, of the same lengths.

    Raises InputError where the entries are not exactly the images, or hold anything but finite numbers.
    """
    file = Path(file)
    try:
        text = file.read_text(encoding="utf-8-sig")
        content = json.loads(text, object_pairs_hook=_unique)
    except (OSError, *BROKEN) as error:
        raise InputError(
            f"the labels {file} cannot be read ({error}): want a JSON file in UTF-8."
        ) from None
    found: dict[str, Mapping[str, list[float]]] = {}
    for name, entry in _entries(file, content):
        if name in found:
            raise InputError(f"{file}: a second entry for {name!r}: keep one.")
        found[name] = _numbers(file, name, entry)
    check_match(file, names, found)
    return _columns(file, [(name, found[name]) for name in names])


def _unique(pairs: Sequence[tuple[str, object]]) -> dict[str, object]:
    """An object of the file; json would keep the last of two members of one name."""
    content = dict(pairs)
    if len(content) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{twice!r} comes twice in one object")
    return content


def _entries(file: Path, content: object) -> Iterator[tuple[str, Mapping[str, object]]]:
    """Name and labels of each image, from either form."""
    if isinstance(content, dict) and all(isinstance(entry, dict) for entry in content.values()):
        yield from content.items()
        return
    if not isinstance(content, list):
        raise InputError(
            f'{file} is no table of labels: want {{"a.png": {{"gaze": [...]}}}} or [{{"name": "a.png", '
            '"gaze": [...]}].'
        )
    for i, record in enumerate(content):
        entry = dict(record) if isinstance(record, dict) else {}
        name = next((entry.pop(key) for key in NAME_HEADERS if key in entry), None)
        if not isinstance(name, str):
            raise InputError(f"{file}, entry {i}, has no name: want {NAME_HEADERS[0]!r} in it.")
        yield name, entry


def _numbers(file: Path, name: str, entry: Mapping[str, object]) -> dict[str, list[float]]:
    numbers = {}
    for label, value in entry.items():
        try:
            values = label_numbers(value)
        except BROKEN:
            values = None
        if values is None:
            raise InputError(
                f"{file}: {label!r} of {name!r} is {str(value)[:80]!r}: want a finite number or a list of "
                "them, so mend or remove it."
            )
        numbers[label] = values
    return numbers


def _columns(
    file: Path, entries: Sequence[tuple[str, Mapping[str, list[float]]]]
) -> dict[str, np.ndarray]:
    first, measure = entries[0]
    if not measure:
        raise InputError(f"{file} has no label for {first!r}: want at least one, or no such file.")
    widths = {label: len(values) for label, values in measure.items()}
    for name, entry in entries:
        if {label: len(values) for label, values in entry.items()} != widths:
            raise InputError(
                f"{file}: the labels of {name!r} are not those of {first!r} ({sorted(widths)}): every image "
                "needs the same, of the same lengths."
            )
    return {
        label: np.array([entry[label] for _, entry in entries], np.float32) for label in measure
    }
