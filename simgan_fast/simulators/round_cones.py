"""Depth of round cones before NYU's camera, by the intersection of each pixel's ray with them.

A round cone is the hull of two spheres. Its intersection with a ray is a quadratic equation for the mantle and one for
each sphere (Inigo Quilez, "Round Cone - intersection", 2018); with rays (x, y, 1) the unknown is the depth itself.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from simgan_fast.depth import FX, FY, HEIGHT, U0, V0, WIDTH, Box
from simgan_fast.simulators.eye_domains import Floats

SLACK = 1.25  # of a sphere's radius in pixels: off the axis it is seen as an ellipse
EMPTY = np.float32(np.inf)


def cast(ends: Floats, radii: Floats, blend: Floats) -> tuple[Box, Floats]:
    """What the camera sees of round cones: a box of pixels of the 640x480 image, and float32 depth in mm in it.

    ends: [k, 2, 3] in mm, x right, y down, z away from the camera; radii [k, 2] in mm; blend [k]: over how many mm in
    depth each melts into those before it. Without a cone the depth is infinite. What lies beyond the image is left out;
    all cones are before the camera.
    """
    boxes = _boxes(ends, radii)
    left, top = boxes[:, :2].min(0)
    right, bottom = boxes[:, 2:].max(0)
    x = ((np.arange(left, right) - U0) / FX).astype(np.float32)
    y = ((np.arange(top, bottom) - V0) / FY).astype(np.float32)[:, None]
    squared = x * x + y * y + np.float32(1)
    depth = np.full((bottom - top, right - left), EMPTY)
    inner = boxes - np.array([left, top, left, top])
    with np.errstate(divide="ignore", invalid="ignore"):  # where a ray misses, or is parallel
        for i, (first_x, first_y, last_x, last_y) in enumerate(inner.tolist()):
            rows, columns = slice(first_y, last_y), slice(first_x, last_x)
            part = depth[rows, columns]
            hit = _hit(ends[i], radii[i], x[columns], y[rows], squared[rows, columns])
            part[...] = _melted(part, hit, float(blend[i])) if blend[i] else np.minimum(part, hit)
    return (int(left), int(top), int(right), int(bottom)), depth


def _boxes(ends: Floats, radii: Floats) -> NDArray[np.intp]:
    """Left, top, right and bottom pixel, [k, 4], of what may be seen of each cone."""
    x, y, z = np.moveaxis(ends, -1, 0)
    u, v = x / z * FX + U0, y / z * FY + V0
    radius = SLACK * radii * FX / (z - radii) + 1
    low = np.stack([(u - radius).min(1), (v - radius).min(1)], axis=1)
    high = np.stack([(u + radius).max(1), (v + radius).max(1)], axis=1) + 1
    edges = np.concatenate([low, high], axis=1).astype(np.intp)
    return np.clip(edges, 0, [WIDTH, HEIGHT, WIDTH, HEIGHT])


def _hit(ends: Floats, radii: Floats, x: Floats, y: Floats, squared: Floats) -> Floats:
    """Depth [h, w] where rays (x, y, 1), x [w] and y [h, 1], of these squared lengths first meet one round cone."""
    (a, b), (first, last) = ends, radii
    to_a, to_b = _dot(a, x, y), _dot(b, x, y)  # [h, w]
    spheres = np.minimum(
        _sphere(a, first, to_a, squared),
        _sphere(b, last, to_b, squared),
    )
    axis, shrink = b - a, first - last
    tall = axis @ axis - shrink**2
    if tall <= 0:  # one sphere holds the other
        return spheres
    along = to_b - to_a
    start = -(axis @ a) - shrink * first
    k2 = np.float32(tall) * squared - along * along
    k1 = np.float32(tall) * to_a + np.float32(start) * along
    k0 = (
        tall * (a @ a)
        - (axis @ a) ** 2
        - 2 * (axis @ a) * shrink * first
        - (axis @ axis) * first**2
    )
    depth = (k1 - np.sqrt(k1 * k1 - np.float32(k0) * k2)) / k2  # NaN where it is missed
    place = np.float32(start) + depth * along
    on_mantle = (place > 0) & (place < np.float32(tall))
    front: Floats = np.where(on_mantle, np.fmin(depth, spheres), spheres)
    return front


def _sphere(centre: Floats, radius: float, to_centre: Floats, squared: Floats) -> Floats:
    """Depth of a sphere's front; infinite where it is missed. to_centre: the rays' dot products with the centre."""
    rest = np.float32(centre @ centre - radius**2)
    root = np.sqrt(to_centre * to_centre - rest * squared)
    front: Floats = np.fmin((to_centre - root) / squared, EMPTY)
    return front


def _dot(vector: Floats, x: Floats, y: Floats) -> Floats:
    a, b, c = (np.float32(v) for v in vector)
    product: Floats = a * x + (b * y + c)
    return product


def _melted(first: Floats, second: Floats, reach: float) -> Floats:
    """The nearer of two depths, brought nearer where they differ by less than `reach`: a quadratic smooth minimum."""
    near = np.fmax(1 - np.abs(first - second) / np.float32(reach), 0)  # of two infinite ones 0
    melted: Floats = np.minimum(first, second) - near * near * np.float32(reach / 4)
    return melted
