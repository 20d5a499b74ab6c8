"""How measured depth looks at the edges of a hand, in four numbers, to compare domains by."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from simgan_fast.depth import HALF
from simgan_fast.errors import InputError
from simgan_fast.evaluation.gaze_training import LabelledSet

FARTHEST = -0.2  # in training values: of the paper's encoding 1600 mm; what is more has no depth
PART = 256  # images at a time
_BESIDE = (((1, 3), (0, 1)), ((3, 1), (1, 0)))  # windows and padding: neighbours in x, and in y
HOLE = 3  # pixels: dropouts narrower than that are closed


@dataclass(frozen=True)
class EdgeNoise:
    """Means over images of hands in the paper's encoding.

    silhouette_gradient: length of the gradient at the rim, the hand's pixels beside one without depth; by the larger of
    both neighbours' differences in x and in y, in training values a pixel. rim_share: share of the hand's pixels that
    are rim, which ragged silhouettes and holes have more of. dropout_rate: share of the pixels without depth in the
    hand's silhouette, after gaps narrower than 3 pixels were closed; those between the fingers of a perfect image count
    too. hole_rate: share of the pixels without depth that the hand encloses on all sides, of these and the hand's.
    """

    silhouette_gradient: float
    rim_share: float
    dropout_rate: float
    hole_rate: float


def edge_noise(images: LabelledSet | Tensor) -> EdgeNoise:
    """The edge noise of a set's images, or of uint16 [n, 1, h, w].

    Raises InputError for images of another kind, and where none has a hand.
    """
    pixels = images if isinstance(images, Tensor) else images.load()
    if pixels.dtype != torch.uint16 or pixels.ndim != 4 or pixels.shape[1] != 1:
        raise InputError(
            f"images are {pixels.dtype} {list(pixels.shape)}: edge noise is that of 16-bit depth, uint16 [n, 1, h, w]."
        )
    starts = range(0, len(pixels), PART)
    found = [_measured(pixels[start : start + PART]) for start in starts]
    measured = torch.cat([torch.empty(0, 4), *found])
    if not len(measured):
        raise InputError(
            "no image has a hand in it: want depth in the paper's encoding (values 'paper')."
        )
    return EdgeNoise(*measured.mean(dim=0).tolist())


def _has_depth(images: Tensor) -> Tensor:
    """Which pixels of images uint16 [n, 1, h, w] in the paper's encoding show something; refined ones are inexact."""
    return images.float() / HALF - 1 < FARTHEST


def _measured(images: Tensor) -> Tensor:
    """Gradient, rim share, dropout and hole rate [m, 4] of those of the images that have a hand."""
    values, hand = images.float() / HALF - 1, _has_depth(images)
    some = hand.flatten(1).any(dim=1)
    values, hand = values[some], hand[some]
    none = (~hand).float()
    across, down = (F.max_pool2d(none, k, stride=1, padding=p) for k, p in _BESIDE)
    rim = hand & ((across > 0) | (down > 0))
    gradient = torch.hypot(_difference(values, 2), _difference(values, 3))
    closed = _closed(hand)
    return torch.stack(
        [
            _mean_over(gradient, rim),
            rim.sum(dim=(1, 2, 3)) / hand.sum(dim=(1, 2, 3)),
            _mean_over(none, closed),
            _mean_over(none, hand | _enclosed(hand)),
        ],
        dim=1,
    )


def _difference(values: Tensor, axis: int) -> Tensor:
    """The larger difference to both neighbours along `axis`."""
    step = values.diff(dim=axis).abs()
    pad = (0, 0, 1, 0) if axis == 2 else (1, 0)
    other = (0, 0, 0, 1) if axis == 2 else (0, 1)
    return torch.maximum(F.pad(step, pad), F.pad(step, other))


def _closed(hand: Tensor) -> Tensor:
    """Morphological closing by squares of HOLE pixels: gaps that are narrower become hand."""
    grown = F.max_pool2d(hand.float(), HOLE, stride=1, padding=HOLE // 2)
    return F.max_pool2d(1 - grown, HOLE, stride=1, padding=HOLE // 2) == 0


def _enclosed(hand: Tensor) -> Tensor:
    """Pixels beside the hand [n, 1, h, w] from which no way leads, by neighbours in x and y, out of the image."""
    none = np.pad(~hand.numpy()[:, 0], ((0, 0), (1, 1), (1, 1)), constant_values=True)
    outside = np.zeros_like(none)
    outside[:, [0, -1]] = outside[:, :, [0, -1]] = True
    reached = -1
    while reached != outside.sum():
        reached = int(outside.sum())
        for axis in (1, 2):
            lines, free = np.moveaxis(outside, axis, 0), np.moveaxis(none, axis, 0)
            for i in range(1, len(lines)):
                lines[i] |= lines[i - 1] & free[i]
            for i in range(len(lines) - 2, -1, -1):
                lines[i] |= lines[i + 1] & free[i]
    return torch.from_numpy(none & ~outside)[:, None, 1:-1, 1:-1]


def _mean_over(values: Tensor, where: Tensor) -> Tensor:
    """[n]: means of values [n, 1, h, w] over `where`; 0 where that is nowhere."""
    total = where.sum(dim=(1, 2, 3)).clamp_min(1)
    return (values * where).sum(dim=(1, 2, 3)) / total
