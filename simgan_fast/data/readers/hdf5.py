"""An HDF5 file with `images` [n, c, h, w], and `names`, `labels/<name>` and `rejects` where it has them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from simgan_fast.data.checks import checked_name
from simgan_fast.data.readers import PixelLabelsByName, Sample, left_out, needed, reason_of
from simgan_fast.errors import InputError

FORMAT = "simgan_fast.images"
VERSION = 1
ROWS = 64  # read at a time: they may all name one long text, and take up its memory each
LARGEST = 256 << 20  # bytes of an image, or of what HDF5 unpacks at a time
DEFLATED = 1100  # bytes that a byte of a file can stand for, about
REJECTS = ("rejects/file", "rejects/reason")
DAMAGED = (OSError, LookupError, ValueError, TypeError, RuntimeError, AttributeError, MemoryError)


class Hdf5Reader(PixelLabelsByName):
    """The images of a file that `export` wrote as hdf5, or of another with the same data sets.

    `images`: uint8 or uint16 [n, c, h, w]. `names`: texts [n]; without it the names are numbers, "000000.png" and on.
    `labels/<name>`: numbers [n, k] or [n]. What `rejects/file` and `rejects/reason` say goes to rejects.csv again.

    Raises InputError for a file that cannot be read or holds something else, and where h5py is not installed.

    >>> reader = Hdf5Reader("refined.h5")  # doctest: +SKIP
    """

    def __init__(self, file: str | Path) -> None:
        self.file = Path(file)
        self._h5py = needed("h5py", "h5py")
        try:
            with self._h5py.File(self.file, "r") as content:
                tables = self._tables(content)
                self._count = len(tables["images"])
                self._rejected = len(tables.get(REJECTS[0], ()))
                self.labels = {
                    label: math.prod(tables[f"labels/{label}"].shape[1:])
                    for label in content.get("labels", ())
                }
        except DAMAGED as error:
            raise self._unusable(error) from None

    @property
    def title(self) -> str:
        return str(self.file)

    def __len__(self) -> int:
        return self._count + self._rejected

    def __iter__(self) -> Iterator[Sample]:
        try:
            with self._h5py.File(self.file, "r") as content:
                tables = self._tables(content)
                for start in range(0, self._count, ROWS):
                    yield from self._samples(tables, slice(start, start + ROWS))
                for start in range(0, self._rejected, ROWS):
                    rows = slice(start, start + ROWS)
                    columns = (tables[name].asstr()[rows] for name in REJECTS)
                    for name, reason in zip(*columns, strict=True):
                        yield left_out(name, reason, self.title)
        except DAMAGED as error:
            raise self._unusable(error) from None

    def _samples(self, tables: Mapping[str, Any], rows: slice) -> Iterator[Sample]:
        images = tables["images"][rows].transpose(0, 2, 3, 1)  # [m, h, w, c]
        digits = max(6, len(str(self._count)))
        names = [f"{i:0{digits}d}.png" for i in range(rows.start, rows.start + len(images))]
        if "names" in tables:
            names = tables["names"].asstr()[rows]
        labels = {label: tables[f"labels/{label}"][rows] for label in self.labels}
        for i, (name, image) in enumerate(zip(names, images, strict=True)):
            try:
                own = {label: values[i].reshape(-1) for label, values in labels.items()}
                yield Sample(checked_name(name), image, own, self.title)
            except InputError:
                yield left_out(ascii(name), "its name is no relative path", self.title)

    def _tables(self, content: Any) -> dict[str, Any]:
        """The data sets of the file by their path, checked."""
        if content.attrs.get("format") == FORMAT.encode() and content.attrs["version"] != VERSION:
            raise ValueError(f"version {content.attrs['version']}: this program reads {VERSION}")
        images = self._table(content, "images")
        if images.dtype not in (np.uint8, np.uint16) or images.ndim != 4 or 0 in images.shape:
            raise ValueError(f"images is {images.dtype} {list(images.shape)}")
        counts = {f"labels/{label}": len(images) for label in content.get("labels", ())}
        if "names" in content:
            counts["names"] = len(images)
        if "rejects" in content:
            counts |= dict.fromkeys(REJECTS, len(content[REJECTS[0]]))
        tables = {name: self._column(content, name, count) for name, count in counts.items()}
        return {"images": images} | tables

    def _column(self, content: Any, name: str, count: int) -> Any:
        """Labels or texts of `count` rows."""
        column = self._table(content, name)
        is_label = name.startswith("labels/")
        is_text = self._h5py.check_string_dtype(column.dtype) is not None
        number = np.issubdtype(column.dtype, np.integer) or np.issubdtype(column.dtype, np.floating)
        fits = number and column.ndim in (1, 2) if is_label else is_text and column.ndim == 1
        if not fits or len(column) != count:
            raise ValueError(f"{name} is {column.dtype} {list(column.shape)}")
        return column

    def _table(self, content: Any, name: str) -> Any:
        """The data set `name`, once it is known to lie in this file and to be as large as it says."""
        table = content[name]
        if not isinstance(table, self._h5py.Dataset) or table.file.filename != content.filename:
            raise ValueError(f"{name} is no data set of this file")
        if table.external or table.is_virtual:
            raise ValueError(f"{name} lies in another file")
        row = max(math.prod(table.shape[1:]), math.prod(table.chunks or ())) * table.dtype.itemsize
        if row > LARGEST or table.nbytes > DEFLATED * self.file.stat().st_size:
            raise ValueError(f"{name} says that it is {list(table.shape)}, which is too large")
        return table

    def _unusable(self, error: Exception) -> InputError:
        return InputError(
            f"{self.file} cannot be read ({reason_of(error)}): want an HDF5 file with images, uint8 or uint16 "
            "[n, c, h, w], and names and labels of as many rows."
        )
