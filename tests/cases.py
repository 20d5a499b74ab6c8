"""Shapes and tolerances that tests and benchmarks share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from simgan_fast import _native
from simgan_fast.models.refiner import Refiner
from simgan_fast.ops import patch_network, residual_blocks, residual_network

NO_GPU = "no GPU" if not torch.cuda.is_available() else _native.cuda_obstacle()
needs_gpu = pytest.mark.skipif(NO_GPU is not None, reason=str(NO_GPU))

# Maps [n, 2, h, w]: the eye discriminator's 9 x 14 at one image and at a batch, one patch (a global discriminator),
# fewer patches than a vector, a multiple of sixteen, one more, more than one partial sum, and nothing.
PATCH_SHAPES = [
    (1, 2, 9, 14),
    (32, 2, 9, 14),
    (5, 2, 1, 1),
    (3, 2, 3, 5),
    (2, 2, 4, 8),
    (2, 2, 3, 11),
    (2, 2, 33, 70),
    (0, 2, 9, 14),
    (3, 2, 0, 4),
]
PATCH_BATCHES = (32, 128, 512)  # timed
REDUCTIONS = ("mean", "sum", "image", "none")


@dataclass(frozen=True)
class Tolerance:
    """Relative to the larger of |reference| and `floor`."""

    relative: float
    floor: float = 0.0


# Against float64 on the same float32 logits. Measured over PATCH_SHAPES at every CPU level, logits of deviation 3:
# a patch 6.2e-7, sums 1.1e-7, gradient 6.1e-7. Most of it is the rounding of the difference of two logits; where that
# is exact, 2.1e-7 and 1.8e-7. (F.cross_entropy in float32 loses up to 0.26 of a patch's loss where that is tiny.)
PATCH_LOSS = Tolerance(1.5e-6, 1e-30)
PATCH_GRADIENT = Tolerance(1.5e-6, 1e-30)
# One CPU level against another: the same loops, with FMA or without. Measured 2.1e-7 (AVX2 and AVX-512: equal).
CPU_LEVELS = Tolerance(1e-6, 1e-30)

# (slots, rows, trailing shape, type): odd counts, all rows, none, one, and types of 1, 2 and 8 bytes.
EXCHANGES = [
    (512, 256, (1, 35, 55), torch.float32),
    (7, 3, (3, 5), torch.float64),
    (5, 5, (2,), torch.uint8),
    (1, 1, (4,), torch.bfloat16),
    (6, 0, (4,), torch.float32),
    (9, 4, (), torch.int64),
    (9, 4, (0, 3), torch.float32),
]
EXCHANGES_TIMED = ((51200, 256), (12800, 128), (2048, 32))  # slots and rows of 35 x 55 float32

# permutation: one, two, around powers of two, the paper's buffer, a large set.
PERMUTED = [1, 2, 3, 4, 5, 7, 8, 9, 31, 33, 257, 1000]


def error(actual: Tensor, reference: Tensor, floor: float) -> float:
    """The largest difference, relative to max(|reference|, floor)."""
    assert actual.shape == reference.shape
    if actual.numel() == 0:
        return 0.0
    actual, reference = actual.double(), reference.double()
    return float(((actual - reference).abs() / reference.abs().clamp(min=floor)).max())


def logits_of(shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> Tensor:
    """Logits as a discriminator gives them, deviation 3, the same on every call."""
    generator = torch.Generator().manual_seed(sum(shape))
    return (torch.randn(shape, generator=generator, dtype=torch.float64) * 3).to(dtype)


def trained(refiner: Refiner, images: Tensor) -> Refiner:
    """The refiner after a few large steps toward mirrored images [n, c, h, w]: weights that are no longer random."""
    optimizer = torch.optim.Adam(refiner.parameters(), 1e-3)
    for _ in range(8):
        loss = (refiner(images * 0.7 + 0.1) - images.flip(3)).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return refiner


def labels_of(images: int) -> Tensor:
    """Labels 0, 1, 0, ... [images]."""
    return torch.arange(images) % 2


# residual_blocks [n, c, h, w], k blocks: the paper's eyes; sides of less than a tile, of one to three tiles of 4, 5 and
# 6, and of no multiple; channels that fill a group of 16 by half, whole, and one and a half.
BLOCK_SHAPES = [
    (1, 64, 35, 55, 1),
    (1, 32, 18, 20, 2),
    (2, 16, 2, 3, 1),
    (1, 24, 4, 10, 1),
    (1, 8, 6, 5, 2),
    (2, 40, 13, 7, 1),
    (1, 16, 3, 19, 1),
    # more images than sums of weight gradients, a sum of more images than are taken at once, and both
    (18, 8, 5, 4, 1),
    (41, 8, 4, 5, 1),
    (70, 8, 2, 3, 1),
]
# In units of the largest value, against float64. Measured over BLOCK_SHAPES at every CPU level and both paddings, for
# tiles 4, 5, 6: values 3.3e-7, 7.4e-7, 1.8e-6; gradients 2.0e-6, 3.0e-6, 6.8e-6. (torch's own: 1.3e-7 and 1.2e-6.)
BLOCK_VALUE = {4: 7e-7, 5: 1.5e-6, 6: 3.6e-6}
BLOCK_GRADIENT = {4: 3.2e-6, 5: 6e-6, 6: 1.1e-5}
# The same for 7x7 filters, in tiles of 10 x 10: smaller than a filter, whole tiles, one pixel more and less, channels
# that fill a group of 16 by half, whole, and two and a half, and more tiles than are multiplied, summed and convolved
# at once.
SEVEN_SHAPES = [
    (1, 64, 23, 31, 1),
    (2, 16, 4, 5, 2),
    (2, 24, 10, 20, 1),
    (1, 8, 11, 9, 2),
    (1, 40, 7, 33, 1),
    (60, 8, 11, 6, 1),
    (1030, 8, 4, 4, 1),
]
# Measured at baseline and AVX2 and both paddings: 2.6e-7 and 6.2e-7. (torch's own: 5.8e-7 and 4.7e-6.)
SEVEN_VALUE, SEVEN_GRADIENT = 5e-7, 1.3e-6
# No ReLU of a case has an input nearer to zero than this: rounding must not decide about a gradient.
CLEAR_OF_ZERO = 4e-6


# residual_network [n, c_in, c, h, w, c_out, k].
NETWORK_SHAPES = [
    (1, 1, 64, 18, 23, 1, 1),
    (3, 1, 16, 5, 9, 1, 2),
    (2, 3, 24, 7, 4, 2, 1),
    (17, 2, 8, 2, 3, 3, 1),
]


def relative(actual: Tensor, expected: Tensor) -> float:
    """The largest difference, in units of the largest expected value."""
    assert actual.shape == expected.shape
    return float((actual.double() - expected).abs().max() / expected.abs().max())


Parts = tuple[tuple[Tensor, ...], list[tuple[Tensor, ...]], tuple[Tensor, ...]]


@dataclass
class ResidualCase:
    """An input, weights and an incoming gradient, with the output and the gradients in float64.

    `weights` are those of the blocks and, for `residual_network`, of the first and the last convolution.
    """

    shape: tuple[int, ...]
    padding_mode: str
    x: Tensor
    weights: list[Tensor]
    incoming: Tensor
    y: Tensor
    gradients: list[Tensor]
    ends: bool = False

    def blocks(self, dtype: torch.dtype) -> list[tuple[Tensor, ...]]:
        """The blocks' weights as the op takes them."""
        return self.parts(dtype)[1]

    def parts(self, dtype: torch.dtype, weights: list[Tensor] | None = None) -> Parts:
        """First convolution, blocks, last convolution; the ends are empty where there are none."""
        weights = [tensor.to(dtype) for tensor in (weights or self.weights)]
        ends = weights[len(weights) - 4 :] if self.ends else []
        weights = weights[: len(weights) - len(ends)]
        blocks = [tuple(weights[i : i + 4]) for i in range(0, len(weights), 4)]
        return tuple(ends[:2]), blocks, tuple(ends[2:])

    def forward(
        self,
        dtype: torch.dtype,
        images: Tensor | None = None,
        weights: list[Tensor] | None = None,
        **options: object,
    ) -> Tensor:
        """The op's output."""
        x = self.x.to(dtype) if images is None else images
        first, blocks, last = self.parts(dtype, weights)
        if self.ends:
            return residual_network(
                x, first, blocks, last, padding_mode=self.padding_mode, **options
            )
        return residual_blocks(x, blocks, padding_mode=self.padding_mode, **options)

    def run(self, dtype: torch.dtype, **options: object) -> tuple[Tensor, list[Tensor]]:
        """The op's output and the gradients of x (of the blocks alone) and of all weights."""
        leaves = [t.to(dtype).detach().requires_grad_() for t in self.weights]
        x = self.x.to(dtype).detach()
        wanted = leaves if self.ends else [x.requires_grad_(), *leaves]
        y = self.forward(dtype, x, leaves, **options)
        return y.detach(), list(torch.autograd.grad(y, wanted, self.incoming.to(dtype)))


