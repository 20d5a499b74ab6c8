"""Labelled synthetic eyes, streamed: the bundled simulator."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simgan_fast.errors import InputError
from simgan_fast.simulators.camera import camera_model
from simgan_fast.simulators.eye_domains import DOMAINS, Floats, Range, Traits, draw_traits, spread
from simgan_fast.simulators.eye_geometry import Eye, build_eye, pixel_pitch
from simgan_fast.simulators.eye_scene import Scene, sub_pixel_grid
from simgan_fast.simulators.eye_shading import shade
from simgan_fast.simulators.stream import Batch, batches

BLOCK = 16  # images drawn and rendered together; part of the definition of every image
SMALLEST, LARGEST = 16, 2048
GAZE_PITCH: Range = (-25.0, 10.0)  # degrees; laptop users of MPIIGaze look down more than up
GAZE_YAW: Range = (-25.0, 25.0)


@dataclass(frozen=True)
class EyeBatch(Batch):
    """Some consecutive images of a simulated set, with their labels.

    images: uint8 [n, 1, h, w]. labels, float32: `gaze` [n, 3], the unit line of sight in the
    camera axes of MPIIGaze (x right, y down, z away from the camera); `pupil` [n, 2], its centre's
    x and y in pixels (the top-left pixel's centre is (0, 0)); `eyelids` [n, 32], x0, y0, x1, y1,
    ... of 8 points of the upper lid from the nasal (left) to the temporal corner, then 8 of the
    lower lid. start: the number of the first image.
    """


def simulate_eyes(
    count: int,
    *,
    seed: int = 0,
    size: tuple[int, int] = (35, 55),
    domain: str = "plain",
    start: int = 0,
    batch_size: int = 256,
) -> Iterator[EyeBatch]:
    """Render labelled left eyes as a stream of batches.

    count: how many images; start: the number of the first. Image i depends only on seed, domain,
    size and i, so a set can be made in parts, anywhere and in any order. size: (height, width) in
    pixels, 16 to 2048; 35x55 is the paper's, 36x60 that of MPIIGaze. domain: "plain", a clean
    rendering like UnityEyes', or "camera", other people in other light behind a webcam model, a
    stand-in for photographs. Gaze is uniform over pitch [-25, 10] and yaw [-25, 25] degrees in
    both. Raises InputError for a negative count, seed or start, another size or domain.

    >>> batch = next(simulate_eyes(100, seed=1))
    >>> batch.images.shape, batch.labels["gaze"].shape
    ((100, 1, 35, 55), (100, 3))
    """
    _check(domain, size, batch_size, count=count, seed=seed, start=start)
    simulator = _Simulator(seed, (int(size[0]), int(size[1])), domain)
    return batches(simulator.block, BLOCK, start, count, batch_size)


def _check(domain: str, size: tuple[int, int], batch_size: int, **numbers: int) -> None:
    for name, value in numbers.items():
        if value < 0:
            raise InputError(f"simulate_eyes: {name} is {value}; give 0 or more")
    if batch_size < 1:
        raise InputError(f"simulate_eyes: batch_size is {batch_size}; give at least 1")
    if domain not in DOMAINS:
        raise InputError(f"simulate_eyes: domain is {domain!r}; choose from {', '.join(DOMAINS)}")
    if len(size) != 2 or min(size) < SMALLEST or max(size) > LARGEST:
        raise InputError(
            f"simulate_eyes: size is {size}; give (height, width), each {SMALLEST} to {LARGEST}"
        )


class _Simulator:
    """Renders numbered blocks of `BLOCK` images, each from its own counter-based random stream."""

    def __init__(self, seed: int, size: tuple[int, int], domain: str) -> None:
        self.seed, self.size, self.domain = seed, size, domain
        self.pixel = pixel_pitch(size)  # mm
        self.grid = sub_pixel_grid(size, self.pixel)

    def block(self, number: int) -> EyeBatch:
        key = (self.seed, list(DOMAINS).index(self.domain), number)
        rng = np.random.Generator(np.random.Philox(np.random.SeedSequence(key)))
        gaze = rng.random((2, BLOCK), dtype=np.float32)
        pitch, yaw = np.radians(spread(GAZE_PITCH, gaze[0])), np.radians(spread(GAZE_YAW, gaze[1]))
        traits = draw_traits(DOMAINS[self.domain], rng, BLOCK)
        eye = build_eye(traits, pitch, yaw, self.grid[0])
        light = shade(Scene(eye, traits, self.grid, rng))
        return EyeBatch(self._photograph(light, traits, rng), self._labels(eye), number * BLOCK)

    def _photograph(
        self, light: Floats, traits: Traits, rng: np.random.Generator
    ) -> NDArray[np.uint8]:
        if self.domain == "camera":
            return camera_model(light[:, None], rng)
        tone = np.clip(light, 0.0, 1.0) ** traits["gamma"]
        return (tone * 255.0 + 0.5).astype(np.uint8)[:, None]

    def _labels(self, eye: Eye) -> dict[str, Floats]:
        height, width = self.size
        middle = np.array([(width - 1) / 2, (height - 1) / 2], np.float32)
        pupil = eye.iris[:, :2, 0, 0] / self.pixel + middle
        lids = eye.lid_points.transpose(0, 2, 1) / self.pixel + middle
        return {
            "gaze": eye.gaze.astype(np.float32),
            "pupil": pupil.astype(np.float32),
            "eyelids": lids.reshape(BLOCK, -1).astype(np.float32),
        }
