"""The refiner on a CPU beside everything one could install instead: refining images, and both training steps.

pytest benchmarks/bench_refiner.py -s [--write-results] [--threads 1,2] [--batches 1,32,128]

The networks are the paper's (64 channels, 4 blocks, 35 x 55, zero padding, which all peers do best with), in float32
everywhere. Every peer's output is compared with plain PyTorch's before it is timed. All candidates of a batch and a
number of threads are timed in shuffled rounds of one process, with the processor's multiply-add peak as one of them;
the next batch has a new process: ncnn's workers were slower where the peers of another batch had run before.
"""

from __future__ import annotations

import json
import subprocess
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
import torch
from interleaved import Candidate, Timing, machine, time_interleaved
from peers import Run, installed_peers, torch_peers
from plain_models import PlainDiscriminator, PlainRefiner
from torch import Tensor, nn
from torch.nn import functional as F

from simgan_fast.models.discriminator import PatchDiscriminator
from simgan_fast.models.refiner import Refiner
from simgan_fast.ops import patch_cross_entropy

LAMBDA = 0.2
REFINER_FLOPS = 2 * 35 * 55 * (9 * 64 + 8 * 9 * 64 * 64 + 64)  # of one image, by direct convolution
# Largest difference to plain PyTorch that is taken for equal. MNN and ncnn approximate tanh.
TOLERANCE = 1e-3
ROUNDS = 9

Row = dict[str, Any]


@pytest.fixture(scope="module")
def rows(results_folder: Path | None) -> Iterator[list[Row]]:
    """Rows of results/cpu.json, written at the end of the module with --write-results."""
    gathered: list[Row] = []
    yield gathered
    if gathered and results_folder:
        commit = subprocess.run(
            ["git", "describe", "--always", "--dirty"],
            capture_output=True,
            text=True,
            check=False,
            cwd=Path(__file__).parent,
        )
        content = {"machine": machine(), "commit": commit.stdout.strip(), "rows": gathered}
        results_folder.mkdir(exist_ok=True)
        path = results_folder / "cpu.json"
        path.write_text(json.dumps(content, indent=1) + "\n")
        print(f"\n  wrote {path}")


def refiners() -> tuple[PlainRefiner, Refiner]:
    """The same weights in plain PyTorch and in ours."""
    torch.manual_seed(0)
    plain, ours = PlainRefiner(), Refiner(padding_mode="zeros")
    ours.load_state_dict(plain.state_dict())
    return plain, ours.to(memory_format=torch.channels_last)


def peak() -> Candidate:
    """A large matrix product on all threads: near the multiply-add peak."""
    a = torch.rand(1024, 1024)
    return lambda: a @ a


def noted(case: str, threads: int, batch: int, timing: Timing) -> list[Row]:
    """Print a table; its rows."""
    rows: list[Row] = []
    peak_flops = 2 * 1024**3 / timing.median("matmul")
    flops = batch * REFINER_FLOPS * (3 if case == "refiner_training_step" else 1)
    del timing.seconds["matmul"]
    times = timing.ratio(timing.best_peer("simgan_fast"), "simgan_fast")
    print(f"\n  {case}, batch {batch}, {threads} threads: {times:.2f} x the best peer")
    print(timing.table("simgan_fast"))
    for name, seconds in timing.seconds.items():
        rows.append(
            {
                "case": case,
                "implementation": name,
                "threads": threads,
                "batch": batch,
                "median_s": round(timing.median(name), 6),
                "min_s": round(min(seconds), 6),
                "times_slower_than_ours": round(timing.ratio(name, "simgan_fast"), 2),
                # Of the refiner alone, as if by direct convolution; of the matrix product's rate.
                "gflops": round(flops / timing.median(name) / 1e9, 1),
                "share_of_peak": round(flops / timing.median(name) / peak_flops, 2),
            }
        )
    return rows


