"""Gaze directions: axes, angles, and the conversions between them, for all of the package.

Axes are those of MPIIGaze's normalised camera (Zhang et al. 2015): x right, y down, z away from the camera. Gaze points
from the eye to what it looks at, so z is negative for a subject who looks toward the camera.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from simgan_fast.errors import InputError

Floats = NDArray[np.float64]


def pitch_yaw_to_vector(pitch_yaw: ArrayLike) -> Floats:
    """Unit gaze vectors [n, 3] of (pitch, yaw) [n, 2] in radians.

    Pitch is positive upward, yaw positive toward the image's left (x < 0).

    >>> pitch_yaw_to_vector([[0.0, 0.0]])[0] + 0.0
    array([ 0.,  0., -1.])
    """
    pitch, yaw = columns(pitch_yaw, 2, "pitch_yaw").T
    return np.stack(
        [-np.cos(pitch) * np.sin(yaw), -np.sin(pitch), -np.cos(pitch) * np.cos(yaw)], axis=1
    )


def vector_to_pitch_yaw(vectors: ArrayLike) -> Floats:
    """(pitch, yaw) [n, 2] in radians of gaze vectors [n, 3] of any length.

    MPIIGaze's pitch = asin(-y) and yaw = atan2(-x, -z) for unit vectors. Raises InputError for a vector without a
    direction.
    """
    x, y, z = directions(vectors, "vectors").T
    return np.stack([np.arctan2(-y, np.hypot(x, z)), np.arctan2(-x, -z)], axis=1)


def look_vec_to_vector(look_vec: ArrayLike) -> Floats:
    """Unit gaze vectors [n, 3] of UnityEyes' look_vec [n, 3], which has y up; InputError for one without a direction.

    >>> look_vec_to_vector([[0.0, 3.0, -4.0]])[0]
    array([ 0. , -0.6, -0.8])
    """
    return unit_vectors(columns(look_vec, 3, "look_vec") * [1, -1, 1])


def unit_vectors(vectors: ArrayLike) -> Floats:
    """Vectors [n, 3] scaled to length 1; InputError for one without a direction."""
    scaled = directions(vectors, "gaze")
    unit: Floats = scaled / np.linalg.norm(scaled, axis=1, keepdims=True)
    return unit


def columns(values: ArrayLike, width: int, name: str) -> Floats:
    """`values` as [n, width]; InputError otherwise, with `name`."""
    array = np.asarray(values, np.float64)
    if array.ndim != 2 or array.shape[1] != width:
        raise InputError(f"{name} is {list(array.shape)}: want [n, {width}].")
    return array


def directions(vectors: ArrayLike, name: str) -> Floats:
    """The directions of finite [n, 3] vectors that are not zero, scaled to a largest coordinate of 1."""
    array = columns(vectors, 3, name)
    bad = np.flatnonzero(~(np.isfinite(array).all(axis=1) & array.any(axis=1)))
    if len(bad):
        raise InputError(
            f"{name} vector {bad[0]} is {array[bad[0]].tolist()} ({len(bad)} of {len(array)} are like it): a gaze "
            "vector must be finite and not zero."
        )
    directions: Floats = array / np.abs(array).max(axis=1, keepdims=True)
    return directions
