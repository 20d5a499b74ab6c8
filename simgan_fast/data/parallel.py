"""Loads the images of samples in several processes, in their order."""

from __future__ import annotations

import gc
import mmap
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from simgan_fast.data.decode import Chunk, Item
from simgan_fast.data.isolation import FORK, end_with_parent, quiet_fork
from simgan_fast.data.readers import Sample
from simgan_fast.errors import InputError
from simgan_fast.stalls import reading

WORTH_PROCESSES = 512  # images; fewer are loaded before two processes have started (15 ms)
HELD_BYTES = 8 << 20  # of files and pixels that samples bring along, in a chunk
AHEAD = 4  # chunks that each process may be ahead
FIRST, SECONDS = 32, 0.05  # images in the first chunks, and how long the later ones are to take

Loader = Callable[[Sequence[Item]], Chunk]
Loaded = tuple[list[Sample], Chunk]
# Of items and the number of their chunk: what was loaded, and the seconds that it took.
Work = Callable[[Sequence[Item], int], tuple[Chunk, float]]


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0))


def loaded(
    samples: Iterable[Sample],
    load: Loader,
    size: int,
    processes: int,
    image_bytes: int,
    make_for_thread: Callable[[], Loader] | None = None,
) -> Generator[Loaded, None, None]:
    """Yield `samples` in chunks of at most `size`, in order, each with what `load` made of it.

    The pixels of a chunk, `image_bytes` an image, are there until the next one is asked for.

    `processes`: how many to start; with 1 the work is done in this one. `make_for_thread`: makes a loader for each of
    as many threads instead, for loaders that leave Python alone while they work. Raises InputError where a process is
    killed.
    """
    if make_for_thread is not None:
        threads = ThreadPoolExecutor(
            processes, initializer=_begin_thread, initargs=(make_for_thread,)
        )
        chunks = _Chunks(samples, min(size, FIRST))
        try:
            yield from _in_order(threads, _load_in_thread, chunks, size, processes * AHEAD)
        finally:
            threads.shutdown(cancel_futures=True)
        return
    if processes == 1:
        chunks = _Chunks(samples, size)
        while chunk := chunks.next():
            with reading(_names(chunk)):
                pixels = load([item_of(sample) for sample in chunk])
            yield chunk, pixels
        return
    slots = _Slots(processes * AHEAD, size * image_bytes)
    with _older_objects_frozen(), _pool(load, slots, processes) as pool:
        try:
            chunks = _Chunks(samples, min(size, FIRST))
            yield from _in_order(pool, _load, chunks, size, processes * AHEAD, slots)
        except BrokenProcessPool:
            raise InputError(
                "a process that decodes images was killed, perhaps for want of memory: try again with one process "
                "(--processes 1)."
            ) from None
        finally:
            pool.shutdown(cancel_futures=True)


def item_of(sample: Sample) -> Item:
    """What a process needs to load the image of `sample`."""
    image = str(sample.image) if isinstance(sample.image, Path) else sample.image
    return image, sample.box, sample.nearest


def _in_order(
    pool: Executor,
    work: Work,
    chunks: _Chunks,
    largest: int,
    ahead: int,
    slots: _Slots | None = None,
) -> Iterator[Loaded]:
    """Yield chunks as they were taken, `ahead` of them at work; the next are as large as SECONDS allow."""
    waiting: deque[tuple[list[Sample], int, Future[tuple[Chunk, float]]]] = deque()
    numbers = count()
    while True:
        while len(waiting) < ahead and (chunk := chunks.next()):
            number = next(numbers)
            waiting.append((chunk, number, _submit(pool, work, chunk, number)))
        if not waiting:
            return
        chunk, number, future = waiting.popleft()
        with reading(_names(chunk)):
            loaded, seconds = future.result()
        if slots is not None:
            slots.take(loaded, number, len(chunk))
        chunks.size = max(1, min(largest, int(len(chunk) * SECONDS / max(seconds, 1e-6))))
        yield chunk, loaded


class _Slots:
    """Memory for the pixels of `ahead` chunks, `size` bytes each, that this process shares with those that it starts:
    through a pipe they would be copied several times.
    """

    def __init__(self, ahead: int, size: int) -> None:
        self._ahead, self._size = ahead, size
        self._memory = mmap.mmap(-1, ahead * size)  # a page of it exists once it was written to

    def put(self, chunk: Chunk, number: int) -> None:
        """Move the pixels of chunk `number` to the place of the one `ahead` before it, which is done with."""
        self._at(number, chunk.pixels.shape, chunk.pixels.dtype)[:] = chunk.pixels
        chunk.pixels = chunk.pixels[:0]

    def take(self, chunk: Chunk, number: int, count: int) -> None:
        """Give chunk `number` of `count` images its pixels back, in place."""
        shape = (count, *chunk.pixels.shape[1:])
        chunk.pixels = self._at(number, shape, chunk.pixels.dtype)

    def _at(self, number: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray:
        at = number % self._ahead * self._size
        pixels: np.ndarray = np.ndarray(shape, dtype, self._memory, at)
        return pixels


def _names(chunk: Sequence[Sample]) -> str:
    more = f" or one of the {len(chunk) - 1} images after it" if len(chunk) > 1 else ""
    return f"{chunk[0].name}{more}"


def _submit(
    pool: Executor, work: Work, chunk: Sequence[Sample], number: int
) -> Future[tuple[Chunk, float]]:
    with quiet_fork():
        return pool.submit(work, [item_of(sample) for sample in chunk], number)


@contextmanager
def _older_objects_frozen() -> Iterator[None]:
    """Let the garbage collector leave alone what there is: a look through torch's objects takes 0.1 s, and in a process
    that was forked it copies their pages.
    """
    if gc.get_freeze_count():  # somebody else has done so, and may count on it
        yield
        return
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def _pool(load: Loader, slots: _Slots, processes: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(processes, FORK, initializer=_begin, initargs=(load, slots))


_loader: Loader  # in the processes of a pool
_slots: _Slots


def _begin(load: Loader, slots: _Slots) -> None:
    global _loader, _slots
    _loader, _slots = load, slots
    end_with_parent()


_threads = threading.local()  # `loader`, of each thread


def _begin_thread(make: Callable[[], Loader]) -> None:
    _threads.loader = make()


def _load_in_thread(items: Sequence[Item], _: int) -> tuple[Chunk, float]:
    began = time.perf_counter()
    return _threads.loader(items), time.perf_counter() - began


def _load(items: Sequence[Item], number: int) -> tuple[Chunk, float]:
    """What the loader makes of `items`, its pixels in their slot, and the seconds that took."""
    began = time.perf_counter()
    chunk = _loader(items)
    _slots.put(chunk, number)
    return chunk, time.perf_counter() - began


class _Chunks:
    """Takes `size` samples at a time, which may be changed, or fewer that hold HELD_BYTES themselves."""

    def __init__(self, samples: Iterable[Sample], size: int) -> None:
        self._samples, self.size = iter(samples), size
        self._last = ""

    def next(self) -> list[Sample]:
        """The next samples; none at the end."""
        chunk: list[Sample] = []
        held = 0
        with reading(f"what comes after {self._last}" if self._last else "the first images"):
            for sample in self._samples:
                chunk.append(sample)
                image = sample.image
                held += len(image) if isinstance(image, bytes) else getattr(image, "nbytes", 0)
                if len(chunk) == self.size or held >= HELD_BYTES:
                    break
        self._last = chunk[-1].name if chunk else ""
        return chunk
