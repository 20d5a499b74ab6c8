"""A posed hand: NYU's 36 joints, and its flesh as round cones.

The hand's axes: x from the little finger's side to the thumb's, y from the wrist to the middle finger, z out of the
palm; the origin is the middle of the wrist. A right hand with its palm to the viewer and fingers up has them to the
right, up and toward the viewer. Lengths are in hand lengths until the very end.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from simgan_fast.simulators.eye_domains import Floats, Traits
from simgan_fast.simulators.hand_pose import REST_SPREAD, Pose

FINGERS = ("F1", "F2", "F3", "F4")  # NYU's names of little, ring, middle, index
JOINT_NAMES = (
    *(f"{f}_KNU{k}_{end}" for f in (*FINGERS, "TH") for k in (3, 2, 1) for end in "AB"),
    *(f"PALM_{k}" for k in range(1, 7)),
)

# Bone lengths in hand lengths, after Buchholz, Armstrong and Goldstein (Ergonomics 1992).
PHALANGES = np.array(  # little, ring, middle, index: proximal, middle, distal
    [[0.204, 0.117, 0.093], [0.244, 0.165, 0.107], [0.266, 0.170, 0.108], [0.245, 0.143, 0.097]]
)
THUMB = np.array([0.251, 0.196, 0.158])  # metacarpal, proximal, distal
# Places and radii in hand lengths, by eye.
KNUCKLES = np.array(  # MCP joints
    [[-0.160, 0.385, 0.018], [-0.062, 0.425, 0.002], [0.040, 0.448, -0.006], [0.140, 0.440, 0.0]]
)
CARPUS = np.array(  # where the metacarpals begin
    [[-0.075, 0.045, 0.0], [-0.03, 0.05, -0.004], [0.015, 0.05, -0.004], [0.06, 0.045, 0.0]]
)
THUMB_BASE = np.array([0.105, 0.085, 0.045])
RADII = np.array(  # of a finger at MCP, PIP and DIP joint and at the tip
    [
        [0.050, 0.044, 0.039, 0.034],
        [0.056, 0.050, 0.044, 0.038],
        [0.058, 0.052, 0.046, 0.040],
        [0.058, 0.051, 0.045, 0.039],
    ]
)
THUMB_RADII = np.array([0.080, 0.062, 0.056, 0.043])
PALM_RADIUS, HEEL_RADIUS, WEB_RADIUS = 0.074, 0.080, 0.046
WRIST_RADIUS, ARM_RADIUS = 0.088, 0.098
ARM_CONES = 3
REST_OF_ARM = 1.2  # hand lengths: to the elbow
BLEND = 0.03  # of palm, heels and knuckles into each other


@dataclass(frozen=True)
class Hand:
    """n hands in mm in their own axes: `joints` [n, 36, 3]; `ends` [n, k, 2, 3] and `radii` [n, k, 2] of the round
    cones, and how far each melts into those before it, `blend` [n, k]. `arm_ends` and `arm_radii`, the same of m cones:
    the rest of the forearm, which renderings of NYU's leave out and cameras see.
    """

    joints: Floats
    ends: Floats
    radii: Floats
    blend: Floats
    arm_ends: Floats
    arm_radii: Floats


def build_hand(traits: Traits, lengths: Floats, pose: Pose) -> Hand:
    """The hands of `traits` (each [n, 1, 1]) in `pose`; lengths: [n, 5], of each finger beside the others."""
    n = len(lengths)
    grown = traits["finger_length"] * lengths[..., None]  # [n, 5, 1]
    broad = np.concatenate([traits["palm_breadth"], np.ones((n, 1, 2))], axis=2)  # [n, 1, 3]
    knuckles, carpus = KNUCKLES * broad, CARPUS * broad
    fingers = _fingers(knuckles, PHALANGES * grown[:, :4], pose)  # [n, 4, 4, 3]
    thumb = _thumb(THUMB_BASE * broad[:, 0], THUMB * grown[:, 4], pose)  # [n, 4, 3]
    thick, deep = traits["thickness"], traits["palm_thickness"]
    finger_radii, thumb_radii = RADII * thick, THUMB_RADII * thick[:, 0]
    tips = _tips(fingers, finger_radii), _tips(thumb[:, None], thumb_radii[:, None])[:, 0]
    flesh = _Flesh(n)
    _add_arm(flesh, carpus, pose, deep, traits["forearm"])
    _add_palm(flesh, knuckles, carpus, thumb, deep)
    for chain, radii in [(tips[0][:, i], finger_radii[:, i]) for i in range(4)]:
        flesh.chain(chain, radii)
    flesh.chain(tips[1], thumb_radii)
    joints = _joints(tips[0], tips[1], knuckles)
    mm = traits["hand_length"]
    ends, radii, blend = flesh.arrays()
    ends, radii = ends * mm[..., None], radii * mm
    return Hand(joints * mm, ends, radii, blend * mm[:, 0], *_rest_of_arm(ends, radii, mm))


def _fingers(knuckles: Floats, lengths: Floats, pose: Pose) -> Floats:
    """MCP, PIP and DIP joint and end of each finger, [n, 4, 4, 3]."""
    side = np.radians(REST_SPREAD * np.clip(1 - pose.flexion[..., 0] / 90, 0, 1) + pose.spread)
    bend = np.radians(np.cumsum(pose.flexion, axis=-1))  # [n, 4, 3]
    ahead = np.stack([np.sin(side), np.cos(side), np.zeros_like(side)], axis=-1)[..., None, :]
    bones = lengths[..., None] * (np.cos(bend)[..., None] * ahead)
    bones[..., 2] += lengths * np.sin(bend)
    return _chain(knuckles, bones)


def _thumb(base: Floats, lengths: Floats, pose: Pose) -> Floats:
    """CMC, MCP and IP joint and end of the thumb, [n, 4, 3]."""
    away, out, mcp, ip = np.radians(np.moveaxis(pose.thumb, -1, 0))
    first = np.stack([np.cos(out) * np.sin(away), np.cos(out) * np.cos(away), np.sin(out)], axis=-1)
    toward = np.array([-1.0, 0.1, 0.3])  # where the thumb bends to: across the palm
    toward = toward - (first @ toward)[:, None] * first
    toward /= np.linalg.norm(toward, axis=-1, keepdims=True)
    bend = np.stack([np.zeros_like(mcp), mcp, mcp + ip], axis=-1)[..., None]  # [n, 3, 1]
    bones = np.cos(bend) * first[:, None] + np.sin(bend) * toward[:, None]
    return _chain(base, lengths[..., None] * bones)


def _chain(start: Floats, bones: Floats) -> Floats:
    """Joints [..., k + 1, 3] of bones [..., k, 3] that begin at `start` [..., 3]."""
    joints: Floats = start[..., None, :] + np.pad(
        np.cumsum(bones, axis=-2), [(0, 0)] * (bones.ndim - 2) + [(1, 0), (0, 0)]
    )
    return joints


def _tips(chains: Floats, radii: Floats) -> Floats:
    """`chains` [n, m, 4, 3] with their last point drawn back by the radius there, to the middle of the round tip."""
    last = chains[..., 3, :] - chains[..., 2, :]
    unit = last / np.linalg.norm(last, axis=-1, keepdims=True)
    drawn: Floats = chains.copy()
    drawn[..., 3, :] -= radii[..., 3, None] * unit
    return drawn


class _Flesh:
    """Collects round cones of n hands."""

    def __init__(self, n: int) -> None:
        self.n = n
        self._cones: list[tuple[Floats, Floats]] = []
        self._blend: list[float] = []

    def cone(
        self, start: Floats, end: Floats, first: Floats, last: Floats, blend: float = BLEND
    ) -> None:
        """From `start` to `end`, [n, 3] or [3], with radii [n] or of one number."""
        ends = np.stack([np.broadcast_to(p, (self.n, 3)) for p in (start, end)], axis=1)
        radii = np.stack([np.broadcast_to(r, (self.n,)) for r in (first, last)], axis=1)
        self._cones.append((ends, radii))
        self._blend.append(blend)

    def chain(self, joints: Floats, radii: Floats) -> None:
        """Three bones in a row, of which the first melts into what is there already."""
        for i in range(3):
            last = radii[:, i], radii[:, i + 1]
            self.cone(joints[:, i], joints[:, i + 1], *last, blend=0.0 if i else BLEND)

    def arrays(self) -> tuple[Floats, Floats, Floats]:
        ends, radii = (np.stack(parts, axis=1) for parts in zip(*self._cones, strict=True))
        return ends, radii, np.broadcast_to(np.array(self._blend), radii.shape[:2])


def _add_arm(flesh: _Flesh, carpus: Floats, pose: Pose, deep: Floats, length: Floats) -> None:
    """Wrist and what is seen of the forearm: two cones side by side, for an oval section, and one between them."""
    flexion, deviation = np.radians(pose.wrist).T
    back = (
        np.stack(
            [np.sin(deviation), -np.cos(deviation) * np.cos(flexion), np.sin(flexion)], axis=-1
        )
        * length[:, 0]
    )
    across = np.stack(
        [np.cos(deviation), np.sin(deviation) * np.cos(flexion), np.zeros_like(flexion)], axis=-1
    )
    wrist, arm = (radius * deep[:, 0, 0] for radius in (WRIST_RADIUS, ARM_RADIUS))
    for side in (-0.06, 0.0, 0.06):  # ARM_CONES
        start = np.array([0.0, 0.01, 0.0]) + side * across
        flesh.cone(start, start * [1.15, 1, 1] + back, wrist, arm)
    flesh.cone(carpus[:, 0], carpus[:, 3], wrist, wrist)


def _rest_of_arm(ends: Floats, radii: Floats, mm: Floats) -> tuple[Floats, Floats]:
    """Ends and radii of the forearm's cones beyond what `_add_arm` made, which are the first."""
    start, end = np.moveaxis(ends[:, :ARM_CONES], 2, 0)
    way = (end - start) / np.linalg.norm(end - start, axis=-1, keepdims=True)
    last = radii[:, :ARM_CONES, 1]
    return np.stack([end, end + REST_OF_ARM * mm * way], axis=2), np.stack([last, last], axis=2)


