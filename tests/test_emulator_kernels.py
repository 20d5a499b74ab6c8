"""The small CUDA kernels on the emulator, through the ops' own Python, against their twins; every schedule."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from cases import (
    EXCHANGES,
    PATCH_GRADIENT,
    PATCH_LOSS,
    PATCH_SHAPES,
    REDUCTIONS,
    error,
    labels_of,
    logits_of,
)
from emulated import SCHEDULES, load_module
from torch import Tensor

from simgan_fast import _native
from simgan_fast.ops import gather_normalize, history_exchange, permutation

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="g++ is not installed")
OPS = {
    name: sys.modules[f"simgan_fast.ops.{name}"]
    for name in ("gather_normalize", "history_exchange", "patch_cross_entropy")
}
BF16_ULP = 2.0**-8  # half the distance of two neighbours, relative


@pytest.fixture
def emulator(emulated_kernels: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """CPU tensors take the way of CUDA tensors, and kernels run on the emulator."""
    monkeypatch.setattr(_native, "CUDA", load_module(emulated_kernels, "_cuda"))
    for op in OPS.values():
        monkeypatch.setattr(op, "_cpu", op._cuda)
        monkeypatch.setattr(op, "place", lambda _: (0, 0))
    emulator = load_module(emulated_kernels, "_emulator")
    emulator.reset_counters()
    yield emulator
    emulator.set_schedule(0, False, 0)


@pytest.mark.parametrize(("slots", "rows", "trailing", "dtype"), EXCHANGES, ids=str)
def test_history_exchange(
    emulator: Any, slots: int, rows: int, trailing: tuple[int, ...], dtype: torch.dtype
) -> None:
    """The same bits as the twin, the same slots as the golden permutations."""
    before, fresh = ((torch.rand(n, *trailing) * 200).to(dtype) for n in (slots, rows))
    expected, step = before.clone(), torch.tensor([9])
    drawn = history_exchange(expected, fresh, step, seed=5, impl="reference")
    for order, greedy in SCHEDULES if rows < 100 else SCHEDULES[-1:]:
        emulator.set_schedule(order, greedy, 3)
        buffer, counter = before.clone(), torch.tensor([9])
        found = history_exchange(buffer, fresh, counter, seed=5, impl="native")
        assert torch.equal(found, drawn) and torch.equal(buffer, expected)
        assert counter.item() == 10


def test_history_exchange_step_after_step(emulator: Any) -> None:
    """The step lies in memory: the same call again is the next step. Written: rows twice, their slots, the step."""
    rows, size, steps = 5, 55 * 2, 4
    results = []
    for impl in ("native", "reference"):
        buffer = torch.arange(12.0 * 55).view(12, 55).bfloat16()  # rows aligned to 2 bytes
        counter = torch.tensor([2**40])
        fresh = torch.arange(rows * 55.0).view(rows, 55).bfloat16()
        results.append(
            [history_exchange(buffer, fresh, counter, seed=7, impl=impl) for _ in range(steps)]
            + [buffer, counter]
        )
    assert all(torch.equal(*pair) for pair in zip(*results, strict=True))
    counts = emulator.counters()
    assert counts["launches"] == 2 * steps
    assert counts["bytes_written"] == steps * (2 * rows * size + rows * 8 + 8)


def test_what_is_drawn_and_replaced_is_what_the_permutations_say(emulator: Any) -> None:
    buffer, counter = torch.arange(50.0).view(50, 1), torch.tensor([3])
    drawn = history_exchange(buffer, torch.full((20, 1), -1.0), counter, seed=1, impl="native")
    order, places = (permutation(50, 0, 20, step=3, stream=stream, seed=1) for stream in (0, 1))
    assert drawn.flatten().long().tolist() == order.tolist()
    assert sorted((buffer == -1).nonzero()[:, 0].tolist()) == sorted(places.tolist())


GATHERED = [
    (5, 1, 35, 55),
    (3, 3, 2, 1),
    (4, 1, 1, 1),
    (2, 2, 3, 257),
    (1, 1, 64, 64),
    (2, 1, 0, 3),
]


@pytest.mark.parametrize("out", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16], ids=str)
@pytest.mark.parametrize("shape", GATHERED, ids=str)
def test_gather_normalize(
    emulator: Any, shape: tuple[int, ...], dtype: torch.dtype, out: torch.dtype
) -> None:
    images = torch.randint(0, 256 if dtype is torch.uint8 else 65536, shape).to(dtype)
    indices = torch.tensor([len(images) - 1, 0, 0, len(images) // 2, 0])
    flips = torch.tensor([True, False, True, False, False])
    for mirrored in (None, flips):
        expected = gather_normalize(images, indices, mirrored, dtype=out, impl="reference")
        for order, greedy in SCHEDULES[::3]:
            emulator.set_schedule(order, greedy, 3)
            found = gather_normalize(images, indices, mirrored, dtype=out, impl="native")
            assert found.dtype == out and torch.equal(found, expected)


def test_gather_normalize_reads_and_writes_each_value_once(emulator: Any) -> None:
    images = torch.randint(0, 256, (7, 1, 35, 55)).to(torch.uint8)
    gather_normalize(images, torch.arange(7), impl="native")
    counts, values = emulator.counters(), images.numel()
    assert counts["launches"] == 1 and counts["bytes_written"] == 4 * values
    assert counts["bytes_read"] == pytest.approx(values + 7 * 256 * 8)  # and each thread the index


def test_gather_normalize_of_an_index_out_of_range_is_nan(emulator: Any) -> None:
    """The host would have to wait to refuse it."""
    images = torch.zeros(3, 1, 4, 5, dtype=torch.uint8)
    run = OPS["gather_normalize"]._cuda
    found = run(images, torch.tensor([0, 3, -1, 2]), None, None)
    assert found.isnan().all((1, 2, 3)).tolist() == [False, True, True, False]
    assert (found[[0, 3]] == -1).all()


def patches(logits: Tensor, labels: Tensor | None, reduction: str) -> tuple[Tensor, Tensor]:
    """Loss and gradient by the kernels, for an incoming gradient that differs from patch to patch."""
    op = OPS["patch_cross_entropy"]
    loss = op._cuda(logits, labels, 1, reduction)
    return loss, op._backward_cuda(incoming(loss), logits, labels, 1, reduction)


def incoming(loss: Tensor) -> Tensor:
    return torch.linspace(0.5, 1.5, loss.numel()).view(loss.shape)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("shape", PATCH_SHAPES, ids=str)
def test_patch_cross_entropy(emulator: Any, shape: tuple[int, ...], reduction: str) -> None:
    twin = OPS["patch_cross_entropy"]._patch_cross_entropy_reference
    for labels in (None, labels_of(shape[0])):
        for dtype in (torch.float32, torch.bfloat16):
            logits = logits_of(shape, dtype)
            exact = logits.double().requires_grad_()
            expected = twin(exact, 1 if labels is None else labels, reduction)
            (slope,) = torch.autograd.grad((expected * incoming(expected)).sum(), exact)
            expected = expected.detach()
            results = []
            for order, greedy in SCHEDULES[::2] if logits.numel() < 9000 else SCHEDULES[-1:]:
                emulator.set_schedule(order, greedy, 5)
                results.append(patches(logits, labels, reduction))
            for loss, gradient in results:
                assert loss.dtype == torch.float32 and gradient.dtype == dtype
                assert torch.equal(loss.nan_to_num(), results[0][0].nan_to_num())  # the same bits
                assert torch.equal(gradient, results[0][1])
            loss, gradient = results[0]
            if expected.isnan().any():  # the mean of no images
                assert loss.isnan().all()
                continue
            rounding = BF16_ULP if dtype is torch.bfloat16 else 0.0
            assert error(loss, expected, PATCH_LOSS.floor) < PATCH_LOSS.relative
            assert error(gradient, slope, PATCH_GRADIENT.floor) < PATCH_GRADIENT.relative + rounding


def test_patch_cross_entropy_is_one_launch_each(emulator: Any) -> None:
    patches(logits_of((40, 2, 9, 14)), None, "mean")
    counts, logits = emulator.counters(), 40 * 2 * 126 * 4
    assert counts["launches"] == 2
    assert counts["bytes_written"] == logits + 40 * 8 + 4 + 4  # gradient, sums, loss, ticket
    assert 2 * logits <= counts["bytes_read"] < 2.6 * logits


@pytest.mark.parametrize("target", [0, 1])
def test_patch_cross_entropy_of_infinities_and_nan_as_in_torch(emulator: Any, target: int) -> None:
    special = [0.0, 3.0, -1e4, 200.0, float("inf"), -float("inf"), float("nan")]
    pairs = torch.cartesian_prod(torch.tensor(special), torch.tensor(special))
    logits = pairs.T.reshape(1, 2, 1, -1).contiguous().requires_grad_()
    labels = torch.full((1,), target)
    loss, gradient = patches(logits.detach(), labels, "none")
    expected = torch.nn.functional.cross_entropy(
        logits, labels.view(1, 1, 1).expand(1, 1, logits.shape[3]), reduction="none"
    )
    (slope,) = torch.autograd.grad(expected, logits, incoming(expected))
    torch.testing.assert_close(loss, expected, equal_nan=True, rtol=1e-6, atol=1e-37)
    torch.testing.assert_close(gradient, slope, equal_nan=True, rtol=1e-6, atol=1e-37)
