"""Parquet and Arrow files as record batches, in bounded memory, whatever a file says of itself."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from simgan_fast.data.readers.arrow_messages import message_places, rows_and_size
from simgan_fast.data.readers.parquet_pages import Chunk, pages, row_groups
from simgan_fast.errors import InputError
from simgan_fast.stalls import reading

PARQUET = ".parquet"
SUFFIXES = (PARQUET, ".arrow", ".feather", ".ipc")
ROWS = 64  # in memory at a time, at most
BATCH = 128 << 20  # bytes of them, unless a single row takes more
LARGEST = (
    256 << 20
)  # bytes of pages, or of a record batch, that are unpacked at a time: pyarrow takes 3 times as many
LONGEST = (
    32 << 20
)  # numbers in the lists of a row group, as a single row may hold all: pyarrow takes 18 bytes for one
RATIO = 10  # what is larger than these is read if the file holds a tenth of it, as it does of honest images
BUFFER = 1 << 20  # bytes read from the disk at a time
ARROW = b"ARROW1"  # a file with a footer begins with it, a stream with its first message
END = b"\xff\xff\xff\xff\0\0\0\0"  # of a stream of Arrow messages
LFS = b"version https://git-lfs"
_DAMAGED = (
    pa.ArrowException,
    OSError,
    EOFError,
    ValueError,
    LookupError,
    RecursionError,
    struct.error,
)


class _TooLarge(Exception):
    """What a part of a file would take."""


class Table:
    """One file: `schema`, `count` of rows, and the rows in batches.

    Raises InputError where it is damaged or of another kind, or a part of it would unpack to more than `LARGEST` bytes
    and more than `RATIO` times what it takes in the file; of a Parquet file `batches` finds that out.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self.is_parquet = file.suffix.lower() == PARQUET
        with reading(str(file)), self._explained():
            if not os.path.isfile(file):  # opening a pipe would wait for ever
                raise ValueError("there is no file of this name")
            with open(file, "rb") as stream:
                if stream.read(len(LFS)) == LFS:
                    raise ValueError("a pointer of Git LFS: run 'git lfs pull'")
            read = _parquet_contents if self.is_parquet else _arrow_contents
            self.schema, self.count = read(file)
            self.columns = list(self.schema.names)  # fails now where one is not UTF-8
            # An honest image takes more than a byte; a crafted file can repeat a row a billion times.
            if self.count > file.stat().st_size:
                raise ValueError(f"{self.count} rows in {file.stat().st_size} bytes")

    def batches(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Yield the rows in order, at most `ROWS` at a time, of `columns` alone.

        Of a struct in a Parquet file one field may be asked for, as in "image.path".
        """
        with self._explained():
            read = _parquet_batches if self.is_parquet else _arrow_batches
            for batch in read(self.file, list(columns)):
                batch.validate(full=True)
                for start in range(0, len(batch), ROWS):
                    yield batch.slice(start, ROWS)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """InputError for whatever a damaged or another file makes of its reading."""
        try:
            yield
        except InputError:
            raise
        except _TooLarge as error:
            raise InputError(
                f"a part of {self.file} {error}: write it with smaller row groups or batches."
            ) from None
        except _DAMAGED as error:
            reason = str(error).partition("\n")[0] or type(error).__name__
            raise InputError(
                f"{self.file} cannot be read ({reason}): want a whole Parquet or Arrow file."
            ) from None


def _parquet_contents(file: Path) -> tuple[pa.Schema, int]:
    with open(file, "rb") as stream:
        count = sum(rows for rows, _ in row_groups(stream.fileno()))
    with pq.ParquetFile(file) as content:
        return content.schema_arrow, count


def _parquet_batches(file: Path, columns: list[str]) -> Iterator[pa.RecordBatch]:
    with (
        open(file, "rb") as stream,
        pq.ParquetFile(
            file, buffer_size=BUFFER, pre_buffer=False, page_checksum_verification=True
        ) as content,
    ):
        prefixes = tuple(f"{name}." for name in columns)
        for i, (_, chunks) in enumerate(row_groups(stream.fileno())):
            read = [chunk for chunk in chunks if f"{chunk.path}.".startswith(prefixes)]
            # A value that a page holds once may stand in every row, so count with the largest that there can be.
            rows = max(1, min(ROWS, BATCH // _largest_page(stream.fileno(), read)))
            yield from content.iter_batches(rows, [i], columns, use_threads=False)


def _largest_page(file: int, chunks: Sequence[Chunk]) -> int:
    """Bytes of the largest page of the columns, once what is unpacked at a time is known to be bounded."""
    largest, together, numbers = 1, 0, 0
    for chunk in chunks:
        dictionary = data = 0
        for page in pages(file, chunk):
            if page.is_dictionary:
                dictionary = max(dictionary, page.size)
            else:
                data, numbers = max(data, page.size), numbers + page.values
        largest, together = max(largest, dictionary, data), together + dictionary + data
    stored = sum(chunk.size for chunk in chunks)
    _check_size(together, stored)
    if numbers > max(LONGEST, RATIO * stored):
        raise _TooLarge(f"has lists of {numbers} numbers in {stored} bytes")
    return largest


def _arrow_contents(file: Path) -> tuple[pa.Schema, int]:
    """Schema and rows by the messages' heads; the bodies stay unread, but for what they say they unpack to."""
    with pa.memory_map(str(file)) as source:
        is_file = source.read(len(ARROW)) == ARROW
        source.seek(0)
        schema, messages = (_file_messages if is_file else _stream_messages)(source)
        count = kept = stored = total = 0
        for message in messages:
            if message.type not in ("record batch", "dictionary"):
                raise ValueError(f"a {message.type} among the record batches")
            rows, size = rows_and_size(message)
            _check_size(kept + size, stored + message.body.size)
            total += message.body.size
            if message.type == "dictionary":
                kept, stored = kept + size, stored + message.body.size
            else:
                count += rows
        if total > source.size():  # or the footer could name a part a thousand times
            raise ValueError("its parts take more than the file")
        return schema, count


def _file_messages(source: Any) -> tuple[pa.Schema, Iterator[Any]]:
    schema = pa.ipc.open_file(source).schema

    def messages() -> Iterator[Any]:
        for place in message_places(source):
            source.seek(place)
            yield pa.ipc.read_message(source)

    return schema, messages()


def _stream_messages(source: Any) -> tuple[pa.Schema, Iterator[Any]]:
    messages = pa.ipc.MessageReader.open_stream(source)
    first = next(messages, None)
    if first is None or first.type != "schema":  # read_schema ends the program on another kind
        raise ValueError("it does not begin with a schema")

    def rest() -> Iterator[Any]:
        yield from messages
        source.seek(source.tell() - len(END))
        if source.read(len(END)) != END:  # cut between two messages
            raise ValueError("cut off: it has no end")

    return pa.ipc.read_schema(first), rest()


def _arrow_batches(file: Path, columns: list[str]) -> Iterator[pa.RecordBatch]:
    schema, _ = _arrow_contents(file)
    fields = [schema.get_field_index(name) for name in columns]
    options = pa.ipc.IpcReadOptions(included_fields=fields)
    with pa.memory_map(str(file)) as source:
        is_file = source.read(len(ARROW)) == ARROW
        source.seek(0)
        if is_file:
            reader = pa.ipc.open_file(source, options=options)
            yield from map(reader.get_batch, range(reader.num_record_batches))
        else:
            yield from pa.ipc.open_stream(source, options=options)


def _check_size(size: int, stored: int) -> None:
    if size > max(LARGEST, RATIO * stored):
        raise _TooLarge(f"unpacks from {stored} bytes to {size >> 20} MiB")
