"""Prints benchmarks/results/cpu.json as the Markdown tables of docs/performance.md, or as the README's chart.

python benchmarks/table.py [--chart]
python benchmarks/table.py --avx2         the tables of cpu_avx2.json, of a machine without AVX-512
python benchmarks/table.py --intel        the tables of cpu_intel.json, of an Intel Xeon
python benchmarks/table.py --zen4         the tables of cpu_zen4.json, of an AMD EPYC of the generation before
python benchmarks/table.py --processes    processes.json, as the table of docs/scaling.md
python benchmarks/table.py --overheads    overheads.json, as the table of docs/performance.md
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
TITLES = {
    "refiner_inference": "Refining",
    "refiner_training_step": "A training step of the refiner",
    "discriminator_training_step": "A training step of the discriminator",
}
OURS = "simgan_fast"
CHART_SETTING = (2, 32)  # threads, batch
BAR = 6  # characters that are once as long as ours
Row = dict[str, Any]


def table(case: str, rows: Sequence[Row]) -> str:
    """A column for each setting, a line for each implementation, the fastest first."""
    settings = list(dict.fromkeys((row["threads"], row["batch"]) for row in rows))
    names = list(dict.fromkeys(row["implementation"] for row in rows))
    cells = {(row["implementation"], row["threads"], row["batch"]): row for row in rows}
    names.sort(key=lambda name: sum(cells[(name, *s)]["times_slower_than_ours"] for s in settings))
    head = [f"{threads} thread{'s' * (threads > 1)}, batch {batch}" for threads, batch in settings]
    lines = [[f"{TITLES[case]}, ms", *head], ["---"] * (len(settings) + 1)]
    for name in names:
        title = f"**{OURS}**" if name == OURS else name.replace("_", " ")
        lines.append([title, *(cell(cells[(name, *setting)]) for setting in settings)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def cell(row: Row) -> str:
    """The median, and how many times as long as ours that is."""
    milliseconds = row["median_s"] * 1e3
    text = f"{milliseconds:.0f}" if milliseconds >= 100 else f"{milliseconds:.3g}"
    if row["implementation"] == OURS:
        return f"**{text}**"
    return f"{text} ({row['times_slower_than_ours']:.2f})"


def chart(rows: Sequence[Row]) -> str:
    """A bar for each implementation in one setting, as long as it takes."""
    threads, batch = CHART_SETTING
    lines = []
    for case, title in TITLES.items():
        lines.append(f"{title}, {batch} eyes, {threads} threads")
        chosen = [
            r for r in rows if (r["case"], r["threads"], r["batch"]) == (case, *CHART_SETTING)
        ]
        for row in sorted(chosen, key=lambda row: row["median_s"]):
            bar = "\u2588" * round(BAR * row["times_slower_than_ours"])
            name = row["implementation"]
            name = name if name == OURS else name.replace("_", " ")
            lines.append(f"  {name:26s} {bar} {row['median_s'] * 1e3:.0f} ms")
        lines.append("")
    return "\n".join(lines)


def processes(cases: dict[str, dict[str, float]]) -> str:
    """A line for each kind of work: images a second of one process and of two, and ratios."""
    lines = [["what", "one process", "two processes", "times", "apart", "work"], ["---"] * 6]
    for name, case in cases.items():
        if "ratio" in case:
            rates = [f"{case[key]:.0f}" for key in ("one_process", "two_processes")]
            ratios = [
                f"{case[key]:.2f}" if key in case else "" for key in ("ratio", "apart", "work")
            ]
            lines.append([name, *rates, *ratios])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def overheads(cases: dict[str, dict[str, float]]) -> str:
    """A line for torch's convolution and for each op, in us: a call, its overhead, and that over torch's."""
    lines = [["us", "a call", "of it overhead", "over conv2d's", "a call of the twin"], ["---"] * 5]
    for name, case in cases.items():
        if "overhead_us" in case:
            twin = cases.get(f"({name})", {}).get("median_us")
            over = case.get("overhead_over_conv2d_us")
            values = (case["median_us"], case["overhead_us"], over, twin)
            lines.append([name, *("" if value is None else f"{value:.1f}" for value in values)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    """Print a table for every case, or the chart."""
    for option, printed in (("--processes", processes), ("--overheads", overheads)):
        if option in sys.argv:
            results = RESULTS / f"{option.removeprefix('--')}.json"
            print(printed(json.loads(results.read_text())["cases"]))
            return
    others = [f"cpu_{name}.json" for name in ("avx2", "intel", "zen4") if f"--{name}" in sys.argv]
    name = others[0] if others else "cpu.json"
    content = json.loads((RESULTS / name).read_text())
    if "--chart" in sys.argv:
        print(chart(content["rows"]))
        return
    for case in TITLES:
        rows = [row for row in content["rows"] if row["case"] == case]
        if rows:
            print(table(case, rows), end="\n\n")


if __name__ == "__main__":
    main()
