"""The two families of eyes and scenes that the simulator draws from, and the draw itself."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Floats = NDArray[Any]  # float32 throughout; numpy's stubs widen mixed expressions to float64
Range = tuple[float, float]
Traits = dict[str, Floats]  # trait name -> [n, 1, 1]


@dataclass(frozen=True)
class EyeDomain:
    """Ranges that people, pose, light and tone are drawn from, uniformly and independently.

    Lengths are millimetres on the face, angles degrees, the rest fractions. The reasons and
    sources of every range stand in docs/simulator.md. The defaults are the `plain` domain.
    """

    # pose and framing
    head_share: Range = (0.1, 0.6)  # the part of the gaze that the head takes over
    head_pitch: Range = (-10.0, 10.0)
    head_yaw: Range = (-13.0, 13.0)
    head_roll: Range = (-5.0, 5.0)
    zoom: Range = (0.93, 1.08)
    shift_x: Range = (-1.2, 1.2)
    shift_y: Range = (-0.8, 1.6)

    # eyeball
    eye_radius: Range = (11.5, 12.6)
    iris_radius: Range = (5.6, 6.5)
    pupil_ratio: Range = (0.32, 0.64)
    eye_x: Range = (-1.4, 0.2)
    eye_y: Range = (-4.0, -1.9)
    eye_depth: Range = (3.5, 6.0)
    kappa_yaw: Range = (2.0, 6.0)
    kappa_pitch: Range = (0.0, 2.5)

    # lids
    fissure_width: Range = (27.0, 33.0)
    canthal_tilt: Range = (-1.0, 2.0)
    upper_open: Range = (2.8, 5.3)
    lower_open: Range = (4.4, 6.2)
    upper_follow: Range = (0.70, 0.98)
    lower_follow: Range = (0.20, 0.50)
    upper_peak: Range = (-0.22, 0.15)
    lower_peak: Range = (-0.05, 0.25)
    upper_round: Range = (2.0, 3.1)
    lower_round: Range = (1.9, 2.9)
    duct: Range = (0.2, 0.65)
    crease_height: Range = (1.2, 5.5)
    crease_depth: Range = (0.0, 0.55)
    crease_sharpness: Range = (0.7, 1.8)  # 1/mm
    lower_fold: Range = (0.0, 0.25)
    wet_rim: Range = (0.0, 0.5)
    lash_length: Range = (3.0, 7.5)
    lash_depth: Range = (0.15, 0.8)
    lash_curl: Range = (10.0, 45.0)
    liner: Range = (0.25, 0.75)
    liner_sharpness: Range = (0.6, 1.6)  # 1/mm

    # face
    skin: Range = (0.38, 0.70)
    skin_texture: Range = (0.01, 0.04)
    skin_patches: Range = (0.02, 0.08)
    nose_height: Range = (0.3, 1.0)
    brow_ridge: Range = (0.2, 0.9)
    brow_distance: Range = (12.0, 21.0)
    brow_depth: Range = (0.2, 0.7)
    socket: Range = (0.15, 0.8)

    # eye colours
    sclera: Range = (0.62, 0.95)
    sclera_shade: Range = (0.15, 0.6)
    veins: Range = (0.0, 0.06)
    iris: Range = (0.05, 0.28)
    iris_texture: Range = (0.05, 0.30)
    limbus: Range = (0.2, 0.7)
    texture_phase: Range = (0.0, 360.0)  # of iris fibres and lash tufts

    # light
    light_yaw: Range = (-60.0, 60.0)
    light_pitch: Range = (0.0, 60.0)
    light: Range = (0.45, 1.0)
    ambient: Range = (0.25, 0.6)
    lid_shadow: Range = (0.15, 0.6)
    glint: Range = (0.0, 0.7)
    glint_size: Range = (0.3, 0.8)
    window: Range = (0.0, 0.10)
    cast_shadow: Range = (0.0, 0.0)
    cast_angle: Range = (-180.0, 180.0)
    cast_offset: Range = (2.0, 16.0)
    cast_width: Range = (1.0, 6.0)

    # tone of the finished picture
    exposure: Range = (0.75, 1.3)
    gamma: Range = (0.70, 1.0)


PLAIN = EyeDomain()

CAMERA = replace(
    PLAIN,
    head_pitch=(-8.0, 14.0),
    head_yaw=(-16.0, 16.0),
    zoom=(0.90, 1.10),
    fissure_width=(26.0, 32.0),
    iris_radius=(5.4, 6.2),
    pupil_ratio=(0.25, 0.48),
    canthal_tilt=(-0.6, 2.6),
    upper_open=(2.3, 4.6),
    upper_peak=(-0.15, 0.25),
    crease_height=(0.8, 6.5),
    crease_depth=(0.15, 0.75),
    lower_fold=(0.05, 0.45),
    wet_rim=(0.0, 0.2),
    upper_round=(1.8, 2.8),
    lower_round=(1.7, 2.6),
    lash_length=(2.5, 6.5),
    lash_depth=(0.25, 0.9),
    liner=(0.4, 0.9),
    skin=(0.22, 0.80),
    skin_texture=(0.015, 0.06),
    skin_patches=(0.04, 0.16),
    nose_height=(0.5, 1.3),
    brow_ridge=(0.4, 1.2),
    brow_distance=(10.0, 17.0),
    brow_depth=(0.4, 0.9),
    socket=(0.4, 1.1),
    sclera=(0.35, 0.70),
    sclera_shade=(0.3, 0.8),
    iris=(0.03, 0.20),
    limbus=(0.1, 0.5),
    light_yaw=(-80.0, 80.0),
    light_pitch=(-20.0, 65.0),
    light=(0.50, 1.40),
    ambient=(0.20, 0.55),
    lid_shadow=(0.3, 0.8),
    glint=(0.0, 1.3),
    glint_size=(0.4, 1.3),
    window=(0.0, 0.25),
    cast_shadow=(0.0, 0.55),
)

DOMAINS = {"plain": PLAIN, "camera": CAMERA}


def draw_traits(domain: DataclassInstance, rng: np.random.Generator, n: int) -> Traits:
    """Draw n sets of traits, [n, 1, 1] of each of a domain's ranges; a trait's values do not depend on the others."""
    names = [field.name for field in fields(domain)]
    unit = rng.random((n, len(names), 1, 1), dtype=np.float32)
    return {name: spread(getattr(domain, name), unit[:, i]) for i, name in enumerate(names)}


def spread(bounds: Range, unit: Floats) -> Floats:
    """Bring uniform numbers in [0, 1) to [low, high)."""
    low, high = bounds
    values: Floats = np.float32(low) + np.float32(high - low) * unit
    return values
