"""Where the columns of a Parquet file lie, and what their pages unpack to, by Thrift's compact protocol.

pyarrow sets aside what a page's header says, up to 2 GiB, whatever the file's footer says of the column: a file of 32
KB whose footer says 100 bytes took 2 GB (measured, pyarrow 26). No codec writes beyond what was set aside, so these
headers, and they alone, are a bound. The footer is read here too, as pyarrow's own `metadata.row_group(0).column(0)`
ends the program where a column's statistics are damaged.

Format: parquet.thrift of apache/parquet-format.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

MAGIC = b"PAR1"
DICTIONARY_PAGE = 2
USUAL_HEADER = 1 << 10  # bytes of a page's header
LARGEST = 16 << 20  # bytes of one, as in Arrow, and of a footer
I32, I64, BINARY, LIST, STRUCT = 5, 6, 8, 9, 12  # types of the protocol
TEXTS, STRUCTS = 16 * LIST + BINARY, 16 * LIST + STRUCT  # lists of them
SKIPPED = {1: 1, 2: 1, 3: 1, 7: 8}  # bytes of a boolean in a list, a byte, a double
LONGEST_NUMBER = 10  # bytes of a number of 64 bits
Fields = dict[
    tuple[int, int], Any
]  # (number, type) -> value: one of another type is another field, as in Arrow


@dataclass(frozen=True)
class Chunk:
    """A column in a row group: its path ("image.bytes"), and the place of its pages in the file."""

    path: str
    start: int
    size: int


@dataclass(frozen=True)
class Page:
    """Whether a page is a dictionary, its bytes unpacked, how many values it has."""

    is_dictionary: bool
    size: int
    values: int


def row_groups(file: int) -> list[tuple[int, list[Chunk]]]:
    """Rows and columns of each row group of an open `file`; ValueError where it is damaged."""
    size = os.fstat(file).st_size
    end = os.pread(file, 8, max(size - 8, 0))
    length = int.from_bytes(end[:4], "little")
    if end[4:] != MAGIC or length > size - 12:
        raise ValueError("it has no Parquet footer")
    if length > LARGEST:
        raise ValueError(f"a footer of {length >> 20} MiB")
    try:
        footer, _ = _struct(os.pread(file, length, size - 8 - length))
    except IndexError:
        raise ValueError("its footer is damaged") from None
    groups = [
        (_number(group, 3, I64), [_chunk(column) for column in group.get((1, STRUCTS), ())])
        for group in footer.get((4, STRUCTS), ())
    ]
    # Or a few bytes could be the column of a thousand row groups.
    if sum(chunk.size for _, chunks in groups for chunk in chunks) > size:
        raise ValueError("its columns take more than the file")
    return groups


def _chunk(column: Fields) -> Chunk:
    content = column.get((3, STRUCT), {})
    path = b".".join(content.get((3, TEXTS), ())).decode()
    start, size = _number(content, 9, I64), _number(content, 7, I64)
    dictionary = content.get((11, I64), 0)
    return Chunk(path, dictionary if 0 < dictionary < start else start, size)


def pages(file: int, chunk: Chunk) -> Iterator[Page]:
    """The pages of a column of an open `file`; ValueError where it is damaged."""
    place, end = chunk.start, chunk.start + chunk.size
    while place < end:
        header, length = _page_header(file, place)
        kind, size, stored = (_number(header, number, I32) for number in (1, 2, 3))
        # Number 1 of the header of a data page (5), a dictionary (7), a data page of version 2 (8).
        inner = (header.get((number, STRUCT), {}) for number in (5, 7, 8))
        yield Page(kind == DICTIONARY_PAGE, size, max(x.get((1, I32), 0) for x in inner))
        place += length + stored


def _page_header(file: int, place: int) -> tuple[Fields, int]:
    for most in (USUAL_HEADER, LARGEST):
        data = os.pread(file, most, place)
        try:
            return _struct(data)
        except IndexError:
            continue
    raise ValueError(f"no page at byte {place}")


def _number(fields: Fields, number: int, kind: int) -> int:
    value: int = fields.get((number, kind), -1)
    if value < 0:
        raise ValueError("a size is missing or negative")
    return value


def _struct(data: bytes) -> tuple[Fields, int]:
    """A struct, and its bytes; IndexError where `data` ends before it."""
    reader = _Reader(data)
    return reader.struct(), reader.place


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.data, self.place = data, 0

    def struct(self) -> Fields:
        fields: Fields = {}
        number = 0
        while head := self._byte():
            kind = head & 15
            number = number + (head >> 4) if head >> 4 else self._signed()
            if kind == LIST:
                kind, value = self._list()
            else:
                value = None if kind in (1, 2) else self._value(kind)  # a boolean is its type
            if (number, kind) in fields:
                raise ValueError("a header has a field twice")
            fields[number, kind] = value
        return fields

    def _value(self, kind: int) -> Any:
        if kind == STRUCT:
            return self.struct()
        if kind in (4, I32, I64):
            value = self._signed()
            if kind == I32 and not -(1 << 31) <= value < 1 << 31:
                raise ValueError("a header has a number of more than 32 bits")
            return value
        if kind == BINARY:
            length = self._unsigned()
            self.place += length
            return self.data[self.place - length : self.place]
        if kind in (LIST, 10):
            return self._list()
        self.place += SKIPPED.get(kind, 0)
        if kind not in SKIPPED:
            raise ValueError(f"a header has a field of type {kind}")
        return None

    def _list(self) -> tuple[int, Any]:
        """The type of a list, and its values."""
        head = self._byte()
        count, kind = head >> 4, head & 15
        count = self._unsigned() if count == 15 else count
        if count > len(self.data) - self.place:  # each takes a byte at least
            raise IndexError
        return 16 * LIST + kind, [self._value(kind) for _ in range(count)]

    def _byte(self) -> int:
        self.place += 1
        return self.data[self.place - 1]

    def _unsigned(self) -> int:
        value = 0
        for i in range(LONGEST_NUMBER):
            byte = self._byte()
            value |= (byte & 127) << 7 * i
            if byte < 128:
                return value
        raise ValueError("a header has a number without end")

    def _signed(self) -> int:
        value = self._unsigned()
        return (value >> 1) ^ -(value & 1)