def residual_case(
    shape: tuple[int, int, int, int, int], padding_mode: str, size: int = 3
) -> ResidualCase:
    """A case with filters of size x size whose ReLUs are all clear of zero; every number is one that float32 has."""
    n, channels, height, width, blocks = shape
    draw = drawing(sum(shape))
    x = draw(n, channels, height, width).relu()
    weights = block_weights(draw, channels, blocks, size)
    keep_clear(x, weights, padding_mode)
    incoming = draw(n, channels, height, width)
    case = ResidualCase(shape, padding_mode, x, weights, incoming, x, [])
    case.y, case.gradients = case.run(torch.float64, impl="reference")
    return case


def network_case(
    shape: tuple[int, int, int, int, int, int, int], padding_mode: str, size: int = 3
) -> ResidualCase:
    """The same for `residual_network`."""
    n, c_in, channels, height, width, c_out, blocks = shape
    draw = drawing(sum(shape))
    x = draw(n, c_in, height, width)
    first, first_bias = draw(channels, c_in, size, size), draw(channels)
    before = _convolve(x, first, first_bias, padding_mode)
    while (near := before.abs().amin((0, 2, 3))).min() < CLEAR_OF_ZERO:
        first_bias = (first_bias + (near < CLEAR_OF_ZERO).double() * 1e-3).float().double()
        before = _convolve(x, first, first_bias, padding_mode)
    weights = block_weights(draw, channels, blocks, size)
    keep_clear(before.relu(), weights, padding_mode)
    weights += [first, first_bias, draw(c_out, channels, 1, 1), draw(c_out)]
    incoming = draw(n, c_out, height, width)
    case = ResidualCase(shape, padding_mode, x, weights, incoming, x, [], ends=True)
    case.y, case.gradients = case.run(torch.float64, impl="reference")
    return case


