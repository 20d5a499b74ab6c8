"""A process of its own for libraries that read damaged files: what crashes or hangs there is an error here."""

from __future__ import annotations

import ctypes
import faulthandler
import multiprocessing
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any, TypeVar

from simgan_fast.stalls import moved

SECONDS = 300.0  # that one call may take

T = TypeVar("T")

# By fork, because functions come along, and a script needs no __main__ guard.
FORK = multiprocessing.get_context("fork")


class Isolated:
    """Calls functions in another process, one at a time, within a `with` block.

    Arguments, results and exceptions travel there and back, so they are such as can be pickled. Raises OSError where
    the process ends, or takes longer than `seconds`.

    >>> with Isolated() as call:
    ...     call(sorted, [3, 1, 2])
    [1, 2, 3]
    """

    def __init__(self, seconds: float = SECONDS) -> None:
        self.seconds = seconds

    def __enter__(self) -> Isolated:
        self._here, there = FORK.Pipe()
        self._process = FORK.Process(target=_serve, args=(there, self._here), daemon=True)
        with quiet_fork():
            self._process.start()
        there.close()  # so that it is at its end when the process is
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.kill()  # it has nothing to finish
        self._process.join()
        self._here.close()

    def __call__(self, function: Callable[..., T], *arguments: Any) -> T:
        try:
            self._here.send((function, arguments))
            if not self._here.poll(self.seconds):
                raise OSError(
                    f"the library that reads it did not end in {self.seconds:.0f} seconds"
                )
            failed, given = self._here.recv()
            moved()
        except (EOFError, BrokenPipeError, ConnectionResetError):
            raise OSError("the library that reads it crashed") from None
        if failed:
            raise given
        result: T = given
        return result


@contextmanager
def quiet_fork() -> Iterator[None]:
    """Without the warning of Python 3.12 and later: copies made here run decoders alone, no library of the threads."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*fork", DeprecationWarning)
        yield


def end_with_parent() -> None:
    """In a new process: the program's handlers are for the program; this one just ends, with it at the latest."""
    faulthandler.disable()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def _serve(there: Connection, here: Connection) -> None:
    here.close()
    end_with_parent()
    while True:
        function, arguments = there.recv()
        try:
            answer = (False, function(*arguments))
        except Exception as error:
            answer = (True, error)
        try:
            there.send(answer)
        except (TypeError, AttributeError, ValueError):  # an exception that cannot be pickled
            there.send((True, ValueError(str(answer[1]))))
