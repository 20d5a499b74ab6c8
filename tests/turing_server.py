"""The server of the visual Turing test in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def served(folder: Path, sets: dict[str, Path], *options: str) -> tuple[subprocess.Popen[str], str]:
    """Start the command; returns it and the URL that it prints."""
    names = [str(x) for kind in ("real", "refined") for x in (f"--{kind}", sets[kind])]
    command = [sys.executable, "-m", "simgan_fast", "turing", *names, "--out", str(folder)]
    server = subprocess.Popen(
        [*command, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert server.stdout is not None
    return server, server.stdout.readline().split()[-1]
