"""The server of the visual Turing test in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def served(
    folder: Path, sets: dict[str, Path], *options: str
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run the command; yields it and the URL that it prints, and kills it at the end if it still runs."""
    names = [str(x) for kind in ("real", "refined") for x in (f"--{kind}", sets[kind])]
    command = [sys.executable, "-m", "simgan_fast", "turing", *names, "--out", str(folder)]
    with subprocess.Popen(
        [*command, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as server:
        try:
            assert server.stdout is not None
            yield server, server.stdout.readline().split()[-1]
        finally:
            server.kill()
