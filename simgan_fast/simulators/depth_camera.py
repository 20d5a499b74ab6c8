"""A structured-light depth camera (PrimeSense, Kinect v1): from exact depth to what such a sensor reports.

It is specified, with its sources, in docs/hand_simulator.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simgan_fast.depth import FX, Depth
from simgan_fast.errors import InputError
from simgan_fast.simulators.eye_domains import Floats, Range, spread

BASELINE = 75.0  # mm from the infrared camera to the projector
SUB_PIXELS = 8.0  # steps of disparity in a pixel
DISPARITY = FX * BASELINE * SUB_PIXELS  # mm times steps: depth is this over the disparity
GRAZING_SPREAD = np.float32(0.3)  # of the slope at which pixels drop out
JUMP = 12.0  # mm between neighbours that make a discontinuity
NEVER = np.float32(np.inf)


@dataclass(frozen=True)
class DepthCameraSpec:
    """Ranges of the sensor model, drawn uniformly for each image; docs/hand_simulator.md says why."""

    fattening: Range = (0.5, 2.0)  # pixels by which what is nearer grows on all sides
    # pixels: standard deviation of where a pixel looks, smooth over about 5 pixels
    lateral: Range = (0.7, 1.3)
    jitter: Range = (0.15, 0.4)  # pixels: the same, of each pixel alone
    disparity: Range = (0.25, 0.6)  # steps: noise before rounding, smooth over about 5 pixels
    edge_dropout: Range = (0.06, 0.25)  # of the pixels beside a discontinuity
    # degrees between ray and normal, where half of the pixels drop out
    grazing: Range = (74.0, 82.0)
    shadows: bool = True  # where the projector does not reach
    quantise: bool = True


PRIMESENSE = DepthCameraSpec()


def depth_camera(
    depth: Depth | Floats,
    rng: np.random.Generator | int = 0,
    spec: DepthCameraSpec = PRIMESENSE,
) -> Depth:
    """What the bundled structured-light sensor reports of exact depth: uint16 [n, h, w] in mm, 0 where nothing.

    depth: uint16 or float [n, h, w] in mm at the sensor's own pixels (NYU's focal length), 0 where there is nothing
    within its reach. rng: a generator, or a seed. Raises InputError for another shape or type, NaN, negative or
    infinite depth, and depth that looks like metres.

    >>> flat = np.full((1, 40, 60), 800, np.uint16)
    >>> int(abs(depth_camera(flat, rng=3)[0, 10:30, 10:50].astype(int) - 800).max()) < 8
    True
    """
    exact = _checked(depth)
    if not isinstance(rng, np.random.Generator):
        rng = np.random.Generator(np.random.Philox(rng))
    if not exact.size:
        return np.zeros(exact.shape, np.uint16)
    draw = _Draw(rng, exact.shape)
    lost = _shadowed(exact) if spec.shadows else np.zeros(exact.shape, bool)
    lost |= _grazing(exact, draw, spec)
    matched = _fattened(np.where(lost, np.float32(0), exact), draw, spec)
    seen = _displaced(matched, draw, spec)
    return _measured(_dropped(seen, draw, spec), draw, spec)


class _Draw:
    """Random numbers for n images: `draw(bounds)` uniform [n, 1, 1], `noise` and `smooth` normal [n, h, w]."""

    def __init__(self, rng: np.random.Generator, shape: tuple[int, ...]) -> None:
        self.rng, self.shape = rng, shape

    def __call__(self, bounds: Range) -> Floats:
        return spread(bounds, self.rng.random((self.shape[0], 1, 1), dtype=np.float32))

    def noise(self) -> Floats:
        field: Floats = self.rng.standard_normal(self.shape, dtype=np.float32)
        return field

    def smooth(self, times: int = 2) -> Floats:
        """White noise through filters [1 2 1] with taps 1, 2, ... pixels apart, of standard deviation 1."""
        n, height, width = self.shape
        more = times * (times + 1)  # rows and columns that the filters take
        field = self.rng.standard_normal((n, height + more, width + more), dtype=np.float32)
        for k in range(1, times + 1):
            field = field[:, : -2 * k] + 2 * field[:, k:-k] + field[:, 2 * k :]
            field = field[..., : -2 * k] + 2 * field[..., k:-k] + field[..., 2 * k :]
        field *= np.float32(1 / _gain(times))
        return field


def _gain(times: int) -> float:
    """Standard deviation of `smooth` before it is made 1: the length of the filter, squared for two axes."""
    kernel = np.ones(1)
    for step in range(1, times + 1):
        arm = np.zeros(2 * step + 1)
        arm[[0, step, -1]] = 1, 2, 1
        kernel = np.convolve(kernel, arm)
    return float((kernel**2).sum())


def _checked(depth: NDArray[Any]) -> Floats:
    depth = np.asarray(depth)
    if depth.ndim != 3 or not (depth.dtype == np.uint16 or depth.dtype.kind == "f"):
        raise InputError(
            f"depth_camera: depth is {depth.dtype} of shape {depth.shape}; give uint16 or float [n, h, w] in mm"
        )
    if depth.size and not (np.isfinite(depth).all() and depth.min() >= 0):
        raise InputError(
            "depth_camera: depth holds NaN, infinite or negative values; give mm, 0 where there is nothing"
        )
    if depth.size and 0 < depth.max() < 20:
        raise InputError(
            f"depth_camera: the largest depth is {depth.max():g}; give millimetres, not metres"
        )
    return depth.astype(np.float32)


def _shadowed(depth: Floats) -> NDArray[np.bool_]:
    """Where the projector, BASELINE to the right of the camera, is hidden by something nearer in the same row.

    It sees a point of column u in its own column u - FX BASELINE / z; of points in one of its columns the one farthest
    right in the picture is in front. What is beyond reach hides nothing.
    """
    with np.errstate(divide="ignore"):
        column = np.arange(depth.shape[2], dtype=np.float32) - np.float32(FX * BASELINE) / depth
    column = np.where(depth > 0, column, NEVER)
    nearest = np.minimum.accumulate(column[..., ::-1], axis=-1)[..., ::-1]
    hidden = np.zeros(depth.shape, bool)
    hidden[..., :-1] = (nearest[..., 1:] <= column[..., :-1]) & (depth[..., :-1] > 0)
    return hidden


def _grazing(depth: Floats, draw: _Draw, spec: DepthCameraSpec) -> NDArray[np.bool_]:
    """Pixels lost because the surface turns away: half of them at the drawn angle, by the slope between neighbours."""
    limit = np.tan(np.radians(draw(spec.grazing)))
    pitch = np.maximum(depth, 1) / np.float32(FX)  # mm a pixel
    slope = np.sqrt(_step(depth, 1) ** 2 + _step(depth, 2) ** 2) / pitch
    lost: NDArray[np.bool_] = (slope * (1 + GRAZING_SPREAD * draw.smooth(1)) > limit) & (depth > 0)
    return lost


def _step(depth: Floats, axis: int) -> Floats:
    """The smaller of a pixel's differences to both neighbours along `axis`, in mm; 0 where it has none.

    At the edge of a finger one of the two is that of the surface.
    """
    there = depth > 0
    before, after = (slice(None),) * axis + (slice(-1),), (slice(None),) * axis + (slice(1, None),)
    step = np.where(there[before] & there[after], np.abs(np.diff(depth, axis=axis)), NEVER)
    sides = [(0, 0)] * 3
    sides[axis] = (1, 1)
    padded = np.pad(step, sides, constant_values=NEVER)
    smaller = np.minimum(padded[before], padded[after])
    smaller[np.isinf(smaller)] = 0
    least: Floats = smaller
    return least


def _fattened(depth: Floats, draw: _Draw, spec: DepthCameraSpec) -> Floats:
    """Each pixel reports the nearest depth within a drawn distance: of a patch the nearer surface decides."""
    reach = draw(spec.fattening)  # [n, 1, 1]
    most = int(reach.max())
    _, height, width = depth.shape
    sides = ((0, 0), (most, most), (most, most))
    far = np.pad(np.where(depth > 0, depth, NEVER), sides, constant_values=NEVER)
    nearest = np.full(depth.shape, NEVER)
    for down, across in product(range(-most, most + 1), repeat=2):
        rows, columns = slice(most + down, None), slice(most + across, None)
        beside = far[:, rows, columns][:, :height, :width]
        within = np.hypot(down, across) <= reach
        if within.any():
            np.minimum(nearest, beside, out=nearest, where=within)
    nearest[np.isinf(nearest)] = 0
    return nearest


def _displaced(depth: Floats, draw: _Draw, spec: DepthCameraSpec) -> Floats:
    """Each pixel reports what is some pixels beside it: the sensor matches patches, not pixels."""
    n, height, width = depth.shape
    lateral, jitter = draw(spec.lateral), draw(spec.jitter)
    across, down = (lateral * draw.smooth() + jitter * draw.noise() for _ in range(2))
    columns = np.rint(across + np.arange(width, dtype=np.float32)).clip(0, width - 1)
    rows = np.rint(down + np.arange(height, dtype=np.float32)[:, None]).clip(0, height - 1)
    pixel = rows.astype(np.int32) * width + columns.astype(np.int32)
    looked_at: Floats = np.take_along_axis(depth.reshape(n, -1), pixel.reshape(n, -1), axis=1)
    return looked_at.reshape(depth.shape)


def _edges(depth: Floats) -> NDArray[np.bool_]:
    """Pixels with depth beside one that has none, or that is more than JUMP nearer or farther."""
    beside = np.zeros(depth.shape, bool)
    for axis in (1, 2):
        before = (slice(None),) * axis + (slice(-1),)
        after = (slice(None),) * axis + (slice(1, None),)
        # what is missing is 0, and far from all depth
        jump = np.abs(np.diff(depth, axis=axis)) > JUMP
        beside[before] |= jump
        beside[after] |= jump
    return beside & (depth > 0)


def _dropped(depth: Floats, draw: _Draw, spec: DepthCameraSpec) -> Floats:
    """Without a drawn share of the pixels at discontinuities, in small groups."""
    shares = draw(spec.edge_dropout).ravel().tolist()
    level = [
        NormalDist().inv_cdf(share) if 0 < share < 1 else (share or -1) * 99 for share in shares
    ]
    below = draw.smooth(1) < np.array(level, np.float32)[:, None, None]
    kept: Floats = np.where(_edges(depth) & below, np.float32(0), depth)
    return kept


def _measured(depth: Floats, draw: _Draw, spec: DepthCameraSpec) -> Depth:
    """Depth by a disparity in whole eighths of a pixel, and then in whole mm."""
    with np.errstate(divide="ignore"):
        disparity = np.float32(DISPARITY) / depth + draw(spec.disparity) * draw.smooth()
    if spec.quantise:
        disparity = np.rint(disparity)
    measured = np.rint(np.float32(DISPARITY) / np.maximum(disparity, 1))
    return np.where(depth > 0, np.minimum(measured, 65535), 0).astype(np.uint16)
