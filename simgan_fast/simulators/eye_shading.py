"""From placed eyes to grey pictures in linear light."""

from __future__ import annotations

import numpy as np

from simgan_fast.simulators.eye_ball import eyeball
from simgan_fast.simulators.eye_domains import Floats
from simgan_fast.simulators.eye_scene import SUPERSAMPLING, Scene, step
from simgan_fast.simulators.eye_skin import lashes, skin


def shade(scene: Scene) -> Floats:
    """The scene's pictures [n, h, w] in linear light, sub-pixels averaged, before any camera."""
    picture = skin(scene)
    picture += scene.opening() * (eyeball(scene) - picture)
    picture *= lashes(scene)
    return scene.coarse(picture) * _cast_shadow(scene) * scene.traits["exposure"]


def _cast_shadow(scene: Scene) -> Floats:
    """What a soft shadow edge across the face lets through (hair, nose, a hat), at full pixels."""
    traits = scene.traits
    angle = np.radians(traits["cast_angle"])
    x = scene.x.reshape(-1, SUPERSAMPLING).mean(1)
    y = scene.y.reshape(-1, SUPERSAMPLING).mean(1)[:, None]
    beyond = x * np.cos(angle) + y * np.sin(angle) - traits["cast_offset"]
    return 1.0 - traits["cast_shadow"] * step(beyond / traits["cast_width"])
