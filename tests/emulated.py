"""The CUDA kernels compiled for the emulator (csrc/emulator/README.md): how to build with it, and its schedules."""

from __future__ import annotations

import importlib.util
import subprocess
import sysconfig
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pybind11

ROOT = Path(__file__).parents[1]
CSRC = ROOT / "csrc"
EMULATOR = sorted((CSRC / "emulator").glob("*.cpp"))
KERNELS = sorted(each for each in (CSRC / "cuda").glob("*.cu") if each.stem != "runtime")
PYTHON = [f"-isystem{folder}" for folder in (pybind11.get_include(), sysconfig.get_path("include"))]
# No contraction of products and sums to fma: nvcc and g++ would choose differently.
FLAGS = [
    "-std=c++17",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-Wno-unknown-pragmas",
    "-ffp-contract=off",
    "-fPIC",
    f"-I{CSRC}",
]
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


def build_module(folder: Path, *options: str) -> Path:
    """All kernels with their bindings as one library, which holds the modules `_cuda` and `_emulator`."""
    folder.mkdir(exist_ok=True)
    bindings = [CSRC / "cuda" / "bindings.cpp", ROOT / "tests" / "native" / "emulated.cpp"]
    objects = compile_all(folder, [*KERNELS, *EMULATOR], *options)
    objects += compile_all(folder, bindings, *options, "-O0", "-fvisibility=hidden", *PYTHON)
    together([["g++", "-shared", *options, *objects, "-o", str(folder / "emulated.so")]])
    return folder / "emulated.so"


def load_module(library: Path, name: str) -> Any:
    """`_cuda`, which has the functions of simgan_fast._cuda, or `_emulator`: set_schedule, counters, reset_counters."""
    spec = importlib.util.spec_from_file_location(name, library)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def build_program(folder: Path, source: Path, *options: str) -> Path:
    """A test program, linked with the emulator."""
    folder.mkdir(exist_ok=True)
    objects = compile_all(folder, [source, *EMULATOR], *options)
    together([["g++", *options, *objects, "-o", str(folder / source.stem)]])
    return folder / source.stem
