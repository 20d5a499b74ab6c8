"""Fails where an op has lost more than a tenth of its lead over its peers since the results were committed.

    make bench-guard

Times drift between machines and hours, ratios within one run much less; still a case gets three tries, and it passes
with its best. Only ratios are compared, against benchmarks/results.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
LOSS = 0.10
TRIES = 3
# Peers of the refiner that are always there: the others would take the guard from two minutes to ten.
QUICK = ["--peers", "torch", "--threads", "1", "--batches", "1,32"]
REFERENCE = "torch_eager_channels_last"

Ratios = dict[str, float]


def ratios_in(folder: Path) -> Ratios:
    """How many times faster than its peer each case is, by the results files in a folder."""
    ratios: Ratios = {}
    for path in sorted(folder.glob("*.json")):
        content = json.loads(path.read_text())
        for name, case in content.get("cases", {}).items():
            if "times_faster_than_best_peer" in case:
                ratios[f"{path.stem}: {name}"] = case["times_faster_than_best_peer"]
        for row in content.get("rows", []):
            if row["implementation"] == REFERENCE:
                ratios[name_of(row)] = row["times_slower_than_ours"]
    return ratios


def name_of(row: dict[str, Any]) -> str:
    """Of a row of cpu.json."""
    return f"{row['case']}, batch {row['batch']}, {row['threads']} threads, beside {REFERENCE}"


def measured() -> Ratios:
    """Run the quick benchmarks once, on one thread like those that were committed."""
    # Not `python -m pytest`, which would put the source tree, without its native part, before the package.
    pytest = Path(sys.executable).with_name("pytest")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory() as folder:
        command = [str(pytest), str(HERE), "-q", "--write-results", *QUICK]
        subprocess.run(
            [*command, "--results-folder", folder],
            check=True,
            stdout=subprocess.DEVNULL,
            env=environment,
        )
        return ratios_in(Path(folder))


def main() -> int:
    """Compare, print a line a case, and give the exit code."""
    committed, best = ratios_in(HERE / "results"), Ratios()
    for _ in range(TRIES):
        for name, ratio in measured().items():
            best[name] = max(ratio, best.get(name, 0.0))
        if not lost(best, committed):
            break
    for name in sorted(best.keys() & committed.keys()):
        mark = "LOST" if name in lost(best, committed) else ""
        print(f"{best[name]:7.2f} now, {committed[name]:7.2f} committed  {name} {mark}")
    return 1 if lost(best, committed) else 0


def lost(best: Ratios, committed: Ratios) -> list[str]:
    """Cases that are more than a tenth slower, against their peer, than committed."""
    return [n for n in best if n in committed and best[n] < (1 - LOSS) * committed[n]]


if __name__ == "__main__":
    sys.exit(main())
