"""A packed set: images of one shape with names and labels, in Arrow files that are memory-mapped.

The folder holds `shard-00000.arrow`, ... (Arrow IPC file format, uncompressed, one record batch
each), `set.json` and `rejects.csv`. docs/file_formats.md describes them for other programs.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from simgan_fast.data.checks import checked_images, checked_labels, checked_name, checked_widths
from simgan_fast.data.packed_format import (
    FORMAT,
    REJECTS_FILE,
    SET_FILE,
    VALUE_RANGE,
    VERSION,
    Shape,
    checked_shape,
    file_sha256,
    read_description,
    rejects_text,
    set_digest,
    shard_schema,
)
from simgan_fast.errors import InputError
from simgan_fast.files import folder_written_whole, written_whole

if TYPE_CHECKING:
    import torch

SHARD_BYTES = 64 << 20  # of images, held in memory until the shard is written


def is_packed(path: str | Path) -> bool:
    """Whether `path` is a folder that says it is a packed set, of whatever version."""
    return (Path(path) / SET_FILE).is_file()


class PackedWriter:
    """Writes a packed set. The folder appears when the `with` block ends well, or not at all.

    `path`: a new or empty folder. `shape`: (channels, height, width). `labels`: how many float32
    values each label has. `dtype`: "uint8" or "uint16". `shard_size`: images a shard (default: 64
    MiB of them). `origin`: any text that says what the set was made from, kept in set.json.

    Raises InputError for a wrong shape or dtype, for labels that are missing, of another size, or
    not finite, and for a name that comes twice.

    >>> with PackedWriter("eyes", shape=(1, 35, 55), labels={"gaze": 3}) as writer:
    ...     writer.add(images, names, {"gaze": gaze})  # uint8 [m, 1, 35, 55], m strings, [m, 3]
    """

    def __init__(
        self,
        path: str | Path,
        shape: Sequence[int],
        labels: Mapping[str, int] | None = None,
        dtype: str = "uint8",
        *,
        shard_size: int | None = None,
        origin: str = "",
    ) -> None:
        self.path = Path(path)
        self.shape = checked_shape(shape)
        self.labels = checked_widths(labels or {})
        self.origin = origin
        if dtype not in VALUE_RANGE:
            raise InputError(f"dtype is {dtype!r}: a packed set holds uint8 or uint16.")
        self.dtype = np.dtype(dtype)
        image_bytes = int(np.prod(self.shape)) * self.dtype.itemsize
        self._shard_size = shard_size or max(1, SHARD_BYTES // image_bytes)
        self._schema = shard_schema(self.shape, self.dtype, self.labels)
        self._names: set[str] = set()
        self._rejects: list[tuple[str, str]] = []
        self._shards: list[dict[str, Any]] = []
        self._pending: list[pa.RecordBatch] = []
        self._pending_count = 0
        self._context: AbstractContextManager[Path] = folder_written_whole(self.path)

    def __enter__(self) -> PackedWriter:
        self._folder = self._context.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            try:
                self._finish()
            except BaseException as failure:
                self._context.__exit__(type(failure), failure, failure.__traceback__)
                raise
        self._context.__exit__(kind, error, trace)

    @property
    def count(self) -> int:
        """Images added so far."""
        return len(self._names)

    def add(
        self,
        images: np.ndarray,
        names: Sequence[str],
        labels: Mapping[str, np.ndarray] | None = None,
        source: str | Sequence[str] = "",
    ) -> None:
        """Append `images` [m, c, h, w] with `names` [m], `labels` (each [m, k]) and a source."""
        images = checked_images(images, self.shape, self.dtype, names)
        sources = [source] * len(names) if isinstance(source, str) else list(source)
        if len(sources) != len(names):
            raise InputError(
                f"{len(sources)} sources came for {len(names)} images: give one, or one per image."
            )
        self._remember(names)
        columns = checked_labels(labels or {}, self.labels, names)
        batch = _record_batch(self._schema, images, names, columns, sources)
        self._pending.append(batch)
        self._pending_count += len(batch)
        while self._pending_count >= self._shard_size:
            self._write_shard(self._shard_size)

    def reject(self, file: str, reason: str) -> None:
        """List `file` in rejects.csv: it is not in the set, for `reason`."""
        self._rejects.append((file, reason))

    def _remember(self, names: Sequence[str]) -> None:
        for name in names:
            if checked_name(name) in self._names:
                raise InputError(
                    f"the name {name!r} comes twice: names identify images, so rename one of them, "
                    "or put the two sets into different sub-folders."
                )
            self._names.add(name)

    def _write_shard(self, count: int) -> None:
        table = pa.Table.from_batches(self._pending, schema=self._schema)
        file = f"shard-{len(self._shards):05d}.arrow"
        batch = table.slice(0, count).combine_chunks().to_batches()[0]
        with (
            written_whole(self._folder / file) as sink,
            pa.ipc.new_file(sink, self._schema) as writer,
        ):
            writer.write_batch(batch)
        self._shards.append(
            {"file": file, "count": count, "sha256": file_sha256(self._folder / file)}
        )
        self._pending = [rest for rest in table.slice(count).to_batches() if len(rest)]
        self._pending_count -= count

    def _finish(self) -> None:
        if self._pending_count:
            self._write_shard(self._pending_count)
        if not self._shards:
            raise InputError(f"no image was added to {self.path}: a packed set holds at least one.")
        rejects = rejects_text(self._rejects)
        description = json.dumps(self._description(), indent=1) + "\n"
        for name, text in ((REJECTS_FILE, rejects), (SET_FILE, description)):
            with written_whole(self._folder / name) as file:
                file.write(text.encode())

    def _description(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "version": VERSION,
            "count": len(self._names),
            "shape": list(self.shape),
            "dtype": self.dtype.name,
            "value_range": list(VALUE_RANGE[self.dtype.name]),
            "labels": self.labels,
            "origin": self.origin,
            "shards": self._shards,
            "digest": set_digest(self._shards),
        }


def open_packed(path: str | Path) -> PackedSet:
    """Open the packed set in the folder `path`; the images are not read before they are used.

    Raises InputError where the folder is not a packed set, is of another version, or lacks a whole
    shard.

    >>> open_packed("eyes").images(0, 16).shape
    (16, 1, 35, 55)
    """
    path = Path(path)
    if not path.is_dir():
        raise InputError(f"{path} is not a folder: a packed set is a folder with a {SET_FILE}.")
    if not is_packed(path):
        raise InputError(
            f"{path} is not a packed set (it has no {SET_FILE}): ingest the images first."
        )
    info = read_description(path / SET_FILE)
    shape = checked_shape(info["shape"])
    schema = shard_schema(shape, np.dtype(info["dtype"]), info["labels"])
    batches = [
        _open_shard(path / shard["file"], schema, shard["count"]) for shard in info["shards"]
    ]
    return PackedSet(path, info, batches)


class PackedSet:
    """A packed set on disk, memory-mapped. Made by `open_packed`; never changed.

    `path`, `shape` (c, h, w), `dtype` ("uint8" or "uint16"), `info` (set.json), `names`, `sources`
    (lists of n strings), `labels` (name -> float32 [n, k]), `rejects` ((file, reason) of what could
    not be read at ingest).
    """

    def __init__(self, path: Path, info: dict[str, Any], batches: list[pa.RecordBatch]) -> None:
        self.path = path
        self.info = info
        self.shape: Shape = checked_shape(info["shape"])
        self.dtype: str = info["dtype"]
        self._batches = batches
        # Shard i holds the images [ends[i], ends[i + 1]).
        self._ends = np.cumsum([0, *map(len, batches)])

    def __len__(self) -> int:
        return int(self._ends[-1])

    def images(self, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Return images [start, stop): [m, c, h, w], a read-only view, or a copy across shards."""
        start, stop, _ = slice(start, stop).indices(len(self))
        parts = [
            self._shard_images(i)[max(start - first, 0) : max(stop - first, 0)]
            for i, first in enumerate(self._ends[:-1])
            if start < self._ends[i + 1] and stop > first
        ]
        if not parts:
            return np.empty((0, *self.shape), self.dtype)
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def load(self) -> torch.Tensor:
        """Copy all images into one tensor, uint8 or uint16 [n, c, h, w]."""
        import torch

        images = np.empty((len(self), *self.shape), self.dtype)
        for i, first in enumerate(self._ends[:-1]):
            images[first : self._ends[i + 1]] = self._shard_images(i)
        return torch.from_numpy(images)

    def verify(self) -> None:
        """Raise InputError unless each shard's SHA-256 is that of set.json; reads all of them."""
        for shard in self.info["shards"]:
            if file_sha256(self.path / shard["file"]) != shard["sha256"]:
                raise InputError(
                    f"{self.path / shard['file']} is not the file that was written (its SHA-256 "
                    f"differs from {SET_FILE}): make the packed set again."
                )

    @cached_property
    def names(self) -> list[str]:
        return self._strings("name")

    @cached_property
    def sources(self) -> list[str]:
        return self._strings("source")

    @cached_property
    def labels(self) -> dict[str, np.ndarray]:
        return {name: self._label(name, width) for name, width in self.info["labels"].items()}

    @cached_property
    def rejects(self) -> list[tuple[str, str]]:
        try:
            with open(self.path / REJECTS_FILE, newline="", encoding="utf-8") as file:
                return [(name, reason) for name, reason in list(csv.reader(file))[1:]]
        except (OSError, ValueError) as error:
            raise InputError(
                f"{self.path / REJECTS_FILE} is missing or damaged ({error}): copy it again."
            ) from None

    def _shard_images(self, i: int) -> np.ndarray:
        data = self._batches[i].column("image").buffers()[1]
        count = len(self._batches[i])
        size = count * int(np.prod(self.shape))
        return np.frombuffer(data, self.dtype, size).reshape(count, *self.shape)

    def _strings(self, column: str) -> list[str]:
        return [text for batch in self._batches for text in batch.column(column).to_pylist()]

    def _label(self, name: str, width: int) -> np.ndarray:
        parts = [batch.column(f"label:{name}").flatten().to_numpy() for batch in self._batches]
        return np.concatenate(parts).reshape(len(self), width)


