"""Where everything is: gaze, head, eyeball and lid curves, in millimetres and in pixels.

Camera axes are x right, y down, z away from the camera. The head frame has its origin midway
between the eye's corners; a head with pitch = yaw = 0 faces the camera. Projection is orthographic:
the normalised camera of MPIIGaze stands 600 mm away, so perspective within an eye is under 2 %.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from simgan_fast.simulators.eye_domains import Floats, Traits

VIEW_MM = (22.5, 37.5)  # height, width of MPIIGaze's normalised view: 36x60 pixels at 1.6 per mm
LID_THICKNESS = 0.8
EYELID_POINTS = 8  # for each lid, corners included
_CURVE_POINTS = 49
_CURVE_END = 1.8  # curves run on past the corners (at -1 and 1) for creases and folds
_MIN_OPENING = 1.6  # mm between the lids, so that the label can be seen


@dataclass(frozen=True)
class Curve:
    """One line on the face, known at every pixel column of the picture."""

    y: Floats  # [n, 1, w] mm, image plane
    across: Floats  # [n, 1, w] cosine of the slope: turns a vertical into a perpendicular distance


@dataclass(frozen=True)
class Eye:
    """Placed eyes: all that shading and labels need, in mm from the middle of the picture."""

    gaze: Floats  # [n, 3] unit line of sight, the label
    axis: Floats  # [n, 3, 1, 1] unit optical axis of the eyeball
    to_head: Floats  # [n, 3, 3] camera -> head
    ball: Floats  # [n, 3, 1, 1] eyeball centre
    iris: Floats  # [n, 3, 1, 1] iris centre
    upper: Curve
    lower: Curve
    crease: Curve
    fold: Curve
    along: Floats  # [n, 1, w] -1 at the nasal corner, 1 at the temporal one
    lid_angle: Floats  # [n, 1, 1] radians of the upper lid's margin above the eyeball's equator
    lid_points: Floats  # [n, 2, 2 * EYELID_POINTS] x and y, upper then lower


def direction(pitch: Floats, yaw: Floats) -> Floats:
    """Unit vectors [n, 3] from pitch and yaw in radians [n], MPIIGaze's convention.

    pitch = asin(-y), yaw = atan2(-x, -z), so (0, 0) looks at the camera: (0, 0, -1).
    """
    return np.stack(
        [-np.cos(pitch) * np.sin(yaw), -np.sin(pitch), -np.cos(pitch) * np.cos(yaw)], axis=1
    )


def angles(vectors: Floats) -> tuple[Floats, Floats]:
    """Pitch and yaw in radians [n] of unit vectors [n, 3]; the inverse of `direction`."""
    return np.arcsin(-vectors[:, 1]), np.arctan2(-vectors[:, 0], -vectors[:, 2])


def pixel_pitch(size: tuple[int, int]) -> float:
    """Millimetres per pixel: square pixels, and the picture shows no less than `VIEW_MM`."""
    return max(VIEW_MM[0] / size[0], VIEW_MM[1] / size[1])


def _rotation(pitch: Floats, yaw: Floats, roll: Floats) -> Floats:
    """Head-to-camera rotations [n, 3, 3]: about x, then y, then the camera's axis."""
    zero, one = np.zeros_like(pitch), np.ones_like(pitch)
    cp, sp, cy, sy = np.cos(pitch), np.sin(pitch), np.cos(yaw), np.sin(yaw)
    cr, sr = np.cos(roll), np.sin(roll)
    about_x = np.stack([one, zero, zero, zero, cp, sp, zero, -sp, cp], 1).reshape(-1, 3, 3)
    about_y = np.stack([cy, zero, sy, zero, one, zero, -sy, zero, cy], 1).reshape(-1, 3, 3)
    about_z = np.stack([cr, -sr, zero, sr, cr, zero, zero, zero, one], 1).reshape(-1, 3, 3)
    rotation: Floats = about_z @ about_y @ about_x
    return rotation


