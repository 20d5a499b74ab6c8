"""The convolutions built on their own: under sanitizers, for arm64, and their generated source."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from compilers import together

from simgan_fast._native import cpu_levels

ROOT = Path(__file__).parents[1]
CHECKS = {"residual_blocks_check": 39, "patch_network_check": 10}  # lines that each prints
PARTS = ("backward", "forward", "fourier", "layout", "panels")
COMMON = [f"csrc/cpu/{name}.cpp" for name in ("dispatch", "maps", "patch_network", "scratch")]
COMMON += ["csrc/cpu/threads.cpp", *(f"csrc/cpu/residual_blocks_{part}.cpp" for part in PARTS)]
X86_LEVELS = {
    "avx2": ["-mavx2", "-mfma"],
    "avx512": ["-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mfma"],
}
ARM_COMPILER, ARM_EMULATOR = "aarch64-linux-gnu-g++", "qemu-aarch64"


def build(
    folder: Path, compiler: str, levels: dict[str, list[str]], options: list[str]
) -> dict[Path, int]:
    """Compile the checks with the given levels beside the baseline; gives programs and the lines that each prints."""
    flags = ["-std=c++17", "-O1", "-ffp-contract=fast", "-Wno-psabi", f"-I{ROOT / 'csrc'}"]
    defined = [f"-DSIMGAN_FAST_{level.upper()}" for level in levels]
    sources = [(ROOT / name, defined) for name in COMMON]
    sources += [(ROOT / "csrc/cpu/variants/baseline.cpp", [])]
    sources += [(ROOT / f"csrc/cpu/variants/{level}.cpp", own) for level, own in levels.items()]
    sources += [(ROOT / "tests" / "native" / f"{name}.cpp", []) for name in CHECKS]
    commands = [
        [
            compiler,
            *flags,
            *options,
            *own,
            "-c",
            str(source),
            "-o",
            str(folder / f"{source.stem}.o"),
        ]
        for source, own in sources
    ]
    together(commands)
    common = [
        str(folder / f"{source.stem}.o") for source, _ in sources if source.stem not in CHECKS
    ]
    together(
        [compiler, *options, str(folder / f"{name}.o"), *common, "-o", str(folder / name)]
        + ["-pthread", "-ldl"]
        for name in CHECKS
    )
    return {folder / name: lines for name, lines in CHECKS.items()}


def run(command: list[str], level: str) -> str:
    environment = {**os.environ, "SIMGAN_FAST_CPU": level}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(platform.machine() != "x86_64", reason="the levels are those of x86-64")
@pytest.mark.skipif(shutil.which("g++") is None, reason="g++ is not installed")
def test_every_level_is_right_and_clean_under_sanitizers(tmp_path: Path) -> None:
    """AddressSanitizer and UndefinedBehaviorSanitizer; every pixel against plain loops in double.

    All levels are compiled; those run that this machine has.
    """
    options = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    for program, lines in build(tmp_path, "g++", X86_LEVELS, options).items():
        for level in cpu_levels() or ["baseline"]:
            assert run([str(program)], level).count(f"{level} ") == lines


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(
    shutil.which(ARM_COMPILER) is None or shutil.which(ARM_EMULATOR) is None,
    reason=f"{ARM_COMPILER} and {ARM_EMULATOR} are not installed",
)
def test_the_baseline_is_right_on_arm64(tmp_path: Path) -> None:
    for program, lines in build(tmp_path, ARM_COMPILER, {}, ["-static"]).items():
        assert run([ARM_EMULATOR, str(program)], "").count("baseline ") == lines


def test_the_transforms_are_what_their_script_writes() -> None:
    folder = ROOT / "csrc" / "cpu"
    script = folder / "winograd_transforms.py"
    written = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    assert (folder / "winograd_transforms.h").read_text() == written.stdout
