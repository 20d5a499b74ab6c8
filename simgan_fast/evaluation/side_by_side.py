"""Small networks trained side by side, one on each of torch's threads, under one progress bar."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Iterator, Mapping
from concurrent.futures import FIRST_EXCEPTION, wait
from contextlib import contextmanager
from typing import TypeVar

import torch

from simgan_fast.config import SEEDS
from simgan_fast.devices import single_threads
from simgan_fast.errors import InputError, TrainingDiverged
from simgan_fast.progress import Progress

Key = TypeVar("Key", bound=Hashable)
Result = TypeVar("Result")
Network = TypeVar("Network", bound=torch.nn.Module)
_generator = threading.Lock()


def side_by_side(
    jobs: Mapping[Key, Callable[[Progress], Result]],
    progress: Progress,
    device: str | torch.device = "cpu",
) -> dict[Key, Result]:
    """Run every job, with the progress to tell of its updates; what failed first is raised.

    On the CPU every job uses one thread, as many at a time as torch has threads: so small a network gains less from a
    second thread than a second network does, and the results are the same on any number of threads.
    """
    shared = _SharedProgress(progress)
    if torch.device(device).type != "cpu":
        return {key: job(shared) for key, job in jobs.items()}
    with single_threads() as pool:
        try:
            futures = {key: pool.submit(job, shared) for key, job in jobs.items()}
            for future in wait(futures.values(), return_when=FIRST_EXCEPTION).done:
                future.result()  # raises what it failed with
            return {key: future.result() for key, future in futures.items()}
        except BaseException:
            shared.stop()
            pool.shutdown(wait=True, cancel_futures=True)
            raise


@contextmanager
def first_weights(seed: int) -> Iterator[None]:
    """Draw first weights within, by `seed`: they come from torch's one generator, which all threads share."""
    with _generator, torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def channels_last(network: Network) -> Network:
    """`network` with its convolutions' weights channels last.

    The gaze estimator then trains 1.3 to 2 times the images a second on one core (docs/gaze_evaluation.md).
    """
    for parameter in network.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    return network


def checked_seed(seed: int) -> int:
    """`seed`, if numpy, torch and Philox all take it; else InputError."""
    if not 0 <= seed < SEEDS:
        raise InputError(f"seed is {seed}: want 0 to 2^63 - 1.")
    return seed


class _SharedProgress(Progress):
    """A progress bar that several jobs advance, and that ends them all when one has failed."""

    def __init__(self, progress: Progress) -> None:
        self._shown, self._lock, self._stopped = progress, threading.Lock(), False

    def update(self, count: int) -> None:
        with self._lock:
            if self._stopped:
                raise TrainingDiverged("another training beside this one has failed.")
            self._shown.update(count)

    def note(self, text: str) -> None:
        with self._lock:
            self._shown.note(text)

    def stop(self) -> None:
        """Let every job end at its next update."""
        with self._lock:
            self._stopped = True
