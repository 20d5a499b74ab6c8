"""Loads the images of samples in several processes, in their order."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from pathlib import Path

from simgan_fast.data.decode import Chunk, Item
from simgan_fast.data.readers import Sample
from simgan_fast.errors import InputError

WORTH_PROCESSES = 512  # images; fewer are loaded before two processes have started (30 ms)
HELD_BYTES = 8 << 20  # of files and pixels that samples bring along, in a chunk
AHEAD = 4  # chunks that each process may be ahead

Loader = Callable[[Sequence[Item]], Chunk]
Loaded = tuple[list[Sample], Chunk]


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0))


def loaded(
    samples: Iterable[Sample], load: Loader, size: int, processes: int
) -> Generator[Loaded, None, None]:
    """Yield `samples` in chunks of `size`, in order, each with what `load` made of it.

    `processes`: how many to start; with 1 the work is done in this one. Raises InputError where one is killed.
    """
    if processes == 1:
        for chunk in _chunks(samples, size):
            yield chunk, load([item_of(sample) for sample in chunk])
        return
    with _pool(load, processes) as pool:
        try:
            yield from _in_order(pool, _chunks(samples, size), processes * AHEAD)
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
    pool: ProcessPoolExecutor, chunks: Iterator[list[Sample]], ahead: int
) -> Iterator[Loaded]:
    waiting: deque[tuple[list[Sample], Future[Chunk]]] = deque()
    while True:
        for chunk in islice(chunks, ahead - len(waiting)):
            with warnings.catch_warnings():
                # Of Python 3.12 and later: the copies run none of the threads' libraries, but decoders alone.
                warnings.filterwarnings("ignore", ".*fork", DeprecationWarning)
                waiting.append((chunk, pool.submit(_load, [item_of(s) for s in chunk])))
        if not waiting:
            return
        chunk, future = waiting.popleft()
        yield chunk, future.result()


def _pool(load: Loader, processes: int) -> ProcessPoolExecutor:
    # By fork, because samples' functions come along, and a script needs no __main__ guard.
    fork = multiprocessing.get_context("fork")
    return ProcessPoolExecutor(processes, fork, initializer=_begin, initargs=(load,))


_loader: Loader  # in the processes of a pool


def _begin(load: Loader) -> None:
    """The program's handlers are for the program: a process of the pool just ends, with the program at the latest."""
    global _loader  # noqa: PLW0603
    _loader = load
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def _load(items: Sequence[Item]) -> Chunk:
    return _loader(items)


def _chunks(samples: Iterable[Sample], size: int) -> Iterator[list[Sample]]:
    """`size` samples at a time, or fewer that hold HELD_BYTES themselves."""
    chunk: list[Sample] = []
    held = 0
    for sample in samples:
        chunk.append(sample)
        image = sample.image
        held += len(image) if isinstance(image, bytes) else getattr(image, "nbytes", 0)
        if len(chunk) == size or held >= HELD_BYTES:
            yield chunk
            chunk, held = [], 0
    if chunk:
        yield chunk
