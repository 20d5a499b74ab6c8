"""Joints as heat maps, and heat maps as joints.

Positions are x, y with pixel centres at integers. A pixel of a heat map stands for 4x4 of the image, so position x of
the image is (x + 0.5) / 4 - 0.5 of its heat map.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from simgan_fast.models.stacked_hourglass import STRIDE

SIGMA = 1.0  # pixels of a heat map (Newell et al. 2016)
REACH = 2  # pixels around the peak that its place is the mean of


def to_heat_map(positions: Tensor) -> Tensor:
    """Positions in pixels of the image as positions in its heat maps.

    >>> to_heat_map(torch.tensor([1.5]))
    tensor([0.])
    """
    return (positions + 0.5) / STRIDE - 0.5


def from_heat_map(positions: Tensor) -> Tensor:
    """The inverse of `to_heat_map`."""
    return (positions + 0.5) * STRIDE - 0.5


def heat_map_targets(positions: Tensor, height: int, width: int) -> Tensor:
    """A Gaussian of sigma 1 pixel and peak 1 around each position [n, j, 2] in a heat map: [n, j, height, width].

    Newell et al. draw it around the nearest pixel; here it is where the joint is, between pixels too.
    """
    x, y = positions.unbind(-1)
    across, down = _bell(x, width), _bell(y, height)
    return down[..., :, None] * across[..., None, :]


def decode_heat_maps(heat_maps: Tensor) -> Tensor:
    """Positions [n, j, 2] in heat maps [n, j, h, w]: the mean place of the 5x5 pixels around the highest, by value.

    What is below 0, and beyond the border, has no weight. docs/hands.md compares it with Newell's quarter of
    a pixel toward the higher neighbour.
    """
    n, joints, _, width = heat_maps.shape
    peaks = heat_maps.flatten(2).argmax(dim=2)  # [n, j]
    x, y = peaks % width, peaks // width
    side = 2 * REACH + 1
    around = F.pad(heat_maps.clamp_min(0), (REACH,) * 4)  # so (x, y) is the window's corner
    steps = torch.arange(side, device=heat_maps.device)
    cells = (y[..., None, None] + steps[:, None]) * (width + 2 * REACH) + x[..., None, None] + steps
    weights = around.flatten(2).gather(2, cells.flatten(2)).view(n, joints, side, side)
    total = weights.sum(dim=(2, 3))
    offsets = (steps - REACH).to(weights.dtype)
    mean = torch.stack(
        [(weights.sum(dim=2) * offsets).sum(-1), (weights.sum(dim=3) * offsets).sum(-1)], dim=-1
    )
    # A map without anything above 0 has no peak to refine.
    mean = torch.where(total[..., None] > 0, mean / total[..., None], torch.zeros_like(mean))
    return torch.stack([x, y], dim=-1) + mean


def _bell(centres: Tensor, size: int) -> Tensor:
    places = torch.arange(size, device=centres.device, dtype=centres.dtype)
    return torch.exp(-(places - centres[..., None]).square() / (2 * SIGMA**2))
