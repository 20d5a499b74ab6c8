"""The same images in other looks, so that an estimator trained on them goes by shapes more than by grey levels."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from simgan_fast.ops import gather_normalize, to_uint8, to_uint16

CONTRAST = (0.5, 2.5)  # factor, uniform in its logarithm
BRIGHTNESS = 0.3  # of [-1, 1], as all that follows: added, up to so much
SHADE, SHADE_GRID = 0.6, (4, 6)  # of smooth blotches: standard deviation at most, and how many
NOISE = 0.08  # standard deviation at most
BATCH = 512


def altered_looks(images: Tensor, seed: int) -> Tensor:
    """Images like `images`, uint8 or uint16 [n, c, h, w], in another light, with nothing moved.

    Of each: contrast, brightness, smooth light and dark blotches, blur (a 3x3 mean mixed in) and noise, at random.

    >>> altered_looks(torch.zeros(2, 1, 35, 55, dtype=torch.uint8), seed=0).shape
    torch.Size([2, 1, 35, 55])
    """
    generator = torch.Generator().manual_seed(seed)
    back = to_uint16 if images.dtype == torch.uint16 else to_uint8
    parts = torch.split(torch.arange(len(images)), BATCH)
    return torch.cat([back(_altered(gather_normalize(images, rows), generator)) for rows in parts])


def _altered(x: Tensor, generator: torch.Generator) -> Tensor:
    def share() -> Tensor:
        """Uniform from 0 to 1, for each image."""
        return torch.rand(len(x), 1, 1, 1, generator=generator)

    low, high = CONTRAST
    middle = x.mean(dim=(1, 2, 3), keepdim=True)
    x = middle + (x - middle) * low * (high / low) ** share() + BRIGHTNESS * (2 * share() - 1)
    grid = torch.randn(len(x), 1, *SHADE_GRID, generator=generator)
    shade = F.interpolate(grid, x.shape[2:], mode="bicubic", align_corners=True)
    x = x + SHADE * share() * shade
    smooth = F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    x = torch.lerp(x, smooth, share())
    return x + NOISE * share() * torch.randn(x.shape, generator=generator)
