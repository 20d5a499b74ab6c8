"""Loads the images of samples in several processes, in order: torch's DataLoader, given work in place of numbers."""

from __future__ import annotations

import multiprocessing
import os
import signal
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from simgan_fast.data.decode import Chunk, Item
from simgan_fast.data.readers import Sample
from simgan_fast.errors import InputError

WORTH_PROCESSES = 512  # images; fewer are loaded before two processes have started (30 ms)
AHEAD = 4  # chunks that each process may be ahead

Loader = Callable[[Sequence[Item]], Chunk]


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0))


def loaded(
    samples: Iterable[Sample], load: Loader, size: int, processes: int
) -> Iterator[tuple[list[Sample], Chunk]]:
    """Yield `samples` in chunks of `size`, in order, each with what `load` made of it.

    `processes`: how many to start; with 0 or 1 the work is done in this one.
    """
    if processes < 2:
        for chunk in _chunks(samples, size):
            yield chunk, load([item_of(sample) for sample in chunk])
        return
    waiting: deque[list[Sample]] = deque()
    try:
        with warnings.catch_warnings():
            # Of Python 3.12 and later: the copies run none of the threads' libraries, but decoders alone.
            warnings.filterwarnings("ignore", ".*fork", DeprecationWarning)
            # More than there are cores: somebody has asked for them.
            warnings.filterwarnings("ignore", "This DataLoader will create", UserWarning)
            results = iter(_data_loader(_Work(samples, size, waiting), load, processes))
        for result in results:
            yield waiting.popleft(), result
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise InputError(
            "a process that decodes images was killed, perhaps for want of memory: try again with one process "
            "(--processes 1)."
        ) from None


class _Work:
    """What to load, chunk by chunk, as DataLoader asks for it; the samples themselves wait here for their pixels."""

    def __init__(self, samples: Iterable[Sample], size: int, waiting: deque[list[Sample]]) -> None:
        self.samples, self.size, self.waiting = samples, size, waiting

    def __iter__(self) -> Iterator[list[Item]]:
        for chunk in _chunks(self.samples, self.size):
            self.waiting.append(chunk)
            yield [item_of(sample) for sample in chunk]


class _Loaded(Dataset[Chunk]):
    def __init__(self, load: Loader) -> None:
        self.load = load

    def __getitem__(self, items: Any) -> Chunk:
        return self.load(items)


def _data_loader(work: _Work, load: Loader, processes: int) -> DataLoader[Chunk]:
    return DataLoader(
        _Loaded(load),
        sampler=work,
        batch_size=None,
        num_workers=processes,
        collate_fn=_as_it_is,
        prefetch_factor=AHEAD,
        worker_init_fn=_begin,
        generator=torch.Generator(),  # or it would draw a number from torch's own
        # By fork, because readers and their samples' functions come along, and a script needs no __main__ guard.
        multiprocessing_context=multiprocessing.get_context("fork"),
    )


def _as_it_is(chunk: Any) -> Any:
    return chunk


def _begin(_number: int) -> None:
    """The handlers of the program are for the program: a process of ours just ends."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def item_of(sample: Sample) -> Item:
    """What a process needs to load the image of `sample`."""
    image = str(sample.image) if isinstance(sample.image, Path) else sample.image
    return image, sample.box, sample.nearest


def _chunks(samples: Iterable[Sample], size: int) -> Iterator[list[Sample]]:
    iterator = iter(samples)
    while chunk := list(islice(iterator, size)):
        yield chunk