def _add_palm(flesh: _Flesh, knuckles: Floats, carpus: Floats, thumb: Floats, deep: Floats) -> None:
    """Metacarpals, the heels of thumb and little finger, and the webs between knuckles and beside the thumb."""
    palm, heel, web = (r * deep[:, 0, 0] for r in (PALM_RADIUS, HEEL_RADIUS, WEB_RADIUS))
    for i in range(4):
        flesh.cone(carpus[:, i], knuckles[:, i], palm, palm * 0.86)
    for i in range(3):
        flesh.cone(knuckles[:, i], knuckles[:, i + 1], web, web)
    lift = np.array([0.0, 0.0, 0.022])
    little = knuckles[:, 0]
    flesh.cone(carpus[:, 0] + lift, 0.3 * carpus[:, 0] + 0.7 * little + lift, heel, palm * 0.85)
    middle = (thumb[:, 0] + thumb[:, 1]) / 2
    flesh.cone(middle, carpus[:, 2] + np.array([0.03, 0.11, 0.02]), heel, palm)
    index = 0.35 * carpus[:, 3] + 0.65 * knuckles[:, 3]
    flesh.cone(0.3 * thumb[:, 0] + 0.7 * thumb[:, 1], index, web * 1.1, web * 1.2)


def _joints(fingers: Floats, thumb: Floats, knuckles: Floats) -> Floats:
    """NYU's 36: of each phalanx, from the tip on, the middle (of the last its tip) and the joint it begins at."""
    n = len(thumb)
    chains = np.concatenate([fingers, thumb[:, None]], axis=1)  # [n, 5, 4, 3]
    starts, ends = chains[:, :, :3], chains[:, :, 1:]
    middles = (starts + ends) / 2
    middles[:, :, 2] = ends[:, :, 2]
    bones = np.stack([middles, starts], axis=3)[:, :, ::-1]  # [n, 5, 3, 2, 3]
    breadth = knuckles[:, 3, :1] / KNUCKLES[3, 0]  # [n, 1]
    palm = np.array(
        [
            [-0.085, -0.08, 0.0],  # the wrist, little finger's side
            [0.085, -0.08, 0.0],  # the wrist, thumb's side
            [0.0, 0.28, 0.0],  # the middle of the palm
            [0.08, 0.12, 0.02],  # the heel of the thumb
            [-0.09, 0.12, 0.01],  # the heel of the little finger
            [0.0, 0.06, 0.0],  # the carpus
        ]
    )
    rest = np.broadcast_to(palm, (n, 6, 3)).copy()
    rest[..., 0] *= breadth
    return np.concatenate([bones.reshape(n, 30, 3), rest], axis=1)
