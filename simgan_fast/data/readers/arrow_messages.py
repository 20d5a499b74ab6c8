"""What a message of an Arrow file holds, and its compressed buffers unpack to, before pyarrow unpacks them."""

from __future__ import annotations

import struct
from typing import Any


def rows_and_size(message: Any) -> tuple[int, int]:
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
