"""The HDF5 files of Kaggle's 4quant/eye-gaze: gaze.h5, UnityEyes' renders, and real_gaze.h5, eyes of MPIIGaze, 35x55.

`/image/<name>` is a data set of its own for each image, uint8 [h, w]. gaze.h5 has `/look_vec` [n, 3 or more] as
UnityEyes writes it (x right, y up, z away from the camera) and `/path` [n], the files the rows came from; real_gaze.h5
has neither. The notebooks that use the set pair rows and images by their place in HDF5's order ("1", "10", "100", "2"),
which nothing in the file confirms; here they are paired by name, or not at all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from simgan_fast.data.image_files import Rejected
from simgan_fast.data.readers import GazeLabels, Sample, left_out, needed, reason_of
from simgan_fast.data.readers.folder import SUFFIXES, natural_order
from simgan_fast.errors import InputError
from simgan_fast.gaze import look_vec_to_vector

LARGEST = 1 << 24  # pixels of an image, and rows: more is damage, and is not read
_DAMAGED = (OSError, LookupError, ValueError, TypeError, RuntimeError, AttributeError, MemoryError)


class EyeGazeH5Reader(GazeLabels):
    """The images of `file`, a gaze.h5 or real_gaze.h5, in natural order of their names.

    Label, where the file has `/look_vec`: `gaze`, unit vectors in MPIIGaze's camera axes. The row of an image is the
    one whose path in `/path` has its name (the whole, the last part, or that without suffix), or the row of that number
    where the names are 0 to n - 1. An image that is none, or has no row, is left out and listed in rejects.csv.

    A file of 50,000 images is read in about 5 seconds on one core.

    Raises InputError for a file that is no such file or cannot tell which row belongs to which image, and where h5py is
    not installed.

    >>> reader = EyeGazeH5Reader("gaze.h5")  # doctest: +SKIP
    """

    def __init__(self, file: str | Path) -> None:
        self.file = Path(file)
        self._h5py = needed("h5py", "h5py")
        try:
            with self._h5py.File(self.file, "r") as content:
                self.names = sorted(content["image"], key=natural_order)
                self._vectors = _array(content, "look_vec", 2) if "look_vec" in content else None
                paths = _array(content, "path", 1) if "path" in content else None
        except _DAMAGED as error:
            raise InputError(
                f"{self.file} is no gaze.h5 ({reason_of(error)}): want a group 'image' of data sets, and look_vec "
                "and path."
            ) from None
        if not self.names:
            raise InputError(f"{self.file} holds no image.")
        self._rows: dict[str, int] = {}
        if self._vectors is not None:
            self._rows = self._matched(self._vectors, paths)

    @property
    def labels(self) -> Mapping[str, int]:
        return {} if self._vectors is None else super().labels

    @property
    def title(self) -> str:
        return str(self.file)

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[Sample]:
        try:
            with self._h5py.File(self.file, "r") as content:
                images = content["image"]
                for name in self.names:
                    yield self._sample(images, name)
        except (OSError, KeyError) as error:
            raise InputError(f"{self.file} can no longer be read ({reason_of(error)}).") from None

    def _sample(self, images: Any, name: str) -> Sample:
        file = name if name.lower().endswith(SUFFIXES) else f"{name}.png"
        try:
            labels = self._labels(name)
            return Sample(file, self._pixels(images, name), labels, source=self.title)
        except Rejected as reason:
            return left_out(file, str(reason), self.title)

    def _pixels(self, images: Any, name: str) -> np.ndarray:
        try:
            found = images[name]
            if not isinstance(found, self._h5py.Dataset) or found.dtype != np.uint8:
                raise Rejected("it is no data set of uint8")
            if found.ndim != 2 or not 0 < found.size <= LARGEST:
                raise Rejected(f"its shape is {list(found.shape)}: want [h, w]")
            pixels: np.ndarray = found[:]
        except _DAMAGED as error:
            raise Rejected(f"damaged: {reason_of(error)}") from None
        return pixels

    def _labels(self, name: str) -> dict[str, np.ndarray]:
        if self._vectors is None:
            return {}
        if name not in self._rows:
            raise Rejected("no path in /path has its name")
        look_vec = self._vectors[self._rows[name], :3]
        try:
            return {"gaze": look_vec_to_vector([look_vec])[0]}
        except InputError:
            raise Rejected(f"its look_vec is {look_vec.tolist()}") from None

    def _matched(self, vectors: np.ndarray, paths: np.ndarray | None) -> dict[str, int]:
        """Of each image's name the row of `look_vec`."""
        if vectors.shape[1] < 3 or not np.issubdtype(vectors.dtype, np.floating):
            raise InputError(
                f"look_vec of {self.file} is {vectors.dtype} {list(vectors.shape)}: want [n, 3] or [n, 4]."
            )
        if paths is not None and len(paths) != len(vectors):
            raise InputError(
                f"{self.file} has {len(paths)} rows in path and {len(vectors)} in look_vec: they must be as many."
            )
        by_path = [] if paths is None else [_rows_by(key, self.names, paths) for key in _KEYS]
        best = max(by_path, key=len, default={})
        if len(best) < len(self.names) and self.names == [str(i) for i in range(len(vectors))]:
            return {name: int(name) for name in self.names}
        if not best:
            raise InputError(
                f"{self.file} does not tell which row of look_vec belongs to which image: want a path with the name of "
                "each image in path, or images named 0, 1, 2 and so on."
            )
        return best


_KEYS: tuple[Callable[[str], str], ...] = (
    str,
    lambda path: PurePosixPath(path).name,
    lambda path: PurePosixPath(path).stem,
)


def _rows_by(key: Callable[[str], str], names: list[str], paths: np.ndarray) -> dict[str, int]:
    """name -> row, for the names that are a path's by `key`; a path that comes twice tells nothing."""
    rows: dict[str, int] = {}
    twice = set()
    for row, path in enumerate(paths):
        text = path.decode(errors="replace") if isinstance(path, bytes) else str(path)
        found = key(text.replace("\\", "/"))
        if found in rows:
            twice.add(found)
        rows[found] = row
    known = rows.keys() - twice
    return {name: rows[key(name)] for name in names if key(name) in known}


def _array(content: Any, name: str, rank: int) -> np.ndarray:
    """The array `name`, once its declared shape is known to be sensible."""
    found = content[name]
    if found.ndim != rank or found.size > LARGEST:
        raise ValueError(f"{name} is {list(found.shape)}")
    values: np.ndarray = found[:]
    return values
