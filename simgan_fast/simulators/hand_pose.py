"""Poses of the hand: joint angles within anatomical limits, drawn around named shapes.

Fingers are in the order of NYU's joints: little, ring, middle, index. Flexion is positive toward the palm.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simgan_fast.simulators.eye_domains import Floats

Bounds = tuple[tuple[float, float], ...]

# Degrees; docs/hand_simulator.md has the sources.
FLEXION_LIMITS: Bounds = ((-20.0, 90.0), (0.0, 110.0), (-5.0, 80.0))  # MCP, PIP, DIP
SPREAD_LIMIT = 20.0  # of a straight finger to either side; a finger bent by 90 degrees has none
THUMB_LIMITS: Bounds = ((-25.0, 60.0), (0.0, 65.0), (-10.0, 60.0), (-15.0, 80.0))
WRIST_LIMITS: Bounds = ((-60.0, 60.0), (-20.0, 30.0))
DIP_SHARE = 2 / 3  # of the flexion of the PIP joint: one tendon bends both (Lin, Wu and Huang 2000)
REST_SPREAD = np.array([-10.0, -4.0, 0.0, 5.0])  # of the four fingers side by side
WIDE_SPREAD = np.array([-14.0, -5.0, 2.0, 10.0])  # what "open" adds

# MCP and PIP flexion of the four fingers, share of WIDE_SPREAD, and the thumb's four angles.
SHAPES: dict[str, tuple[Any, ...]] = {
    "open": ((0, 0, 0, 0), (5, 5, 5, 5), 1.0, (50, 12, 5, 5)),
    "flat": ((5, 3, 3, 3), (6, 5, 5, 5), 0.0, (25, 10, 5, 5)),
    "relaxed": ((30, 26, 22, 18), (42, 38, 34, 28), 0.3, (30, 32, 15, 18)),
    "fist": ((80, 82, 82, 80), (98, 100, 100, 98), 0.0, (-6, 52, 35, 45)),
    "one": ((76, 78, 76, 4), (98, 100, 98, 5), 0.0, (-4, 52, 35, 42)),
    "two": ((76, 76, 2, 2), (98, 98, 4, 4), 0.7, (-12, 54, 35, 42)),
    "three": ((74, 4, 2, 2), (96, 6, 4, 4), 0.5, (-16, 56, 32, 38)),
    "four": ((4, 2, 2, 2), (5, 4, 4, 4), 0.7, (-16, 56, 32, 38)),
    "thumb up": ((80, 82, 82, 78), (98, 100, 100, 96), 0.0, (55, 8, 0, -5)),
    "ell": ((78, 80, 80, 2), (98, 100, 98, 4), 0.2, (55, 10, 2, 0)),
    "pinch": ((34, 32, 36, 48), (42, 40, 44, 52), 0.1, (8, 56, 18, 28)),
    "ring": ((6, 8, 14, 50), (10, 12, 20, 58), 0.6, (8, 56, 20, 30)),
    "claw": ((-5, -6, -6, -5), (72, 74, 74, 70), 0.6, (42, 30, 20, 45)),
    "beak": ((62, 62, 62, 60), (12, 12, 12, 12), 0.0, (6, 60, 8, 8)),
    "grip": ((46, 44, 42, 38), (54, 52, 50, 46), 0.2, (14, 56, 20, 22)),
    "horns": ((5, 78, 80, 3), (6, 98, 100, 4), 0.4, (-8, 54, 35, 42)),
    "call": ((4, 76, 80, 78), (6, 96, 100, 96), 0.7, (55, 10, 0, -5)),
}


@dataclass(frozen=True)
class Pose:
    """Degrees: `flexion` [n, 4, 3] of MCP, PIP and DIP joints, `spread` [n, 4] (positive toward the thumb), `thumb`
    [n, 4] (away from the index in the palm's plane, out of that plane, flexion of MCP and IP), `wrist` [n, 2]
    (flexion, deviation).
    """

    flexion: Floats
    spread: Floats
    thumb: Floats
    wrist: Floats


def draw_pose(
    rng: np.random.Generator,
    looseness: Floats,
    wrist: Floats,
    shapes: Sequence[str] = tuple(SHAPES),
) -> Pose:
    """n poses: each between two of `shapes`, mostly near the first, and varied around that.

    looseness: [n], the scale of the variation; wrist: [n, 2] degrees. Fingers vary together, the joints of a finger
    more so. What would leave the limits stays at them.
    """
    n = len(looseness)
    table = _table(shapes)
    first, second = rng.integers(len(table), size=(2, n))
    share = rng.beta(0.5, 1.2, (n, 1))
    mean = table[first] * (1 - share) + table[second] * share  # [n, 13]
    scale = looseness[:, None]
    bend = scale * (
        4 * rng.standard_normal((n, 1)) + 6 * rng.standard_normal((n, 4))
    )  # of a finger
    joint = scale[..., None] * 4 * rng.standard_normal((n, 4, 3))
    mcp = mean[:, 0:4] + bend + joint[..., 0]
    pip = mean[:, 4:8] + 1.2 * bend + joint[..., 1]
    pip = np.clip(pip, *FLEXION_LIMITS[1])
    flexion = np.stack([mcp, pip, DIP_SHARE * pip + joint[..., 2]], axis=-1)
    spread = mean[:, 8:9] * WIDE_SPREAD + scale * 3 * rng.standard_normal((n, 4))
    thumb = mean[:, 9:] + scale * 6 * rng.standard_normal((n, 4))
    return limited(Pose(flexion, spread, thumb, wrist))


def limited(pose: Pose) -> Pose:
    """The nearest pose within the limits."""
    low, high = np.array(FLEXION_LIMITS).T
    flexion = np.clip(pose.flexion, low, high)
    room = spread_limit(flexion)
    thumb = np.clip(pose.thumb, *np.array(THUMB_LIMITS).T)
    wrist = np.clip(pose.wrist, *np.array(WRIST_LIMITS).T)
    return Pose(flexion, np.clip(pose.spread, -room, room), thumb, wrist)


def spread_limit(flexion: Floats) -> Floats:
    """Degrees [n, 4] that a finger can go to either side: the collateral ligaments of a bent MCP joint are tight."""
    limit: Floats = SPREAD_LIMIT * np.clip(1 - flexion[..., 0] / 90, 0, 1)
    return limit


def _table(shapes: Sequence[str]) -> NDArray[np.float64]:
    """[shapes, 13]: MCP and PIP flexion of four fingers, share of the spread, four angles of the thumb."""
    rows = [
        [*mcp, *pip, spread, *thumb] for mcp, pip, spread, thumb in map(SHAPES.__getitem__, shapes)
    ]
    return np.array(rows, np.float64)
