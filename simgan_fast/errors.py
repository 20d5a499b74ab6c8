"""The one exception that a user's input can cause."""

from __future__ import annotations


class InputError(ValueError):
    """Bad input: one sentence that says what came, where, and what to do about it.

    The command line prints it without a traceback and exits with 2. Whatever the input put into the message, it is one
    line of at most 1,500 characters that any terminal can print: of a longer one, the middle is left out.
    """

    def __init__(self, message: str) -> None:
        line = " ".join(message.splitlines()).encode(errors="backslashreplace").decode()
        super().__init__(line if len(line) <= 1500 else f"{line[:1000]} ... {line[-400:]}")


class TrainingDiverged(RuntimeError):
    """A loss or a weight is no longer finite; the last good checkpoint is kept. The command line exits with 1."""


class ProcessLost(RuntimeError):
    """Another process of a run of several is gone; the newest checkpoint is kept. The command line exits with 1."""


class Interrupted(Exception):
    """A long job was asked to stop by `signal` (SIGINT, SIGTERM) and has saved what it had.

    The command line exits with 128 + signal, as a shell would: 130 and 143.
    """

    def __init__(self, signal: int, message: str) -> None:
        super().__init__(message)
        self.signal = signal
