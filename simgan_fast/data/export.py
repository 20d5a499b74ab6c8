"""Writers of finished sets: a PNG folder with labels.csv, or a packed set, behind one interface."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Protocol

import numpy as np
from PIL import Image

from simgan_fast.data import labels_csv
from simgan_fast.data.checks import checked_images, checked_labels, checked_name, checked_widths
from simgan_fast.data.packed_format import REJECTS_FILE, rejects_text
from simgan_fast.data.packed_writer import PackedWriter
from simgan_fast.data.readers.folder import LABELS_FILE, SUFFIXES
from simgan_fast.errors import InputError
from simgan_fast.files import folder_written_whole

FORMATS = ("png", "arrow")
PNG_KINDS = ((1, "uint8"), (3, "uint8"), (1, "uint16"))  # channels, dtype
COMPRESSION = 1  # of zlib's 0..9


class SetWriter(Protocol):
    """What every writer does. The output appears when the `with` block ends well, or not at all."""

    def __enter__(self) -> SetWriter: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

    def add(
        self,
        images: np.ndarray,
        names: Sequence[str],
        labels: Mapping[str, np.ndarray] | None = None,
        source: str | Sequence[str] = "",
    ) -> None:
        """Append images [m, c, h, w] with their names [m] and labels (each [m, k])."""

    def reject(self, file: str, reason: str) -> None:
        """List `file` in rejects.csv: it is not in the set, for `reason`."""


def open_writer(
    out: str | Path,
    format: str = "png",
    *,
    shape: Sequence[int],
    labels: Mapping[str, int] | None = None,
    dtype: str = "uint8",
) -> SetWriter:
    """Return the writer for `format`: "png" (PNG files and labels.csv) or "arrow" (a packed set).

    `out`: a new or empty folder. `shape`: (channels, height, width). `labels`: how many numbers
    each label has. `dtype`: "uint8" or "uint16". Raises InputError for another format, and where
    the format cannot hold the shape.

    >>> with open_writer("refined", "png", shape=(1, 35, 55), labels={"gaze": 3}) as writer:
    ...     writer.add(images, names, {"gaze": gaze})
    """
    if format == "png":
        return PngWriter(out, shape, labels, dtype)
    if format == "arrow":
        return PackedWriter(out, shape, labels, dtype)
    raise InputError(f"format is {format!r}: want one of {', '.join(FORMATS)}.")


def png_name(name: str) -> str:
    """The file of an image: 'a/b.png' for 'a/b.jpg', 'a/b.c.png' for 'a/b.c'."""
    path = PurePosixPath(name)
    if path.suffix.lower() == ".png":
        return path.as_posix()
    stem = path.stem if path.suffix.lower() in SUFFIXES else path.name
    return path.with_name(f"{stem}.png").as_posix()


class PngWriter:
    """Writes PNG files under the images' own names, sub-folders kept, labels.csv, rejects.csv.

    Grey (1 channel, uint8 or uint16) or RGB (3 channels, uint8). The folder appears whole when the
    `with` block ends well; its single files are not synced to the disk one by one, which would cost
    more than all the rest.

    Raises InputError for other channels, wrong labels, a name that comes twice, or two names that
    would be one file.
    """

    def __init__(
        self,
        out: str | Path,
        shape: Sequence[int],
        labels: Mapping[str, int] | None = None,
        dtype: str = "uint8",
    ) -> None:
        self.path = Path(out)
        self.shape = tuple(shape)
        self.labels = checked_widths(labels or {})
        self.dtype = np.dtype(dtype)
        if (self.shape[0], dtype) not in PNG_KINDS:
            raise InputError(
                f"PNG files cannot hold {self.shape[0]} channels of {dtype}: want 1 or 3 of "
                "uint8, or 1 of uint16; the format 'arrow' holds any number."
            )
        self._written: dict[str, str] = {}  # file -> name
        self._rejects: list[tuple[str, str]] = []
        self._context: AbstractContextManager[Path] = folder_written_whole(self.path)

    def __enter__(self) -> PngWriter:
        self._folder = self._context.__enter__()
        try:
            self._open_labels()
        except BaseException as failure:
            self._context.__exit__(type(failure), failure, failure.__traceback__)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if self._table is not None:
                self._table.close()
            if kind is None:
                self._finish()
        except BaseException as failure:
            self._context.__exit__(type(failure), failure, failure.__traceback__)
            raise
        self._context.__exit__(kind, error, trace)

    def add(
        self,
        images: np.ndarray,
        names: Sequence[str],
        labels: Mapping[str, np.ndarray] | None = None,
        source: str | Sequence[str] = "",  # noqa: ARG002  (a PNG folder has no place for it)
    ) -> None:
        """Write `images` [m, c, h, w] under `names` [m] with `labels` (each [m, k])."""
        images = checked_images(images, self.shape, self.dtype, names)
        columns = checked_labels(labels or {}, self.labels, names)
        files = [self._file_for(name) for name in names]
        for image, file in zip(images, files, strict=True):
            self._write(image, self._folder / file)
        if self._table is not None:
            csv.writer(self._table, lineterminator="\n").writerows(labels_csv.rows(files, columns))

    def reject(self, file: str, reason: str) -> None:
        """List `file` in rejects.csv, which is there only if something was rejected."""
        self._rejects.append((file, reason))

    def _finish(self) -> None:
        if not self._written:
            raise InputError(
                f"no image was added to {self.path}: an image folder holds at least one."
            )
        if self._rejects:
            text = rejects_text(self._rejects)
            (self._folder / REJECTS_FILE).write_text(text, encoding="utf-8")

    def _open_labels(self) -> None:
        self._table = None
        if self.labels:
            self._table = open(self._folder / LABELS_FILE, "w", newline="", encoding="utf-8")  # noqa: SIM115
            csv.writer(self._table, lineterminator="\n").writerow(labels_csv.header(self.labels))

    def _file_for(self, name: str) -> str:
        file = png_name(checked_name(name))
        if file in self._written:
            raise InputError(
                f"the names {self._written[file]!r} and {name!r} both become the file {file!r}: "
                "rename one of them, or write the format 'arrow'."
            )
        self._written[file] = name
        return file

    @staticmethod
    def _write(image: np.ndarray, file: Path) -> None:
        pixels = image[0] if len(image) == 1 else image.transpose(1, 2, 0)
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.ascontiguousarray(pixels)).save(file, "PNG", compress_level=COMPRESSION)
