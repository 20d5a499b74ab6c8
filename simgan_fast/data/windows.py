"""A packed set in random order, read from the disk in large pieces: some shards at a time, the next ones ahead."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache
from itertools import accumulate

import numpy as np
from torch import Tensor

from simgan_fast.data.packed import PackedSet
from simgan_fast.errors import InputError
from simgan_fast.ops.random import permutation
from simgan_fast.stalls import reading

WINDOW_BYTES = 256 << 20  # of images: sixteen shards as `simgan_fast` writes them
STREAMS = (
    1 << 12
)  # more than a feed's stream; this times the window's number is added for its order
_ORDER = (1 << 20) - 1  # in place of a window's number: the order of the shards

Window = tuple[int, ...]  # numbers of shards, ascending


class Windows:
    """Draws images of a packed set without end, as StreamFeed says. `position`: how many were drawn; it may be set."""

    def __init__(
        self, images: PackedSet, seed: int, stream: int, window_bytes: int, rank: int, world: int
    ) -> None:
        self.images, self.seed, self.stream = images, seed, stream
        self.counts = [shard["count"] for shard in images.info["shards"]]
        if not 0 <= stream < STREAMS:
            raise InputError(f"stream is {stream}: want 0 to {STREAMS - 1}.")
        if not 0 <= rank < world:
            raise InputError(f"rank is {rank} of {world}: want 0 to {world - 1}.")
        if world > len(self.counts):
            raise InputError(
                f"{images.path} has {len(self.counts)} shards, and {world} processes are to have one each at least: "
                "pack it with smaller shards, or use fewer processes."
            )
        self.rank, self.world = rank, world
        size = int(np.prod(images.shape)) * np.dtype(images.dtype).itemsize
        self.most = max(1, window_bytes // size)
        self.position = 0
        self._epoch, self._began = (
            0,
            0,
        )  # an epoch that is not after `position`, and where it begins
        self._plan = lru_cache(maxsize=4)(self._new_plan)
        self._reader = ThreadPoolExecutor(1, "simgan_fast-read")
        self._read_or_reading: dict[Window, Future[Tensor]] = {}

    def draw(self, count: int) -> Iterator[tuple[int, Tensor, Tensor]]:
        """Yield the next `count`: position of the first, images [m, c, h, w], and which rows of them are drawn."""
        while count > 0:
            number, start = self._place()
            windows, _ = self._plan(self._epoch)
            size = self._size(windows[number])
            part = min(count, size - start)
            rows = self._permutation(size, start, part, number)
            yield self.position, self._load(windows, number), rows
            self.position += part
            count -= part

    def _place(self) -> tuple[int, int]:
        """The number of the window in its epoch that `position` is in, and how many of its images were drawn."""
        if self.position < self._began:
            self._epoch, self._began = 0, 0
        while True:
            _, ends = self._plan(self._epoch)
            drawn = self.position - self._began
            if drawn < ends[-1]:
                number = bisect_right(ends, drawn)
                return number, drawn - (ends[number - 1] if number else 0)
            self._epoch, self._began = self._epoch + 1, self._began + ends[-1]

    def _new_plan(self, epoch: int) -> tuple[list[Window], list[int]]:
        """The windows of an epoch in order, and where each ends: of this rank's shards as many as fit in each."""
        order = self._permutation(len(self.counts), 0, len(self.counts), _ORDER, epoch).tolist()
        windows: list[list[int]] = []
        for shard in order[self.rank :: self.world]:
            if not windows or self._size((*windows[-1], shard)) > self.most:
                windows.append([])
            windows[-1].append(shard)
        plan = [tuple(sorted(window)) for window in windows]
        return plan, list(accumulate(map(self._size, plan)))

    def _permutation(
        self, size: int, start: int, count: int, number: int, epoch: int | None = None
    ) -> Tensor:
        step, stream = self._epoch if epoch is None else epoch, self.stream + STREAMS * number
        return permutation(size, start, count, step=step, stream=stream, seed=self.seed)

    def _size(self, window: Window) -> int:
        return sum(self.counts[shard] for shard in window)

    def _load(self, windows: list[Window], number: int) -> Tensor:
        """The images of a window; the one after it is read meanwhile, and others are forgotten."""
        last = number + 1 == len(windows)
        after = self._plan(self._epoch + 1)[0][0] if last else windows[number + 1]
        held = self._read_or_reading
        for window in (windows[number], after):
            if window not in held:
                held[window] = self._reader.submit(self.images.read_shards, window)
        self._read_or_reading = {window: held[window] for window in (windows[number], after)}
        first = self.images.info["shards"][windows[number][0]]["file"]
        with reading(f"{self.images.path / first} or the shards read with it"):
            return held[windows[number]].result()