def alone(time_case: Callable[..., list[Row]], *arguments: object) -> list[Row]:
    """What `time_case` gives in a new process, where nothing has run before."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(time_case, *arguments).result()


def settings(config: pytest.Config) -> list[tuple[int, int]]:
    """(threads, batch) to time."""
    threads, batches = (
        [int(text) for text in config.getoption(name).split(",")]
        for name in ("--threads", "--batches")
    )
    return [(count, batch) for count in threads for batch in batches]


def time_inference(threads: int, batch: int, peers: Callable[..., dict[str, Run]]) -> list[Row]:
    warnings.simplefilter("ignore")
    torch.set_num_threads(threads)
    plain, ours = refiners()
    images = torch.rand(batch, 1, 35, 55) * 2 - 1

    def refine() -> Tensor:
        with torch.inference_mode():
            refined: Tensor = ours(images)
            return refined

    with torch.inference_mode():
        expected = plain(images)
    candidates: dict[str, Candidate] = {"simgan_fast": refine, "matmul": peak()}
    assert (refine() - expected).abs().max() < 2e-6
    for name, run in peers(plain, batch, threads).items():
        difference = float((run(images) - expected).abs().max())
        assert difference < TOLERANCE, (name, difference)
        candidates[name] = lambda run=run: run(images)
    timing = time_interleaved(candidates, rounds=ROUNDS, seconds=0.02)
    return noted("refiner_inference", threads, batch, timing)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.timeout(1800)
def bench_refiner_inference(
    benchmark: Any, rows: list[Row], request: pytest.FixtureRequest
) -> None:
    peers = installed_peers if request.config.getoption("--peers") == "all" else torch_peers
    for threads, batch in settings(request.config):
        rows += alone(time_inference, threads, batch, peers)
    torch.set_num_threads(threads)
    _, ours = refiners()
    images = torch.rand(batch, 1, 35, 55) * 2 - 1
    with torch.inference_mode():
        benchmark(ours, images)


def plain_cross_entropy(logits: Tensor, target: int) -> Tensor:
    """Mean over images of the sum over patches, in the form that is fastest in torch."""
    difference = logits[:, 1 - target] - logits[:, target]
    return F.softplus(difference).sum() / len(logits)


def step_of(model: nn.Module, loss_of: Callable[[], Tensor]) -> Candidate:
    """A step of Adam on a loss; so small a one that the step after it does the same work."""
    optimizer = torch.optim.Adam(model.parameters(), 1e-9, fused=True)

    def step() -> Tensor:
        optimizer.zero_grad(set_to_none=True)
        loss = loss_of()
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


def refiner_step(
    refiner: nn.Module,
    discriminator: nn.Module,
    images: Tensor,
    entropy: Callable[..., Tensor],
    compiled: bool,
) -> Candidate:
    """R forward, D forward and backward, R backward, Adam."""
    discriminator.requires_grad_(False)

    def loss_of(images: Tensor) -> Tensor:
        refined = refiner(images)
        regularization = (refined - images).abs().sum() / len(images)
        return entropy(discriminator(refined), 0) + LAMBDA * regularization

    loss = torch.compile(loss_of) if compiled else loss_of
    return step_of(refiner, lambda: loss(images))


def discriminator_step(
    refiner: nn.Module,
    discriminator: nn.Module,
    images: Tensor,
    entropy: Callable[..., Tensor],
    compiled: bool,
) -> Candidate:
    """R forward on b images, D forward and backward on them and b real ones, Adam; the history is left out."""
    real = images.flip(0)

    def loss_of(refined: Tensor) -> Tensor:
        logits = discriminator(torch.cat([refined, real]))
        return entropy(logits[: len(refined)], 1) + entropy(logits[len(refined) :], 0)

    loss = torch.compile(loss_of) if compiled else loss_of
    refine = torch.no_grad()(torch.compile(refiner) if compiled else refiner)
    return step_of(discriminator, lambda: loss(refine(images)))


def training_steps(case: str, batch: int) -> dict[str, Candidate]:
    """One of each implementation."""
    make = refiner_step if case == "refiner_training_step" else discriminator_step
    images = torch.rand(batch, 1, 35, 55) * 2 - 1
    candidates: dict[str, Candidate] = {}
    for name in ("torch_eager", "torch_eager_channels_last", "torch_compile", "simgan_fast"):
        plain, ours = refiners()
        torch.manual_seed(1)
        plain_discriminator = PlainDiscriminator()
        if name == "simgan_fast":
            discriminator = PatchDiscriminator(padding_mode="zeros")
            discriminator.load_state_dict(plain_discriminator.state_dict())
            pair, entropy = (ours, discriminator), patch_cross_entropy
        else:
            pair, entropy = (plain, plain_discriminator), plain_cross_entropy
        if name != "torch_eager":
            for model in pair:
                model.to(memory_format=torch.channels_last)
        candidates[name] = make(*pair, images, entropy, name == "torch_compile")
    return candidates


def time_training_step(case: str, threads: int, batch: int) -> list[Row]:
    warnings.simplefilter("ignore")
    torch.set_num_threads(threads)
    candidates = training_steps(case, batch)
    losses = {name: float(step()) for name, step in candidates.items()}
    assert max(losses.values()) - min(losses.values()) < 1e-3 * max(losses.values()), losses
    timing = time_interleaved({**candidates, "matmul": peak()}, rounds=ROUNDS, seconds=0.02)
    return noted(case, threads, batch, timing)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("case", ["refiner_training_step", "discriminator_training_step"])
def bench_training_step(
    case: str, benchmark: Any, rows: list[Row], request: pytest.FixtureRequest
) -> None:
    for threads, batch in settings(request.config):
        rows += alone(time_training_step, case, threads, batch)
    torch.set_num_threads(threads)
    benchmark(training_steps(case, batch)["simgan_fast"])
