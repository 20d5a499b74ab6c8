"""What a call and an import cost beside torch's own: ops on the smallest input, and `import simgan_fast`.

Run it as `OMP_NUM_THREADS=1 pytest benchmarks/bench_overheads.py -s`. What an op takes over one `conv2d`, and over its
twin in plain PyTorch (of several), is the median of the rounds' differences; the op's own arithmetic is in it.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from interleaved import time_interleaved, write_results
from torch.nn import functional as F

from simgan_fast import PatchDiscriminator, Refiner
from simgan_fast.ops import (
    gather_normalize,
    patch_cross_entropy,
    patch_network,
    residual_blocks,
    residual_network,
)

MOST_SECONDS = 0.3  # of an import, over torch's
CHANNELS, SIDE = 16, 5
IMPORT = "import time; t = time.process_time(); import {}; print(time.process_time() - t)"


def candidates() -> dict[str, Callable[[], object]]:
    """Each op, and its twin by torch under "(op)"."""
    refiner, discriminator = Refiner(width=CHANNELS, blocks=1), PatchDiscriminator()
    ends = [(conv.weight, conv.bias) for conv in (refiner.first, refiner.last)]
    inner = [block.parameters_in_order() for block in refiner.blocks]
    layers = [(conv.weight, conv.bias) for conv in discriminator.children()]
    image, maps = torch.zeros(1, 1, SIDE, SIDE), torch.zeros(1, CHANNELS, SIDE, SIDE)
    (weight, bias, *_), logits = inner[0], torch.zeros(1, 2, 2, 2)
    pixels, indices = torch.zeros(1, 1, SIDE, SIDE, dtype=torch.uint8), torch.zeros(1, dtype=int)
    twin = {"padding_mode": "reflect", "impl": "reference"}
    return {
        "conv2d": lambda: F.conv2d(maps, weight, bias, padding=1),
        "residual_blocks": lambda: residual_blocks(maps, inner),
        "(residual_blocks)": lambda: residual_blocks(maps, inner, impl="reference"),
        "Refiner": lambda: refiner(image),
        "(Refiner)": lambda: residual_network(image, ends[0], inner, ends[1], **twin).tanh(),
        "PatchDiscriminator": lambda: discriminator(image),
        "(PatchDiscriminator)": lambda: patch_network(image, layers, **twin),
        "patch_cross_entropy": lambda: patch_cross_entropy(logits, 1),
        "(patch_cross_entropy)": lambda: patch_cross_entropy(logits, 1, impl="reference"),
        "gather_normalize": lambda: gather_normalize(pixels, indices),
        "(gather_normalize)": lambda: gather_normalize(pixels, indices, impl="reference"),
    }


@torch.no_grad()
def bench_calls(results_folder: Path | None) -> None:
    timing = time_interleaved(candidates(), rounds=301)
    cases = {}
    for name, seconds in timing.seconds.items():
        cases[name] = {"median_us": round(timing.median(name) * 1e6, 2)}
        peers = {"over_conv2d_us": "conv2d", "over_twin_us": f"({name})"}
        for key, peer in peers.items():
            if peer in timing.seconds and name != peer:
                pairs = zip(seconds, timing.seconds[peer], strict=True)
                cases[name][key] = round(statistics.median(a - b for a, b in pairs) * 1e6, 2)
        print(f"\n    {name:24s} {cases[name]}", end="")
    if results_folder:
        write_results("overheads", cases, results_folder)


def bench_import() -> None:
    """Processor time: other programs disturb it less than the clock."""
    seconds: dict[str, list[float]] = {"torch": [], "simgan_fast": []}
    for _ in range(7):
        for name, found in seconds.items():
            command = [sys.executable, "-c", IMPORT.format(name)]
            printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            found.append(float(printed))
    over = min(seconds["simgan_fast"]) - min(seconds["torch"])
    print(f"\n    import simgan_fast takes {over:+.3f} s more than torch", end="")
    assert over < MOST_SECONDS
