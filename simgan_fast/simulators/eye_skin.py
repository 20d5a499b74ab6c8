"""Skin, lids, brow and lashes around the eye. Linear light, [n, h, w] on a scene's sub-pixels."""

from __future__ import annotations

import numpy as np

from simgan_fast.simulators.eye_domains import Floats
from simgan_fast.simulators.eye_scene import Scene, above, bump, ramp, step

_UPPER_LASHES, _LOWER_LASHES = 36.0, 27.0  # tufts from corner to corner


def skin(scene: Scene) -> Floats:
    """Light from the skin: relief under the scene's light, reflectance and occlusion."""
    eye = scene.eye
    # nose and brow stand out of the face, so they shift against the eye when the head turns
    shift = -9.0 * eye.to_head[:, 2, :2, None, None]
    across, down = scene.x - shift[:, 0], scene.y - shift[:, 1]
    over_crease: Floats = (eye.crease.y - scene.y) * eye.crease.across
    light = scene.lit(_relief(scene, across, down, over_crease))
    light *= scene.traits["skin"] * _reflectance(scene, down, over_crease)
    light *= _open_sky(scene, across, down, over_crease)
    return light


def _relief(scene: Scene, across: Floats, down: Floats, over_crease: Floats) -> Floats:
    """How far the skin stands out toward the camera, mm: eyeball, nose, temple, brow, cheek."""
    traits, eye = scene.traits, scene.eye
    dx, dy = scene.x - eye.ball[:, 0], scene.y - eye.ball[:, 1]
    relief = above(5.0 - (dx * dx + dy * dy) / (2.7 * traits["eye_radius"]), 2.5)
    relief += traits["nose_height"] * above(-15.0 - across, 5.0)
    relief -= 0.5 * above(across - 13.0, 6.0)
    relief += traits["brow_ridge"] * above(8.0 - traits["brow_distance"] - down, 3.0)
    relief += 0.35 * above(down - 8.0, 5.0)
    ledge = step(over_crease * 1.6) * step(scene.corner * 4.0 + 0.6)
    relief += 1.2 * traits["crease_depth"] * ledge
    return relief


def _open_sky(scene: Scene, across: Floats, down: Floats, over_crease: Floats) -> Floats:
    """The light that surroundings let through: nasal hollow, under the brow, under the eye."""
    socket = scene.traits["socket"]
    hollow = bump((across + 17.0) * 0.14) * bump((down + 1.0) * 0.11)
    under_brow = bump(np.maximum(over_crease - 0.5, 0.0) * 0.35) * step(over_crease * 1.5)
    under_brow *= step(scene.corner * 5.0 + 2.0)
    open_sky: Floats = 1.0 - 0.75 * socket * hollow
    open_sky *= 1.0 - 0.40 * socket * under_brow
    open_sky *= 1.0 - 0.20 * socket * bump((scene.above_lower + 3.5) * 0.3)
    return open_sky


def _reflectance(scene: Scene, down: Floats, over_crease: Floats) -> Floats:
    """Reflectance relative to the skin's mean: patches, crease, fold, brow and lid margins."""
    traits = scene.traits
    colour: Floats = 1.0 + traits["skin_patches"] * scene.noise(7.0)
    colour += traits["skin_texture"] * (scene.noise(0.9) + scene.noise(2.5))
    line = bump(over_crease * traits["crease_sharpness"]) * step((scene.corner + 0.08) * 11.0)
    colour *= 1.0 - traits["crease_depth"] * line
    colour *= 1.0 - traits["lower_fold"] * bump((scene.y - scene.eye.fold.y) * 0.8)
    # the brow sinks toward nose and temple
    brow = down + traits["brow_distance"] - 0.006 * (scene.x - 2.0) ** 2
    colour *= 1.0 - traits["brow_depth"] * (0.8 + 0.25 * scene.noise(0.9)) * bump(brow * 0.28)
    _draw_margins(scene, colour)
    return np.maximum(colour, 0.02)


def _draw_margins(scene: Scene, colour: Floats) -> None:
    """Dark lines along both lids, and the lower lid's wet, bright rim."""
    traits = scene.traits
    edge = bump(scene.below_upper * traits["liner_sharpness"])
    colour *= 1.0 - traits["liner"] * edge * ramp(scene.corner * 8.0 + 0.7)
    edge = bump((scene.above_lower + 0.2) * 1.2) * ramp(scene.corner * 8.0 + 0.3)
    colour *= 1.0 - 0.35 * traits["liner"] * edge
    rim = bump((scene.above_lower + 0.5) * 2.4) * ramp(scene.corner * 10.0 - 0.5)
    colour += traits["wet_rim"] * rim


def lashes(scene: Scene) -> Floats:
    """The light that lashes let through, 0 to 1. They point as the upper lid's margin does."""
    traits, eye = scene.traits, scene.eye
    rise = traits["lash_length"] * np.sin(eye.lid_angle + np.radians(traits["lash_curl"]))
    rise = np.where(rise >= 0.0, np.maximum(rise, 0.4), np.minimum(rise, -0.4))
    upper = _tufts(scene, -scene.below_upper / rise, _UPPER_LASHES)
    upper *= 0.65 + 0.35 * eye.along  # longest at the temporal side
    lower = _tufts(scene, scene.above_lower * (-2.2 / traits["lash_length"]), _LOWER_LASHES)
    dark = traits["lash_depth"] * ramp(scene.corner * 9.0)
    return 1.0 - dark * (upper + 0.3 * lower)


def _tufts(scene: Scene, out: Floats, count: float) -> Floats:
    """Uneven stripes at distance `out` (0 at the lid, 1 at the tips) that fan out and thin out."""
    root = scene.eye.along * (1.0 - 0.30 * np.clip(out, 0.0, 1.0))
    phase = root * np.float32(np.pi * count / 2)
    stripes = np.cos(phase + 2.5 * np.sin(root * 7.0))
    stripes += 0.7 * np.cos(1.43 * phase + np.radians(scene.traits["texture_phase"]))
    taper = np.clip(1.0 - out, 0.0, 1.0)
    return np.where(out > -0.05, np.maximum(0.45 + 0.4 * stripes, 0.0) * taper, 0.0)
