"""Gaze directions and how far two of them are apart.

Axes are those of MPIIGaze's normalised camera (Zhang et al. 2015): x right, y down, z away from the camera. Gaze points
from the eye to what it looks at, so z is negative for a subject who looks toward the camera.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from simgan_fast.errors import InputError

Floats = NDArray[np.float64]

CLOSE_DEGREES = 7.0  # the threshold of the paper's table 2
CURVE_DEGREES = tuple(range(26))  # the abscissa of the paper's figure 7


def pitch_yaw_to_vector(pitch_yaw: ArrayLike) -> Floats:
    """Unit gaze vectors [n, 3] of (pitch, yaw) [n, 2] in radians.

    Pitch is positive upward, yaw positive toward the image's left (x < 0).

    >>> pitch_yaw_to_vector([[0.0, 0.0]])[0] + 0.0
    array([ 0.,  0., -1.])
    """
    pitch, yaw = _columns(pitch_yaw, 2, "pitch_yaw").T
    return np.stack(
        [-np.cos(pitch) * np.sin(yaw), -np.sin(pitch), -np.cos(pitch) * np.cos(yaw)], axis=1
    )


def vector_to_pitch_yaw(vectors: ArrayLike) -> Floats:
    """(pitch, yaw) [n, 2] in radians of gaze vectors [n, 3] of any length.

    MPIIGaze's pitch = asin(-y) and yaw = atan2(-x, -z) for unit vectors. Raises InputError for a vector without a
    direction.
    """
    x, y, z = _directions(vectors, "vectors").T
    return np.stack([np.arctan2(-y, np.hypot(x, z)), np.arctan2(-x, -z)], axis=1)


def angular_error(predicted: ArrayLike, true: ArrayLike) -> Floats:
    """Angles [n] in degrees, 0 to 180, between gaze vectors [n, 3] of any length.

    atan2(|p x t|, p . t): exactly 0 for equal vectors and accurate near 0 and 180, where the clipped arc cosine is
    off by up to 1e-6 degrees (0.02 in float32). Raises InputError for a vector that is zero or not finite: it has no
    direction, and would otherwise count as a perfect prediction.

    >>> angular_error([[0, 0, -1]], [[0, -1, 0]])
    array([90.])
    """
    p, t = _directions(predicted, "predicted"), _directions(true, "true")
    if len(p) != len(t):
        raise InputError(
            f"{len(p)} predicted and {len(t)} true gaze vectors came: give one each per image."
        )
    cross = np.linalg.norm(np.cross(p, t), axis=1)
    error: Floats = np.degrees(np.arctan2(cross, (p * t).sum(axis=1)))
    return error


@dataclass(frozen=True)
class GazeScores:
    """What an estimator is worth on `n` labelled images.

    mean_error_deg: mean angular error. within_7_deg: share of the images, 0 to 1, with an error of at most 7 degrees.
    mean_error_without_offset_deg: mean angular error after the constant offset is taken off every prediction.
    pitch_offset_deg, yaw_offset_deg: that offset, the mean over these images of predicted minus true pitch and yaw.

    The offset is found with the labels of the very images that are scored. It tells how much of the error is constant
    (geometry that a refiner must not repair); it is a diagnosis, and no result that an unlabelled user could reach.
    """

    mean_error_deg: float
    within_7_deg: float
    mean_error_without_offset_deg: float
    pitch_offset_deg: float
    yaw_offset_deg: float
    n: int


def gaze_scores(predicted: ArrayLike, true: ArrayLike) -> GazeScores:
    """Score predicted against true gaze vectors, both [n, 3] of any length, n at least 1."""
    error = angular_error(predicted, true)
    if len(error) == 0:
        raise InputError("no gaze vectors came: there is nothing to score.")
    predicted_angles = vector_to_pitch_yaw(predicted)
    difference = predicted_angles - vector_to_pitch_yaw(true)
    difference = (difference + np.pi) % (2 * np.pi) - np.pi  # yaw 179 and -179 degrees are 2 apart
    offset = difference.mean(axis=0)
    centred = angular_error(pitch_yaw_to_vector(predicted_angles - offset), true)
    pitch_offset, yaw_offset = np.degrees(offset)
    return GazeScores(
        mean_error_deg=float(error.mean()),
        within_7_deg=float((error <= CLOSE_DEGREES).mean()),
        mean_error_without_offset_deg=float(centred.mean()),
        pitch_offset_deg=float(pitch_offset),
        yaw_offset_deg=float(yaw_offset),
        n=len(error),
    )


def cumulative_curve(error_degrees: ArrayLike) -> list[float]:
    """Shares, 0 to 1, of the errors that are at most 0, 1, ... 25 degrees (figure 7 of the paper)."""
    error = np.asarray(error_degrees, np.float64)
    if error.ndim != 1 or len(error) == 0:
        raise InputError(f"errors of shape {list(error.shape)} came: want at least one, as [n].")
    return [float((error <= degrees).mean()) for degrees in CURVE_DEGREES]


def _columns(values: ArrayLike, width: int, name: str) -> Floats:
    array = np.asarray(values, np.float64)
    if array.ndim != 2 or array.shape[1] != width:
        raise InputError(f"{name} is {list(array.shape)}: want [n, {width}].")
    return array


def _directions(vectors: ArrayLike, name: str) -> Floats:
    """The directions of finite [n, 3] vectors that are not zero, scaled to a largest coordinate of 1."""
    array = _columns(vectors, 3, name)
    bad = np.flatnonzero(~(np.isfinite(array).all(axis=1) & array.any(axis=1)))
    if len(bad):
        raise InputError(
            f"{name} vector {bad[0]} is {array[bad[0]].tolist()} ({len(bad)} of {len(array)} are like it): a gaze "
            "vector must be finite and not zero."
        )
    directions: Floats = array / np.abs(array).max(axis=1, keepdims=True)
    return directions
