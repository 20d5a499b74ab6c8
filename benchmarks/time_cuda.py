"""Times the CUDA kernels beside torch: CUDA events, the L2 cache flushed before each, medians. For gpu.sh.

The residual blocks of the paper's refiners, of eyes and of hands, beside torch in the same type, bfloat16 in
channels-last memory, eager and compiled with max-autotune, and without gradients by cuDNN's graphs, where
nvidia-cudnn-frontend is installed; the blocks of eyes in float32, too, beside torch's, eager, without and with TF32;
and the whole refiner of eyes as it is trained, float32 images and weights under autocast to bfloat16. Their results are
compared first. With --training the two updates of a training step instead, as the trainer does them, eager and recorded
as CUDA graphs, networks and loss by each of these.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import product
from pathlib import Path
from unittest.mock import patch

import peer_cudnn
import torch
from torch import Tensor

from simgan_fast.config import preset
from simgan_fast.models import discriminator
from simgan_fast.models import refiner as refiner_model
from simgan_fast.ops import (
    gather_normalize,
    history_exchange,
    patch_cross_entropy,
    patch_network,
    residual_blocks,
    residual_network,
)
from simgan_fast.training import losses
from simgan_fast.training.algorithm import SimGAN
from simgan_fast.training.graphs import WARM_UP, CudaGraphs

CHANNELS, BLOCKS = 64, 4  # the paper's refiner of eyes
TRAINS = {
    "residual_blocks": " and gradients",
    "blocks of hands": " and gradients",
    "blocks in float32": " and gradients",
    "refiner": ", a step",
}
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


def weight(shape: tuple[int, ...], scale: float = 0.2) -> Tensor:
    """Random, channels last where it has four dimensions."""
    drawn = torch.randn(shape, device="cuda") * scale / CHANNELS**0.5
    return drawn.contiguous(
        memory_format=torch.channels_last if drawn.ndim == 4 else torch.contiguous_format
    )


def refiner_body(
    batch: int,
    training: bool,
    image: tuple[int, int] = (35, 55),
    side: int = 3,
    blocks: int = BLOCKS,
    dtype: torch.dtype = torch.bfloat16,
) -> tuple[float, dict[str, Callable[[], list[Tensor]]]]:
    """FLOP, and y, or y and all gradients, of residual blocks by "native", "reference" and "compiled".

    By default the paper's for eyes; side: of the filters.
    """
    size = (batch, CHANNELS, *image)
    x = torch.randn(size, device="cuda").relu().to(dtype)
    x = x.contiguous(memory_format=torch.channels_last).requires_grad_(training)

    def parameter(*shape: int) -> Tensor:
        return weight(shape, 0.6 / side).to(dtype).requires_grad_(training)

    filters = (CHANNELS, CHANNELS, side, side)
    weights = [
        (parameter(*filters), parameter(CHANNELS), parameter(*filters), parameter(CHANNELS))
        for _ in range(blocks)
    ]
    wanted = [x, *(tensor for block in weights for tensor in block)]
    incoming = torch.randn_like(x)

    def by(run: Callable[..., Tensor], impl: str) -> Callable[[], list[Tensor]]:
        def call() -> list[Tensor]:
            y = run(x, weights, impl=impl)
            gradients = torch.autograd.grad(y, wanted, incoming) if training else ()
            return [y.detach(), *gradients]

        return call

    compiled = torch.compile(residual_blocks, mode="max-autotune-no-cudagraphs")
    flop = 2 * blocks * 2 * side**2 * CHANNELS * x.numel() * (3 if training else 1)
    calls = {
        "native": by(residual_blocks, "native"),
        "reference": by(residual_blocks, "reference"),
    }
    if dtype is torch.float32:  # not compiled: minutes that gpu.sh does not have
        return flop, {**calls, "TF32": calls["reference"]}
    calls["compiled"] = by(compiled, "reference")
    if peer_cudnn.INSTALLED and not training:
        graphs = peer_cudnn.ResidualBlocks(x, weights, partial(microseconds, rounds=5))
        calls["cuDNN"] = lambda: [graphs(x, weights)]
    return flop, calls


float32_body = partial(refiner_body, dtype=torch.float32)
# The paper's for hands.
hand_refiner_body = partial(refiner_body, image=(224, 224), side=7, blocks=10)


def refiner(batch: int, training: bool) -> tuple[float, dict[str, Callable[[], list[Tensor]]]]:
    """The same of the paper's whole refiner; with gradients, those of its weights and their step down them."""
    images, incoming = (torch.rand(batch, 1, 35, 55, device="cuda") * 2 - 1 for _ in range(2))
    compiled = torch.compile(residual_network, mode="max-autotune-no-cudagraphs")
    shapes: list[tuple[int, ...]] = [(CHANNELS, CHANNELS, 3, 3), (CHANNELS,)] * 2 * BLOCKS
    shapes += [(CHANNELS, 1, 3, 3), (CHANNELS,), (1, CHANNELS, 1, 1), (1,)]
    start = [weight(shape) for shape in shapes]

    def by(run: Callable[..., Tensor], impl: str) -> Callable[[], list[Tensor]]:
        flat = [tensor.clone().requires_grad_(training) for tensor in start]
        blocks = [tuple(flat[i : i + 4]) for i in range(0, 4 * BLOCKS, 4)]
        first, last = tuple(flat[-4:-2]), tuple(flat[-2:])
        optimizer = torch.optim.SGD(flat, lr=1e-6)

        def call() -> list[Tensor]:
            with torch.autocast("cuda", torch.bfloat16):
                y = run(images, first, blocks, last, impl=impl, tanh=True)
            if not training:
                return [y]
            optimizer.zero_grad()
            y.backward(incoming.to(y.dtype))
            optimizer.step()
            return [y.detach(), *(tensor.grad for tensor in flat if tensor.grad is not None)]

        return call

    # Each thrice with its gradients, but that of the images is not wanted.
    of_blocks, of_first, of_last = 2 * BLOCKS * 2 * 9 * CHANNELS**2, 2 * 9 * CHANNELS, 2 * CHANNELS
    of_pixel = of_blocks + of_first + of_last
    if training:
        of_pixel = 3 * of_blocks + 2 * of_first + 3 * of_last
    return of_pixel * images.numel(), {
        "native": by(residual_network, "native"),
        "reference": by(residual_network, "reference"),
        "compiled": by(compiled, "reference"),
    }


