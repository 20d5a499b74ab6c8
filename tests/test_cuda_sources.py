"""What is written for CUDA compiles as CUDA, where nvcc is found. There are no kernels yet, only random.h."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

CSRC = Path(__file__).parents[1] / "csrc"
KERNEL = """
#include "random.h"
__global__ void draw(unsigned long long* out, unsigned long long step) {
    const auto p = simgan_fast::make_permutation(1000, step, 0, 7);
    out[threadIdx.x] = simgan_fast::permuted(p, threadIdx.x);
}
"""


@pytest.mark.skipif(shutil.which("nvcc") is None, reason="nvcc is not installed")
@pytest.mark.parametrize("architecture", ["sm_80", "sm_90a", "sm_120"])
def test_random_numbers_compile_for_the_device(tmp_path: Path, architecture: str) -> None:
    source = tmp_path / "draw.cu"
    source.write_text(KERNEL)
    options = ["-std=c++17", f"-arch={architecture}", "-Werror", "all-warnings", f"-I{CSRC}"]
    command = ["nvcc", *options, "-c", str(source), "-o", str(tmp_path / "draw.o")]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
