"""Times several ways of doing one thing in the same run, so that their ratios survive a noisy machine.

Every round times every candidate once, in a new order; the figure of a candidate is its median over the rounds. A ratio
is the median over the rounds of the ratio within a round: a slow spell hits both sides of it.
"""

from __future__ import annotations

import json
import os
import platform
import random
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from simgan_fast import _native

RESULTS = Path(__file__).parent / "results"
Candidate = Callable[[], object]


@dataclass
class Timing:
    """Seconds per call of each candidate, one entry a round."""

    seconds: dict[str, list[float]] = field(default_factory=dict)

    def median(self, name: str) -> float:
        """Median seconds per call."""
        return statistics.median(self.seconds[name])

    def ratio(self, name: str, ours: str) -> float:
        """How many times faster `ours` is than `name`: the median of the rounds' ratios."""
        pairs = zip(self.seconds[name], self.seconds[ours], strict=True)
        return statistics.median(theirs / mine for theirs, mine in pairs)

    def best_peer(self, ours: str) -> str:
        """The fastest candidate but `ours` and those in brackets, which do something else."""
        peers = [name for name in self.seconds if name != ours and not name.startswith("(")]
        return min(peers, key=self.median)

    def summary(self, ours: str) -> dict[str, Any]:
        """Medians, quartiles and ratios, for a results file."""
        peer = self.best_peer(ours)
        quartiles = {n: statistics.quantiles(s, n=4) for n, s in self.seconds.items()}
        return {
            "median_us": {n: round(self.median(n) * 1e6, 2) for n in self.seconds},
            "min_us": {n: round(min(s) * 1e6, 2) for n, s in self.seconds.items()},
            "iqr_us": {n: round((q[2] - q[0]) * 1e6, 2) for n, q in quartiles.items()},
            "best_peer": peer,
            "times_faster_than_best_peer": round(self.ratio(peer, ours), 2),
        }

    def table(self, ours: str) -> str:
        """One line a candidate, fastest first."""
        lines = [
            f"    {name:32s} {self.median(name) * 1e6:10.1f} us (at best {min(self.seconds[name]) * 1e6:8.1f})"
            f"   {self.ratio(name, ours):6.2f} x"
            for name in sorted(self.seconds, key=self.median)
        ]
        return "\n".join(lines)


def _calls_for(candidate: Candidate, seconds: float) -> int:
    """How many calls take about `seconds`; warms the candidate up."""
    candidate()
    calls = 1
    while True:
        start = time.perf_counter()
        for _ in range(calls):
            candidate()
        taken = time.perf_counter() - start
        if taken > seconds / 4 or calls >= 2**20:
            return max(1, round(calls * seconds / max(taken, 1e-9)))
        calls *= 2


def time_interleaved(
    candidates: Mapping[str, Candidate], *, rounds: int = 101, seconds: float = 0.001, seed: int = 0
) -> Timing:
    """Time candidates in shuffled rounds.

    Args:
        candidates: name -> function of no arguments; compare their values before, not here.
        rounds: how many times each is timed.
        seconds: about how long one timing lasts; short calls are repeated to fill it. Kept below a time slice of the
            system's scheduler, so that on a busy machine most timings are whole.
    """
    calls = {name: _calls_for(candidate, seconds) for name, candidate in candidates.items()}
    timing = Timing({name: [] for name in candidates})
    order, shuffler = list(candidates), random.Random(seed)
    for _ in range(rounds):
        shuffler.shuffle(order)
        for name in order:
            candidate = candidates[name]
            start = time.perf_counter()
            for _ in range(calls[name]):
                candidate()
            timing.seconds[name].append((time.perf_counter() - start) / calls[name])
    return timing


def machine() -> dict[str, Any]:
    """What the figures were measured on and with."""
    return {
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "cpu_level": _native.cpu_level(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
    }


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((x.split(":")[1].strip() for x in lines if x.startswith("model name")), "unknown")


def write_results(stem: str, cases: Mapping[str, Mapping[str, Any]], folder: Path) -> Path:
    """Write <stem>.json with the machine and the command."""
    folder.mkdir(exist_ok=True)
    path = folder / f"{stem}.json"
    command = " ".join(["pytest", *(a for a in sys.argv[1:] if not a.startswith("/"))])
    content = {"command": command, "machine": machine(), "cases": cases}
    path.write_text(json.dumps(content, indent=1) + "\n")
    return path