def compare(found: list[Tensor], expected: list[Tensor]) -> None:
    """An AssertionError unless the two differ by what bfloat16 and ReLUs near zero make of four blocks."""
    for i, (mine, theirs) in enumerate(zip(found, expected, strict=True)):
        error = float((mine.float() - theirs.float()).norm() / theirs.float().norm())
        assert error < 0.1, f"result {i} differs by {error:.3f} of its norm"


def time_matmul(side: int) -> dict[str, object]:
    """A product of square matrices: the rate to hold convolutions against."""
    a, b = (torch.randn(side, side, device="cuda").bfloat16() for _ in range(2))
    took = microseconds(lambda: a @ b, 10)
    rate = 2 * side**3 / took / 1e6
    print(f"{f'matmul, {side}':36}{'torch':11}{took:10.1f} us{rate:8.1f} TFLOP/s", flush=True)
    return {"op": f"matmul, {side}", "impl": "torch", "us": took, "TFLOP_per_s": rate}


def time_networks(small: bool) -> Iterator[dict[str, object]]:
    """What refining and the gradients take, by the blocks and by the whole refiner, printed and given one by one."""
    eyes, hands = ((2,), (1,)) if small else ((32, 512), (16,))
    for op, made, training, batch in (
        *product(["residual_blocks"], [refiner_body], (False, True), eyes),
        *product(["refiner"], [refiner], (False, True), eyes),
        *product(["blocks of hands"], [hand_refiner_body], (False, True), hands),
        *product(["blocks in float32"], [float32_body], (False, True), eyes),
    ):
        flop, calls = made(batch, training)
        if small:
            calls = {impl: calls[impl] for impl in ("native", "reference")}
        expected = calls["reference"]()
        for call in calls.values():
            compare(call(), expected)
        name = f"{op}{TRAINS[op] if training else ''}, {batch}"
        for impl, call in calls.items():
            with torch.backends.cudnn.flags(enabled=True, allow_tf32=impl == "TF32"):
                took = microseconds(call, 1 if small else 30)
            rate = flop / took / 1e6
            print(f"{name:36}{impl:11}{took:10.1f} us{rate:8.1f} TFLOP/s", flush=True)
            yield {"op": name, "impl": impl, "us": took, "TFLOP_per_s": rate}


