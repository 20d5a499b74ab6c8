"""One HDF5 file with images, names and labels."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from simgan_fast.data.packed_format import VALUE_RANGE
from simgan_fast.data.readers import needed
from simgan_fast.data.readers.hdf5 import FORMAT, REJECTS, VERSION
from simgan_fast.data.writers import CheckedWriter
from simgan_fast.errors import InputError
from simgan_fast.files import path_written_whole

CHUNK_BYTES = (
    512 << 10
)  # of images: HDF5 keeps 1 MiB of chunks in memory, a larger one is written over and over
CHUNK_ROWS = 256


class _Sink(io.FileIO):
    """A file that keeps a failed write to itself until `check`: what HDF5 cannot write it cannot close, and it crashes
    when the program ends.
    """

    failure: OSError | None = None

    def write(self, data: Any, /) -> int:
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[super().write(rest) :]
        except OSError as error:
            self.failure = error
        return len(data)

    def truncate(self, size: int | None = None, /) -> int:
        try:
            return super().truncate(size)
        except OSError as error:
            self.failure = error
            return size or 0

    def check(self) -> None:
        if self.failure is not None:
            raise self.failure


class Hdf5Writer(CheckedWriter):
    """Writes the file `out`: `images` [n, c, h, w], `names` [n] (UTF-8), `labels/<name>` float32 [n, k].

    `rejects/file` and `rejects/reason` are there if something was rejected. Nothing is compressed.

    Raises InputError as `CheckedWriter` does, for an `out` that exists, for a label that HDF5 cannot name, and where
    h5py is not installed.
    """

    def __init__(
        self,
        out: str | Path,
        shape: Sequence[int],
        labels: Mapping[str, int] | None = None,
        dtype: str = "uint8",
    ) -> None:
        super().__init__(out, shape, labels, dtype)
        self._h5py = needed("h5py", "h5py")
        for label in self.labels:
            if label == "." or {"/", "\0"} & set(label):
                raise InputError(
                    f"HDF5 cannot call a label {label!r}: rename it, or write the format 'arrow'."
                )

    @contextmanager
    def _opened(self) -> Iterator[None]:
        if self.path.exists() or self.path.is_symlink():
            raise InputError(
                f"{self.path} already exists: name a new file, hdf5 is one, or remove it."
            )
        with path_written_whole(self.path) as part, _Sink(part, "r+") as self._sink:
            with self._h5py.File(self._sink, "w") as self._file:
                self._describe()
                yield
                for name, texts in zip(REJECTS, zip(*self._rejects, strict=True), strict=False):
                    self._file.create_dataset(name, data=texts, dtype=self._h5py.string_dtype())
            self._sink.check()

    def _describe(self) -> None:
        """Make the data sets, without a row as yet."""
        self._file.attrs.update(
            {"format": np.bytes_(FORMAT), "version": VERSION, "shape": self.shape}
            | {"value_range": VALUE_RANGE[self.dtype.name]}
        )
        size = int(np.prod(self.shape)) * self.dtype.itemsize
        rows = min(max(1, CHUNK_BYTES // size), CHUNK_ROWS)
        self._images = self._growing(self._file, "images", self.dtype, self.shape, rows)
        self._strings = self._growing(self._file, "names", self._h5py.string_dtype())
        group = self._file.create_group("labels", track_order=True)
        self._columns = {
            label: self._growing(group, label, np.float32, (width,))
            for label, width in self.labels.items()
        }

    @staticmethod
    def _growing(
        group: Any, name: str, dtype: Any, shape: tuple[int, ...] = (), rows: int = CHUNK_ROWS
    ) -> Any:
        return group.create_dataset(
            name, (0, *shape), dtype, maxshape=(None, *shape), chunks=(rows, *shape)
        )

    def _write(
        self, images: np.ndarray, names: Sequence[str], labels: Mapping[str, np.ndarray]
    ) -> None:
        self._append(self._images, images)
        self._append(self._strings, list(names))
        for label, values in labels.items():
            self._append(self._columns[label], values)
        self._sink.check()

    @staticmethod
    def _append(dataset: Any, rows: Sequence[str] | np.ndarray) -> None:
        count = len(dataset)
        dataset.resize(count + len(rows), axis=0)
        dataset[count:] = rows
