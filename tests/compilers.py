"""Compilers run side by side."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable


def together(commands: Iterable[list[str]]) -> None:
    """Run compilers, two at a time; an AssertionError with what the first that failed had to say."""
    waiting, running = list(commands), []
    while waiting or running:
        while waiting and len(running) < 2:
            running.append(subprocess.Popen(waiting.pop(0), stderr=subprocess.PIPE, text=True))
        process = running.pop(0)
        _, message = process.communicate()
        assert process.returncode == 0, message
