"""Reads that hang: a pipe nobody writes to, a server that is gone. They end the program, in one sentence."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

EXIT_CODE = 2  # that of a bad disk
TICKS = 50  # looks of the watch in the time that is given; more where that would be less than one a second

_watch: _Watch | None = None


@contextmanager
def ended_when_stalled(seconds: float, kept: str) -> Iterator[None]:
    """Within the block, a read of which nothing comes for `seconds` ends the program; 0 waits for ever.

    It ends at once, with one sentence on standard error and exit code 2, as if it were killed: a thread that the
    system has put to sleep in a read cannot be called back, so there is no exception to catch. What is on the disk is
    whole, as after any kill. `kept`: the sentence that says what is, and how to go on.

    The time in which the program itself was stopped (Ctrl-Z, a laptop that sleeps) does not count. The thread that
    calls it is the one that is watched.

    >>> with ended_when_stalled(300, "What was packed is kept."):
    ...     prepare("folder", "photographs", "packed")  # doctest: +SKIP
    """
    global _watch  # noqa: PLW0603
    if not seconds or _watch is not None:  # an outer one watches already
        yield
        return
    _watch = watch = _Watch(seconds, kept)
    watch.start()
    try:
        yield
    finally:
        _watch = None
        watch.done.set()
        watch.join()


@contextmanager
def reading(what: str) -> Iterator[None]:
    """Say that the block reads `what` and may hang; in a thread that is not watched, only when it is over."""
    watch = _watch
    watched = watch is not None and threading.current_thread() is watch.watched
    if watch is not None and watched:
        watch.reads.append(what)
        moved()
    try:
        yield
    finally:
        if watch is not None and watched:
            watch.reads.pop()
        moved()


def moved() -> None:
    """Say that something came, in any thread: the time that is given begins anew."""
    if _watch is not None:
        _watch.moves += 1


class _Watch(threading.Thread):
    def __init__(self, seconds: float, kept: str) -> None:
        super().__init__(name="simgan_fast-stalls", daemon=True)
        self.seconds, self.kept = seconds, kept
        self.watched, self.done = threading.current_thread(), threading.Event()
        self.reads: list[str] = []  # the innermost last
        self.moves = 0

    def run(self) -> None:
        # It counts its own looks, not the clock, which goes on while the program is stopped.
        tick = min(1.0, self.seconds / TICKS)
        seen, still = -1, 0.0
        while not self.done.wait(tick):
            reads = self.reads[-1:]
            still = still + tick if reads and self.moves == seen else 0.0
            seen = self.moves
            if reads and still >= self.seconds:
                self._end(reads[0])

    def _end(self, what: str) -> None:
        text = (
            f"simgan-fast: nothing came of {what} for {self.seconds:g} seconds: is the disk or the server that it lies "
            f"on still there? {self.kept} --timeout SECONDS waits longer.\n"
        )
        os.write(2, text.encode())  # print might wait for a lock
        os._exit(EXIT_CODE)
