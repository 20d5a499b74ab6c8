"""Pixels to the bytes of a PNG or JPEG file, by Pillow."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from PIL import Image

from simgan_fast.data.readers.folder import SUFFIXES
from simgan_fast.errors import InputError


@dataclass(frozen=True)
class Codec:
    """How one kind of image file is written.

    `suffixes`: those of its files, of which an image without one gets the first. `kinds`: the (channels, dtype) that it
    holds. `options`: of Pillow's `save`. `threads_from`: numbers in an image from which a thread per core pays.
    """

    title: str
    suffixes: tuple[str, ...]
    kinds: tuple[tuple[int, str], ...]
    options: Mapping[str, Any]
    threads_from: float = field(default=float("inf"))

    def check(self, shape: Sequence[int], dtype: str) -> None:
        """Raise InputError unless such a file can hold images [c, h, w] of `dtype`."""
        if (shape[0], dtype) not in self.kinds:
            kinds = " or ".join(f"{channels} of {kind}" for channels, kind in self.kinds)
            raise InputError(
                f"{self.title} files cannot hold {shape[0]} channels of {dtype}: want {kinds}; the format "
                "'arrow' holds any number."
            )

    def file_name(self, name: str) -> str:
        """The file of an image: of a PNG 'a/b.png' for 'a/b.jpg', 'a/b.c.png' for 'a/b.c'."""
        path = PurePosixPath(name)
        if path.suffix.lower() in self.suffixes:
            return path.as_posix()
        stem = path.stem if path.suffix.lower() in SUFFIXES else path.name
        return path.with_name(stem + self.suffixes[0]).as_posix()

    def encode(self, image: np.ndarray) -> bytes:
        """The file's bytes for pixels [c, h, w]."""
        pixels = image[0] if len(image) == 1 else image.transpose(1, 2, 0)
        file = io.BytesIO()
        Image.fromarray(np.ascontiguousarray(pixels)).save(file, self.title, **self.options)
        return file.getvalue()

    def encode_all(self, images: np.ndarray) -> Iterator[bytes]:
        """The files of `images` [m, c, h, w], in order; large ones by a thread per core."""
        if images[0].size < self.threads_from:
            yield from map(self.encode, images)
            return
        with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
            yield from pool.map(self.encode, images)


PNG = Codec(
    "PNG",
    (".png",),
    ((1, "uint8"), (3, "uint8"), (1, "uint16")),
    {"compress_level": 1},  # of zlib's 0..9
    threads_from=1 << 14,
)
JPEG = Codec(
    "JPEG",
    (".jpg", ".jpeg"),
    ((1, "uint8"), (3, "uint8")),
    {"quality": 95, "subsampling": 0},  # 4:4:4: colour as fine as light
)
