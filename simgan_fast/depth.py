"""Depth images of hands: how NYU's files hold millimetres, its camera, and depth as the numbers that are trained on.

Depth is uint16 [h, w] in millimetres, 0 where there is none (background, or nothing measured). The NYU hand pose data
(Tompson et al. 2014) come from a PrimeSense camera of 640x480 pixels: u = FX x / z + U0 and v = V0 - FY y / z, x to
the right, y up and z away from the camera (the numbers of DeepPrior++, V2V-PoseNet and AWR).

Encoded depth is uint16 too. In training it becomes value / 32767.5 - 1, in [-1, 1], as all 16-bit images do.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from simgan_fast.errors import InputError

FX, FY, U0, V0 = 588.03, 587.07, 320.0, 240.0  # pixels
HEIGHT, WIDTH = 480, 640
PAPER_OFFSET = 2000.0  # mm: what Shrivastava et al. (CVPR 2017) subtract; the background becomes 0
PAPER_SCALE = 2000.0  # mm that are 1 in training
CUBE = 300.0  # mm: the side of the cube around the hand's centre (DeepPrior++)
MARGIN = 10  # pixels around a hand, before its box is made square
HALF = 32767.5  # of the range of uint16
NEAREST = 20.0  # mm: no hand is so near to a camera; such depth is in metres
VALUES = ("millimetres", "paper", "metric")  # what `encoded` makes of depth
# That are evaluated, of NYU's 36; the last is the palm.
JOINTS = (0, 3, 6, 9, 12, 15, 18, 21, 24, 25, 27, 30, 31, 32)
BACKGROUND = 32768  # where `encode_paper` puts 0; a depth of PAPER_OFFSET itself goes to 32767
# What each encoding puts where there is none.
NO_DEPTH = {"millimetres": 0, "paper": BACKGROUND, "metric": 65535}

Box = tuple[int, int, int, int]  # left, top, right, bottom in pixels of the whole image
Depth = NDArray[np.uint16]
Floats = NDArray[np.float64]


def decode_nyu(pixels: NDArray[np.uint8]) -> Depth:
    """Millimetres [h, w] of the RGB pixels [h, w, 3] of NYU's depth and synthdepth PNGs: 256 green + blue.

    >>> decode_nyu(np.array([[[0, 3, 2]]], np.uint8))
    array([[770]], dtype=uint16)
    """
    high = pixels[..., 1].astype(np.uint16)  # before the shift, which would overflow in 8 bits
    depth: Depth = (high << np.uint16(8)) | pixels[..., 2]
    return depth


def encode_nyu(depth: Depth) -> NDArray[np.uint8]:
    """The pixels [h, w, 3] that `decode_nyu` reads; red is 0."""
    return np.stack([np.zeros_like(depth), depth >> 8, depth & 255], axis=-1).astype(np.uint8)


def crop_depth(depth: Depth, box: Box) -> Depth:
    """The pixels of `box` [bottom - top, right - left]; beyond the border there is no depth."""
    left, top, right, bottom = box
    height, width = depth.shape
    cropped = np.zeros((bottom - top, right - left), depth.dtype)
    rows = slice(min(max(top, 0), height), max(min(bottom, height), 0))
    columns = slice(min(max(left, 0), width), max(min(right, width), 0))
    part = depth[rows, columns]
    first, second = rows.start - top, columns.start - left
    cropped[first : first + part.shape[0], second : second + part.shape[1]] = part
    return cropped


def crop_to_whole(points: ArrayLike, box: ArrayLike, size: tuple[int, int]) -> Floats:
    """Positions [..., 2] in the whole image, in pixels, of positions x, y in a crop resized to `size` (height, width).

    `box`: left, top, right, bottom [..., 4] of the crop; the axes before the last go with those of `points`.

    >>> crop_to_whole([111.5, 111.5], (190, 80, 290, 180), (224, 224))
    array([239.5, 129.5])
    """
    corners = np.asarray(box, np.float64)
    first, sides = corners[..., :2], corners[..., 2:] - corners[..., :2]
    height, width = size
    return first + (np.asarray(points, np.float64) + 0.5) * sides / (width, height) - 0.5


def hand_box(synthetic: Depth, margin: int = MARGIN) -> Box | None:
    """The square around the pixels [h, w] of a rendered hand, `margin` larger than they are; None where there are none.

    It may reach over the border.
    """
    rows, columns = (np.flatnonzero((synthetic > 0).any(axis)) for axis in (1, 0))
    if not len(rows):
        return None
    edges = [(int(line[0]) - margin, int(line[-1]) + 1 + margin) for line in (columns, rows)]
    side = max(last - first for first, last in edges)
    left, top = ((first + last - side) // 2 for first, last in edges)
    return left, top, left + side, top + side


def uvd_to_xyz(uvd: ArrayLike) -> Floats:
    """Points [..., 3] in mm of pixels u, v and depth in mm, by NYU's camera."""
    u, v, depth = np.moveaxis(np.asarray(uvd, np.float64), -1, 0)
    return np.stack([(u - U0) / FX * depth, (V0 - v) / FY * depth, depth], axis=-1)


