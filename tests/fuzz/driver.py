"""Runs random cases of a target in a process of its own, each from its number alone, so that one can be run again."""

from __future__ import annotations

import faulthandler
import multiprocessing
import resource
import signal
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from random import Random

MEMORY = 2 << 30  # bytes that a target may take, beyond what the process has before
SECONDS_OF_A_CASE = 60

Case = Callable[[Random], None]  # raises where the case fails
Make = Callable[[Path], Case]  # from an empty folder that is its own


class Found(Exception):
    """A case failed: which, how, and the command that runs it again."""


@dataclass(frozen=True)
class Bounds:
    """Which cases to run: from number `first`, so many or for so long, whichever ends first."""

    cases: int
    seconds: float
    seed: int = 0
    first: int = 0


def run(name: str, make: Make, bounds: Bounds) -> int:
    """Run cases of a target; gives how many ran. Raises Found at the first that fails, crashes, hangs or swells."""
    fork = multiprocessing.get_context("fork")
    at: Synchronized[int] = fork.Value("q", bounds.first)
    here, there = fork.Pipe(duplex=False)
    process = fork.Process(target=_work, args=(name, make, bounds, at, there), daemon=True)
    process.start()
    there.close()
    try:
        problem: str | None = here.recv()
    except EOFError:
        process.join()
        problem = f"the process ended with {process.exitcode} (-14: a case took too long)"
    process.join()
    if problem is not None:
        raise Found(
            f"{name}, case {at.value}: {problem}\n"
            f"again: PYTHONPATH=tests python -m fuzz {name} --seed {bounds.seed} --first {at.value} --cases 1"
        )
    return at.value - bounds.first


def _work(name: str, make: Make, bounds: Bounds, at: Synchronized[int], there: Connection) -> None:
    problem = None
    faulthandler.enable()
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    faulthandler.register(signal.SIGALRM, chain=True)  # where it was; then the signal ends it
    with tempfile.TemporaryDirectory(dir=_memory_folder()) as folder:
        try:
            case = make(Path(folder))
            _bound_memory()
            end = time.monotonic() + bounds.seconds
            while at.value < bounds.first + bounds.cases and time.monotonic() < end:
                signal.alarm(SECONDS_OF_A_CASE)
                case(Random(f"{name} {bounds.seed} {at.value}"))
                at.value += 1
            signal.alarm(0)
        except Exception:
            problem = traceback.format_exc()[-6000:]
    there.send(problem)


def _memory_folder() -> str | None:
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


def _bound_memory() -> None:
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, resource.RLIM_INFINITY))


def checked_sentence(error: Exception) -> None:
    """AssertionError unless the error says one sentence or so, on one line."""
    text = str(error)
    assert text and len(text) < 2000 and len(text.splitlines()) == 1, text[:3000]
    text.encode()
