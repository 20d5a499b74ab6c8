"""What the messages of an Arrow file hold, and their compressed buffers unpack to, before pyarrow unpacks them.

From the FlatBuffers (Message.fbs and File.fbs of Apache Arrow), which pyarrow has verified but does not show.
"""

from __future__ import annotations

import struct
from typing import Any

TAIL = 10  # bytes behind the footer: its length, ARROW1
BLOCK = 24  # bytes in the footer of each message: its place, the lengths of head and body


def rows_and_size(message: Any) -> tuple[int, int]:
    """Rows of a record batch or dictionary, and the bytes that its compressed buffers unpack to."""
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


def message_places(source: Any) -> list[int]:
    """Where the dictionaries and record batches of a file with a footer begin.

    Not one behind the other from the start: Polars' schema there is no message.
    """
    source.seek(source.size() - TAIL)
    length = int.from_bytes(source.read(4), "little")
    source.seek(source.size() - TAIL - length)
    data = source.read(length)
    footer, places = _follow(data, 0), []
    for number in (2, 3):
        if field := _field(data, footer, number):
            vector = _follow(data, field)
            (count,) = struct.unpack_from("<I", data, vector)
            blocks = data[vector + 4 : vector + 4 + BLOCK * count]
            places += [place for place, _, _ in struct.iter_unpack("<qqq", blocks)]
    return places


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
