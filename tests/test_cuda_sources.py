"""What is written for CUDA compiles as CUDA, where nvcc is found, and what came out of it. `make cuda-check` runs this.

For every architecture of a release: no warning, no spill, no more registers than the table below, a small library that
can be imported where there is no driver.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from compilers import together
from emulated import CSRC, KERNELS, PYTHON

pytestmark = [
    pytest.mark.skipif(shutil.which("nvcc") is None, reason="nvcc is not installed"),
    pytest.mark.slow,
    pytest.mark.timeout(900),
]
ARCHITECTURES = ["80", "90a", "100", "120"]
CODE = [f"-gencode=arch=compute_{each},code=sm_{each}" for each in ARCHITECTURES]
CODE += ["-gencode=arch=compute_80,code=compute_80"]
OPTIONS = ["-std=c++17", "-O3", "-Werror", "all-warnings", "-Xptxas", "-v", f"-I{CSRC}"]
SMALL = ["-Xcompiler", "-fPIC", "-Xfatbin=-compress-all", "-Xfatbin=-compress-mode=size"]
MEGABYTES = 5
# Of a kernel, the most on any architecture: measured, and not to grow unnoticed. With numbers: of that instance alone.
REGISTERS = {
    "Draw": 40,
    "Replace": 40,
    "Gather": 40,
    "Forward": 64,
    "Backward": 64,
    "Convolve": 168,
    "WeightGradient<64, 7, 1>": 252,  # one block of 256 threads: there are more
    "WeightGradient<64, 7, 3>": 255,
    "WeightGradient": 168,
    "SumParts": 40,
    "Arrange": 32,
    "Fold": 42,
    "First": 128,
    "FirstWeights": 168,
    "FirstInput": 168,
    "Last": 128,
    "LastBackward<1, 64, 3>": 255,  # two blocks of 128
    "LastBackward<3, 64, 3>": 255,
    "LastBackward": 168,
}


def mangled(kernel: str) -> str:
    """Part of its symbol."""
    name, *numbers = re.findall(r"\w+", kernel)
    return f"{len(name)}{name}" + ("I" if numbers else "") + "".join(f"Li{n}E" for n in numbers)


class Built:
    """The library and what ptxas said of each kernel: (name, architecture) to (registers, bytes spilled)."""

    def __init__(self, folder: Path) -> None:
        self.kernels: dict[tuple[str, str], tuple[int, int]] = {}
        objects = []
        for source in (*KERNELS, CSRC / "cuda" / "runtime.cu"):
            objects.append(str(folder / f"{source.stem}.o"))
            # Two architectures at a time.
            command = ["nvcc", "--threads", "2", *OPTIONS, *SMALL, *CODE, "-c", str(source)]
            done = subprocess.run(
                [*command, "-o", objects[-1]], capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, done.stderr
            self._read(done.stderr)
        bindings = str(folder / "bindings.o")
        options = ["-std=c++17", "-O1", "-fPIC", "-fvisibility=hidden", f"-I{CSRC}", *PYTHON]
        together([["g++", *options, "-c", str(CSRC / "cuda" / "bindings.cpp"), "-o", bindings]])
        self.library = folder / "_cuda.so"
        link = ["nvcc", "-shared", "-cudart", "static", bindings, *objects]
        together([[*link, "-o", str(self.library)]])

    def _read(self, log: str) -> None:
        pattern = re.compile(
            r"Compiling entry function '(\S+)' for 'sm_(\w+)'.*?"
            r"(\d+) bytes spill stores.*?Used (\d+) registers",
            re.DOTALL,
        )
        for name, architecture, spilled, registers in pattern.findall(log):
            self.kernels[name, architecture] = (int(registers), int(spilled))


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    return Built(tmp_path_factory.mktemp("cuda"))


def test_every_kernel_is_there_for_every_architecture(built: Built) -> None:
    names = {name for name, _ in built.kernels}
    assert {(name, each) for name in names for each in ARCHITECTURES} <= set(built.kernels)
    for kernel in REGISTERS:
        assert any(mangled(kernel) in name for name in names), kernel


def test_nothing_spills(built: Built) -> None:
    assert [key for key, (_, spilled) in built.kernels.items() if spilled] == []


def test_registers_are_within_the_table(built: Built) -> None:
    for (name, architecture), (registers, _) in built.kernels.items():
        limits = [most for kernel, most in REGISTERS.items() if mangled(kernel) in name]
        assert limits, f"{name} is not in the table"
        assert registers <= limits[0], (name, architecture, registers)


def test_the_library_is_small(built: Built) -> None:
    assert built.library.stat().st_size < MEGABYTES * 1e6


def test_it_can_be_imported_without_a_driver_and_says_so(built: Built) -> None:
    script = f"import sys; sys.path[0] = {str(built.library.parent)!r}; import _cuda; print(_cuda.obstacle(0))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "CUDA says 'CUDA driver version is insufficient" in done.stdout or done.stdout == "\n"
    needed = subprocess.run(
        ["readelf", "-d", str(built.library)], capture_output=True, text=True, check=True
    )
    assert "libcuda" not in needed.stdout
