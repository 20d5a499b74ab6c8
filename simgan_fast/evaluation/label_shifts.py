"""How far an estimate moves from raw images to their refined counterparts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from simgan_fast.evaluation.gaze_metrics import angular_error
from simgan_fast.gaze import vector_to_pitch_yaw

Floats = NDArray[np.float64]

FAR = 2.0  # pixels: a shift that is counted
MOVE = 2  # pixels, to the right: a shift that is known


@dataclass(frozen=True)
class Shift:
    """How far an estimate moves from a raw image to its refined counterpart; all over held-out images.

    `mean`, `std`, `median`, `rms`: of the distance of the two estimates, in pixels, or degrees for gaze; of several
    points (the lids) an image's distance is the mean over them. `far`: share of images with a distance above 2 (None
    for gaze).
    `offset`: the mean shift (x, y) in pixels, or (pitch, yaw) in degrees: what all images have in common.
    `response`: when refined images are moved by 2 pixels, by what part of that their estimated points move, in the mean
    (None for gaze). Below 1 the estimator is slow to believe what it sees, and true shifts are larger than `mean`.

    `error_raw_mean`, `error_raw_std`: distance of the raw images' estimate from the label, which is how well the
    estimator knows what it speaks of. `error_refined_mean`, `error_refined_std`: the same for refined images.
    """

    mean: float
    std: float
    median: float
    rms: float
    far: float | None
    offset: tuple[float, float]
    response: float | None
    error_raw_mean: float
    error_raw_std: float
    error_refined_mean: float
    error_refined_std: float


def point_shift(before: Floats, after: Floats, moved: Floats, true: NDArray[Any]) -> Shift:
    """Shift of points [n, points, 2] in pixels.

    before, after: the estimates of raw and refined images; moved: of refined images that `moved_right` has moved.
    """
    distance, error_raw, error_refined = (
        np.linalg.norm(a - b, axis=2).mean(axis=1)
        for a, b in ((after, before), (before, true), (after, true))
    )
    x, y = (after - before).mean(axis=(0, 1))
    far = float((distance > FAR).mean())
    response = float((moved - after)[..., 0].mean() / MOVE)
    return _shift(distance, far, (float(x), float(y)), response, error_raw, error_refined)


def moved_right(images: Tensor) -> Tensor:
    """Images [n, c, h, w] moved by 2 pixels to the right, their left column repeated."""
    pixels = images.numpy()
    return torch.from_numpy(
        np.concatenate([pixels[..., :1]] * MOVE + [pixels[..., :-MOVE]], axis=3)
    )


def gaze_shift(before: Floats, after: Floats, true: NDArray[Any]) -> Shift:
    """Shift of gaze vectors [n, 3] in degrees."""
    moved = vector_to_pitch_yaw(after) - vector_to_pitch_yaw(before)
    moved = (moved + np.pi) % (2 * np.pi) - np.pi
    pitch, yaw = np.degrees(moved.mean(axis=0))
    distance = angular_error(after, before)
    errors = angular_error(before, true), angular_error(after, true)
    return _shift(distance, None, (float(pitch), float(yaw)), None, *errors)


def _shift(
    distance: Floats,
    far: float | None,
    offset: tuple[float, float],
    response: float | None,
    error_raw: Floats,
    error_refined: Floats,
) -> Shift:
    return Shift(
        mean=float(distance.mean()),
        std=float(distance.std()),
        median=float(np.median(distance)),
        rms=float(np.sqrt((distance**2).mean())),
        far=far,
        offset=offset,
        response=response,
        error_raw_mean=float(error_raw.mean()),
        error_raw_std=float(error_raw.std()),
        error_refined_mean=float(error_refined.mean()),
        error_refined_std=float(error_refined.std()),
    )