def _head(traits: Traits, pitch: Floats, yaw: Floats) -> Floats:
    """Head rotations [n, 3, 3]: a share of the gaze and a spread, within the eye's reach."""
    share = traits["head_share"][:, 0, 0]
    head_pitch = share * pitch + np.radians(traits["head_pitch"][:, 0, 0])
    head_yaw = share * yaw + np.radians(traits["head_yaw"][:, 0, 0])
    head_pitch = np.clip(head_pitch, pitch - np.radians(18.0), pitch + np.radians(26.0))
    head_yaw = np.clip(head_yaw, yaw - np.radians(28.0), yaw + np.radians(28.0))
    return _rotation(
        head_pitch.astype(np.float32),
        head_yaw.astype(np.float32),
        np.radians(traits["head_roll"][:, 0, 0]),
    )


def _lid_angles(traits: Traits, pitch: Floats) -> tuple[Floats, Floats]:
    """Angles [n, 1, 1] of the lid margins from the eyeball's equator; both lids follow the pitch.

    At rest the margins stand `upper_open` and `lower_open` mm from the pupil's centre.
    """
    radius = traits["eye_radius"] + LID_THICKNESS
    upper = np.arcsin(traits["upper_open"] / radius) + traits["upper_follow"] * pitch
    lower = np.arcsin(traits["lower_open"] / radius) - traits["lower_follow"] * pitch
    upper = np.maximum(upper, _MIN_OPENING / radius - lower)
    return upper, lower


def _arch(t: Floats, peak: Floats, power: Floats, duct: Floats) -> Floats:
    """Shape [n, 1, k] of a lid: 0 at the corners, 1 at its peak, pinched at the nasal tear duct."""
    inside = np.clip(t, -1.0, 1.0)
    skewed = inside - peak * (1.0 - inside * inside)
    arch: Floats = 1.0 - np.abs(skewed) ** power
    arch *= 1.0 - duct * np.exp((-1.0 - inside) / 0.16)
    return arch


def _face_depth(x: Floats, y: Floats, traits: Traits) -> Floats:
    """Depth (mm, head frame) of lids and skin: a bowl that touches the eyeball at its front."""
    radius = traits["eye_radius"] + LID_THICKNESS
    off_axis = (x - traits["eye_x"]) ** 2 + (y - traits["eye_y"]) ** 2
    depth: Floats = traits["eye_depth"] - radius + np.minimum(off_axis, 350.0) / (2.0 * radius)
    return depth


def _framed(camera: Floats, traits: Traits) -> Floats:
    """Image-plane x and y [n, 2, k] of camera points [n, 3, k] after zoom and shift."""
    shift = np.concatenate([traits["shift_x"], traits["shift_y"]], axis=1)
    framed: Floats = camera[:, :2] * traits["zoom"] + shift
    return framed


def _at_columns(points: Floats, values: Floats, columns: Floats) -> Floats:
    """Interpolate values [n, 1, k] given at rising x positions [n, k] at columns [w]: [n, 1, w]."""
    right = (points[:, :, None] <= columns).sum(1).clip(1, points.shape[1] - 1)  # [n, w]
    x0 = np.take_along_axis(points, right - 1, 1)
    x1 = np.take_along_axis(points, right, 1)
    y0 = np.take_along_axis(values[:, 0], right - 1, 1)
    y1 = np.take_along_axis(values[:, 0], right, 1)
    between: Floats = y0 + (y1 - y0) * (columns - x0) / (x1 - x0)
    return between[:, None]


class _Face:
    """The head frame of each image, and how lines on it come into the picture."""

    def __init__(self, traits: Traits, rotation: Floats, columns: Floats) -> None:
        self.traits, self.rotation, self.columns = traits, rotation, columns

    def project(self, x: Floats, y: Floats) -> Floats:
        """Points [n, 1, k] on the face to the image plane: [n, 2, k]."""
        head = np.concatenate([x, y, _face_depth(x, y, self.traits)], axis=1)
        return _framed(self.rotation @ head, self.traits)

    def curve(self, x: Floats, y: Floats) -> Curve:
        """A line on the face, at every column."""
        points = self.project(x, y)
        height = _at_columns(points[:, 0], points[:, 1:], self.columns)
        slope = np.gradient(height, self.columns, axis=2)
        return Curve(height, 1.0 / np.sqrt(1.0 + slope * slope))


