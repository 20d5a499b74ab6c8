"""The CUDA kernels compiled for the emulator (csrc/emulator/README.md): how to build with it, and its schedules."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).parents[1]
CSRC = ROOT / "csrc"
EMULATOR = sorted((CSRC / "emulator").glob("*.cpp"))
# No contraction of products and sums to fma: nvcc and g++ would choose differently.
FLAGS = ["-std=c++17", "-Wall", "-Wextra", "-Werror", "-ffp-contract=off", "-fPIC", f"-I{CSRC}"]
SANITIZED = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
# Order (forward, reverse, random), and whether greedy.
SCHEDULES = [(order, greedy) for order in range(3) for greedy in (False, True)]


def together(commands: Iterable[list[str]]) -> None:
    """Run compilers, two at a time; an AssertionError with what the first that failed had to say."""
    waiting, running = list(commands), []
    while waiting or running:
        while waiting and len(running) < 2:
            running.append(subprocess.Popen(waiting.pop(0), stderr=subprocess.PIPE, text=True))
        process = running.pop(0)
        _, message = process.communicate()
        assert process.returncode == 0, message


def compile_all(folder: Path, sources: Iterable[Path], *options: str) -> list[str]:
    """Objects of the sources; kernels (.cu) as C++."""
    objects = {source: str(folder / f"{source.stem}{source.suffix}.o") for source in sources}
    together(
        ["g++", *FLAGS, *options, "-x", "c++", "-c", str(source), "-o", to]
        for source, to in objects.items()
    )
    return list(objects.values())


def build_program(folder: Path, source: Path, *options: str) -> Path:
    """A test program, linked with the emulator."""
    folder.mkdir(exist_ok=True)
    objects = compile_all(folder, [source, *EMULATOR], *options)
    together([["g++", *options, *objects, "-o", str(folder / source.stem)]])
    return folder / source.stem
