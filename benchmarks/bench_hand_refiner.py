"""The paper's refiner for hands on a CPU beside torch: 7x7 filters, 64 channels, 224x224, zero padding.

pytest benchmarks/bench_hand_refiner.py -s [--write-results] [--threads 1,2] [--hand-blocks 1,10]
python benchmarks/bench_hand_refiner.py torch_eager 10  # MB that a training step of 10 blocks takes at its peak

Refining and training steps of one image; the discriminator is plain PyTorch for all. A block takes torch seconds, and
the paper's ten are ten times the work, so one block is the default. Outputs and losses are compared before anything is
timed.
"""

from __future__ import annotations

import resource
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from bench_refiner import plain_cross_entropy, refiner_step
from interleaved import Candidate, Timing, time_interleaved
from plain_models import PlainHandDiscriminator, PlainRefiner
from torch import Tensor, nn

from simgan_fast import keep_freed_memory
from simgan_fast.models.refiner import Refiner

ROUNDS = 3
NAMES = ("simgan_fast", "torch_eager", "torch_eager_channels_last", "torch_compile")


def refiner_of(name: str, blocks: int) -> nn.Module:
    """The same weights whatever the name; in the memory layout that goes with it."""
    torch.manual_seed(0)
    plain = PlainRefiner(blocks=blocks, size=7)
    if name == "torch_eager":
        return plain
    if name == "simgan_fast":
        ours = Refiner(blocks=blocks, kernel_size=7, padding_mode="zeros")
        ours.load_state_dict(plain.state_dict())
        plain = ours
    return plain.to(memory_format=torch.channels_last)


def image() -> Tensor:
    """The same on every call."""
    torch.manual_seed(1)
    return torch.rand(1, 1, 224, 224) * 2 - 1


def refining(name: str, blocks: int) -> Candidate:
    """One image."""
    refiner, images = refiner_of(name, blocks), image()
    run = torch.compile(refiner) if name == "torch_compile" else refiner
    return torch.inference_mode()(lambda: run(images))


def training(name: str, blocks: int) -> Candidate:
    """R forward, D forward and backward, R backward, Adam, of one image."""
    refiner, images = refiner_of(name, blocks), image()
    torch.manual_seed(2)
    discriminator = PlainHandDiscriminator()
    if name != "torch_eager":
        discriminator.to(memory_format=torch.channels_last)
    return refiner_step(
        refiner, discriminator, images, plain_cross_entropy, name == "torch_compile"
    )


@pytest.mark.filterwarnings("ignore")
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("make", [refining, training])
def bench_hand_refiner(
    make: Callable[[str, int], Candidate],
    benchmark: Any,
    record: Callable[[str, Timing], None],
    request: pytest.FixtureRequest,
) -> None:
    threads, blocks = (
        [int(text) for text in request.config.getoption(name).split(",")]
        for name in ("--threads", "--hand-blocks")
    )
    for count, number in ((count, number) for count in threads for number in blocks):
        torch.set_num_threads(count)
        torch.compiler.reset()
        candidates = {name: make(name, number) for name in NAMES}
        results = {name: candidate() for name, candidate in candidates.items()}
        for result in results.values():
            torch.testing.assert_close(result, results["torch_eager"], rtol=1e-4, atol=1e-4)
        timing = time_interleaved(candidates, rounds=ROUNDS, seconds=0.02)
        record(f"{make.__name__}, {number} blocks, {count} threads", timing)
    benchmark.pedantic(candidates["simgan_fast"], rounds=1)


def peak_of(name: str, blocks: int) -> int:
    """MB that this process has more at the peak of its first two steps than before them."""
    keep_freed_memory()
    torch.set_num_threads(2)
    step = training(name, blocks)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    step()
    step()
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024


if __name__ == "__main__":
    print(peak_of(sys.argv[1], int(sys.argv[2])))
