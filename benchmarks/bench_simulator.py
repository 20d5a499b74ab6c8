"""Images a second of the bundled simulator, both domains, on one thread.

Run it as `OMP_NUM_THREADS=1 python -m pytest benchmarks/bench_simulator.py -s`. Two figures for each
domain and size: by the processor's time, which other programs disturb little, and by the clock.
"""

from __future__ import annotations

import statistics
import time
from pathlib import Path

from interleaved import write_results

from simgan_fast.simulators import simulate_eyes

COUNT, ROUNDS = 128, 7
SIZES = ((35, 55), (36, 60), (84, 140))
DOMAINS = ("plain", "camera")


def seconds(domain: str, size: tuple[int, int], start: int) -> tuple[float, float]:
    """Processor and clock seconds that COUNT images take, from number `start` on."""
    processor, clock = time.process_time(), time.perf_counter()
    assert sum(map(len, simulate_eyes(COUNT, size=size, domain=domain, start=start))) == COUNT
    return time.process_time() - processor, time.perf_counter() - clock


def rates(size: tuple[int, int]) -> dict[str, dict[str, int]]:
    """Images a second of each domain: medians over rounds that take turns."""
    taken: dict[str, list[tuple[float, float]]] = {domain: [] for domain in DOMAINS}
    for domain in DOMAINS:
        seconds(domain, size, 0)  # warms up
    for i in range(ROUNDS):
        for domain in DOMAINS:
            taken[domain].append(seconds(domain, size, i * COUNT))
    return {
        domain: {
            "by_processor": round(COUNT / statistics.median(p for p, _ in pairs)),
            "by_clock": round(COUNT / statistics.median(c for _, c in pairs)),
        }
        for domain, pairs in taken.items()
    }


def bench_simulator(results_folder: Path | None) -> None:
    cases = {}
    for size in SIZES:
        name = f"{size[0]}x{size[1]}"
        cases[name] = {"images_per_second": rates(size)}
        print(f"\n    {name:8s} images a second: {cases[name]['images_per_second']}", end="")
    if results_folder:
        write_results("simulator", cases, results_folder)
