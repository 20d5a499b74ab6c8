"""Every way out for a finished set, behind one interface. The writers are in `simgan_fast.data.writers`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Protocol

import numpy as np

from simgan_fast.data.packed_writer import PackedWriter
from simgan_fast.data.writers.hdf5 import Hdf5Writer
from simgan_fast.data.writers.image_folder import JpegWriter, PngWriter
from simgan_fast.data.writers.parquet import ParquetWriter
from simgan_fast.data.writers.webdataset import WebDatasetWriter
from simgan_fast.errors import InputError


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
        """List `file` among the rejects: it is not in the set, for `reason`."""


FORMATS: Mapping[str, Callable[..., SetWriter]] = {
    "png": PngWriter,
    "jpeg": JpegWriter,
    "arrow": PackedWriter,
    "webdataset": WebDatasetWriter,
    "hdf5": Hdf5Writer,
    "parquet": ParquetWriter,
}


def open_writer(
    out: str | Path,
    format: str = "png",
    *,
    shape: Sequence[int],
    labels: Mapping[str, int] | None = None,
    dtype: str = "uint8",
) -> SetWriter:
    """Return the writer for `format`, one of `FORMATS`; docs/file_formats.md has what each writes.

    `out`: a new or empty folder; of hdf5 a new file. `shape`: (channels, height, width). `labels`: how many numbers
    each label has. `dtype`: "uint8" or "uint16". Raises InputError for another format, and where
    the format cannot hold the shape.

    >>> with open_writer("refined", "png", shape=(1, 35, 55), labels={"gaze": 3}) as writer:
    ...     writer.add(images, names, {"gaze": gaze})
    """
    if format not in FORMATS:
        raise InputError(f"format is {format!r}: want one of {', '.join(FORMATS)}.")
    return FORMATS[format](out, shape, labels, dtype)
