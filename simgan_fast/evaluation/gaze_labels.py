"""Gaze labels under the names that data sets give them, as unit vectors."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

from simgan_fast.errors import InputError
from simgan_fast.gaze import pitch_yaw_to_vector

ANGLE_NAMES = (("pitch", "yaw"), ("pitch_rad", "yaw_rad"))


def gaze_of(labels: Mapping[str, ArrayLike], what: str = "the set") -> NDArray[np.float32]:
    """Unit gaze vectors [n, 3] of a labelled set, in MPIIGaze's camera axes.

    Args:
        labels: name -> array; `gaze` [n, 3] is used if it is there, else `pitch` and `yaw`, else `pitch_rad` and
            `yaw_rad`, each [n] or [n, 1] in radians.
        what: the set's name in an error.

    Raises:
        InputError: none of the three is there, or a label has another shape, is not finite, is a zero vector, or
            is an angle beyond pi (degrees, most likely).

    >>> gaze_of({"pitch": [[0.0]], "yaw": [[0.0]]})[0] + 0
    array([ 0.,  0., -1.], dtype=float32)
    """
    if "gaze" in labels:
        return _unit_vectors(labels["gaze"], what)
    for pitch, yaw in ANGLE_NAMES:
        if pitch in labels and yaw in labels:
            angles = [_angle(labels[name], name, what) for name in (pitch, yaw)]
            if len(angles[0]) != len(angles[1]):
                raise InputError(
                    f"{what} has {len(angles[0])} {pitch} and {len(angles[1])} {yaw} labels."
                )
            return pitch_yaw_to_vector(np.stack(angles, axis=1)).astype(np.float32)
    found = f"the labels {', '.join(sorted(labels))}" if labels else "no labels"
    raise InputError(
        f"{what} has {found}: gaze is read from 'gaze' (gaze.0, gaze.1, gaze.2 in a labels.csv), or from 'pitch' and "
        "'yaw', or 'pitch_rad' and 'yaw_rad', in radians."
    )


def _unit_vectors(values: ArrayLike, what: str) -> NDArray[np.float32]:
    vectors = np.asarray(values, np.float64)
    if vectors.ndim != 2 or vectors.shape[1] != 3:
        raise InputError(
            f"the label 'gaze' of {what} is {list(vectors.shape)}: want [n, 3], a vector per image."
        )
    _require_finite(vectors, "gaze", what)
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    if not length.all():
        raise InputError(
            f"the label 'gaze' of image {int(np.argmin(length))} of {what} is the zero vector."
        )
    unit: NDArray[np.float32] = (vectors / length).astype(np.float32)
    return unit


def _angle(values: ArrayLike, name: str, what: str) -> NDArray[np.float64]:
    angle = np.asarray(values, np.float64)
    if angle.ndim == 2 and angle.shape[1] == 1:
        angle = angle[:, 0]
    if angle.ndim != 1:
        raise InputError(
            f"the label {name!r} of {what} is {list(angle.shape)}: want one angle per image."
        )
    _require_finite(angle[:, None], name, what)
    if len(angle) and np.abs(angle).max() > np.pi:
        raise InputError(
            f"the label {name!r} of {what} reaches {np.abs(angle).max():.4g}: angles are wanted in radians, at most pi."
        )
    return angle


def _require_finite(values: NDArray[np.float64], name: str, what: str) -> None:
    bad = np.flatnonzero(~np.isfinite(values).all(axis=1))
    if len(bad):
        raise InputError(
            f"the label {name!r} of image {bad[0]} of {what} is {values[bad[0]].tolist()} ({len(bad)} of {len(values)} "
            "are not finite): mend the labels or leave those images out."
        )
