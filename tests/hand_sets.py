"""Depth images of hands for tests: a palm and five bent fingers of capsules before nothing, with 14 joints as NYU's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from simgan_fast import depth
from simgan_fast.data.packed_writer import PackedWriter
from simgan_fast.depth import JOINTS

BOX_SIDE = 190.0  # pixels of the camera's picture that a crop shows
CENTRE = 760.0  # mm: of the palm


@dataclass
class MemorySet:
    """A labelled set that is in memory."""

    images: torch.Tensor
    labels: Mapping[str, Any]

    def load(self) -> torch.Tensor:
        return self.images


def toy_hands(count: int, seed: int, side: int = 64, noise: float = 0.0) -> MemorySet:
    """`count` hands, `side` pixels wide, in the paper's encoding; `noise`: mm of deviation of each pixel with depth."""
    random = np.random.default_rng(seed)
    images = np.empty((count, 1, side, side), np.uint16)
    joints = np.empty((count, len(JOINTS), 3))
    for i in range(count):
        joints[i] = _joints(random)
        image = _drawn(joints[i], side)
        image[image > 0] += noise * random.standard_normal((image > 0).sum())
        images[i, 0] = depth.encode_paper(np.rint(image).astype(np.uint16))
    places = joints[..., :2] * side
    box = np.array([220.0, 150.0, 220.0 + BOX_SIDE, 150.0 + BOX_SIDE])
    whole = depth.crop_to_whole(places, box, (side, side))
    xyz = depth.uvd_to_xyz(np.concatenate([whole, joints[..., 2:]], axis=-1))
    labels = {
        "joints": places.reshape(count, -1),
        "joints_xyz": xyz.reshape(count, -1),
        "centre": np.full((count, 1), CENTRE),
        "box": np.broadcast_to(box, (count, 4)),
    }
    return MemorySet(
        torch.from_numpy(images), {name: np.float32(values) for name, values in labels.items()}
    )


def packed(folder: Path, hands: MemorySet) -> Path:
    """`hands` as a packed set in `folder`."""
    labels = {name: values.shape[1] for name, values in hands.labels.items()}
    shape = tuple(hands.images.shape[1:])
    with PackedWriter(folder, shape=shape, labels=labels, dtype="uint16") as writer:  # type: ignore[arg-type]
        names = [f"{n}.png" for n in range(len(hands.images))]
        writer.add(hands.images.numpy(), names, dict(hands.labels))
    return folder


def _joints(random: np.random.Generator) -> np.ndarray:
    """x, y in shares of the side, and depth in mm [14, 3], of one hand: tips and middles, thumb, wrist, palm."""
    turn = random.uniform(-0.35, 0.35)
    size = random.uniform(0.85, 1.05)
    points = []
    for finger, reach in enumerate((0.28, 0.35, 0.38, 0.35)):
        angle = -np.pi / 2 + (finger - 1.5) * random.uniform(0.22, 0.34) + random.normal(0, 0.05)
        bend = random.uniform(0.45, 1)
        way = np.array([np.cos(angle), np.sin(angle)])
        points += [[*(way * reach * bend), -60 * (1 - bend)], [*(way * reach * 0.6), 0.0]]
    angle = random.uniform(-0.5, 0.1)
    way = np.array([np.cos(angle), np.sin(angle)])
    points += [[*(way * r), -10.0] for r in (0.33, 0.24, 0.14)]
    points += [[-0.1, 0.28, 8.0], [0.08, 0.28, 8.0], [0.0, 0.0, 0.0]]
    found = np.array(points)
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    found[:, :2] = found[:, :2] @ rotation.T * size + 0.5 + random.uniform(-0.04, 0.04, 2)
    found[:, 2] += CENTRE
    return found


def _drawn(joints: np.ndarray, side: int) -> np.ndarray:
    """Depth [side, side] in mm, 0 where there is none, of capsules between the joints."""
    y, x = (np.mgrid[:side, :side] + 0.5) / side
    image = np.full((side, side), np.inf)
    palm = joints[13]
    bones = [(palm, joints[k + 1], 0.06) for k in (0, 2, 4, 6)]
    bones += [(joints[k + 1], joints[k], 0.04) for k in (0, 2, 4, 6)]
    bones += [(palm, joints[10], 0.08), (joints[10], joints[9], 0.05), (joints[9], joints[8], 0.04)]
    bones += [(palm, joints[11], 0.08), (palm, joints[12], 0.08)]
    for first, last, radius in bones:
        way = last[:2] - first[:2]
        share = np.clip(
            ((x - first[0]) * way[0] + (y - first[1]) * way[1]) / max(way @ way, 1e-9), 0, 1
        )
        far = np.hypot(x - first[0] - share * way[0], y - first[1] - share * way[1])
        surface = (
            first[2]
            + share * (last[2] - first[2])
            - 200 * np.sqrt(np.maximum(radius**2 - far**2, 0))
        )
        image = np.where(far < radius, np.minimum(image, surface), image)
    return np.where(np.isfinite(image), image, 0)
