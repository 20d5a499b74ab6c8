"""The eyeball between the lids. Linear light, [n, h, w] on a scene's sub-pixels."""

from __future__ import annotations

import numpy as np

from simgan_fast.simulators.eye_domains import Floats
from simgan_fast.simulators.eye_scene import Scene, bump, ramp, step

CORNEA_RADIUS = 7.8  # mm, and its centre lies 5.6 mm before the eyeball's (Gullstrand's eye)
CORNEA_CENTRE = 5.6


def eyeball(scene: Scene) -> Floats:
    """Light from sclera, iris and pupil, the lids' shadow on them, and reflections."""
    traits, eye = scene.traits, scene.eye
    radius = traits["eye_radius"] * traits["zoom"]
    dx, dy = (scene.x - eye.ball[:, 0]) / radius, (scene.y - eye.ball[:, 1]) / radius
    light_x, light_y, light_z = (scene.light[:, i, None, None] for i in range(3))
    off_axis = dx * dx + dy * dy
    facing = dx * light_x + dy * light_y - light_z * np.sqrt(np.maximum(1.0 - off_axis, 0.03))
    light = traits["ambient"] + traits["light"] * (0.1 + 0.9 * np.maximum(facing, 0.0))
    light *= 1.0 - traits["lid_shadow"] * bump(np.maximum(scene.below_upper, 0.0) * 0.38)
    light *= 1.0 - 0.5 * traits["lid_shadow"] * bump(np.maximum(scene.above_lower, 0.0) * 0.7)

    colour = traits["sclera"] * (1.0 - traits["veins"] * np.abs(scene.noise(1.6)))
    colour *= 1.0 - traits["sclera_shade"] * np.minimum(off_axis, 1.2)
    caruncle, temporal = bump((eye.along + 1.02) * 6.0), bump((1.0 - eye.along) * 6.0)
    colour *= 1.0 - 0.4 * caruncle - 0.2 * temporal
    iris, coverage = _iris(scene)
    colour += coverage * (iris - colour)
    colour *= light
    return np.maximum(colour + _reflections(scene), 0.0)


def _iris(scene: Scene) -> tuple[Floats, Floats]:
    """Reflectance of iris and pupil [n, h, w], and the share of each sub-pixel they cover."""
    traits, eye = scene.traits, scene.eye
    radius = traits["iris_radius"] * traits["zoom"]
    x, y = (scene.x - eye.iris[:, 0]) / radius, (scene.y - eye.iris[:, 1]) / radius
    # the iris is a flat disc across the optical axis: depth of its plane at this pixel
    z = -(x * eye.axis[:, 0] + y * eye.axis[:, 1]) / eye.axis[:, 2]
    rho = np.sqrt(x * x + y * y + z * z)
    coverage = ramp((1.0 - rho) * (radius / max(scene.sub_pixel, 0.7)))
    colour: Floats = traits["iris"] * (1.0 + traits["iris_texture"] * _fibres(scene, x, y, rho))
    # the cornea focuses light on the side away from it
    colour *= 1.0 - 0.45 * (x * scene.light[:, 0, None, None] + y * scene.light[:, 1, None, None])
    colour *= 1.0 - traits["limbus"] * step((rho - 0.88) * 16.0)
    pupil = ramp((traits["pupil_ratio"] - rho) * (radius / max(scene.sub_pixel, 0.25)))
    colour += pupil * (0.004 - colour)
    return colour, coverage


def _fibres(scene: Scene, x: Floats, y: Floats, rho: Floats) -> Floats:
    """Radial pattern of the iris, strongest at the pupil."""
    theta = np.arctan2(y, x)
    pattern = np.cos(11.0 * theta + np.radians(scene.traits["texture_phase"]))
    pattern += np.cos(23.0 * theta + 5.0 * rho)
    pattern *= 1.0 - rho
    pattern += 0.6 * scene.noise(1.2)
    return pattern


def _reflections(scene: Scene) -> Floats:
    """The light's glint and a dim window, mirrored by the cornea."""
    traits, eye = scene.traits, scene.eye
    zoom = traits["zoom"][:, None]
    half = scene.light - np.array([0.0, 0.0, 1.0], np.float32)  # between light and camera
    half /= np.sqrt((half * half).sum(1, keepdims=True))
    cornea = eye.ball + eye.axis * (CORNEA_CENTRE * zoom)
    spot = cornea + CORNEA_RADIUS * half[:, :, None, None] * zoom
    x, y = scene.x - spot[:, 0], scene.y - spot[:, 1]
    edge = (traits["glint_size"] - np.sqrt(x * x + y * y)) / max(scene.sub_pixel, 0.35)
    window = bump((scene.x - cornea[:, 0] + 1.5) * 0.6) * bump((scene.y - cornea[:, 1] + 2.0) * 0.5)
    mirrored: Floats = traits["glint"] * ramp(edge) + traits["window"] * window
    return mirrored
