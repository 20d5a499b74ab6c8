"""How far gaze directions are apart, and the scores made of that. Axes are those of `simgan_fast.gaze`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from simgan_fast.errors import InputError
from simgan_fast.gaze import Floats, directions, pitch_yaw_to_vector, vector_to_pitch_yaw

CLOSE_DEGREES = 7.0  # the threshold of the paper's table 2
CURVE_DEGREES = tuple(range(26))  # the abscissa of the paper's figure 7


def angular_error(predicted: ArrayLike, true: ArrayLike) -> Floats:
    """Angles [n] in degrees, 0 to 180, between gaze vectors [n, 3] of any length.

    atan2(|p x t|, p . t): exactly 0 for equal vectors and accurate near 0 and 180, where the clipped arc cosine is
    off by up to 1e-6 degrees (0.02 in float32). Raises InputError for a vector that is zero or not finite: it has no
    direction, and would otherwise count as a perfect prediction.

    >>> angular_error([[0, 0, -1]], [[0, -1, 0]])
    array([90.])
    """
    p, t = directions(predicted, "predicted"), directions(true, "true")
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
