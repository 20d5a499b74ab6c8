"""Batches for training: from a set that lies in the memory of the device, or one that streams from the disk.

Both draw endlessly, in an order that a seed and a position decide and nothing else; each epoch has every image once;
batches run on across the border of two epochs: none is short, and no image is dropped. `position`, images drawn so far,
is the whole state, and may be set; `seconds` is how long `next` has taken in all.
"""

from __future__ import annotations

import time

import torch
from torch import Tensor

from simgan_fast.data.packed import PackedSet
from simgan_fast.data.windows import WINDOW_BYTES, Windows
from simgan_fast.errors import InputError
from simgan_fast.ops.gather_normalize import gather_normalize
from simgan_fast.ops.random import permutation, philox4x32

_FLIPS = 2  # of Philox's counters; the permutations take 0 and 1


class ResidentFeed:
    """Shuffled batches of a set that lies in the memory of the device; an epoch is one keyed permutation of it.

    `images`: uint8 or uint16 [n, c, h, w], or a PackedSet, which is loaded whole. `batch_size`: at least 1; it may be
    larger than the set. `seed`, `stream`: the permutation's key; two feeds of one seed take different streams.
    `device`: where the images lie and the batches appear. `flip`: whether each drawn image is mirrored left to right
    with probability 1/2. `rank` of `world` processes, which all draw as often and as many, takes its share of each
    batch: together, in the order of rank, they draw what one process would. Raises InputError for an empty set.

    >>> feed = ResidentFeed(torch.zeros(10, 1, 35, 55, dtype=torch.uint8), 4, seed=0, stream=0)
    >>> feed.next().shape, feed.position
    (torch.Size([4, 1, 35, 55]), 4)
    """

    def __init__(
        self,
        images: Tensor | PackedSet,
        batch_size: int,
        *,
        seed: int,
        stream: int,
        device: str | torch.device = "cpu",
        flip: bool = False,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        if isinstance(images, PackedSet):
            images = images.load()
        if images.ndim != 4 or images.dtype not in (torch.uint8, torch.uint16):
            raise InputError(
                f"images are {images.dtype} {list(images.shape)}: want uint8 or uint16 [n, c, h, "
                "w]."
            )
        _check(len(images), batch_size)
        self.images = images.to(device)
        self.batch_size = batch_size
        self.seed, self.stream, self.flip = seed, stream, flip
        self.position, self.seconds = 0, 0.0
        self.rank, self.world = rank, world

    def __len__(self) -> int:
        return len(self.images)

    def next(self, count: int | None = None) -> Tensor:
        """Draw the next `count` (default `batch_size`): float32 [count, c, h, w] in [-1, 1]."""
        began = time.perf_counter()
        first = self._first(count)
        rows = self.next_indices(count)
        flips = flips_of(first, len(rows), self.seed, self.stream) if self.flip else None
        batch = gather_normalize(self.images, rows, _on(flips, self.images))
        self.seconds += time.perf_counter() - began
        return batch

    def next_indices(self, count: int | None = None) -> Tensor:
        """Draw as `next` does, but return the rows, int64 [count]: to gather labels too, say."""
        first = self._first(count)
        count = self.batch_size if count is None else count
        self.position += count
        parts = [torch.empty(0, dtype=torch.int64)]
        while count > 0:
            epoch, start = divmod(first, len(self))
            part = min(count, len(self) - start)
            parts.append(
                permutation(len(self), start, part, step=epoch, stream=self.stream, seed=self.seed)
            )
            first += part
            count -= part
        return torch.cat(parts).to(self.images.device)

    def _first(self, count: int | None) -> int:
        """Where this process's share of the next batch begins among the draws of all."""
        count = self.batch_size if count is None else count
        return self.position * self.world + self.rank * count


class StreamFeed:
    """Shuffled batches of a packed set that need not fit into memory: read window by window, one ahead.

    An epoch takes the shards in a random order, some at a time (a window), and the images of a window in a random
    order; `window_bytes` is how much of images a window holds at most, but one shard at least; two are in memory.
    Where all shards fit into one window, the batches are those of ResidentFeed.

    `rank` of `world` processes takes its share of the shards, another one in each epoch, so that together they have
    every image once an epoch. `images`, `batch_size`, `seed`, `stream`, `device`, `flip` as in ResidentFeed.

    Raises InputError for wrong numbers, and a set with fewer shards than processes.

    >>> feed = StreamFeed(open_packed("simulated"), 4, seed=0, stream=0)  # doctest: +SKIP
    """

    def __init__(
        self,
        images: PackedSet,
        batch_size: int,
        *,
        seed: int,
        stream: int,
        device: str | torch.device = "cpu",
        flip: bool = False,
        window_bytes: int = WINDOW_BYTES,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        _check(len(images), batch_size)
        self.windows = Windows(images, seed, stream, window_bytes, rank, world)
        self.batch_size, self.device = batch_size, torch.device(device)
        self.seed, self.stream, self.flip = seed, stream, flip
        self.seconds = 0.0
        self._length = len(images)

    def __len__(self) -> int:
        return self._length

    @property
    def position(self) -> int:
        """Images drawn so far; set it to go on from there."""
        return self.windows.position

    @position.setter
    def position(self, position: int) -> None:
        self.windows.position = position

    def next(self, count: int | None = None) -> Tensor:
        """Draw the next `count` (default `batch_size`): float32 [count, c, h, w] in [-1, 1]."""
        began = time.perf_counter()
        count = self.batch_size if count is None else count
        parts = [self._normalized(*part) for part in self.windows.draw(count)]
        batch = parts[0] if len(parts) == 1 else torch.cat(parts)
        self.seconds += time.perf_counter() - began
        return batch

    def _normalized(self, first: int, images: Tensor, rows: Tensor) -> Tensor:
        flips = flips_of(first, len(rows), self.seed, self.stream) if self.flip else None
        if self.device.type != "cpu":  # the bytes travel, not the floats
            images = images[rows].to(self.device, non_blocking=True)
            rows = torch.arange(len(rows), device=self.device)
        return gather_normalize(images, rows, _on(flips, images))


def flips_of(position: int, count: int, seed: int, stream: int) -> Tensor:
    """Which of the draws `position`, ..., `position + count - 1` are mirrored: bool [count], docs/random.md.

    >>> flips_of(0, 4, seed=0, stream=16).shape
    torch.Size([4])
    """
    draws = torch.arange(position, position + count)
    counters = torch.stack(
        [
            draws & 0xFFFFFFFF,
            draws >> 32,
            torch.full_like(draws, stream),
            torch.full_like(draws, _FLIPS),
        ],
        dim=1,
    )
    return (philox4x32(counters, key=seed)[:, 0] & 1).bool()


def _on(flips: Tensor | None, images: Tensor) -> Tensor | None:
    return flips.to(images.device) if flips is not None else None


def _check(count: int, batch_size: int) -> None:
    if count == 0:
        raise InputError("the set has no images: a feed needs at least one.")
    if batch_size < 1:
        raise InputError(f"batch_size is {batch_size}: want at least 1.")