class OneBatch:
    """A feed of always the same random images."""

    position, seconds = 0, 0.0

    def __init__(self, batch: int) -> None:
        self.images = torch.rand(batch, 1, 35, 55, device="cuda") * 2 - 1

    def next(self, count: int | None = None) -> Tensor:
        return self.images[:count]


@contextmanager
def networks_by(impl: str) -> Iterator[None]:
    """Let refiner, discriminator and loss run as `impl`; the history stays native."""
    ops = {
        (refiner_model, "residual_network"): residual_network,
        (discriminator, "patch_network"): patch_network,
        (losses, "patch_cross_entropy"): patch_cross_entropy,
    }
    with ExitStack() as changes:
        for (module, name), op in ops.items():
            changes.enter_context(patch.object(module, name, partial(op, impl=impl)))
        yield


def trainer(batch: int, recorded: bool, compiled: bool) -> SimGAN:
    """Of the paper's refiner of eyes, in bfloat16; its history is full."""
    config = preset("eyes", batch_size=batch, history=8 * batch)
    graphs = CudaGraphs(torch.device("cuda", torch.cuda.current_device())) if recorded else None
    feeds = OneBatch(batch), OneBatch(batch)
    simgan = SimGAN(config, (1, 35, 55), *feeds, "cuda", precision="bfloat16", graphs=graphs)
    assert simgan.history is not None
    simgan.history.filled = len(simgan.history.images)
    if compiled:
        for model in (simgan.refiner, simgan.discriminator):
            model.compile(mode="max-autotune-no-cudagraphs")
    return simgan


def time_training(small: bool) -> Iterator[dict[str, object]]:
    """What the two updates of a training step take, images at hand."""
    networks = {"native": ("auto", False), "reference": ("reference", False)}
    if not small:
        networks["compiled"] = ("reference", True)  # last: it compiles for minutes
    for (name, (impl, compiled)), batch, recorded in product(
        networks.items(), (4,) if small else (32, 512), (False, True)
    ):
        with networks_by(impl):
            simgan = trainer(batch, recorded, compiled)
            for update in (simgan.update_refiner, simgan.update_discriminator):
                for _ in range(WARM_UP + 1):
                    update()
                took = microseconds(update, 1 if small else 30)
                op = f"{update.__name__}, {batch}"
                how = f"{name}, recorded" if recorded else name
                print(f"{op:36}{how:21}{took:10.1f} us", flush=True)
                yield {"op": op, "impl": how, "us": took}


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
    parser.add_argument("--training", action="store_true", help="the updates of a training step")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    results: list[dict[str, object]] = []

    def keep(result: dict[str, object]) -> None:
        results.append(result)
        if options.out:
            facts = {"device": torch.cuda.get_device_name(), "torch": torch.__version__}
            options.out.write_text(json.dumps({**facts, "results": results}, indent=1))

    if options.training:
        for result in time_training(options.small):
            keep(result)
        return
    for name, moved, call in cases(*((40, 20) if options.small else (51200, 512))):
        for impl in ("native", "reference"):
            took = microseconds(lambda c=call, i=impl: c(i), 1 if options.small else 30)
            print(f"{name:22}{impl:11}{took:10.1f} us{moved / took / 1e3:10.1f} GB/s", flush=True)
            keep({"op": name, "impl": impl, "us": took, "GB_per_s": moved / took / 1e3})
    keep(time_matmul(256 if options.small else 8192))
    for result in time_networks(options.small):
        keep(result)


if __name__ == "__main__":
    main()
