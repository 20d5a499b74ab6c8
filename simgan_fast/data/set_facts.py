"""What a set holds, in numbers: one pass over its pixels, block by block, so that it may be larger than memory."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simgan_fast.data.packed import PackedSet
from simgan_fast.data.packed_format import VALUE_RANGE
from simgan_fast.progress import Progress

BLOCK_BYTES = 1 << 20  # of pixels at a time: their float32 copy stays in the processor's cache
BINS = 16
QUIET_SECONDS = 2.0  # a pass that is shorter shows no progress

Array = NDArray[Any]


@dataclass(frozen=True)
class PixelFacts:
    """What one pass over n images gives.

    `histogram`, `frame`: int64 [256] or [65536], how many pixels have each value, in the whole images and along their
    border alone. `spread`: float32 [n], the standard deviation of each image. `digests`, `mirrored`: uint64 [n], hashes
    of each image's pixels as they are and flipped left to right.
    """

    histogram: Array
    frame: Array
    spread: Array
    digests: Array
    mirrored: Array

    @property
    def levels(self) -> Array:
        """The values that occur, in order."""
        return np.flatnonzero(self.histogram)

    @property
    def low(self) -> int:
        return int(self.levels[0])

    @property
    def high(self) -> int:
        return int(self.levels[-1])

    @property
    def mean(self) -> float:
        return float(np.average(self.levels, weights=self.histogram[self.levels]))

    @property
    def deviation(self) -> float:
        """The standard deviation of all pixels together."""
        squares = (self.levels - self.mean) ** 2
        return float(np.sqrt(np.average(squares, weights=self.histogram[self.levels])))


@dataclass(frozen=True)
class Bin:
    """How many pixels have a value from `first` to `last`."""

    first: int
    last: int
    count: int


@dataclass(frozen=True)
class LabelFacts:
    """Of each of a label's k numbers, over the images where it is finite; None where it never is."""

    min: list[float | None]
    mean: list[float | None]
    max: list[float | None]


def pixel_facts(images: PackedSet) -> PixelFacts:
    """Go over all pixels of `images` once.

    >>> pixel_facts(open_packed("eyes")).high  # doctest: +SKIP
    255
    """
    levels = VALUE_RANGE[images.dtype][1] + 1
    histogram, frame = np.zeros(levels, np.int64), np.zeros(levels, np.int64)
    spread = np.empty(len(images), np.float32)
    digests, mirrored = np.empty((2, len(images)), np.uint64)
    step = max(1, BLOCK_BYTES // int(np.prod(images.shape)))
    with Progress(len(images), "image", "look through", quiet_for=QUIET_SECONDS) as progress:
        for start in range(0, len(images), step):
            block = images.images(start, start + step)
            rows = slice(start, start + len(block))
            histogram += np.bincount(block.reshape(-1), minlength=levels)
            frame += np.bincount(_border(block), minlength=levels)
            spread[rows] = _spread(block)
            digests[rows], mirrored[rows] = _hashes(block), _hashes(block[..., ::-1])
            progress.update(len(block))
    return PixelFacts(histogram, frame, spread, digests, mirrored)


def histogram_bins(pixels: PixelFacts) -> list[Bin]:
    """At most BINS bins over the values that occur, all as wide to within 1."""
    span = pixels.high - pixels.low + 1
    bins = min(BINS, span)
    edges = [pixels.low + i * span // bins for i in range(bins + 1)]
    return [
        Bin(first, last - 1, int(pixels.histogram[first:last].sum()))
        for first, last in pairwise(edges)
    ]


def label_facts(values: Array) -> LabelFacts:
    """Smallest, mean and largest of each column of a label [n, k]."""
    columns = [column[np.isfinite(column)].astype(np.float64) for column in values.T]
    return LabelFacts(
        *(
            [float(reduce(column)) if len(column) else None for column in columns]
            for reduce in (np.min, np.mean, np.max)
        )
    )


def _border(block: Array) -> Array:
    """The outermost pixels of images [m, c, h, w], the corners twice."""
    edges = (block[..., 0, :], block[..., -1, :], block[..., 0], block[..., -1])
    return np.concatenate([edge.reshape(-1) for edge in edges])


def _spread(block: Array) -> Array:
    values = block.reshape(len(block), -1).astype(np.float32)
    values -= values.mean(axis=1, keepdims=True)
    spread: Array = np.sqrt(np.einsum("ij,ij->i", values, values) / values.shape[1])
    return spread


def _hashes(block: Array) -> Array:
    rows = np.ascontiguousarray(block).reshape(len(block), -1)
    return np.frombuffer(
        b"".join(blake2b(row.data, digest_size=8).digest() for row in rows), np.uint64
    )
