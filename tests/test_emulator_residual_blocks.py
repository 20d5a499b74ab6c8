"""The CUDA kernels of the residual blocks on the emulator, against convolutions in float64 of what they stored."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from emulated import (
    ROOT,
    SANITIZED,
    SCHEDULES,
    assert_laid_out_alike,
    build_program,
    load_mistaken,
)
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F

from simgan_fast.ops import _blocks_cuda, _winograd

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="g++ is not installed")
OP = sys.modules["simgan_fast.ops.residual_blocks"]  # the name is that of the function, too
BF16_ULP = 2.0**-8  # half the distance of two neighbours, relative
# Sums of float32, relative to the largest value. Measured: 5e-7.
SUM = 2e-6
# Gradients, relative in the 2-norm: a sum that lies between two bf16 is now and then rounded to the other one.
# Measured: of x 3.0e-4, of weights and biases 1.4e-4.
GRADIENT = 1e-3

# n, c, h, w, k: one pixel; more tiles than blocks; channels in five groups of 16, weights that do not stay from tile to
# tile, more tiles than splits of a weight gradient; fewer pixels than a fragment; two tiles across, of an odd width;
# more rows than a tile; two groups of 64 channels; the paper's eyes.
SHAPES = [
    (1, 16, 1, 1, 1),
    (6, 16, 3, 5, 2),
    (17, 80, 2, 3, 1),
    (1, 64, 2, 3, 2),
    (1, 16, 6, 57, 1),
    (1, 16, 37, 8, 1),
    (1, 128, 2, 2, 1),
    (1, 64, 35, 55, 1),
]
EYES = SHAPES[-1]
# The same for 7x7 filters, whose weights never stay: one pixel; the smallest side that reflection permits, more tiles
# than blocks and than splits of a weight gradient; two blocks; a bit more than a tile; five groups of 16 channels; four
# slabs, in one tile and in two; two groups of 64 channels; several tiles down and across, of one group and of two.
SEVEN_SHAPES = [
    (1, 16, 1, 1, 1),
    (19, 16, 4, 5, 1),
    (3, 16, 5, 4, 2),
    (4, 16, 10, 33, 1),
    (2, 80, 5, 4, 1),
    (1, 64, 4, 5, 1),
    (1, 64, 10, 33, 1),
    (1, 128, 4, 4, 1),
    (1, 16, 37, 57, 1),
    (1, 32, 35, 55, 1),
]


@dataclass
class Run:
    """What goes in, and what the kernels made of it."""

    x: Tensor
    weights: list[Tensor]
    reflect: bool
    y: Tensor
    maps: Tensor

    @property
    def size(self) -> int:
        return self.weights[0].shape[-1]

    def read(self, number: int) -> Tensor:
        """What convolution `number` read, [n, c, h, w]; `2 k`: y."""
        if number == 0:
            return self.x
        if number == len(self.weights) // 2:
            return self.y
        return self.maps[number - 1].permute(0, 3, 1, 2)

    def backward(self, grad: Tensor, dtype: torch.dtype) -> tuple[Tensor, ...]:
        weights = [tensor.to(dtype) for tensor in self.weights]
        result: tuple[Tensor, ...] = _blocks_cuda.backward(
            grad, self.x, self.y, self.maps, weights, self.reflect, 4
        )
        return result


def bf16(*shape: int, scale: float = 1.0) -> Tensor:
    return (torch.randn(shape) * scale).bfloat16()


def run(shape: tuple[int, ...], reflect: bool, size: int = 3) -> Run:
    n, c, h, w, k = shape
    torch.manual_seed(sum(shape))
    filters = (c, c, size, size)
    weights = [
        part for _ in range(2 * k) for part in (bf16(*filters, scale=0.9 / size / c**0.5), bf16(c))
    ]
    x = bf16(n, c, h, w).relu()
    return Run(x, weights, reflect, *_blocks_cuda.forward(x, weights, reflect, 4, True))


def padded(x: Tensor, reflect: bool, size: int) -> Tensor:
    return F.pad(x.double(), (size // 2,) * 4, mode="reflect" if reflect else "constant")


def assert_stored(stored: Tensor, exact: Tensor) -> None:
    """`stored` is `exact` summed in float32 and rounded to bfloat16 once."""
    within = BF16_ULP * exact.abs() + SUM * exact.abs().max()
    assert ((stored.double() - exact).abs() <= within).all()


def distance(actual: Tensor, exact: Tensor) -> float:
    return float((actual.double() - exact).norm() / exact.norm().clamp(min=1e-30))


def cases() -> list[tuple[int, tuple[int, ...], bool]]:
    """Side of the filters, shape, whether padding reflects."""
    all_cases = [(3, shape) for shape in SHAPES] + [(7, shape) for shape in SEVEN_SHAPES]
    wide_enough = [(size, shape) for size, shape in all_cases if min(shape[2:4]) > size // 2]
    return [(*case, False) for case in all_cases] + [(*case, True) for case in wide_enough]


def schedules(shape: tuple[int, ...]) -> Sequence[tuple[int, bool]]:
    return SCHEDULES if shape[0] * shape[1] ** 2 * shape[2] * shape[3] < 100000 else SCHEDULES[-1:]


@pytest.mark.parametrize(("size", "shape", "reflect"), cases(), ids=str)
def test_every_map(emulator: Any, size: int, shape: tuple[int, ...], reflect: bool) -> None:
    """Also the same bits under every schedule, and without maps that are kept."""
    emulator.set_schedule(*schedules(shape)[0], 5)
    first = run(shape, reflect, size)
    for i, (weight, bias) in enumerate(zip(first.weights[::2], first.weights[1::2], strict=True)):
        exact = F.conv2d(padded(first.read(i), reflect, size), weight.double(), bias.double())
        if i % 2 == 1:
            exact += first.read(i - 1)
        assert_stored(first.read(i + 1), exact.relu())
    for order, greedy in schedules(shape)[1:]:
        emulator.set_schedule(order, greedy, 5)
        again = run(shape, reflect, size)
        assert torch.equal(again.y, first.y) and torch.equal(again.maps, first.maps)
    if shape != EYES:
        alone, maps = _blocks_cuda.forward(first.x, first.weights, reflect, 4, False)
        assert torch.equal(alone, first.y) and maps.numel() == 0
    assert first.y.is_contiguous(memory_format=torch.channels_last)


def exact_gradients(made: Run, grad: Tensor) -> list[Tensor]:
    """Of x, then of weight and bias of each convolution: in float64, rounded to bfloat16 where the kernels store it."""
    result: list[Tensor] = []
    grad = (grad * (made.y > 0)).double()  # of the second sum of a block
    for i in reversed(range(len(made.weights) // 2)):
        if i % 2 == 1:
            skipping = grad
        around = padded(made.read(i), made.reflect, made.size).requires_grad_()
        parts = [tensor.double().requires_grad_() for tensor in made.weights[2 * i : 2 * i + 2]]
        of_padded, *of_weights = torch.autograd.grad(
            F.conv2d(around, *parts), (around, *parts), grad
        )
        result = of_weights + result
        grad = unpadded(of_padded, made.reflect, made.size)
        if i % 2 == 0:
            grad = grad + skipping
        if i > 0:
            grad = grad * (made.read(i) > 0)
        grad = grad.bfloat16().double()
    return [grad, *result]


def unpadded(of_padded: Tensor, reflect: bool, size: int) -> Tensor:
    n, c, h, w = of_padded.shape
    x = torch.zeros(n, c, h - size + 1, w - size + 1, dtype=torch.float64, requires_grad=True)
    # The kernels store the gradient of what padding by reflection made.
    stored = of_padded.bfloat16().double() if reflect else of_padded
    (grad,) = torch.autograd.grad(padded(x, reflect, size), x, stored)
    return grad


@pytest.mark.parametrize(("size", "shape", "reflect"), cases(), ids=str)
def test_every_gradient(emulator: Any, size: int, shape: tuple[int, ...], reflect: bool) -> None:
    made = run(shape, reflect, size)
    grad = bf16(*shape[:4])
    results = []
    for order, greedy in schedules(shape):
        emulator.set_schedule(order, greedy, 5)
        results.append(made.backward(grad, torch.float32))
    for other in results[1:]:
        assert all(map(torch.equal, other, results[0]))  # the same bits
    x, weight, bias = results[0]
    assert x.dtype == torch.bfloat16 and weight.dtype == bias.dtype == torch.float32
    of_x, *of_weights = exact_gradients(made, grad)
    assert distance(x, of_x) < GRADIENT
    for i, (of_weight, of_bias) in enumerate(zip(of_weights[::2], of_weights[1::2], strict=True)):
        # What the last convolution gets was rounded by nobody.
        most = SUM if 2 * i + 2 == len(of_weights) else GRADIENT
        assert distance(weight[i].permute(0, 3, 1, 2), of_weight) < most
        assert distance(bias[i], of_bias) < most


@pytest.mark.parametrize("size", [3, 7])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
def test_the_public_function_and_its_gradients(
    emulator: Any, monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, size: int
) -> None:
    """CPU tensors take the way of CUDA tensors, through autograd; memory as it comes; weights of either type."""
    monkeypatch.setattr(_blocks_cuda, "takes", lambda _: True)
    monkeypatch.setattr(OP, "_op", _blocks_cuda.forward)
    monkeypatch.setattr(OP, "_backward_op", _blocks_cuda.backward)
    made, grad = run((6, 16, 4, 5, 2), True, size), bf16(6, 16, 4, 5)
    memory = torch.zeros(made.x.numel() + 1, dtype=torch.bfloat16)
    x = memory[1:].view(made.x.shape).copy_(made.x).requires_grad_()
    leaves = [tensor.to(dtype).requires_grad_() for tensor in made.weights]
    blocks = [tuple(leaves[i : i + 4]) for i in (0, 4)]
    y = OP.residual_blocks(x, blocks, padding_mode="reflect", impl="native")
    assert torch.equal(y, made.y)
    found = torch.autograd.grad(y, [x, *leaves], grad)
    of_x, weight, bias = made.backward(grad, dtype)
    expected = [of_x, *_winograd.unpacked(weight, bias)]
    assert all(map(torch.equal, found, expected))
    with torch.no_grad():
        assert torch.equal(OP.residual_blocks(x, blocks, padding_mode="reflect"), made.y)


def test_weights_and_gradients_of_bfloat16(emulator: Any) -> None:
    made, grad = run((6, 16, 3, 5, 2), False), bf16(6, 16, 3, 5)
    for half, whole in zip(
        made.backward(grad, torch.bfloat16), made.backward(grad, torch.float32), strict=True
    ):
        assert torch.equal(half, whole.bfloat16())


@pytest.mark.parametrize("reflect", [False, True])
@pytest.mark.parametrize(("size", "channels"), [(3, 16), (3, 64), (7, 16)])
def test_impulses(emulator: Any, size: int, channels: int, reflect: bool) -> None:
    """One pixel of one channel: every tap alone, exactly. And one of the gradient, which sees the map around."""
    h, w = size // 2 + 2, 4
    x = torch.zeros(h * w, channels, h, w, dtype=torch.bfloat16)
    for i in range(h * w):
        x[i, 5 * i % channels, i // w, i % w] = 1
    weights = [bf16(channels, channels, size, size), torch.zeros(channels).bfloat16()] * 2
    made = Run(x, weights, reflect, *_blocks_cuda.forward(x, weights, reflect, 4, True))
    exact = F.conv2d(padded(x, reflect, size), weights[0].double()).relu()
    assert torch.equal(made.read(1), exact.bfloat16())
    for i in range(h * w):
        one = Run(x[i : i + 1], weights, reflect, made.y[i : i + 1], made.maps[:, i : i + 1])
        output = int(one.y.float().amax((0, 2, 3)).argmax())
        one.y[0, output, i // w, i % w] = 1  # let it through
        grad = torch.zeros_like(one.x)
        grad[0, output, i // w, i % w] = 1
        _, weight, bias = one.backward(grad, torch.float32)
        seen = padded(one.read(1), reflect, size)[0, :, i // w :, i % w :]
        assert torch.equal(weight[1, output].permute(2, 0, 1).double(), seen[:, :size, :size])
        assert weight[1].abs().sum() == weight[1, output].abs().sum()
        assert torch.equal(bias[1], (torch.arange(channels) == output).float())


def test_nan_goes_through(emulator: Any) -> None:
    x = torch.ones(1, 16, 5, 6, dtype=torch.bfloat16)
    x[0, 3, 2, 2] = torch.nan
    weights = [bf16(16, 16, 3, 3), bf16(16)] * 2
    y, maps = _blocks_cuda.forward(x, weights, False, 4, True)
    assert y[0, :, :5, :5].isnan().all() and not y[0, :, :, 5:].isnan().any()
    grads = _blocks_cuda.backward(torch.ones_like(x), x, y, maps, weights, False, 4)
    assert [grad.isnan().any().item() for grad in grads] == [False, True, False]


def test_products_and_bytes_of_the_paper_eyes(emulator: Any) -> None:
    """Products at most 5 % above those of the formula: five rows of 55 pixels are six warps of 48."""
    n, c, h, w, _ = EYES
    made = run(EYES, False)
    counts, products = emulator.counters(), n * h * w * 9 * c * c / 2048
    assert 2 * products <= counts["mma"] < 1.05 * 2 * products
    assert counts["ldmatrix_wavefronts"] == 4 * counts["ldmatrix"]
    size, weights, tiles, blocks = 2 * made.x.numel(), 2 * 9 * c * c, 7, 4
    assert counts["bytes_written"] == 2 * (size + weights)
    rows = h + 2 * (tiles - 1)  # neighbours read them too
    expected = size * rows / h + blocks * (weights + 4 * c) + weights  # and weights to arrange
    assert counts["bytes_read"] == 2 * expected + size  # and the skip
    emulator.reset_counters()
    made.backward(bf16(n, c, h, w), torch.float32)
    counts = emulator.counters()
    assert counts["ldmatrix_wavefronts"] == 4 * counts["ldmatrix"]
    assert 4 * products <= counts["mma"] < 1.05 * 4 * products
    # The gradients of three maps, and float32 of 18 tiles of two rows and of their sum.
    assert counts["bytes_written"] == 3 * size + 2 * weights + 19 * 2 * 2 * (weights + 2 * c)


def test_products_and_bytes_of_seven(emulator: Any) -> None:
    """Four full tiles of 9 x 32 pixels: not one product too many, and weights that come with each tile."""
    n, c, h, w = 1, 64, 18, 64
    made = run((n, c, h, w, 1), False, 7)
    counts, products = emulator.counters(), n * h * w * 49 * c * c // 2048
    assert counts["mma"] == 2 * products
    assert counts["ldmatrix_wavefronts"] == 4 * counts["ldmatrix"]
    size, weights, tiles, blocks = 2 * made.x.numel(), 2 * 49 * c * c, 4, 4
    assert counts["bytes_written"] == 2 * (size + weights)
    around = 2 * (9 + 3) * 2 * (32 + 3)  # pixels: of each tile two sides are those of the image
    expected = 2 * c * around + tiles * weights + blocks * 4 * c + weights  # and weights to arrange
    assert counts["bytes_read"] == 2 * expected + size  # and the skip
    emulator.reset_counters()
    made.backward(bf16(n, c, h, w), torch.float32)
    counts = emulator.counters()
    assert counts["ldmatrix_wavefronts"] == 4 * counts["ldmatrix"]
    # The sums of biases take a fragment of outputs each, for 16 pixels.
    assert counts["mma"] == 4 * products + 2 * 4 * n * h * w // 16
    # The gradients of three maps, and float32 of 12 tiles of 3 x 32 pixels and of their sum.
    assert counts["bytes_written"] == 3 * size + 2 * weights + 13 * 2 * 2 * (weights + 2 * c)


@pytest.mark.parametrize("size", [3, 7])
def test_fakes_have_the_shapes_and_strides_of_the_real_ones(emulator: Any, size: int) -> None:
    made = run((2, 16, 4, 5, 2), True, size)
    real = [made.y, made.maps, *made.backward(bf16(2, 16, 4, 5), torch.float32)]
    with FakeTensorMode():
        x = torch.empty(2, 16, 4, 5, dtype=torch.bfloat16, device="cuda")
        weights = [torch.empty(t.shape, device="cuda") for t in made.weights]
        y, maps = OP._fake(x, weights, True, 4, True)
        fakes = [y, maps, *OP._fake_backward(x, x, y, maps, weights, True, 4)]
    assert_laid_out_alike(fakes, real)


# What 7x7 filters ask of the kernels beyond 3x3 ones, and what is right for 3x3 alone.
MISTAKES = {
    "rows of taps without a barrier": (
        "convolution.h",
        "simt::sync();  // copied by all, and nobody reads what is copied over any more",
        "if (portion == 0) simt::sync();",
    ),
    "a part of the next tile that nobody copies": (
        "convolution.h",
        "each = (rows + kPortions - 1) / kPortions;",
        "each = rows / kPortions;",
    ),
    "a gradient whose rows begin at another tap": (
        "weight_gradient.h",
        "place.row += work.strip * kRows - kSide / 2;",
        "place.row += work.strip * kRows - 1;",
    ),
    "reflections of one pixel": (
        "maps.h",
        "if (i >= side && i < side + reflected)",
        "if (reflected > 0 && i == side)",
    ),
    "gradients of one reflection": ("residual_blocks.cu", "distance > margin", "distance > 1"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_planted_mistake_is_seen(
    emulator: Any,  # for what else it pretends
    emulated_kernels: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    mistake: str,
) -> None:
    """Two tiles for each of four blocks, five warps at work; without the mistake it is a case of the tests above."""
    shape = SEVEN_SHAPES[3]
    mistaken = load_mistaken(monkeypatch, tmp_path, emulated_kernels, *MISTAKES[mistake])
    with pytest.raises(AssertionError):  # noqa: PT012  (either may see it)
        test_every_map(mistaken, 7, shape, True)
        test_every_gradient(mistaken, 7, shape, True)


def test_address_sanitizer_sees_nothing(tmp_path: Path) -> None:
    source = ROOT / "tests" / "native" / "residual_blocks_cuda_check.cpp"
    program = build_program(tmp_path / "sanitized", source, "-O1", *SANITIZED)
    subprocess.run([str(program)], check=True)
