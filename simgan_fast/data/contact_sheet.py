"""A contact sheet: some images of a set side by side, enlarged, with what their labels say drawn into them.

Everything in the images is in display pixels times FINE, and shrunk at the end: Pillow's lines are not smooth.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

SIDE = 220  # display pixels of an image's longer side, about
FINE = 3
GAP, MARGIN, LINE = 8, 12, 16  # between images, around the sheet, for a name
PAPER, INK, DARK = (250, 250, 250), (70, 70, 70), (0, 0, 0, 170)
ARROW, LIDS, PUPIL = (255, 190, 0), (0, 220, 130), (0, 210, 255)
MISS = (255, 255, 255)  # from a predicted joint to the true one
ARROW_LENGTH = 0.9  # of the image's shorter side, for a gaze across the line of sight
BACKGROUND = 0.1  # of an image's 16-bit pixels, that its most frequent value must have to be one

# Joints of NYU's hands in the order of `joints` (simgan_fast.data.readers.nyu_hands): from the palm along each finger,
# and to the two of the wrist.
PALM = 13
FINGERS: tuple[tuple[tuple[int, ...], tuple[int, int, int]], ...] = (
    ((PALM, 1, 0), (80, 160, 255)),
    ((PALM, 3, 2), (0, 220, 220)),
    ((PALM, 5, 4), (90, 230, 90)),
    ((PALM, 7, 6), (255, 220, 0)),
    ((PALM, 10, 9, 8), (255, 90, 70)),
    ((PALM, 11), (230, 130, 255)),
    ((PALM, 12), (230, 130, 255)),
)

Array = NDArray[Any]
Colour = tuple[int, int, int]


def contact_sheet(
    images: Array,
    names: Sequence[str],
    labels: Mapping[str, Array] | None = None,
    gaze: Array | None = None,
    columns: int | None = None,
) -> NDArray[np.uint8]:
    """One picture [height, width, 3] of images [m, c, h, w], uint8 or uint16, with their names below.

    Small images are enlarged by a whole number, large ones shrunk. 16-bit images are stretched to their own values; of
    other channels than 1 or 3 the first is shown.

    `labels`: of these, `pupil`, `eyelids` and `joints`, positions in pixels, are drawn; of 14 joints finger by finger.
    `joints_true`, as many: a thin line goes to each from its joint.
    `gaze`: unit vectors [m, 3], x right and y down, drawn as arrows from the pupil, or the middle where there is none:
    across the line of sight, so that a gaze into the camera is a dot. What is not finite is not drawn.
    `columns`: images in a row; by default what makes the sheet a little wider than high.

    >>> contact_sheet(np.zeros((6, 1, 35, 55), np.uint8), list("abcdef")).shape
    (344, 700, 3)
    """
    height, width = images.shape[2:]
    shown = shown_size(width, height)
    if columns is None:
        columns = math.ceil(math.sqrt(len(images) * 5 / 3))
        columns = math.ceil(len(images) / math.ceil(len(images) / columns))
    rows = math.ceil(len(images) / columns)
    across, down = shown[0] + GAP, shown[1] + LINE + GAP
    sheet = Image.new(
        "RGB", (columns * across - GAP + 2 * MARGIN, rows * down - GAP + 2 * MARGIN), PAPER
    )
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default()
    for i, (image, name) in enumerate(zip(images, names, strict=True)):
        left, top = MARGIN + i % columns * across, MARGIN + i // columns * down
        points = {label: values[i] for label, values in (labels or {}).items()}
        direction = gaze[i] if gaze is not None else None
        sheet.paste(_drawn(image, shown, points, direction), (left, top))
        text = _shortened(name, shown[0], font)
        pen.text((left + shown[0] // 2, top + shown[1] + 2), text, INK, font, anchor="ma")
    return np.asarray(sheet)


def shown_size(width: int, height: int) -> tuple[int, int]:
    """Width and height in display pixels of an image of so many pixels."""
    scale = SIDE / max(width, height)
    if scale > 1:
        return width * round(scale), height * round(scale)
    return max(1, round(width * scale)), max(1, round(height * scale))


def displayed(image: Array) -> NDArray[np.uint8]:
    """An image [c, h, w], uint8 or uint16, as uint8 [h, w, 3].

    16-bit values are stretched from the smallest to the largest. A background (the most frequent value) is left out of
    that, and is black below them or white above.
    """
    planes = image if len(image) == 3 else image[:1].repeat(3, axis=0)
    if planes.dtype != np.uint8:
        values, counts = np.unique(planes, return_counts=True)
        edge = 0
        if len(values) > 1 and counts.max() > BACKGROUND * planes.size:
            values, edge = np.delete(values, counts.argmax()), 32  # grey levels off black and white
        low, high = float(values[0]), float(values[-1])
        grey = edge + (planes - low) / max(high - low, 1) * (255 - 2 * edge)
        planes = np.where(planes < low, 0, np.where(planes > high, 255, grey))
    return np.ascontiguousarray(planes.transpose(1, 2, 0).astype(np.uint8))


def _drawn(
    image: Array, shown: tuple[int, int], labels: Mapping[str, Array], gaze: Array | None
) -> Image.Image:
    picture = Image.fromarray(displayed(image))
    grown = shown[0] >= picture.width
    picture = picture.resize(shown, Image.Resampling.NEAREST if grown else Image.Resampling.LANCZOS)
    overlay = Image.new("RGBA", (shown[0] * FINE, shown[1] * FINE))
    pen = _Pen(overlay, image.shape[2], image.shape[1])
    for place in pen.places(labels.get("eyelids")):
        pen.dot(place, 1.8, LIDS)
    _draw_joints(pen, labels.get("joints"))
    _draw_misses(pen, labels.get("joints"), labels.get("joints_true"))
    pupil = pen.places(labels.get("pupil"))
    if gaze is not None and np.isfinite(gaze).all():
        start = pupil[0] if len(pupil) else np.array(overlay.size) / 2
        pen.arrow(start, gaze[:2] * ARROW_LENGTH * min(overlay.size))
        pen.dot(start, 1.8, ARROW)
    for place in pupil:
        pen.dot(place, 2.5, PUPIL)
    picture.paste(small := overlay.reduce(FINE), mask=small)
    return picture


def _draw_joints(pen: _Pen, joints: Array | None) -> None:
    places = pen.places(joints)
    if joints is None or len(places) != PALM + 1:
        for place in places:
            pen.dot(place, 2.5, PUPIL)
        return
    for finger, colour in FINGERS:
        pen.line([tuple(places[joint]) for joint in finger], 2, colour)
    for finger, colour in FINGERS:
        for joint in finger[1:]:
            pen.dot(places[joint], 3, colour)
    pen.dot(places[PALM], 4, (255, 255, 255))


def _draw_misses(pen: _Pen, joints: Array | None, true: Array | None) -> None:
    if joints is None or true is None:
        return
    for pair in zip(joints.reshape(-1, 2), true.reshape(-1, 2), strict=True):
        ends = [tuple(place) for point in pair for place in pen.places(point)]
        if len(ends) == 2:
            pen.line(ends, 1, MISS)


class _Pen:
    """Draws on the layer over an image of `width` x `height` pixels; widths and radii are in display pixels."""

    def __init__(self, layer: Image.Image, width: int, height: int) -> None:
        self._draw = ImageDraw.Draw(layer)
        self._sides = np.array([width, height])
        self._scale = np.array(layer.size) / self._sides

    def places(self, positions: Array | None) -> Array:
        """Positions x0, y0, ... in the image's pixels as [points, 2] on the layer, without those far off it."""
        if positions is None or len(positions) % 2:
            return np.empty((0, 2))
        points = positions.reshape(-1, 2).astype(np.float64)
        near = np.abs(points) < 4 * self._sides  # false of what is not finite
        places: Array = (points[near.all(axis=1)] + 0.5) * self._scale
        return places

    def dot(self, place: Any, radius: float, colour: Colour) -> None:
        x, y = place
        for r, fill in ((radius + 1, DARK), (radius, colour)):
            self._draw.ellipse([x - r * FINE, y - r * FINE, x + r * FINE, y + r * FINE], fill)

    def line(self, points: Sequence[Any], width: float, colour: Colour) -> None:
        for w, fill in ((width + 2, DARK), (width, colour)):
            self._draw.line(points, fill, round(w * FINE), joint="curve")

    def arrow(self, start: Array, shaft: Array) -> None:
        """From `start` by `shaft`, as far as the layer reaches; a short one has a small head."""
        room = np.where(shaft > 0, self._sides * self._scale - start, start)
        shaft = shaft * np.clip(room / np.maximum(np.abs(shaft), 1e-9), 0, 1).min()
        end, length = start + shaft, math.hypot(*shaft)
        self.line([tuple(start), tuple(end)], 2, ARROW)
        along = shaft * min(0.5, 7 * FINE / max(length, 1e-9))
        across = np.array([-along[1], along[0]]) * 0.55
        wings = (end - along + across, end, end - along - across)
        self.line([tuple(point) for point in wings], 2, ARROW)


def _shortened(name: str, width: int, font: Any) -> str:
    """The end of a name, as much as `width` display pixels hold; what the font may lack becomes a question mark."""
    text = "".join(c if c.isprintable() and ord(c) < 256 else "?" for c in name)
    if font.getlength(text) <= width:
        return text
    while text and font.getlength("..." + text) > width:
        text = text[1:]
    return "..." + text
