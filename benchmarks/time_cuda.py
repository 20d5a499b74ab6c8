"""Times the small CUDA kernels beside torch: CUDA events, the L2 cache flushed before each, medians. For gpu.sh."""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable
from pathlib import Path

import torch

from simgan_fast.ops import gather_normalize, history_exchange, patch_cross_entropy

Case = tuple[str, int, Callable[[str], object]]  # name, bytes that it must move, the call


def cases(images: int, batch: int) -> list[Case]:
    """Each op on eyes of 35 x 55, as impl "native" or "reference"."""
    size = 35 * 55
    raw = torch.randint(0, 256, (images, 1, 35, 55), device="cuda", dtype=torch.uint8)
    rows = torch.randperm(images, device="cuda")
    buffer = torch.rand(images, 1, 35, 55, device="cuda")
    fresh = torch.rand(images // 2, 1, 35, 55, device="cuda")
    counter = torch.zeros(1, dtype=torch.int64, device="cuda")
    logits = torch.randn(batch, 2, 9, 14, device="cuda", requires_grad=True)

    def loss_and_gradient(impl: str) -> object:
        return torch.autograd.grad(patch_cross_entropy(logits, 1, impl=impl), logits)

    return [
        (
            "gather_normalize",
            5 * images * size,
            lambda impl: gather_normalize(raw, rows, impl=impl),
        ),
        (
            "history_exchange",
            4 * 4 * (images // 2) * size,
            lambda impl: history_exchange(buffer, fresh, counter, impl=impl),
        ),
        ("patch_cross_entropy", 3 * logits.nbytes, loss_and_gradient),
        ("copy", 2 * buffer.nbytes, lambda _: buffer.clone()),
    ]


def microseconds(call: Callable[[], object], rounds: int) -> float:
    flush = torch.empty(256 << 20, dtype=torch.uint8, device="cuda")
    times = []
    for _ in range(rounds + 3):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        flush.zero_()
        start.record()
        call()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end) * 1e3)
    return statistics.median(times[3:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true", help="a few images, one round: sanitizers")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    results = []
    for name, moved, call in cases(*((40, 20) if options.small else (51200, 512))):
        for impl in ("native", "reference"):
            took = microseconds(lambda c=call, i=impl: c(i), 1 if options.small else 30)
            results.append({"op": name, "impl": impl, "us": took, "GB_per_s": moved / took / 1e3})
            print(f"{name:22}{impl:11}{took:10.1f} us{moved / took / 1e3:10.1f} GB/s", flush=True)
            if options.out:
                facts = {"device": torch.cuda.get_device_name(), "torch": torch.__version__}
                options.out.write_text(json.dumps({**facts, "results": results}, indent=1))


if __name__ == "__main__":
    main()
