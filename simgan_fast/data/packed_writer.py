"""Writes packed sets (simgan_fast.data.packed), whole or not at all; one that was stopped can be gone on with."""

from __future__ import annotations

import json
import logging
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from simgan_fast.data.checks import checked_images, checked_labels, checked_names, checked_widths
from simgan_fast.data.packed import open_shard
from simgan_fast.data.packed_format import (
    FORMAT,
    REJECTS_FILE,
    SET_FILE,
    VALUE_RANGE,
    VERSION,
    checked_shape,
    file_sha256,
    rejects_text,
    set_digest,
    shard_schema,
)
from simgan_fast.errors import InputError
from simgan_fast.files import LOCK_FILE, folder_resumable, folder_written_whole, written_whole

SHARD_BYTES = 16 << 20  # of images, held in memory until the shard is written
PART_FILE = "part.json"  # of a set that is not finished
SAVE_EVERY = 20.0  # seconds: the rows of a shard that fills slowly are saved before it is full

OWN = ("count", "shards", "digest")  # of a description: what each set has of its own

_log = logging.getLogger(__name__)


class Reject(NamedTuple):
    """A file that is not in the set; `before`: how many images came before it."""

    before: int
    file: str
    reason: str


class PackedWriter:
    """Writes a packed set. The folder appears when the `with` block ends well, or not at all.

    `path`: a new or empty folder. `shape`: (channels, height, width). `labels`: how many float32
    values each label has. `dtype`: "uint8" or "uint16". `shard_size`: images a shard (default: 16
    MiB of them). `origin`: any text that says what the set was made from, kept in set.json.

    `resume`: anything that JSON can hold; where it is given, a writer that is stopped leaves what it
    has in a hidden folder beside `path` (one that is killed, what it had 20 seconds before), and the next one with the
    same arguments goes on from there (`names`, `rejects`, and `note`: what that of the first was then, for
    whoever must know more), or begins anew. A second one at the same time is refused.

    `folder`: what makes the folder, where it is not to be as above.

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
        resume: Any = None,
        folder: AbstractContextManager[Path] | None = None,
    ) -> None:
        self.path = Path(path)
        self.shape = checked_shape(shape)
        self.labels = checked_widths(labels or {})
        self.origin = origin
        if dtype not in VALUE_RANGE:
            raise InputError(f"dtype is {dtype!r}: a packed set holds uint8 or uint16.")
        self.dtype = np.dtype(dtype)
        self._shard_size = shard_size or images_per_shard(self.shape, dtype)
        self._schema = shard_schema(self.shape, self.dtype, self.labels)
        self._names: dict[str, None] = {}  # in order
        self.rejects: list[Reject] = []
        self._shards: list[dict[str, Any]] = []
        self._unfinished: dict[str, Any] | None = None  # the file of saved rows of the next shard
        self._saved_at = time.monotonic()
        self._pending = _Pending(self._schema, self.shape, self.dtype, self.labels)
        self._resume = resume
        self.note: Any = None  # anything that JSON can hold
        self._context: AbstractContextManager[Path] = folder or (
            folder_written_whole(self.path)
            if resume is None
            else folder_resumable(self.path, lambda: self._kept > 0, notes=PART_FILE)
        )

    def __enter__(self) -> PackedWriter:
        self.folder = self._context.__enter__()
        if self._resume is not None:
            self._take_over()
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
        elif self._resume is not None and self.count and not issubclass(kind, InputError):
            with suppress(OSError):  # a full disk, perhaps: what was saved before stays
                self._save()
        self._context.__exit__(kind, error, trace)
        if kind is not None and self.folder.exists():
            _log.warning(
                "%d images are kept in %s: the same job goes on there.", self._kept, self.folder
            )

    @property
    def count(self) -> int:
        """Images added so far."""
        return len(self._names)

    @property
    def names(self) -> list[str]:
        """Their names, in order."""
        return list(self._names)

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
        start = 0
        while start < len(names):
            part = slice(start, start + self._shard_size - len(self._pending))
            self._pending.add(
                images[part],
                names[part],
                {name: values[part] for name, values in columns.items()},
                sources[part],
            )
            start = part.stop
            if len(self._pending) == self._shard_size:
                self._write_shard()
        if self._resume is not None and time.monotonic() - self._saved_at >= SAVE_EVERY:
            self._save()

    def reject(self, file: str, reason: str) -> None:
        """List `file` in rejects.csv: it is not in the set, for `reason`."""
        self.rejects.append(Reject(self.count, file, reason))

    def _remember(self, names: Sequence[str]) -> None:
        new = dict.fromkeys(checked_names(names))
        if len(new) < len(names) or not self._names.keys().isdisjoint(new):
            known = [*self._names, *names]
            twice = next(name for name, times in Counter(known).items() if times > 1)
            raise InputError(
                f"the name {twice!r} comes twice: names identify images, so rename one of them, "
                "or put the two sets into different sub-folders."
            )
        self._names.update(new)

    @property
    def _files(self) -> list[dict[str, Any]]:
        """What a writer that goes on finds: the shards, and the rows of the one that was not full."""
        return [*self._shards, *([self._unfinished] if self._unfinished else [])]

    @property
    def _kept(self) -> int:
        return sum(file["count"] for file in self._files)

    def _write_shard(self) -> None:
        shard = self._write(f"shard-{len(self._shards):05d}.arrow", self._pending.rows())
        self._pending.forget()
        self._shards.append(shard)
        if self._resume is not None:
            self._save()

    def _save(self) -> None:
        """Write the rows of the shard that is being filled, and note what is in files, for who goes on."""
        old, new = self._unfinished, None
        if len(self._pending):
            done = sum(shard["count"] for shard in self._shards) + len(self._pending)
            # A name of its own: until part.json names this file, it names the one before.
            new = self._write(f"unfinished-{done}.arrow", self._pending.rows())
        self._unfinished = new
        rejects = [reject for reject in self.rejects if reject.before <= self._kept]
        part = {"made_by": self._made_by(), "rejects": rejects, "note": self.note}
        part |= {"shards": self._shards, "unfinished": new}
        with written_whole(self.folder / PART_FILE) as file:
            file.write(json.dumps(part).encode())
        if old is not None and old != new:
            (self.folder / old["file"]).unlink(missing_ok=True)
        self._saved_at = time.monotonic()

    def _write(self, file: str, rows: pa.RecordBatch) -> dict[str, Any]:
        with (
            written_whole(self.folder / file) as sink,
            pa.ipc.new_file(sink, self._schema) as writer,
        ):
            writer.write_batch(rows)
        return {"file": file, "count": len(rows), "sha256": file_sha256(self.folder / file)}

    def _finish(self) -> None:
        if len(self._pending):
            self._write_shard()
        if not self._shards:
            raise InputError(f"no image was added to {self.path}: a packed set holds at least one.")
        rejects = rejects_text([(reject.file, reject.reason) for reject in self.rejects])
        description = json.dumps(self._description(), indent=1) + "\n"
        for name, text in ((REJECTS_FILE, rejects), (SET_FILE, description)):
            with written_whole(self.folder / name) as file:
                file.write(text.encode())

    def _made_by(self) -> Any:
        """What another writer must have in common to go on with the same set, as JSON gives it back."""
        plain = {name: value for name, value in self._description().items() if name not in OWN}
        return json.loads(json.dumps({**plain, "size": self._shard_size, "resume": self._resume}))

    def _take_over(self) -> None:
        """Go on with what an earlier writer has left in the folder, if it is of use; remove the rest."""
        part = _read_part(self.folder / PART_FILE)
        if part.get("made_by") == self._made_by():
            self._shards = [shard for shard, _ in self._whole(part["shards"])]
            unfinished = part.get("unfinished")
            if unfinished and len(self._shards) == len(part["shards"]):
                for file, rows in self._whole([unfinished]):  # one, or none where it is damaged
                    self._pending.take_over(rows)
                    self._unfinished = file
        rejects = [Reject(*reject) for reject in part.get("rejects", [])]
        self.rejects = [reject for reject in rejects if reject.before <= self.count and self.count]
        self.note = part["note"] if self.count else None
        self._remove_all_but({PART_FILE, LOCK_FILE, *(file["file"] for file in self._files)})

    def begin_anew(self) -> None:
        """Remove what an earlier writer has left."""
        self._names, self.rejects, self._shards, self.note = {}, [], [], None
        self._unfinished = None
        self._pending.forget()
        self._remove_all_but({LOCK_FILE})

    def _remove_all_but(self, kept: Set[str]) -> None:
        for file in self.folder.iterdir():
            if file.name not in kept:
                file.unlink()

    def _whole(
        self, files: Sequence[dict[str, Any]]
    ) -> Iterator[tuple[dict[str, Any], pa.RecordBatch]]:
        """The first of `files` that are there and whole, and their rows, whose names are known from then on."""
        for shard in files:
            file = self.folder / shard["file"]
            if not file.is_file() or file_sha256(file) != shard["sha256"]:
                return
            batch = open_shard(file, self._schema, shard["count"])
            self._remember(batch.column("name").to_pylist())
            yield shard, batch

    def _description(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "version": VERSION,
            "count": self.count,
            "shape": list(self.shape),
            "dtype": self.dtype.name,
            "value_range": list(VALUE_RANGE[self.dtype.name]),
            "labels": self.labels,
            "origin": self.origin,
            "shards": self._shards,
            "digest": set_digest(self._shards),
        }


def _read_part(file: Path) -> dict[str, Any]:
    """What is in part.json; nothing where it is missing or damaged."""
    try:
        part = json.loads(file.read_text(encoding="utf-8"))
        return part if {"made_by", "rejects", "note", "shards"} <= set(part) else {}
    except (OSError, ValueError, TypeError):
        return {}


def images_per_shard(shape: Sequence[int], dtype: str) -> int:
    """How many images a shard has where nothing else is asked for."""
    return max(1, SHARD_BYTES // (int(np.prod(shape)) * np.dtype(dtype).itemsize))


class _Pending:
    """The rows of a shard that is not written yet."""

    def __init__(
        self,
        schema: pa.Schema,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        labels: Mapping[str, int],
    ) -> None:
        self._schema = schema
        # Kept from shard to shard: new memory costs more than what is copied there.
        self._images = np.empty((images_per_shard(shape, dtype.name), *shape), dtype)
        self._widths = dict(labels)
        self.forget()

    def __len__(self) -> int:
        return self._count

    def forget(self) -> None:
        """Begin the next shard."""
        self._count = 0
        self._names: list[str] = []
        self._labels: dict[str, list[np.ndarray]] = {name: [] for name in self._widths}
        self._sources: list[str] = []

    def add(
        self,
        images: np.ndarray,
        names: Sequence[str],
        labels: Mapping[str, np.ndarray],
        sources: Sequence[str],
    ) -> None:
        """Copy rows behind those that there are."""
        stop = len(self) + len(names)
        if stop > len(self._images):
            more = np.empty_like(self._images, shape=(max(stop, 2 * len(self)), *images.shape[1:]))
            more[: len(self)] = self._images[: len(self)]
            self._images = more
        self._images[len(self) : stop] = images
        self._names += names
        self._sources += sources
        for name, values in labels.items():
            self._labels[name].append(values.copy())
        self._count = stop  # last: what Ctrl-C interrupted before does not count

    def take_over(self, rows: pa.RecordBatch) -> None:
        """Add those that `rows` gave another writer."""
        shape = (len(rows), *self._images.shape[1:])
        pixels = np.ndarray(shape, self._images.dtype, rows.column("image").buffers()[1])
        labels = {
            name: rows.column(f"label:{name}").flatten().to_numpy().reshape(len(rows), width)
            for name, width in self._widths.items()
        }
        names, sources = (rows.column(name).to_pylist() for name in ("name", "source"))
        self.add(pixels, names, labels, sources)

    def rows(self) -> pa.RecordBatch:
        """All of them; the pixels are valid until more are added."""
        pixels = pa.py_buffer(self._images[: len(self)])
        columns = [
            pa.array(self._names[: len(self)], pa.string()),
            pa.Array.from_buffers(self._schema.field("image").type, len(self), [None, pixels]),
        ]
        for name, parts in self._labels.items():
            flat = pa.array(np.concatenate(parts)[: len(self)].reshape(-1), pa.float32())
            kind = self._schema.field(f"label:{name}").type
            columns.append(pa.FixedSizeListArray.from_arrays(flat, type=kind))
        columns.append(pa.array(self._sources[: len(self)], pa.string()))
        return pa.RecordBatch.from_arrays(columns, schema=self._schema)
