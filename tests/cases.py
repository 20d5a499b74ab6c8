"""Shapes and tolerances that tests and benchmarks share."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from simgan_fast.ops import residual_blocks

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
    (18, 8, 5, 4, 1),
]
# In units of the largest value, against float64. Measured over BLOCK_SHAPES at every CPU level and both paddings, for
# tiles 4, 5, 6: values 4.6e-7, 2.0e-6, 2.7e-6; gradients 1.6e-6, 5.3e-6, 5.2e-6. (torch's own: 1.3e-7 and 1.2e-6.)
BLOCK_VALUE = {4: 9e-7, 5: 4e-6, 6: 5e-6}
BLOCK_GRADIENT = {4: 3.2e-6, 5: 1.1e-5, 6: 1.1e-5}
# No ReLU of a case has an input nearer to zero than this: rounding must not decide about a gradient.
CLEAR_OF_ZERO = 4e-6


@dataclass
class ResidualCase:
    """An input, weights and an incoming gradient, with the output and the gradients in float64."""

    shape: tuple[int, int, int, int, int]
    padding_mode: str
    x: Tensor
    weights: list[Tensor]
    incoming: Tensor
    y: Tensor
    gradients: list[Tensor]

    def blocks(self, dtype: torch.dtype) -> list[tuple[Tensor, ...]]:
        """The weights as the op takes them."""
        weights = [tensor.to(dtype) for tensor in self.weights]
        return [tuple(weights[i : i + 4]) for i in range(0, len(weights), 4)]

    def forward(self, dtype: torch.dtype, **options: object) -> Tensor:
        """The op's output."""
        return residual_blocks(
            self.x.to(dtype), self.blocks(dtype), padding_mode=self.padding_mode, **options
        )

    def run(self, dtype: torch.dtype, **options: object) -> tuple[Tensor, list[Tensor]]:
        """The op's output and the gradients of x and of all weights."""
        leaves = [t.to(dtype).detach().requires_grad_() for t in (self.x, *self.weights)]
        blocks = [tuple(leaves[i : i + 4]) for i in range(1, len(leaves), 4)]
        y = residual_blocks(leaves[0], blocks, padding_mode=self.padding_mode, **options)
        return y.detach(), list(torch.autograd.grad(y, leaves, self.incoming.to(dtype)))


def residual_case(shape: tuple[int, int, int, int, int], padding_mode: str) -> ResidualCase:
    """A case whose ReLUs are all clear of zero; every number is one that float32 has."""
    n, channels, height, width, blocks = shape
    generator = torch.Generator().manual_seed(sum(shape))

    def draw(*size: int) -> Tensor:
        return torch.randn(size, generator=generator).double()

    x = draw(n, channels, height, width).relu()
    weights = []
    for _ in range(2 * blocks):
        weights.append((draw(channels, channels, 3, 3) / (4 * channels**0.5)).float().double())
        weights.append((draw(channels) / 8).float().double())
    # Pixels that come too near get their bias' channel shifted, until none does.
    for i in range(2 * blocks):
        while (near := _nearest_to_zero(x, weights, padding_mode, i)).min() < CLEAR_OF_ZERO:
            shift = (near < CLEAR_OF_ZERO).double() * 1e-3
            weights[2 * i + 1] = (weights[2 * i + 1] + shift).float().double()
    case = ResidualCase(shape, padding_mode, x, weights, draw(n, channels, height, width), x, [])
    case.y, case.gradients = case.run(torch.float64, impl="reference")
    return case


def _nearest_to_zero(x: Tensor, weights: list[Tensor], padding_mode: str, layer: int) -> Tensor:
    """Of each channel, the smallest |input| of the ReLU after a convolution."""
    mode = "constant" if padding_mode == "zeros" else padding_mode
    hidden = x
    for i in range(layer + 1):
        before = torch.nn.functional.conv2d(
            torch.nn.functional.pad(hidden, (1, 1, 1, 1), mode=mode),
            weights[2 * i],
            weights[2 * i + 1],
        )
        if i % 2 == 1:
            before, x = before + x, (before + x).relu()
        hidden = before.relu()
    return before.abs().amin((0, 2, 3))
