"""Depth images of hands turned, enlarged and shifted, with their joints: the paper's random rotations and crops.

Each pixel of the new image is the nearest one of the old: a mean of hand and background would be a depth where nothing
is, and a missing pixel stays missing. Turning about the line of sight leaves depth as it is.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def random_views(
    count: int,
    height: int,
    width: int,
    generator: torch.Generator,
    *,
    rotation: float,
    scale: float,
    shift: float,
) -> Tensor:
    """Random similarities [count, 2, 3] about the middle of an image, from old to new positions (x, y, 1).

    Args:
        rotation: up to so many degrees either way.
        scale: enlarged by 1 - scale to 1 + scale.
        shift: moved by up to that share of the image's sides, in x and y.
        generator: on the CPU.
    """
    draws = torch.rand(4, count, generator=generator, dtype=torch.float64) * 2 - 1
    angle, factor = draws[0] * math.radians(rotation), 1 + draws[1] * scale
    cos, sin = factor * angle.cos(), factor * angle.sin()
    turn = torch.stack([cos, -sin, sin, cos], dim=1).view(count, 2, 2)
    middle = torch.tensor([(width - 1) / 2, (height - 1) / 2], dtype=torch.float64)
    moved = torch.stack([draws[2] * shift * width, draws[3] * shift * height], dim=1)
    return torch.cat([turn, (middle + moved - turn @ middle)[:, :, None]], dim=2)


def view_images(images: Tensor, views: Tensor, background: float) -> Tensor:
    """Images [n, c, h, w] as `views` [n, 2, 3] show them; `background` where the old image does not reach.

    Every value is one that was there, or `background`.
    """
    n, channels, height, width = images.shape
    turn = torch.linalg.inv(views[:, :, :2])  # from new to old positions
    start = -turn @ views[:, :, 2:]
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    places = torch.stack([x, y]).reshape(1, 2, -1).to(views.dtype)
    column, row = (turn @ places + start).round().long().to(images.device).unbind(1)  # [n, h * w]
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    cells = torch.where(inside, row * width + column, 0)[:, None].expand(-1, channels, -1)
    seen = images.flatten(2).gather(2, cells)
    seen = torch.where(inside[:, None], seen, torch.full_like(seen[:1, :1, :1], background))
    return seen.view(n, channels, height, width)


def view_joints(joints: Tensor, views: Tensor) -> Tensor:
    """Positions [n, j, 2] in pixels of the old images, in those of the new ones."""
    turn, move = views[:, :, :2].to(joints), views[:, :, 2].to(joints)
    return joints @ turn.transpose(1, 2) + move[:, None]
