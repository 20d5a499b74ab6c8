"""Labelled synthetic depth images of hands, streamed: the bundled simulator."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from simgan_fast import depth as depths
from simgan_fast.depth import HEIGHT, JOINTS, VALUES, WIDTH, Box
from simgan_fast.errors import InputError
from simgan_fast.simulators.depth_camera import depth_camera
from simgan_fast.simulators.eye_domains import Floats, draw_traits, spread
from simgan_fast.simulators.hand_domains import DOMAINS, POSES, HandDomain
from simgan_fast.simulators.hand_pose import SHAPES, draw_pose
from simgan_fast.simulators.hand_skeleton import Hand, build_hand
from simgan_fast.simulators.hand_views import Camera, three_cameras
from simgan_fast.simulators.round_cones import cast
from simgan_fast.simulators.stream import Batch, batches

BLOCK = 16  # poses drawn together; part of the definition of every image
SMALLEST, LARGEST = 16, 2048
CROPS = ("box", "none")


@dataclass(frozen=True)
class HandBatch(Batch):
    """Some consecutive images of a simulated set, with the labels of the NYU reader.

    images: uint16 [n, 1, h, w]. labels, float32: `joints` [n, 28], x0, y0, ... of the 14 joints that are evaluated, in
    pixels of the image; `joints_xyz` [n, 42] in mm, x right, y up, z away from the camera; `centre` [n, 1], the palm's
    depth in mm; `box` [n, 4], left, top, right, bottom of the crop in the 480x640 image; `frame` [n, 1], the number of
    the pose; `view` [n, 1], 1 to 3. Where asked for, `skeleton` [n, 108], all 36 joints as in `joints_xyz`. start:
    the number of the first image.
    """


def simulate_hands(
    count: int,
    *,
    seed: int = 0,
    size: tuple[int, int] | None = None,
    domain: str = "plain",
    views: int = 1,
    poses: str = "all",
    crop: str = "box",
    values: str = "millimetres",
    skeleton: bool = False,
    start: int = 0,
    batch_size: int = 64,
) -> Iterator[HandBatch]:
    """Render labelled right hands as a stream of batches of depth images.

    Args:
        count: how many images; start: the number of the first. Image i shows pose i // views by camera i % views + 1,
            and depends only on seed, domain and these two, so a set can be made in parts, anywhere and in any order.
        size: (height, width) in pixels, 16 to 2048; default 224x224, the paper's, or 480x640 with crop "none".
        domain: "plain", a clean rendering, or "camera", other hands seen by a structured-light sensor.
        poses: "all", or "open": open and relaxed hands that show their palm, which are easier.
        views: 1 or 3 cameras for each pose; the first is the same in both.
        crop: "box", a square around the hand as the NYU reader crops, or "none", the camera's whole image.
        values: "millimetres", "paper" or "metric", as the NYU reader encodes them.
        skeleton: give all 36 joints too, as the label `skeleton`.

    Raises InputError for a negative count, seed or start and an option that is none of these.

    >>> batch = next(simulate_hands(20, seed=1))
    >>> batch.images.shape, batch.labels["joints"].shape
    ((20, 1, 224, 224), (20, 28))
    """
    size = size or ((224, 224) if crop == "box" else (HEIGHT, WIDTH))
    _check(size, batch_size, count=count, seed=seed, start=start)
    for name, value, known in (
        ("domain", domain, tuple(DOMAINS)),
        ("views", views, (1, 3)),
        ("poses", poses, tuple(POSES)),
        ("crop", crop, CROPS),
        ("values", values, VALUES),
    ):
        if value not in known:
            raise InputError(
                f"simulate_hands: {name} is {value!r}; choose from {', '.join(map(str, known))}"
            )
    simulator = _Simulator(
        seed, (int(size[0]), int(size[1])), domain, views, poses, crop, values, skeleton
    )
    return batches(simulator.block, BLOCK * views, start, count, batch_size)


def _check(size: tuple[int, int], batch_size: int, **numbers: int) -> None:
    for name, value in numbers.items():
        if value < 0:
            raise InputError(f"simulate_hands: {name} is {value}; give 0 or more")
    if batch_size < 1:
        raise InputError(f"simulate_hands: batch_size is {batch_size}; give at least 1")
    if len(size) != 2 or min(size) < SMALLEST or max(size) > LARGEST:
        raise InputError(
            f"simulate_hands: size is {size}; give (height, width), each {SMALLEST} to {LARGEST}"
        )


@dataclass(frozen=True)
class _Simulator:
    """Renders numbered blocks of `BLOCK` poses, each from its own counter-based random streams."""

    seed: int
    size: tuple[int, int]
    domain: str
    views: int
    poses: str
    crop: str
    values: str
    skeleton: bool

    def block(self, number: int) -> HandBatch:
        hands, views = DOMAINS[self.domain]
        poses = POSES[self.poses]
        rng = self._stream(number, 0)
        hand = draw_hand(hands, rng, BLOCK, poses.shapes)
        cameras = three_cameras(replace(views, **poses.views), hand, rng, poses.backs)[: self.views]
        shots = [self._shot(hand, camera, number, k + 1) for k, camera in enumerate(cameras)]
        # view by view to pose by pose
        images = np.stack([images for images, _ in shots], axis=1)
        labels = {k: np.stack([labels[k] for _, labels in shots], axis=1) for k in shots[0][1]}
        flat = {k: v.reshape(BLOCK * self.views, -1) for k, v in labels.items()}
        pixels = images.reshape(-1, 1, *self.size)
        return HandBatch(pixels, flat, number * BLOCK * self.views)

    def _stream(self, block: int, view: int) -> np.random.Generator:
        """View 0 is the hands' own stream; the others are the sensors'."""
        key = (self.seed, list(DOMAINS).index(self.domain), block, view)
        return np.random.Generator(np.random.Philox(np.random.SeedSequence(key)))

    def _shot(
        self, hand: Hand, camera: Camera, number: int, view: int
    ) -> tuple[NDArray[np.uint16], dict[str, Floats]]:
        """Images [BLOCK, h, w] of one camera, and their labels."""
        joints = camera.see(hand.joints)  # x right, y down
        measured = self.domain == "camera"
        arms = camera.see(hand.arm_ends) if measured else None
        whole = self.crop == "none"
        boxes, crops = _rendered(camera.see(hand.ends), hand, arms, whole)
        if measured:
            rng = self._stream(number, view)
            crops = [depth_camera(crop[None], rng)[0] for crop in crops]
        frames = np.arange(number * BLOCK, (number + 1) * BLOCK)
        labels = self._labels(joints * [1, -1, 1], boxes, frames, view)
        images = [
            depths.encoded(_nearest(crop, self.size), self.values, centre)
            for crop, centre in zip(crops, labels["centre"][:, 0].tolist(), strict=True)
        ]
        return np.stack(images), labels

    def _labels(
        self, joints: Floats, boxes: list[Box], frames: Floats, view: int
    ) -> dict[str, Floats]:
        """joints: [n, 36, 3] in mm, y up."""
        n = len(joints)
        known = joints[:, JOINTS]
        box = np.array(boxes, np.float64)
        sides = box[:, None, 2:] - box[:, None, :2]
        places = depths.xyz_to_uvd(known)[..., :2] - box[:, None, :2] + 0.5
        places = places * np.array(self.size[::-1]) / sides - 0.5
        labels = {
            "joints": places.reshape(n, -1),
            "joints_xyz": known.reshape(n, -1),
            "centre": known[:, -1, 2:],
            "box": box,
            "frame": frames[:, None],
            "view": np.full((n, 1), view),
        }
        if self.skeleton:
            labels["skeleton"] = joints.reshape(n, -1)
        return {name: values.astype(np.float32) for name, values in labels.items()}


def draw_hand(
    domain: HandDomain, rng: np.random.Generator, n: int, shapes: Sequence[str] = tuple(SHAPES)
) -> Hand:
    """n hands in their own axes, of drawn proportions and in drawn poses, around some of `SHAPES`."""
    traits = draw_traits(domain, rng, n)
    lengths = spread(domain.single_length, rng.random((n, 5)))
    wrist = np.concatenate([traits["wrist_flexion"], traits["wrist_deviation"]], axis=1)[..., 0]
    return build_hand(traits, lengths, draw_pose(rng, traits["looseness"][:, 0, 0], wrist, shapes))


def _rendered(
    ends: Floats, hand: Hand, arms: Floats | None, whole: bool
) -> tuple[list[Box], list[depths.Depth]]:
    """The reader's boxes around n hands, or the `whole` picture, and exact depth in them.

    arms: cones [n, k, 2, 3] of the rest of the forearm, which the boxes take no account of.
    """
    boxes, crops = [], []
    for i, one in enumerate(ends):
        shown = _cast(one, hand.radii[i], hand.blend[i])
        box = (0, 0, WIDTH, HEIGHT) if whole else _box(*shown)
        crop = _placed(*shown, box)
        if arms is not None:
            radii = hand.arm_radii[i]
            arm = _placed(*_cast(arms[i], radii, np.zeros(len(radii))), box)
            crop = np.where((crop == 0) | ((arm > 0) & (arm < crop)), arm, crop)
        boxes.append(box)
        crops.append(crop)
    return boxes, crops


def _cast(ends: Floats, radii: Floats, blend: Floats) -> tuple[depths.Depth, Box]:
    """Depth in whole mm of round cones, and where in the camera's picture it is."""
    box, depth = cast(ends, radii, blend)
    return np.where(np.isinf(depth), 0, np.rint(depth)).astype(np.uint16), box


def _box(depth: depths.Depth, place: Box) -> Box:
    """The reader's box around a hand of which `depth` shows `place`."""
    inner = depths.hand_box(depth)
    assert inner is not None, "every hand is placed within the picture"
    left, top, _, _ = place
    return inner[0] + left, inner[1] + top, inner[2] + left, inner[3] + top


def _placed(depth: depths.Depth, place: Box, box: Box) -> depths.Depth:
    """What `box` shows of depth that is at `place`."""
    left, top, _, _ = place
    return depths.crop_depth(depth, (box[0] - left, box[1] - top, box[2] - left, box[3] - top))


def _nearest(depth: depths.Depth, size: tuple[int, int]) -> depths.Depth:
    """Resized by the nearest pixel, as the NYU hands are when they are read."""
    rows, columns = (
        ((np.arange(new) + 0.5) * old / new).astype(np.intp)
        for new, old in zip(size, depth.shape, strict=True)
    )
    resized: depths.Depth = depth[rows[:, None], columns]
    return resized
