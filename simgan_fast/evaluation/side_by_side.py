"""Small networks trained side by side, one on each of torch's threads, under one progress bar."""

from __future__ import annotations

import threading
from collections import deque
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
    second thread than a second network does, and the results are the same on any number of threads. The last ones, that
    would leave threads idle, take turns update by update.
    """
    if torch.device(device).type != "cpu":
        alone = _SharedProgress(progress, _Turns(1, 1))
        return {key: job(alone) for key, job in jobs.items()}
    threads = torch.get_num_threads()
    turns = _Turns(threads, len(jobs))
    shared = _SharedProgress(progress, turns)

    def in_turn(job: Callable[[Progress], Result]) -> Result:
        with turns.job():
            try:
                shared.update(0)  # raises where another one has failed
                return job(shared)
            except BaseException as failure:
                shared.stop(failure)
                raise

    with single_threads(2 * threads - 1) as pool:
        try:
            futures = {key: pool.submit(in_turn, job) for key, job in jobs.items()}
            wait(futures.values(), return_when=FIRST_EXCEPTION)
            if shared.failure is not None:
                raise shared.failure
            return {key: future.result() for key, future in futures.items()}
        except BaseException as failure:  # Ctrl-C, perhaps
            shared.stop(failure)
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


class _Turns:
    """Lets `threads` of the `jobs` work at a time. Others wait, or where these are fewer than `threads`, take turns.

    Nine jobs on two threads would be four pairs and one alone; so the last three share both. There are never more than
    2 `threads` - 1 begun and not ended, as each has a network in memory.
    """

    def __init__(self, threads: int, jobs: int) -> None:
        self._threads, self._waiting, self._begun = threads, jobs, 0
        self._changed = threading.Condition()
        self._queue: deque[threading.Event] = deque()  # who wants a turn, first come first served
        self._free = threads

    @contextmanager
    def job(self) -> Iterator[None]:
        """Around a job: begin when there is room, and then work when it is its turn."""
        with self._changed:
            self._changed.wait_for(lambda: min(self._begun, self._waiting) < self._threads)
            self._waiting, self._begun = self._waiting - 1, self._begun + 1
            self._changed.notify_all()
        self._take()
        try:
            yield
        finally:
            self._give()
            with self._changed:
                self._begun -= 1
                self._changed.notify_all()

    def pass_on(self) -> None:
        """Of a job that works: let one that waits for its turn work first."""
        if self._queue:
            self._give()
            self._take()

    def _take(self) -> None:
        with self._changed:
            if self._free:
                self._free -= 1
                return
            turn = threading.Event()
            self._queue.append(turn)
        turn.wait()

    def _give(self) -> None:
        with self._changed:
            if self._queue:
                self._queue.popleft().set()
            else:
                self._free += 1


class _SharedProgress(Progress):
    """A progress bar that several jobs advance by turns, and that ends them all when one has failed."""

    def __init__(self, progress: Progress, turns: _Turns) -> None:
        self._shown, self._lock, self._turns = progress, threading.Lock(), turns
        self.failure: BaseException | None = None  # the first one

    def update(self, count: int) -> None:
        with self._lock:
            if self.failure is not None:
                raise TrainingDiverged("another training beside this one has failed.")
            self._shown.update(count)
        self._turns.pass_on()

    def note(self, text: str) -> None:
        with self._lock:
            self._shown.note(text)

    def stop(self, failure: BaseException) -> None:
        """Let every job end at its next update, for this reason if it is the first."""
        with self._lock:
            self.failure = self.failure or failure
