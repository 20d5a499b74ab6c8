"""The convolutions built on their own: under sanitizers, for arm64, and their generated source."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from compilers import ROOT, X86_LEVELS, build_native

from simgan_fast._native import cpu_levels

CHECKS = {"residual_blocks_check": 39, "patch_network_check": 10}  # lines that each prints
ARM_COMPILER, ARM_EMULATOR = "aarch64-linux-gnu-g++", "qemu-aarch64"


def build(
    folder: Path, compiler: str, levels: dict[str, list[str]], options: list[str]
) -> dict[Path, int]:
    """Compile the checks with the given levels beside the baseline; gives programs and the lines that each prints."""
    sources = [ROOT / "tests" / "native" / f"{name}.cpp" for name in CHECKS]
    programs = build_native(folder, compiler, levels, options, sources)
    return dict(zip(programs, CHECKS.values(), strict=True))


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