def xyz_to_uvd(xyz: ArrayLike) -> Floats:
    """Pixels u, v and depth in mm [..., 3] of points [..., 3] in mm, by NYU's camera."""
    x, y, z = np.moveaxis(np.asarray(xyz, np.float64), -1, 0)
    return np.stack([x / z * FX + U0, V0 - y / z * FY, z], axis=-1)


def encoded(depth: Depth, values: str, centre: float) -> Depth:
    """Depth in mm as one of VALUES; `centre` is the hand's depth, which only "metric" needs."""
    if values == "paper":
        return encode_paper(depth)
    return encode_metric(depth, centre) if values == "metric" else depth


def encoding_of(images: Depth) -> str | None:
    """Which of VALUES images of hands are in, by their most frequent value, that without depth; None for another one.

    >>> encoding_of(np.array([32768, 16383, 32768], np.uint16))
    'paper'
    """
    most = int(np.bincount(images.reshape(-1), minlength=1).argmax())
    return {none: values for values, none in NO_DEPTH.items()}.get(most)


def plausible_depth(refined: Depth, raw: Depth, values: str, centre: ArrayLike) -> Depth:
    """Refined hands [n, c, h, w] as depth that can have been measured: of the hand's cube, or none.

    A refiner's values are continuous. It leaves the background near the value of no depth, which decodes to a depth of
    its own, and at edges it leaves pixels that float between hand and background (flying pixels). A pixel that is as
    near to no depth as to the hand of the `raw` image, its depth there or else the image's mean depth, has none: so
    missing pixels stay missing. Others are brought into the cube around the hand's `centre` [n] in mm, or into the raw
    image's range where that is wider. `values`: "paper" or "metric", the encoding of both.

    >>> raw = np.array([[[[12000, 12000, 32768, 32768]]]], np.uint16)  # 732 mm
    >>> plausible_depth(np.array([[[[12345, 25000, 32771, 20000]]]], np.uint16), raw, "paper", 740.0)
    array([[[[12345, 32768, 32768, 14581]]]], dtype=uint16)
    """
    none = NO_DEPTH[values]
    hand = raw != none
    count = hand.sum(axis=(1, 2, 3), keepdims=True)
    mean = np.where(hand, raw, 0).sum(axis=(1, 2, 3), keepdims=True, dtype=np.float64)
    beside = np.where(count > 0, mean / np.maximum(count, 1), none)
    halfway = (np.where(hand, raw, beside) + none) / 2
    kept = refined
    if values == "paper":  # metric values do not go beyond the cube
        middle = np.asarray(centre, np.float64).reshape(-1, 1, 1, 1)
        near, far = (
            encode_paper(np.clip(middle + side, 1, None)) for side in (-CUBE / 2, CUBE / 2)
        )
        near = np.minimum(near, np.where(hand, raw, near).min(axis=(1, 2, 3), keepdims=True))
        far = np.maximum(far, np.where(hand, raw, 0).max(axis=(1, 2, 3), keepdims=True))
        kept = np.clip(refined, near, far)
    return np.where(refined >= halfway, none, kept).astype(np.uint16)


def encode_paper(depth: Depth) -> Depth:
    """The paper's values: in training (depth - 2000) / 2000, clipped to [-1, 1], and 0 where there is no depth.

    >>> encode_paper(np.array([0, 1, 1000, 2000], np.uint16))
    array([32768,    16, 16383, 32767], dtype=uint16)
    """
    values = np.clip((depth - PAPER_OFFSET) / PAPER_SCALE, -1, 1)
    return np.where(depth == 0, BACKGROUND, np.floor((values + 1) * HALF)).astype(np.uint16)


def decode_paper(encoded: Depth) -> Depth:
    """The inverse of `encode_paper`, in whole mm: exact from 1 to 4000 mm, and 0 where there was no depth."""
    depth = np.rint((encoded / HALF - 1) * PAPER_SCALE + PAPER_OFFSET)
    return np.where(encoded == BACKGROUND, 0, depth).astype(np.uint16)


def encode_metric(depth: Depth, centre: float, cube: float = CUBE) -> Depth:
    """Relative to a hand's `centre` (its depth in mm): in training (depth - centre) / (cube / 2), clipped to [-1, 1].

    What is farther than the cube, and where there is no depth, is 1. Raises InputError for a centre or a cube that is
    not positive.

    >>> encode_metric(np.array([0, 700, 850], np.uint16), centre=700.0)
    array([65535, 32768, 65535], dtype=uint16)
    """
    _check(centre, cube)
    values = np.clip((depth - centre) / (cube / 2), -1, 1)
    return np.where(depth == 0, 65535, np.rint((values + 1) * HALF)).astype(np.uint16)


def decode_metric(encoded: Depth, centre: float, cube: float = CUBE) -> Depth:
    """The inverse of `encode_metric` in whole mm, for what lies inside of the cube; 0 for the background.

    The front face of the cube stands for all that was nearer.
    """
    _check(centre, cube)
    depth = np.rint((encoded / HALF - 1) * (cube / 2) + centre)
    return np.where(encoded == 65535, 0, np.maximum(depth, 0)).astype(np.uint16)


def _check(centre: float, cube: float) -> None:
    if not (0 < centre < 65536 and 0 < cube < 65536):
        raise InputError(f"the centre is {centre} mm and the cube {cube} mm: want more than 0.")
