"""What a call and an import cost beside torch's own: ops on a small input, and `import simgan_fast`.

Run it as `OMP_NUM_THREADS=1 pytest benchmarks/bench_overheads.py -s`. The overhead of an op is what its call takes over
its native kernel alone, called with the same arguments: checks, dispatch, memory. Where these arguments are a list of
tensors, the kernel looks at each too: what that takes, as a second look by `residual_blocks_fit` tells, is overhead.
That of torch's `conv2d` is what its call takes over what each of 32 further images takes. All is timed in the same
rounds, and figures are medians of the rounds' differences. The twins are the ops in plain PyTorch, of several calls,
arithmetic and all.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from interleaved import Timing, time_interleaved, write_results
from torch.nn import functional as F

from simgan_fast import PatchDiscriminator, Refiner
from simgan_fast._native import C
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
Call = Callable[[], object]
CONV, MANY, MORE = "conv2d", "conv2d of 33 images", 32
KERNELS = {"residual_network": "residual_blocks"}  # where the kernel has another name than the op
NO_OPS = (CONV, MANY, "Refiner", "PatchDiscriminator")


def calls() -> dict[str, Call]:
    """The ops, torch's convolution, and the modules, whose Python is theirs on top.

    Twins by torch under "(name)", a look at the tensors under "[name]".
    """
    refiner, discriminator = Refiner(width=CHANNELS, blocks=1), PatchDiscriminator()
    first, last = ((conv.weight, conv.bias) for conv in (refiner.first, refiner.last))
    inner = [block.parameters_in_order() for block in refiner.blocks]
    sizes = [
        (CHANNELS, 1, 3),
        *[(CHANNELS, CHANNELS, 3)] * 2,
        (CHANNELS, CHANNELS, 1),
        (2, CHANNELS, 1),
    ]
    layers = [(torch.zeros(co, ci, k, k), torch.zeros(co)) for co, ci, k in sizes]
    image, many = torch.zeros(1, 1, SIDE, SIDE), torch.zeros(1 + MORE, CHANNELS, SIDE, SIDE)
    many = many.to(memory_format=torch.channels_last)
    maps, (weight, bias, *_), logits = many[:1], inner[0], torch.zeros(1, 2, 2, 2)
    pixels, indices = torch.zeros(1, 1, SIDE, SIDE, dtype=torch.uint8), torch.zeros(1, dtype=int)
    mode = {"padding_mode": "reflect"}
    twin = {**mode, "impl": "reference"}
    flat = [tensor for pair in (*inner, first, last) for tensor in pair]
    patch_flat = [tensor for pair in layers for tensor in pair]
    return {
        CONV: lambda: F.conv2d(maps, weight, bias, padding=1),
        MANY: lambda: F.conv2d(many, weight, bias, padding=1),
        "residual_blocks": lambda: residual_blocks(maps, inner),
        "(residual_blocks)": lambda: residual_blocks(maps, inner, impl="reference"),
        "residual_network": lambda: residual_network(image, first, inner, last, **mode),
        "(residual_network)": lambda: residual_network(image, first, inner, last, **twin),
        "Refiner": lambda: refiner(image),
        "(Refiner)": lambda: residual_network(image, first, inner, last, **twin).tanh(),
        "patch_network": lambda: patch_network(image, layers, **mode),
        "(patch_network)": lambda: patch_network(image, layers, **twin),
        "PatchDiscriminator": lambda: discriminator(image),
        "patch_cross_entropy": lambda: patch_cross_entropy(logits, 1),
        "(patch_cross_entropy)": lambda: patch_cross_entropy(logits, 1, impl="reference"),
        "gather_normalize": lambda: gather_normalize(pixels, indices),
        "(gather_normalize)": lambda: gather_normalize(pixels, indices, impl="reference"),
        "[residual_blocks]": lambda: C.residual_blocks_fit(maps, flat[:-4], False, False),
        "[residual_network]": lambda: C.residual_blocks_fit(image, flat, True, True),
        "[patch_network]": lambda: C.patch_network_fits(image, patch_flat, True),
    }


def kernel_of(name: str, call: Call) -> Call:
    """The native call that an op's `call` makes, with the arguments it gets."""
    kernel_name = KERNELS.get(name, name)
    kernel, given = getattr(C, kernel_name), []

    def noted(*arguments: object) -> object:
        given.append(arguments)
        return kernel(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(C, kernel_name, noted)
        output = call()  # kept: the kernel goes on writing there
    (arguments,) = given

    def alone() -> object:
        kernel(*arguments)
        return output

    return alone


def differences(timing: Timing, name: str, others: dict[str, float]) -> float:
    """The median over the rounds of one time less `others`, name to how often, in us."""
    rounds = zip(*(timing.seconds[other] for other in (name, *others)), strict=True)
    weights = (1.0, *(-weight for weight in others.values()))
    over = [sum(w * t for w, t in zip(weights, times, strict=True)) for times in rounds]
    return round(statistics.median(over) * 1e6, 2)


@torch.no_grad()
def bench_calls(results_folder: Path | None) -> None:
    timed = calls()
    ops = [name for name in timed if name not in NO_OPS and name[0] not in "(["]
    kernels = {f"{name} alone": kernel_of(name, timed[name]) for name in ops}
    timing = time_interleaved({**timed, **kernels}, rounds=151, seconds=0.004)
    one_image = {MANY: 1 / MORE, CONV: -1 / MORE}  # of torch's convolution, beside others
    cases = {CONV: {"overhead_us": differences(timing, CONV, one_image)}}
    for name in timed:
        case = cases.setdefault(name, {})
        case["median_us"] = round(timing.median(name) * 1e6, 2)
        if name in ops:
            kernel, look = {f"{name} alone": 1.0}, f"[{name}]"
            if look in timed:
                kernel[look] = -1.0
            case["overhead_us"] = differences(timing, name, kernel)
            torchs = {**kernel, CONV: 1.0 + 1 / MORE, MANY: -1 / MORE}
            case["overhead_over_conv2d_us"] = differences(timing, name, torchs)
        if f"({name})" in timed:
            case["over_twin_us"] = differences(timing, name, {f"({name})": 1.0})
        print(f"\n    {name:24s} {case}", end="")
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
