"""Where the three cameras are around a hand."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from simgan_fast.depth import FX, FY, HEIGHT, U0, V0, WIDTH
from simgan_fast.simulators.eye_domains import Floats, draw_traits
from simgan_fast.simulators.hand_domains import ViewDomain
from simgan_fast.simulators.hand_skeleton import Hand

PALM = 32  # of the 36 joints: what the cameras look at
MARGIN = 14.0  # pixels between hand and border
TO_CAMERA = np.diag([1.0, -1.0, -1.0])  # from x right, y up, z toward the viewer to y down, z away


@dataclass(frozen=True)
class Camera:
    """n hands before a camera: rotations [n, 3, 3] and places [n, 3] in mm, x right, y down, z away."""

    rotation: Floats
    place: Floats

    def see(self, points: Floats) -> Floats:
        """Points [n, ..., 3] of the hands' axes in the camera's."""
        turned = np.einsum("nij,n...j->n...i", self.rotation, points)
        seen: Floats = turned + self.place.reshape(-1, *(1,) * (points.ndim - 2), 3)
        return seen


def three_cameras(
    domain: ViewDomain, hand: Hand, rng: np.random.Generator, backs: float
) -> list[Camera]:
    """The camera in front, and one to the left and one to the right of it; each has the whole hand in its picture.

    backs: share of the hands that show their back to the first.
    """
    n = len(hand.joints)
    drawn = draw_traits(domain, rng, 3 * n)
    traits = {name: values.reshape(3, n).astype(np.float64) for name, values in drawn.items()}
    turn = traits["turn"][0] + np.where(rng.random(n) < backs, 180.0, 0.0)
    front = _about(2, traits["roll"][0]) @ _about(0, traits["tilt"][0]) @ _about(1, turn)
    cameras = []
    for k, side in enumerate((0, 1, -1)):
        angle, lift = side * traits["side_angle"][k], abs(side) * traits["side_lift"][k]
        rotation = TO_CAMERA @ _about(0, lift) @ _about(1, angle) @ front
        distance = traits["distance"][0] * (traits["side_distance"][k] if side else 1)
        room = traits["place_x"][k], traits["place_y"][k]
        cameras.append(Camera(rotation, _place(rotation, hand, distance, room)))
    return cameras


def _about(axis: int, degrees: Floats) -> Floats:
    """Rotations [n, 3, 3] about a coordinate axis."""
    first, second = (axis + 1) % 3, (axis + 2) % 3
    turned = np.zeros((len(degrees), 3, 3))
    turned[:, axis, axis] = 1
    turned[:, first, first] = turned[:, second, second] = np.cos(np.radians(degrees))
    turned[:, second, first] = np.sin(np.radians(degrees))
    turned[:, first, second] = -turned[:, second, first]
    return turned


def _place(rotation: Floats, hand: Hand, distance: Floats, room: tuple[Floats, Floats]) -> Floats:
    """Where the hands' origin is, [n, 3], so that the palm has this distance, and the hand these shares of the room
    that the picture leaves it.
    """
    palm = np.einsum("nij,nj->ni", rotation, hand.joints[:, PALM])
    ahead = np.stack([0 * distance, 0 * distance, distance], axis=-1) - palm
    points = Camera(rotation, ahead).see(hand.ends)  # the palm on the camera's axis
    place: Floats = ahead.copy()
    for axis, (focal, middle, pixels) in enumerate(((FX, U0, WIDTH), (FY, V0, HEIGHT))):
        radius = hand.radii * focal / points[..., 2]
        seen = points[..., axis] * focal / points[..., 2] + middle
        low = MARGIN - (seen - radius).min((1, 2))
        high = pixels - MARGIN - (seen + radius).max((1, 2))
        place[:, axis] += (low + (high - low) * room[axis]) * distance / focal
    return place
