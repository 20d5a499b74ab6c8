"""The emulator catches what it is for: one planted mistake at a time, under every schedule."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from emulated import ROOT, SANITIZED, SCHEDULES, build_program

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="g++ is not installed")
SOURCE = ROOT / "tests" / "native" / "planted_bugs.cpp"
# y is 64 x 64 of depth 80: 4 x 8 products of 16 x 8 x 16 a step, one ldmatrix of a and four of b a warp and step.
PRODUCTS, LOADS, STEPS = 4 * 8 * 5, 4 * 5 * 5, 5


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_program(tmp_path_factory.mktemp("emulator"), SOURCE, "-O1")


@pytest.fixture(scope="module")
def sanitized(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_program(tmp_path_factory.mktemp("sanitized"), SOURCE, "-O1", *SANITIZED)


def outcome(program: Path, mistake: str, order: int, greedy: bool) -> tuple[str, dict[str, int]]:
    """What became of it, and the counters."""
    command = [str(program), mistake, str(order), str(int(greedy))]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    result, counts = done.stdout.splitlines()
    words = counts.split()
    return result, dict(zip(words[::2], map(int, words[1::2]), strict=True))


def outcomes(program: Path, mistake: str) -> set[str]:
    return {outcome(program, mistake, *schedule)[0] for schedule in SCHEDULES}


def test_what_is_right_is_right_under_every_schedule(program: Path, sanitized: Path) -> None:
    for each in (program, sanitized):
        assert outcomes(each, "none") == {"right"}


def test_the_counters_count(program: Path) -> None:
    for schedule in SCHEDULES:
        _, counts = outcome(program, "none", *schedule)
        assert counts == {
            "mma": PRODUCTS,
            "ldmatrix": LOADS,
            "wavefronts": 4 * LOADS,
            "barriers": 2 * STEPS,
            "read": 2 * 64 * 80 * 2,
            "written": 64 * 64 * 4 + 4 * 4,
        }


def test_a_lost_swizzle_shows_in_the_wavefronts(program: Path) -> None:
    result, counts = outcome(program, "no_swizzle", 0, False)
    assert result == "right" and counts["wavefronts"] == 8 * LOADS


@pytest.mark.parametrize(
    ("mistake", "result"), [("no_wait", "wrong"), ("order", "wrong"), ("no_sync_warp", "wrong sum")]
)
def test_wrong_under_every_schedule(program: Path, mistake: str, result: str) -> None:
    assert outcomes(program, mistake) == {result}


@pytest.mark.parametrize("mistake", ["no_first_barrier", "no_last_barrier"])
def test_a_missing_barrier_shows_in_greedy_schedules(program: Path, mistake: str) -> None:
    for order, greedy in SCHEDULES:
        if greedy:
            assert outcome(program, mistake, order, greedy)[0] == "wrong"


@pytest.mark.parametrize(
    ("mistake", "message"),
    [
        ("no_commit", "it ended before its cp_async_wait"),
        ("shared_overrun", "it reaches outside of its shared memory"),
        ("plain_overrun", "it wrote outside of its shared memory"),
        ("some_lanes", "threads wait at a barrier or collective that others never reach"),
        ("some_threads", "threads wait at a barrier or collective that others never reach"),
        ("misaligned", "a cp_async of 16 bytes is not aligned to them"),
    ],
)
def test_named_under_every_schedule(program: Path, mistake: str, message: str) -> None:
    for result in outcomes(program, mistake):
        assert result.startswith(f"{mistake}: block 0") and message in result


@pytest.mark.parametrize("mistake", ["plain_overrun", "global_overrun"])
def test_address_sanitizer_sees_what_lies_outside(sanitized: Path, mistake: str) -> None:
    command = [str(sanitized), mistake, "0", "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode != 0 and "ERROR: AddressSanitizer" in done.stderr
