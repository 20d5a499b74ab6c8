"""What compressed parts of Parquet and Arrow files unpack to, by their own headers, before pyarrow unpacks them.

pyarrow sets aside what a Parquet page's header says, up to 2 GiB, whatever the file's footer says of the column: a
file of 32 KB with a footer of 100 bytes took 2 GB (measured, pyarrow 26). So does a compressed buffer of Arrow. No
codec writes beyond what was set aside, which makes these headers, and they alone, a bound.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

DICTIONARY_PAGE = 2
USUAL_HEADER, LARGEST_HEADER = 1 << 10, 16 << 20  # bytes of a page's header, the latter as in Arrow
I32, STRUCT = 5, 12  # types of Thrift's compact protocol
LONGEST_NUMBER = 10  # bytes of a number of 64 bits in it


@dataclass(frozen=True)
class Page:
    """A page of a Parquet column: whether it is the dictionary, its bytes unpacked, how many values it has."""

    is_dictionary: bool
    size: int
    values: int


def parquet_pages(file: int, start: int, end: int) -> Iterator[Page]:
    """The pages between two places of an open `file`; ValueError or LookupError where it is damaged."""
    while start < end:
        header, length = _page_header(file, start)
        kind, size, stored = (header.get(number) for number in (1, 2, 3))
        if kind is None or size is None or stored is None or min(size, stored) < 0:
            raise ValueError(f"no page at byte {start}")
        # Number 1 of the header of a data page (5), a dictionary (7), and a data page of version 2 (8).
        values = [header[number].get(1) or 0 for number in (5, 7, 8) if header.get(number)]
        yield Page(kind == DICTIONARY_PAGE, size, max(values, default=0))
        start += length + stored


def _page_header(file: int, start: int) -> tuple[dict[int, Any], int]:
    """The fields of a page's header, and its bytes."""
    for most in (USUAL_HEADER, LARGEST_HEADER):
        reader = _Thrift(os.pread(file, most, start))
        try:
            return reader.fields(), reader.place
        except IndexError:
            continue
    raise ValueError(f"no page at byte {start}")


class _Thrift:
    """Thrift's compact protocol, as far as a page's header needs it."""

    def __init__(self, data: bytes) -> None:
        self.data, self.place = data, 0

    def fields(self) -> dict[int, Any]:
        """The next struct: number -> number (of 32 bits) or struct; None for what is of another type."""
        found: dict[int, Any] = {}
        number = 0
        while head := self._byte():
            number = number + (head >> 4) if head >> 4 else self._signed()
            if number in found:
                raise ValueError("a page's header has a field twice")
            found[number] = None if head & 15 in (1, 2) else self._value(head & 15)
        return found

    def _value(self, kind: int) -> Any:
        if kind == STRUCT:
            return self.fields()
        if kind in (4, I32, 6):
            value = self._signed()
            if kind == I32 and not -(1 << 31) <= value < 1 << 31:
                raise ValueError("a page's header has a number of more than 32 bits")
            return value if kind == I32 else None
        if kind in (9, 10):
            self._list()
        elif kind in (1, 2, 3, 7):  # a boolean of a list, a byte, a double
            self.place += 8 if kind == 7 else 1
        elif kind == 8:
            length = self._unsigned()
            self.place += length
        else:
            raise ValueError(f"a page's header has a field of type {kind}")
        return None

    def _list(self) -> None:
        head = self._byte()
        count = self._unsigned() if head >> 4 == 15 else head >> 4
        for _ in range(count):
            self._value(head & 15)
            if self.place > len(self.data):
                raise IndexError

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
        raise ValueError("a page's header has a number without end")

    def _signed(self) -> int:
        value = self._unsigned()
        return (value >> 1) ^ -(value & 1)


def arrow_rows_and_size(message: Any) -> tuple[int, int]:
    """Rows of a record batch or dictionary, and the bytes that its compressed buffers unpack to.

    From the message's FlatBuffer (Message.fbs of Apache Arrow), which pyarrow has verified but does not show.
    """
    data, body = message.metadata.to_pybytes(), message.body
    batch = _follow(data, _field(data, _follow(data, 0), 2))
    if message.type == "dictionary":
        batch = _follow(data, _field(data, batch, 1))
    length, buffers = _field(data, batch, 0), _field(data, batch, 2)
    rows = struct.unpack_from("<q", data, length)[0] if length else 0
    if not _field(data, batch, 3) or not buffers:  # not compressed: mapped as they lie
        return rows, 0
    vector, size = _follow(data, buffers), 0
    (count,) = struct.unpack_from("<I", data, vector)
    for start, stored in struct.iter_unpack("<qq", data[vector + 4 : vector + 4 + 16 * count]):
        if stored > 0:  # eight bytes in front of it say how long it gets, -1 that it is not packed
            size += max(struct.unpack_from("<q", body, start)[0], 0)
    return rows, size


def _follow(data: bytes, place: int) -> int:
    """Where the offset at `place` of a FlatBuffer leads."""
    return place + int(struct.unpack_from("<I", data, place)[0])


def _field(data: bytes, table: int, number: int) -> int:
    """The place of a field of a FlatBuffer's table; 0 where it is left out."""
    entries = table - struct.unpack_from("<i", data, table)[0]
    if 4 + 2 * number >= struct.unpack_from("<H", data, entries)[0]:
        return 0
    offset = int(struct.unpack_from("<H", data, entries + 4 + 2 * number)[0])
    return table + offset if offset else 0
