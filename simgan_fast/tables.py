"""A table of numbers and words: for people, for a document, for a program."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from simgan_fast.files import written_whole

Table = Sequence[Sequence[str]]  # the first row is the head


def plain(table: Table) -> str:
    """The table in columns.

    >>> print(plain([("set", "error"), ("raw", "9.1")]))
    set  error
    raw  9.1
    """
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in table)


def markdown(table: Table) -> str:
    """The table for a Markdown document.

    >>> print(markdown([("set", "error"), ("raw", "9.1")]))
    | set | error |
    |---|---|
    | raw | 9.1 |
    """
    head, *rows = (
        f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in table
    )
    return "\n".join([head, "|" + "---|" * len(table[0]), *rows])


def write_csv(path: str | Path, records: Sequence[Mapping[str, Any]]) -> None:
    """Write records, all with the same names, as CSV; None becomes an empty cell."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(records[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    write_text(path, text.getvalue())


def write_text(path: str | Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    with written_whole(path) as file:
        file.write(text.encode())