def _lid_lines(traits: Traits, t: Floats, upper: Floats, lower: Floats) -> tuple[Floats, ...]:
    """Head-frame x and both lids' y [n, 1, k] at lid parameter t (-1 nasal corner, 1 temporal)."""
    x = 0.5 * traits["fissure_width"] * t
    corners = -0.5 * traits["canthal_tilt"] * t + 0.9 * np.maximum(np.abs(t) - 1.0, 0.0) ** 2
    radius = traits["eye_radius"] + LID_THICKNESS
    top = traits["eye_y"] - radius * np.sin(upper)
    bottom = traits["eye_y"] + radius * np.sin(lower)
    upper_arch = _arch(t, traits["upper_peak"], traits["upper_round"], traits["duct"])
    lower_arch = _arch(t, traits["lower_peak"], traits["lower_round"], traits["duct"])
    y_upper = corners + top * upper_arch
    y_lower = corners + bottom * lower_arch
    return x, np.minimum(y_upper, y_lower), y_lower


def build_eye(traits: Traits, pitch: Floats, yaw: Floats, columns: Floats) -> Eye:
    """Place eye and lids for gaze pitch and yaw (radians, [n]) at pixel columns [w] in mm."""
    gaze = direction(pitch, yaw)
    rotation = _head(traits, pitch, yaw)
    to_head = rotation.transpose(0, 2, 1)
    eye_pitch, eye_yaw = angles((to_head @ gaze[:, :, None])[:, :, 0])
    # the optical axis points outward and down of the line of sight (angle kappa)
    axis_in_head = direction(
        eye_pitch - np.radians(traits["kappa_pitch"][:, 0, 0]),
        eye_yaw - np.radians(traits["kappa_yaw"][:, 0, 0]),
    )
    axis = rotation @ axis_in_head[:, :, None]  # [n, 3, 1]
    ball = rotation @ np.concatenate([traits["eye_x"], traits["eye_y"], traits["eye_depth"]], 1)
    ball[:, :2] = _framed(ball, traits)
    iris_distance = np.sqrt(traits["eye_radius"] ** 2 - traits["iris_radius"] ** 2)
    iris = ball + axis * iris_distance * traits["zoom"]

    upper, lower = _lid_angles(traits, eye_pitch[:, None, None])
    face = _Face(traits, rotation, columns)
    t = np.linspace(-_CURVE_END, _CURVE_END, _CURVE_POINTS, dtype=np.float32)[None, None]
    x, y_upper, y_lower = _lid_lines(traits, t, upper, lower)
    bulge = np.clip(1.0 - (t / 1.25) ** 2, 0.0, 1.0)
    crease = y_upper - traits["crease_height"] * (0.35 + 0.65 * bulge) * (1.0 - 0.6 * upper)
    fold = y_lower + 1.5 + 3.0 * bulge
    tips = np.linspace(-1.0, 1.0, EYELID_POINTS, dtype=np.float32)[None, None]
    tip_x, tip_upper, tip_lower = _lid_lines(traits, tips, upper, lower)
    return Eye(
        gaze=gaze,
        axis=axis[..., None],
        to_head=to_head,
        ball=ball[..., None],
        iris=iris[..., None],
        upper=face.curve(x, y_upper),
        lower=face.curve(x, y_lower),
        crease=face.curve(x, crease),
        fold=face.curve(x, fold),
        along=_at_columns(face.project(x, y_upper)[:, 0], t + 0.0 * x, columns),
        lid_angle=upper,
        lid_points=np.concatenate(
            [face.project(tip_x, tip_upper), face.project(tip_x, tip_lower)], axis=2
        ),
    )
