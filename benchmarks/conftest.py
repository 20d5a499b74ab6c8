"""Results of a run, gathered and written to benchmarks/results/ with --write-results."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from interleaved import RESULTS, Timing, write_results

from simgan_fast import _native, keep_freed_memory


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--write-results",
        action="store_true",
        help="write benchmarks/results/<stem>.json from what was timed",
    )
    parser.addoption("--results-folder", help="where to, in place of benchmarks/results")
    parser.addoption(
        "--peers",
        default="all",
        choices=("all", "torch"),
        help="beside what the refiner is timed: everything installed, or torch alone",
    )
    parser.addoption("--threads", default="1,2", help="numbers of threads that the refiner runs on")
    parser.addoption(
        "--hand-blocks", default="1", help="residual blocks of the hand refiner; the paper has 10"
    )
    parser.addoption("--batches", default="1,32,128", help="numbers of images it is given at once")


@pytest.fixture(scope="session", autouse=True)
def _native_part() -> None:
    """Without it every figure would be that of the plain-PyTorch twins."""
    assert _native.AVAILABLE, f"the native part is missing: {_native.MISSING}"


@pytest.fixture(scope="session", autouse=True)
def _keep_freed_memory() -> None:
    """As the commands do, for everyone alike: or whoever allocates after a page was given back pays for clearing it."""
    keep_freed_memory()


@pytest.fixture(scope="session")
def results_folder(pytestconfig: pytest.Config) -> Path | None:
    """Where results files go; None without --write-results."""
    if not pytestconfig.getoption("--write-results"):
        return None
    return Path(pytestconfig.getoption("--results-folder") or RESULTS)


@pytest.fixture(scope="module")
def record(
    request: pytest.FixtureRequest, results_folder: Path | None
) -> Iterator[Callable[[str, Timing], None]]:
    """Print a case's table, and keep it for the results file of this benchmark."""
    cases: dict[str, dict[str, Any]] = {}

    def keep(case: str, timing: Timing, ours: str = "simgan_fast") -> None:
        cases[case] = timing.summary(ours)
        print(f"\n  {case}: {cases[case]['times_faster_than_best_peer']} x the best peer")
        print(timing.table(ours))

    yield keep
    if cases and results_folder:
        stem = request.module.__name__.rsplit(".", 1)[-1].removeprefix("bench_")
        print(f"\n  wrote {write_results(stem, cases, results_folder)}")
