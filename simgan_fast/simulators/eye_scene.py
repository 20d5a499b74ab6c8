"""What every surface of a picture needs: the pixel grid, distances to the lids, light and noise."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from simgan_fast.simulators.eye_domains import Floats, Traits
from simgan_fast.simulators.eye_geometry import Eye, direction

SUPERSAMPLING = 2  # sub-pixels a side; every edge is also ramped over one sub-pixel


def sub_pixel_grid(size: tuple[int, int], pixel: float) -> tuple[Floats, Floats]:
    """Columns [w] and rows [h, 1] of the sub-pixel centres, mm from the middle of the picture.

    size: (height, width) in pixels; pixel: mm.
    """
    rows, columns = (
        ((np.arange(n * SUPERSAMPLING) + 0.5) / SUPERSAMPLING - n / 2) * pixel for n in size
    )
    return columns.astype(np.float32), rows.astype(np.float32)[:, None]


def bump(x: Floats) -> Floats:
    """A bell of height 1 and half-width 0.64; cheaper than exp(-x^2)."""
    bell: Floats = x * x
    bell += 1.0  # in place here and below: fresh memory costs more than arithmetic
    bell *= bell
    return np.reciprocal(bell, out=bell)


def step(x: Floats) -> Floats:
    """0 to 1, smooth, over about four units."""
    smooth: Floats = x * x
    smooth += 1.0
    np.sqrt(smooth, out=smooth)
    np.divide(x, smooth, out=smooth)
    smooth *= 0.5
    smooth += 0.5
    return smooth


def ramp(x: Floats) -> Floats:
    """Coverage of a sub-pixel whose centre lies x sub-pixels inside an edge."""
    coverage: Floats = x + 0.5
    return np.clip(coverage, 0.0, 1.0, out=coverage)


def above(x: Floats, softness: float) -> Floats:
    """max(x, 0) with a rounded corner."""
    positive: Floats = x * x
    positive += softness * softness
    np.sqrt(positive, out=positive)
    positive += x
    positive *= 0.5
    return positive


@lru_cache(maxsize=64)
def _upsampling(coarse: int, fine: int) -> Floats:
    """Weights [fine, coarse] of a smoothstep interpolation between evenly spread knots."""
    at = np.linspace(0.0, coarse - 1.0, fine)
    left = np.minimum(at.astype(int), coarse - 2)
    part = at - left
    part = part * part * (3.0 - 2.0 * part)
    weights = np.zeros((fine, coarse), np.float32)
    weights[np.arange(fine), left] = 1.0 - part
    weights[np.arange(fine), left + 1] = part
    return weights


class Scene:
    """A block of n placed eyes on one grid of [h, w] sub-pixels, with the block's random stream."""

    def __init__(
        self, eye: Eye, traits: Traits, grid: tuple[Floats, Floats], rng: np.random.Generator
    ) -> None:
        self.eye, self.traits, self.rng = eye, traits, rng
        self.x, self.y = grid  # [w], [h, 1]
        self.sub_pixel = float(self.x[1] - self.x[0])
        # unit vector toward the light, camera axes [n, 3]
        self.light = direction(
            np.radians(traits["light_pitch"][:, 0, 0]), np.radians(traits["light_yaw"][:, 0, 0])
        )
        # perpendicular distances to the lid margins in mm, positive inside the opening
        self.below_upper: Floats = (self.y - eye.upper.y) * eye.upper.across
        self.above_lower: Floats = (eye.lower.y - self.y) * eye.lower.across
        self.corner: Floats = 1.0 - np.abs(eye.along)  # 0 at the corners, 1 in the middle

    def opening(self) -> Floats:
        """How much of each sub-pixel the gap between the lids covers [n, h, w]."""
        corners = ramp(self.corner * (15.0 / self.sub_pixel))
        lids = ramp(self.below_upper / self.sub_pixel) * ramp(self.above_lower / self.sub_pixel)
        return lids * corners

    def noise(self, cell: float) -> Floats:
        """Smooth normal noise [n, h, w] with knots `cell` mm apart."""
        height, width = len(self.y), len(self.x)
        knots_y = max(2, round(height * self.sub_pixel / cell) + 1)
        knots_x = max(2, round(width * self.sub_pixel / cell) + 1)
        knots = self.rng.standard_normal((len(self.light), knots_y, knots_x), dtype=np.float32)
        field: Floats = _upsampling(knots_y, height) @ knots @ _upsampling(knots_x, width).T
        return field

    def lit(self, relief: Floats) -> Floats:
        """Ambient and diffuse light on skin [n, h, w] that stands out by `relief` mm.

        The relief belongs to the head, so the light is turned into the head frame.
        """
        scale = np.float32(1.0 / self.sub_pixel)
        slope_x, slope_y = np.empty_like(relief), np.empty_like(relief)
        np.subtract(relief[..., 1:], relief[..., :-1], out=slope_x[..., 1:])
        np.subtract(relief[:, 1:], relief[:, :-1], out=slope_y[:, 1:])
        slope_x[..., 0], slope_y[:, 0] = slope_x[..., 1], slope_y[:, 1]
        slope_x *= scale
        slope_y *= scale
        light = self.eye.to_head @ self.light[:, :, None]  # [n, 3, 1]
        x, y, z = (light[:, i, None] for i in range(3))
        facing: Floats = -(slope_x * x + slope_y * y + z)
        facing /= np.sqrt(1.0 + slope_x * slope_x + slope_y * slope_y)
        light_on: Floats = self.traits["ambient"] + self.traits["light"] * np.maximum(facing, 0.0)
        return light_on

    def coarse(self, fine: Floats) -> Floats:
        """Mean over each pixel's sub-pixels: [n, h, w] to [n, h / 2, w / 2]."""
        rows = fine[:, 0::2] + fine[:, 1::2]
        mean: Floats = (rows[..., 0::2] + rows[..., 1::2]) * np.float32(0.25)
        return mean