def _record_batch(
    schema: pa.Schema,
    images: np.ndarray,
    names: Sequence[str],
    labels: Mapping[str, np.ndarray],
    sources: Sequence[str],
) -> pa.RecordBatch:
    pixels = pa.py_buffer(np.array(images, order="C"))  # a copy: the caller may reuse its array
    columns = [
        pa.array(names, pa.string()),
        pa.Array.from_buffers(schema.field("image").type, len(names), [None, pixels]),
    ]
    for name, values in labels.items():
        flat = pa.array(values.reshape(-1), pa.float32())
        columns.append(
            pa.FixedSizeListArray.from_arrays(flat, type=schema.field(f"label:{name}").type)
        )
    columns.append(pa.array(sources, pa.string()))
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _open_shard(file: Path, schema: pa.Schema, count: int) -> pa.RecordBatch:
    if not file.is_file():
        raise InputError(
            f"the shard {file} is missing: copy the whole folder, or make the packed set again."
        )
    try:
        reader = pa.ipc.open_file(pa.memory_map(str(file)))
        if reader.num_record_batches != 1 or not reader.schema.equals(schema, check_metadata=True):
            raise InputError(
                f"the shard {file} does not hold what {SET_FILE} says: make the packed set again."
            )
        batch = reader.get_batch(0)
        batch.validate(full=True)
    except (pa.ArrowException, OSError) as error:
        raise InputError(
            f"the shard {file} is damaged or cut off ({error}): make the packed set again."
        ) from None
    if len(batch) != count or any(column.null_count for column in batch.columns):
        raise InputError(
            f"the shard {file} holds {len(batch)} images, not the {count} of {SET_FILE}: make it "
            "again."
        )
    return batch
