"""NumPy files: `.npy` with images alone, `.npz` with images and labels. Nothing in them is unpickled."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path
from tokenize import TokenError
from zipfile import BadZipFile, ZipFile

import numpy as np

from simgan_fast.data.readers import PixelLabelsByName, Sample
from simgan_fast.errors import InputError
from simgan_fast.memory import free_memory

IMAGE_KEYS = ("images", "image", "x", "arr_0")

_DAMAGED = (
    OSError,
    ValueError,
    EOFError,
    BadZipFile,
    zlib.error,
    MemoryError,
    NotImplementedError,  # another compression
    RuntimeError,  # encrypted
    SyntaxError,  # as the next: of a header that NumPy takes for one by Python 2
    TokenError,
)


class ArrayReader(PixelLabelsByName):
    """The images of a .npy or .npz file: uint8 or uint16 [n, h, w], [n, h, w, c] or [n, c, h, w] with c of 1 or 3.

    In a .npz the images are the array `images` (or `image`, `x`, `arr_0`); every other array of numbers with n rows is
    a label under its own name. Names of the images are their numbers, "000000.png" and on.

    Raises InputError for a file that cannot be read, holds no such images, or other arrays that are no labels.

    >>> reader = ArrayReader("eyes.npz")  # doctest: +SKIP
    """

    def __init__(self, file: str | Path) -> None:
        self.file = Path(file)
        self.images, self._values = _read(self.file)
        self.labels = {name: values.shape[1] for name, values in self._values.items()}
        self._digits = max(6, len(str(len(self.images))))

    @property
    def title(self) -> str:
        return str(self.file)

    def __len__(self) -> int:
        return len(self.images)

    def __iter__(self) -> Iterator[Sample]:
        for i, image in enumerate(self.images):
            labels = {name: values[i] for name, values in self._values.items()}
            yield Sample(f"{i:0{self._digits}d}.png", image, labels, source=self.title)


def _read(file: Path) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    try:
        if file.suffix == ".npy":
            arrays = {"images": np.load(file, mmap_mode="r")}
        else:
            with open(file, "rb") as stream, ZipFile(stream) as content:
                _check_size(file, sum(part.file_size for part in content.infolist()))
                stream.seek(0)
                arrays = dict(np.load(stream).items())
    except InputError:
        raise
    except _DAMAGED as error:
        reason = str(error).partition("\n")[0]
        raise InputError(
            f"{file} cannot be read ({reason}): want a .npy or .npz file of plain numbers."
        ) from None
    key = next((key for key in IMAGE_KEYS if key in arrays), None)
    if key is None:
        raise InputError(
            f"{file} holds {', '.join(arrays) or 'nothing'}: name the array of images 'images'."
        )
    images = _channels_last(file, arrays.pop(key))
    return images, {name: _label(file, name, a, len(images)) for name, a in arrays.items()}


def _check_size(file: Path, size: int) -> None:
    """Raise InputError where a .npz takes more memory than there is once it is unpacked."""
    free = free_memory()
    if size > free / 2:
        raise InputError(
            f"{file} takes {size >> 20} MiB of memory once it is unpacked, more than half of the {free >> 20} that are "
            "free: save the images as a .npy, which is read piece by piece."
        )


def _channels_last(file: Path, images: np.ndarray) -> np.ndarray:
    """[n, h, w] or [n, h, w, c]."""
    if images.ndim == 4 and images.shape[3] not in (1, 3) and images.shape[1] in (1, 3):
        images = images.transpose(0, 2, 3, 1)
    if (
        images.dtype not in (np.uint8, np.uint16)
        or images.ndim not in (3, 4)
        or (images.ndim == 4 and images.shape[3] not in (1, 3))
        or 0 in images.shape
    ):
        raise InputError(
            f"the images of {file} are {images.dtype} {list(images.shape)}: want uint8 or uint16 [n, h, w], "
            "[n, h, w, c] or [n, c, h, w], c of 1 or 3."
        )
    return images


def _label(file: Path, name: str, values: np.ndarray, count: int) -> np.ndarray:
    numbers = np.issubdtype(values.dtype, np.number) and not np.iscomplexobj(values)
    if not numbers or values.ndim not in (1, 2) or len(values) != count:
        raise InputError(
            f"{name} of {file} is {values.dtype} {list(values.shape)}: a label is numbers [{count}] or "
            f"[{count}, k]; leave out what is none."
        )
    return values.reshape(count, -1)
