"""Bytes that are almost those of a whole file."""

from __future__ import annotations

from random import Random

# What parsers stumble over: numbers at the ends of their types and beyond, nesting, other types, quotes, encodings.
TOKENS = [
    *(b"0", b"-1", b"1e400", b"-0.0", b"NaN", b"nan", b"Infinity", b"1" * 400, b"9223372036854775808"),
    *(b"4294967295", b"1e9", b"1_0", b"0x10", b"null", b"true", b"[]", b"{}", b'""', b"[" * 3000),
    *(b'{"a":' * 3000, b'"', b"'", b'"""', b",", b":", b"=", b"\n", b"\r", b"\r\n", b"\0", b"\\", b"\\ud800"),
    *(b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"..", b"/", b"../x", b"\xff\xff\xff\x7f"),
    *(b"\xff\xff\xff\xff", b"\x00\x00\x00\x80", bytes(64), b"inf", b"1979-05-27", b"[a]\n", b"#", b"\xd9\xa3"),
]  # fmt: skip


def damaged(data: bytes, random: Random) -> bytes:
    """`data` with one change: bytes written, put in, left out, repeated, swapped, or the end cut off."""
    at = random.randint(0, len(data))
    other = min(len(data), at + random.choice((1, 2, 4, 16, 64)))
    new = (
        random.choice(TOKENS) if random.random() < 0.7 else random.randbytes(random.randint(1, 16))
    )
    kind = random.randrange(7)
    if kind == 0:
        return data[:at] + new + data[at + len(new) :]
    if kind == 1:
        return data[:at] + new + data[at:]
    if kind == 2:
        return data[:at] + new + data[other:]
    if kind == 3:
        return data[:at] + data[other:]
    if kind == 4:
        return data[:other] + data[at:]
    if kind == 5:
        third = random.randint(0, len(data))
        return data[:at] + data[third : third + other - at] + data[other:]
    return data[:at]
