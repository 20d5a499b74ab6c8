"""The CUDA kernels compiled for the emulator (csrc/emulator/README.md): how to build with it, and its schedules."""

from __future__ import annotations

import importlib.util
import shutil
import sysconfig
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from compilers import together
from torch import Tensor

from simgan_fast import _native

ROOT = Path(__file__).parents[1]
CSRC = ROOT / "csrc"
EMULATOR = sorted((CSRC / "emulator").glob("*.cpp"))
KERNELS = sorted(each for each in (CSRC / "cuda").glob("*.cu") if each.stem != "runtime")
# pybind11 as torch carries it.
PYTHON = [
    f"-isystem{Path(torch.__file__).parent / 'include'}",
    f"-isystem{sysconfig.get_path('include')}",
]
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


def build_mistaken(folder: Path, module: Path, file: str, right: str, wrong: str) -> Path:
    """The library of `build_module` once more, but with a mistake in what residual_blocks.cu is compiled of."""
    shutil.copytree(CSRC / "cuda", folder / "cuda")
    text = (folder / "cuda" / file).read_text()
    assert text.count(right) == 1, f"{file} has other words now: plant the mistake anew"
    (folder / "cuda" / file).write_text(text.replace(right, wrong))
    source = folder / "cuda" / "residual_blocks.cu"
    objects = compile_all(folder, [source], "-O1", "-iquote", str(folder))  # before -I
    objects += [str(each) for each in module.parent.glob("*.o") if each.stem != source.name]
    together([["g++", "-shared", *objects, "-o", str(folder / "mistaken.so")]])
    return folder / "mistaken.so"


def load_mistaken(
    patch: pytest.MonkeyPatch, folder: Path, module: Path, file: str, right: str, wrong: str
) -> Any:
    """The `_emulator` of `build_mistaken`, whose kernels are those of CUDA from now on."""
    library = build_mistaken(folder, module, file, right, wrong)
    patch.setattr(_native, "CUDA", load_module(library, f"{folder.name}._cuda"))
    return load_module(library, f"{folder.name}._emulator")  # pybind11 keeps modules by their names


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


def assert_laid_out_alike(fakes: Iterable[Tensor], tensors: Iterable[Tensor]) -> None:
    """What torch's compilers go by has the shapes, strides and types of what the kernels give."""
    for fake, tensor in zip(fakes, tensors, strict=True):
        laid_out = [(each.shape, each.stride(), each.dtype) for each in (fake, tensor)]
        assert laid_out[0] == laid_out[1]
