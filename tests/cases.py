"""Shapes and tolerances that tests and benchmarks share."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

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
