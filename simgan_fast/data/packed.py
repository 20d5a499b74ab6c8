"""A packed set: images of one shape with names and labels, in Arrow files that are memory-mapped.

The folder holds `shard-00000.arrow`, ... (Arrow IPC file format, uncompressed, one record batch
each), `set.json` and `rejects.csv`. docs/file_formats.md describes them for other programs.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from simgan_fast.data.packed_format import (
    REJECTS_FILE,
    SET_FILE,
    Shape,
    checked_shape,
    file_sha256,
    read_description,
    shard_schema,
)
from simgan_fast.errors import InputError
from simgan_fast.stalls import moved, reading

if TYPE_CHECKING:
    import torch


def is_packed(path: str | Path) -> bool:
    """Whether `path` is a folder that says it is a packed set, of whatever version."""
    return (Path(path) / SET_FILE).is_file()


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
    with reading(str(path)):
        info = read_description(path / SET_FILE)
        shape = checked_shape(info["shape"])
        schema = shard_schema(shape, np.dtype(info["dtype"]), info["labels"])
        batches = []
        for shard in info["shards"]:
            batches.append(open_shard(path / shard["file"], schema, shard["count"]))
            moved()
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

    @property
    def nbytes(self) -> int:
        """Bytes of all images' pixels."""
        return len(self) * int(np.prod(self.shape)) * np.dtype(self.dtype).itemsize

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
        """Read all images into one tensor, uint8 or uint16 [n, c, h, w]."""
        return self.read_shards(range(len(self._batches)))

    def read_shards(self, shards: Sequence[int]) -> torch.Tensor:
        """Read the images of some shards, one after the other, into one tensor.

        Not by way of the memory map: each page of it that was touched counts as memory of the process.
        """
        import torch

        counts = [len(self._batches[i]) for i in shards]
        images = np.empty((sum(counts), *self.shape), self.dtype)
        ends = np.cumsum(counts)
        for i, count, end in zip(shards, counts, ends, strict=True):
            file = self.path / self.info["shards"][i]["file"]
            with reading(str(file)):
                _read_images(file, images[end - count : end])
        return torch.from_numpy(images)

    def verify(self, progress: Callable[[int], None] = lambda _: None) -> None:
        """Raise InputError unless each shard's SHA-256 is that of set.json; reads all of them.

        `progress`: told how many images more were read.
        """
        wrong = []
        for shard in self.info["shards"]:
            if file_sha256(self.path / shard["file"]) != shard["sha256"]:
                wrong.append(shard["file"])
            progress(shard["count"])
        if wrong:
            more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
            raise InputError(
                f"{', '.join(wrong[:3])}{more} of {self.path} "
                f"{'is' if len(wrong) == 1 else 'are'} not what was written (another SHA-256 than in "
                f"{SET_FILE}): copy the set again, or make it again."
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
        columns = [batch.column(column) for batch in self._batches]
        try:
            for part in columns:
                part.validate(full=True)
        except pa.ArrowException as error:
            raise InputError(
                f"the column {column} of {self.path} is damaged ({error}): make the packed set again."
            ) from None
        return [text for part in columns for text in part.to_pylist()]

    def _label(self, name: str, width: int) -> np.ndarray:
        parts = [batch.column(f"label:{name}").flatten().to_numpy() for batch in self._batches]
        return np.concatenate(parts).reshape(len(self), width)


def open_shard(file: Path, schema: pa.Schema, count: int) -> pa.RecordBatch:
    """The rows of a shard, memory-mapped."""
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
        batch.validate()  # not of every text: that would read them all (see _strings)
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


def _read_images(file: Path, out: np.ndarray) -> None:
    """Fill `out` [m, c, h, w] with the images of a shard, which lie in its file as they are."""
    try:
        with pa.memory_map(str(file)) as source, open(file, "rb", buffering=0) as stream:
            batch = pa.ipc.open_file(source).get_batch(0)
            source.seek(0)
            start = source.read_buffer(1).address
            stream.seek(batch.column("image").buffers()[1].address - start)
            rest = out.reshape(-1).view(np.uint8).data
            while rest and (count := stream.readinto(rest)):
                rest = rest[count:]
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"the shard {file} cannot be read any more ({error}).") from None
    if rest:
        raise InputError(f"the shard {file} has become shorter since it was opened.")
