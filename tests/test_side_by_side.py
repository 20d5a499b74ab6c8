"""Several trainings at a time: by turns where they are fewer than threads, and all ended when one fails."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import torch

from simgan_fast.evaluation.side_by_side import side_by_side
from simgan_fast.progress import Progress

UPDATES = 8


@contextmanager
def threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class Watched:
    """Jobs that note when they begin, work and end."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.begun: list[int] = []  # those that are at it
        self.working = self.most_working = self.most_begun = 0
        self.events: list[tuple[str, int]] = []

    def _note(self, what: str, number: int, working: int) -> None:
        with self.lock:
            self.events.append((what, number))
            self.working += working
            if what == "begin":
                self.begun.append(number)
            if what == "end":
                self.begun.remove(number)
            self.most_begun = max(self.most_begun, len(self.begun))
            self.most_working = max(self.most_working, self.working)

    def job(self, number: int) -> Callable[[Progress], int]:
        def work(progress: Progress) -> int:
            self._note("begin", number, 0)
            for _ in range(UPDATES):
                self._note("work", number, 1)
                time.sleep(0.002)  # so that others are seen, if they work too
                self._note("worked", number, -1)
                progress.update(1)
            self._note("end", number, 0)
            return number

        return work


@pytest.mark.parametrize(("count", "at_a_time"), [(9, 2), (3, 2), (2, 2), (7, 3), (4, 1), (1, 3)])
def test_the_last_ones_share_the_threads(count: int, at_a_time: int) -> None:
    watched = Watched()
    jobs = {number: watched.job(number) for number in range(count)}
    with threads(at_a_time), Progress(count * UPDATES, "update", "test", quiet_for=60) as progress:
        assert side_by_side(jobs, progress) == {number: number for number in range(count)}
    assert watched.most_working == min(count, at_a_time)
    assert watched.most_begun <= 2 * at_a_time - 1
    if count % at_a_time and at_a_time > 1 and count > at_a_time:
        # None is left alone to the end: the last one works beside others in its last update but one.
        first_end = {number: watched.events.index(("end", number)) for number in range(count)}
        last = max(first_end, key=first_end.__getitem__)
        others_end = max(end for number, end in first_end.items() if number != last)
        left = [event for event in watched.events[others_end:] if event == ("work", last)]
        assert len(left) <= 2


@pytest.mark.parametrize("at_a_time", [1, 2])
def test_one_that_fails_ends_all(at_a_time: int) -> None:
    begun = []

    def never(_: Progress) -> int:
        begun.append("fourth")
        return 0

    def fail(progress: Progress) -> int:
        progress.update(1)
        raise ArithmeticError("this one")

    def work(progress: Progress) -> int:
        for _ in range(10**9):
            time.sleep(0.001)
            progress.update(1)
        return 0

    jobs = {"first": fail, "second": work, "third": work, "fourth": never}
    with threads(at_a_time), Progress(10, "update", "test", quiet_for=60) as progress:
        with pytest.raises(ArithmeticError, match="this one"):
            side_by_side(jobs, progress)
        assert torch.get_num_threads() == at_a_time
    assert not begun
