"""The two families of hands, views and cameras that the simulator draws from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from simgan_fast.simulators.eye_domains import Range
from simgan_fast.simulators.hand_pose import SHAPES


@dataclass(frozen=True)
class HandDomain:
    """Ranges that a hand and its pose are drawn from, uniformly and independently; docs/hand_simulator.md says why.

    Angles are degrees. The defaults are the `plain` domain.
    """

    # the hand
    hand_length: Range = (165.0, 200.0)  # mm, crease of the wrist to the tip of the middle finger
    finger_length: Range = (0.94, 1.06)  # of all fingers, beside the hand's length
    single_length: Range = (0.97, 1.03)  # of each finger, beside the others
    thickness: Range = (0.88, 1.08)  # of all fingers
    palm_breadth: Range = (0.94, 1.08)
    palm_thickness: Range = (0.88, 1.1)
    forearm: Range = (0.14, 0.22)  # what is seen of it, in hand lengths
    # the pose, beside its shape
    looseness: Range = (0.6, 1.3)  # of the variation around a shape
    wrist_flexion: Range = (-35.0, 35.0)
    wrist_deviation: Range = (-12.0, 20.0)  # positive toward the little finger


@dataclass(frozen=True)
class ViewDomain:
    """Ranges that the cameras' places are drawn from, in the same way."""

    distance: Range = (650.0, 1100.0)  # mm, of the palm
    # about the hand's own axis, away from showing the palm, or the back
    turn: Range = (-45.0, 45.0)
    tilt: Range = (-25.0, 45.0)  # of the fingers toward the camera
    roll: Range = (-35.0, 35.0)  # in the picture
    place_x: Range = (0.15, 0.85)  # of the room that the picture leaves the hand
    place_y: Range = (0.15, 0.85)
    # the two other cameras
    side_angle: Range = (25.0, 50.0)  # to the left and to the right of the first one
    side_lift: Range = (-10.0, 10.0)  # above or below it
    side_distance: Range = (0.9, 1.15)  # times that of the first


PLAIN = HandDomain(), ViewDomain()
CAMERA = (
    replace(
        PLAIN[0],
        hand_length=(172.0, 208.0),
        finger_length=(0.93, 1.04),
        thickness=(0.95, 1.16),
        palm_thickness=(0.95, 1.18),
        looseness=(0.7, 1.6),
    ),
    replace(PLAIN[1], tilt=(-20.0, 50.0)),
)


@dataclass(frozen=True)
class PoseChoice:
    """Which of `SHAPES` hands are drawn around, the share that shows its back to the first camera, and other views."""

    shapes: tuple[str, ...] = tuple(SHAPES)
    backs: float = 0.1
    views: Mapping[str, Range] = field(default_factory=dict)


POSES = {
    "all": PoseChoice(),
    "open": PoseChoice(
        shapes=("open", "flat", "relaxed"),
        backs=0.0,
        views={"turn": (-20.0, 20.0), "tilt": (-15.0, 25.0), "roll": (-20.0, 20.0)},
    ),
}
DOMAINS = {"plain": PLAIN, "camera": CAMERA}
