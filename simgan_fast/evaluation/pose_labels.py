"""Depth images of hands with their joints, as pose evaluation takes them out of a set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from simgan_fast.depth import HALF, NEAREST, crop_to_whole, uvd_to_xyz
from simgan_fast.errors import InputError
from simgan_fast.evaluation.gaze_training import LabelledSet

Floats = NDArray[np.float64]

# In the order of `joints` in the readers of hands.
JOINT_NAMES = (
    "little tip", "little middle", "ring tip", "ring middle", "middle tip", "middle middle", "index tip",
    "index middle", "thumb tip", "thumb middle", "thumb root", "wrist, little's side", "wrist, thumb's side", "palm",
)  # fmt: skip


@dataclass(frozen=True)
class Hands:
    """n images of hands and what is known of their j joints.

    `images`: uint16 [n, c, h, w], encoded for training. `joints`: float32 [n, j, 2], x and y in pixels of the image.
    `depths`: [n, j], mm from the camera, and `boxes`: [n, 4], left, top, right and bottom of the image in the camera's
    picture; both None where the set does not tell. `background`: what stands for "no depth", in [-1, 1]. `left_out`:
    images that were left out because all their pixels are alike.
    """

    images: Tensor
    joints: Tensor
    depths: Floats | None
    boxes: Floats | None
    background: float
    left_out: int

    @property
    def inside(self) -> NDArray[np.bool_]:
        """[n, j]: which joints lie in the image."""
        return _inside(self.joints.numpy(), self.images.shape)

    def millimetres(self, joints: Floats) -> Floats | None:
        """Points [n, j, 3] in mm of positions [n, j, 2] in the images' pixels, by NYU's camera and the true depths."""
        if self.depths is None or self.boxes is None:
            return None
        height, width = self.images.shape[2:]
        whole = crop_to_whole(joints, self.boxes[:, None], (height, width))
        return uvd_to_xyz(np.concatenate([whole, self.depths[..., None]], axis=-1))


def hands_of(labelled: LabelledSet, what: str = "the set") -> Hands:
    """The hands of a set with the labels `joints` and, for millimetres, `joints_xyz` and `box`, as nyu-hands has them.

    Images of which all pixels are alike (all background) are left out and counted.

    `what` is the set's name in an InputError: images that are not 16-bit, not encoded for training, or none; no joints,
    joints that are not finite, for the most part outside of the images, behind the camera, or in metres.
    """
    images, labels = labelled.load(), labelled.labels
    if images.ndim != 4 or images.dtype != torch.uint16:
        raise InputError(
            f"images of {what} are {images.dtype} {list(images.shape)}: want 16-bit depth, uint16 [n, c, h, w], as "
            "8 bits do not hold it; prepare the set from depth in millimetres."
        )
    joints = _joints(labels, len(images), what)
    depths, boxes = _depths(labels, joints.shape[1], what), labels.get("box")
    kept = _not_flat(images)
    if not kept.any():
        raise InputError(f"{what} has no hands: want at least one image with depth in it.")
    inside = _inside(joints[kept], images.shape)
    if inside.mean() < 0.5:
        raise InputError(
            f"{inside.mean():.0%} of the joints of {what} lie inside of its images of {images.shape[2]}x"
            f"{images.shape[3]}: the label 'joints' is x and y in pixels of the image, not of the camera's whole one."
        )
    pixels = torch.from_numpy(images.numpy()[kept])
    return Hands(
        pixels,
        torch.from_numpy(joints[kept].astype(np.float32)),
        None if depths is None else depths[kept],
        None if boxes is None else np.asarray(boxes, np.float64)[kept],
        _background(pixels, what),
        int((~kept).sum()),
    )


def joint_names(count: int) -> tuple[str, ...]:
    """The names of `count` joints: those of NYU's 14, or numbers.

    >>> joint_names(14)[13], joint_names(2)
    ('palm', ('joint 0', 'joint 1'))
    """
    if count == len(JOINT_NAMES):
        return JOINT_NAMES
    return tuple(f"joint {number}" for number in range(count))


def _joints(labels: Mapping[str, NDArray[Any]], count: int, what: str) -> Floats:
    if "joints" not in labels:
        found = f"the labels {', '.join(sorted(labels))}" if labels else "no labels"
        raise InputError(
            f"{what} has {found}: pose is read from 'joints', x and y in pixels of each joint."
        )
    joints = np.asarray(labels["joints"], np.float64)
    if joints.ndim != 2 or len(joints) != count or joints.shape[1] % 2 or not joints.shape[1]:
        raise InputError(
            f"the label 'joints' of {what} is {list(joints.shape)}: want [{count}, 2 x joints], x0, y0, x1, y1, ..."
        )
    _require(np.asarray(np.isfinite(joints).all(axis=1)), "has joints that are no numbers", what)
    return joints.reshape(count, -1, 2)


def _depths(labels: Mapping[str, NDArray[Any]], joints: int, what: str) -> Floats | None:
    """[n, joints] in mm, out of `joints_xyz`."""
    if "joints_xyz" not in labels:
        return None
    xyz = np.asarray(labels["joints_xyz"], np.float64)
    if xyz.ndim != 2 or xyz.shape[1] != 3 * joints:
        raise InputError(
            f"the label 'joints_xyz' of {what} is {list(xyz.shape)}: want x, y, z of {joints} joints for each image."
        )
    depths: Floats = xyz[:, 2::3]
    _require(
        np.asarray((depths > 0).all(axis=1)),
        "has joints behind the camera, or that are no numbers",
        what,
    )
    if len(depths) and np.median(depths) < NEAREST:
        raise InputError(
            f"the joints of {what} are at a depth of {np.median(depths):.3g} by 'joints_xyz': that seems to be metres; "
            "want millimetres."
        )
    return depths


def _require(good: NDArray[np.bool_], problem: str, what: str) -> None:
    bad = np.flatnonzero(~good)
    if len(bad):
        raise InputError(
            f"image {bad[0]} of {what} {problem} ({len(bad)} of {len(good)} images): leave those images out."
        )


def _not_flat(images: Tensor) -> NDArray[np.bool_]:
    flat = images.numpy().reshape(len(images), -1)
    return np.array([row.min() != row.max() for row in flat], bool)


def _inside(joints: NDArray[Any], shape: torch.Size) -> NDArray[np.bool_]:
    """[n, j] of positions [n, j, 2] in images of `shape`."""
    sides = np.array([shape[3], shape[2]])
    inside: NDArray[np.bool_] = np.asarray(((joints >= -0.5) & (joints < sides - 0.5)).all(axis=-1))
    return inside


def _background(images: Tensor, what: str) -> float:
    """What most pixels along the borders are, in [-1, 1]: their median."""
    pixels = images.numpy()
    edges = [pixels[:, :, 0], pixels[:, :, -1], pixels[:, :, :, 0], pixels[:, :, :, -1]]
    value = float(np.median(np.concatenate([edge.reshape(-1) for edge in edges])))
    if value == 0:
        raise InputError(
            f"images of {what} have 0 around the hands: plain millimetres are not for training; prepare them with "
            "values 'paper' or 'metric' (simgan_fast.depth.encode_paper, encode_metric)."
        )
    return value / HALF - 1