def drawing(seed: int) -> Callable[..., Tensor]:
    """Normal numbers of a size, each of them a float32, held in float64."""
    generator = torch.Generator().manual_seed(seed)
    return lambda *size: torch.randn(size, generator=generator).double()


def block_weights(
    draw: Callable[..., Tensor], channels: int, blocks: int, size: int
) -> list[Tensor]:
    """Of `blocks` residual blocks."""
    weights, scale = [], 3 / (4 * size * channels**0.5)
    for _ in range(2 * blocks):
        weights.append((draw(channels, channels, size, size) * scale).float().double())
        weights.append((draw(channels) / 8).float().double())
    return weights


def keep_clear(x: Tensor, weights: list[Tensor], padding_mode: str) -> None:
    """Shift biases of channels in which a ReLU comes too near to zero, until none does."""
    for i in range(len(weights) // 2):
        while (near := _nearest_to_zero(x, weights, padding_mode, i)).min() < CLEAR_OF_ZERO:
            shift = (near < CLEAR_OF_ZERO).double() * 1e-3
            weights[2 * i + 1] = (weights[2 * i + 1] + shift).float().double()


def _convolve(x: Tensor, weight: Tensor, bias: Tensor, padding_mode: str) -> Tensor:
    mode = "constant" if padding_mode == "zeros" else padding_mode
    padded = torch.nn.functional.pad(x, (weight.shape[-1] // 2,) * 4, mode=mode)
    return torch.nn.functional.conv2d(padded, weight, bias)


def _nearest_to_zero(x: Tensor, weights: list[Tensor], padding_mode: str, layer: int) -> Tensor:
    """Of each channel, the smallest |input| of the ReLU after a convolution."""
    hidden = x
    for i in range(layer + 1):
        before = _convolve(hidden, weights[2 * i], weights[2 * i + 1], padding_mode)
        if i % 2 == 1:
            before, x = before + x, (before + x).relu()
        hidden = before.relu()
    return before.abs().amin((0, 2, 3))


# patch_network [n, c, h, w] and the channels of its convolutions: the paper's; its smallest image; odd and even sides,
# rows of more pixels than there are rows of sums; more images than sums of weight gradients.
PATCH_NETWORK_SHAPES = [
    (2, 1, 35, 55, 96, 64, 32, 32, 2),
    (1, 1, 5, 5, 16, 16, 16, 16, 1),
    (2, 3, 8, 69, 16, 48, 32, 16, 3),
    (19, 2, 7, 6, 32, 16, 16, 48, 2),
    (1, 1, 64, 12, 16, 16, 16, 16, 2),
]
# Measured over them at every CPU level and both paddings: 1.3e-6 and 1.4e-6. (torch's own: 8.0e-7 and 6.9e-7.)
PATCH_NETWORK_VALUE, PATCH_NETWORK_GRADIENT = 2.6e-6, 2.8e-6
PATCH_NETWORK_SIZES, PATCH_NETWORK_STRIDES = (3, 3, 3, 1, 1), (2, 2, 1, 1, 1)


@dataclass
class PatchNetworkCase:
    """Images, weights and an incoming gradient, with the logits and the gradients in float64."""

    padding_mode: str
    images: Tensor
    weights: list[Tensor]
    incoming: Tensor
    logits: Tensor
    gradients: list[Tensor]

    def forward(self, images: Tensor, weights: list[Tensor], **options: object) -> Tensor:
        """The op's output."""
        pairs = list(zip(weights[::2], weights[1::2], strict=True))
        return patch_network(images, pairs, padding_mode=self.padding_mode, **options)

    def run(self, dtype: torch.dtype, **options: object) -> tuple[Tensor, list[Tensor]]:
        """The op's output and the gradients of the images and of all weights."""
        images, *weights = (
            t.to(dtype).detach().requires_grad_() for t in (self.images, *self.weights)
        )
        logits = self.forward(images, weights, **options)
        wanted = [images, *weights]
        return logits.detach(), list(torch.autograd.grad(logits, wanted, self.incoming.to(dtype)))


def patch_network_case(shape: tuple[int, ...], padding_mode: str) -> PatchNetworkCase:
    """A case in which rounding decides about no gradient, neither at a ReLU nor at the pooling."""
    (n, c, height, width), channels = shape[:4], shape[4:]
    for seed in range(1000):
        draw = drawing(1000 * sum(shape) + seed)
        images, weights, before = draw(n, c, height, width), [], c
        for after, size in zip(channels, PATCH_NETWORK_SIZES, strict=True):
            scale = (before * size * size) ** -0.5
            weights += [draw(after, before, size, size) * scale, draw(after) / 4]
            before = after
        weights = [tensor.float().double() for tensor in weights]
        if _nearest_decision(images, weights, padding_mode) > CLEAR_OF_ZERO:
            break
    incoming = draw(n, channels[-1], (height + 3) // 4, (width + 3) // 4)
    case = PatchNetworkCase(padding_mode, images, weights, incoming, images, [])
    case.logits, case.gradients = case.run(torch.float64, impl="reference")
    return case


def _nearest_decision(images: Tensor, weights: list[Tensor], padding_mode: str) -> float:
    """The smallest input of a ReLU, or difference of the two largest values that the pooling compares."""
    x, nearest = images, float("inf")
    for i, stride in enumerate(PATCH_NETWORK_STRIDES[:-1]):
        if weights[2 * i].shape[-1] == 3:
            mode = "constant" if padding_mode == "zeros" else padding_mode
            x = torch.nn.functional.pad(x, (1, 1, 1, 1), mode=mode)
        x = torch.nn.functional.conv2d(x, weights[2 * i], weights[2 * i + 1], stride)
        nearest = min(nearest, float(x.abs().min()))
        x = x.relu()
        if i == 1:
            patches = torch.nn.functional.unfold(x, 3, padding=1).view(*x.shape[:2], 9, -1)
            first, second = patches.topk(2, dim=2).values.unbind(2)
            nearest = min(nearest, float((first - second)[first > 0].min()))
            x = torch.nn.functional.max_pool2d(x, 3, stride=1, padding=1)
    return nearest


# Settings of a training run that is over in a second or two.
TINY_RUN = {
    "width": 8,
    "blocks": 1,
    "batch_size": 8,
    "history": 24,
    "steps": 20,
    "refiner_pretraining": 6,
    "discriminator_pretraining": 4,
    "checkpoint_every": 5,
    "log_every": 1,
    "sample_every": 10,
}
