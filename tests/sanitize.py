"""All native ops under sanitizers, and mistakes planted that they must find. `make sanitize`, some minutes.

ThreadSanitizer cannot see what libgomp does, and calls its waiting a race. These programs load no OpenMP, so that
`parallel_for` (csrc/cpu/threads.cpp) makes plain threads, which it follows exactly; what the workers share is the same
either way. What it does not see: OpenMP's own starting and joining of threads, and torch.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from compilers import ROOT, X86_LEVELS, build_native
from fuzz import ops

from simgan_fast._native import cpu_levels

NATIVE = ROOT / "tests" / "native"
CHECKS = ("residual_blocks_check", "patch_network_check")
OPTIONS = {
    "address,undefined": ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"],
    "thread": ["-fsanitize=thread"],
}
MISTAKES = {
    "race": "data race",
    "overrun": "heap-buffer-overflow",
    "overflow": "signed integer overflow",
}
FOUND_BY = {"race": "thread", "overrun": "address,undefined", "overflow": "address,undefined"}
CASES = int(os.environ.get("SANITIZE_CASES", "200"))  # of each op at each CPU level

pytestmark = [
    pytest.mark.timeout(3600),
    pytest.mark.skipif(shutil.which("g++") is None, reason="g++ is not installed"),
]


@pytest.fixture(scope="module", params=OPTIONS)
def programs(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, dict[str, Path]]:
    """The sanitizers' name, and the programs built with them."""
    folder = tmp_path_factory.mktemp("sanitize")
    sources = [NATIVE / f"{name}.cpp" for name in (*CHECKS, "sanitizers_check")] + [ops.SOURCE]
    levels = X86_LEVELS if platform.machine() == "x86_64" else {}
    options = [*OPTIONS[request.param], "-DFUZZ_PLAIN_DRIVER"]
    built = build_native(folder, "g++", levels, options, sources)
    return request.param, {program.stem: program for program in built}


def run(program: Path, *words: str, **settings: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [program, *words],
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        check=False,
    )


def clean(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, (done.stdout + done.stderr)[-6000:]
    return done.stdout


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_planted_mistake_is_found(programs: tuple[str, dict[str, Path]], mistake: str) -> None:
    sanitizers, built = programs
    if FOUND_BY[mistake] != sanitizers:
        pytest.skip(f"not by {sanitizers}")
    done = run(built["sanitizers_check"], mistake)
    assert done.returncode != 0
    assert MISTAKES[mistake] in done.stderr


@pytest.mark.parametrize("level", cpu_levels() or ["baseline"])
def test_ops_are_clean(programs: tuple[str, dict[str, Path]], level: str) -> None:
    sanitizers, built = programs
    clean(run(built["sanitizers_check"], "callers", SIMGAN_FAST_CPU=level))
    if sanitizers == "thread":  # the other sanitizers have these in test_native_builds.py
        for check in CHECKS:
            clean(run(built[check], SIMGAN_FAST_CPU=level))
    for name in ops.NAMES:
        said = clean(run(built["ops"], str(CASES), "600", "5", FUZZ_OP=name, SIMGAN_FAST_CPU=level))
        assert re.search(r"Done (\d+) runs", said)
        print(f"{sanitizers} {level} {name}: {said.strip()}")
