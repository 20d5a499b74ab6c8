"""What looks wrong in a set: a table of checks, each a small function and a sentence.

A check yields the images that it is about, as rows [m], or [m, 2] where the second is the image that the first is
compared with, or none where it is about the whole set; and the words of its sentence.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simgan_fast.data.packed_format import VALUE_RANGE, Shape
from simgan_fast.data.set_facts import PixelFacts

EXAMPLES = 3  # names with each suspicion
POSITIONS = ("pupil", "eyelids", "joints")  # labels that are x0, y0, x1, y1, ... in pixels
ANGLES = ("pitch", "yaw", "pitch_rad", "yaw_rad")  # in radians

FLAT = 0.01  # spread of a nearly constant image, of the set's range; photographs have 0.03 and more
UNIT = 0.02  # by which the length of a gaze may miss 1; rounded to two digits it misses it by 0.01
SAME_GAZE = 0.01  # between the x, y and z of a gaze and of its mirror image
BEYOND = (
    0.1  # of the image's sides, that a point may lie outside: lids of an eye close to the border do
)
FILLED = 1 / 8  # of the range that values can have
CLIPPED = 0.1  # of all pixels; 0.7 % in photographs, 2 % in UnityEyes
BACKGROUND = 0.7  # of the border's pixels: black there is a background, as it is around hands that were cut out

Array = NDArray[Any]
Finding = tuple[Array, dict[str, Any]]
NONE = np.empty(0, np.intp)


@dataclass(frozen=True)
class Evidence:
    """What the checks look at: `gaze` [n, 3] has length 1, or is NaN where a label has no direction; None without."""

    shape: Shape
    dtype: str
    pixels: PixelFacts
    labels: Mapping[str, Array]
    gaze: Array | None


@dataclass(frozen=True)
class Suspicion:
    """`count` images (0: the whole set) that failed `check`, a `sentence` about them, and up to EXAMPLES names."""

    check: str
    count: int
    sentence: str
    examples: list[str]


def constant(evidence: Evidence) -> Iterator[Finding]:
    limit = FLAT * (evidence.pixels.high - evidence.pixels.low)
    yield np.flatnonzero(evidence.pixels.spread <= limit), {}


def duplicates(evidence: Evidence) -> Iterator[Finding]:
    digests = evidence.pixels.digests
    yield _earlier(digests, digests), {}


def mirrored(evidence: Evidence) -> Iterator[Finding]:
    yield _mirrored(evidence.pixels), {}


def mirrored_gaze(evidence: Evidence) -> Iterator[Finding]:
    if evidence.gaze is not None:
        pairs = _mirrored(evidence.pixels)
        one, other = evidence.gaze[pairs[:, 0]], evidence.gaze[pairs[:, 1]]
        yield pairs[np.abs(one - other * [-1, 1, 1]).max(axis=1, initial=0) > SAME_GAZE], {}


def not_finite(evidence: Evidence) -> Iterator[Finding]:
    for label, values in evidence.labels.items():
        yield np.flatnonzero(~np.isfinite(values).all(axis=1)), {"label": label}


def gaze_length(evidence: Evidence) -> Iterator[Finding]:
    values = evidence.labels.get("gaze", np.empty((0, 3)))
    if values.shape[1] == 3:
        length = np.linalg.norm(values.astype(np.float64), axis=1)
        rows = np.flatnonzero(np.abs(length - 1) > UNIT)
        if len(rows):
            yield rows, {"low": length[rows].min(), "high": length[rows].max()}


def gaze_away(evidence: Evidence) -> Iterator[Finding]:
    if evidence.gaze is not None:
        yield np.flatnonzero(evidence.gaze[:, 2] > 0), {}


def degrees(evidence: Evidence) -> Iterator[Finding]:
    for label in (name for name in ANGLES if name in evidence.labels):
        beyond = np.abs(evidence.labels[label]).max(axis=1) > np.pi / 2
        yield np.flatnonzero(beyond), {"label": label}


def outside(evidence: Evidence) -> Iterator[Finding]:
    for label, points in _points(evidence):
        sides = np.array(_sides(evidence))
        far = (points < -0.5 - BEYOND * sides) | (points > (1 + BEYOND) * sides - 0.5)
        yield np.flatnonzero(far.any(axis=(1, 2))), {"label": label}


def fractions(evidence: Evidence) -> Iterator[Finding]:
    for label, points in _points(evidence):
        within = (points >= 0).all() and (points <= 1).all() and min(_sides(evidence)) > 4
        yield from [(NONE, {"label": label})] * bool(within)


def never_varies(evidence: Evidence) -> Iterator[Finding]:
    for label, values in evidence.labels.items():
        if len(values) > 1 and (values == values[0]).all():
            yield NONE, {"label": label, "value": ", ".join(f"{x:.4g}" for x in values[0, :4])}


def small_range(evidence: Evidence) -> Iterator[Finding]:
    pixels, top = evidence.pixels, VALUE_RANGE[evidence.dtype][1]
    if pixels.high - pixels.low < FILLED * top:
        ends = (2 * pixels.low / top - 1, 2 * pixels.high / top - 1)
        words = {"low": pixels.low, "high": pixels.high, "top": top}
        yield NONE, {**words, "first": ends[0], "last": ends[1]}


def coarse(evidence: Evidence) -> Iterator[Finding]:
    levels = evidence.pixels.levels
    step = int(np.gcd.reduce(levels))
    if step * step > VALUE_RANGE[evidence.dtype][1] and len(levels) > 1:
        yield NONE, {"step": step, "levels": len(levels)}


def clipped(evidence: Evidence) -> Iterator[Finding]:
    histogram, frame = (
        counts / counts.sum() for counts in (evidence.pixels.histogram, evidence.pixels.frame)
    )
    for value, what in zip(VALUE_RANGE[evidence.dtype], ("black", "white"), strict=True):
        if histogram[value] > CLIPPED and frame[value] < BACKGROUND:
            yield NONE, {"share": histogram[value], "value": value, "what": what}


@dataclass(frozen=True)
class Check:
    """`find` and its sentence, in which `are` and `have` stand for the images and their verb."""

    name: str
    find: Callable[[Evidence], Iterator[Finding]]
    sentence: str


CHECKS = (
    Check("constant", constant, "{are} of one value, or nearly so"),
    Check("duplicate", duplicates, "{have} exactly the pixels of an earlier one"),
    Check("mirrored", mirrored, "{are} exactly an earlier one, mirrored left to right"),
    Check(
        "mirrored gaze",
        mirrored_gaze,
        "{are} an earlier one, mirrored, and the gaze is not: its x should change sign",
    ),
    Check("not finite", not_finite, "{have} a label {label!r} that is infinite or no number"),
    Check(
        "gaze length",
        gaze_length,
        "{have} a gaze that is no unit vector: the lengths are {low:.3g} to {high:.3g}",
    ),
    Check(
        "gaze away",
        gaze_away,
        "{have} a gaze away from the camera (yaw beyond 90 degrees): z should be negative",
    ),
    Check("degrees", degrees, "{have} a {label!r} beyond pi/2: degrees in place of radians?"),
    Check(
        "outside",
        outside,
        "{have} points of {label!r} outside of the image: pixels of another size, or x and y swapped?",
    ),
    Check(
        "fractions",
        fractions,
        "all points of {label!r} are from 0 to 1: parts of the image, where pixels are wanted?",
    ),
    Check("never varies", never_varies, "the label {label!r} is the same in all images: {value}"),
    Check(
        "small range",
        small_range,
        "values are {low} to {high} of 0 to {top}: in training they would be only {first:.3f} to {last:.3f} of -1 to 1",
    ),
    Check(
        "coarse",
        coarse,
        "all values are multiples of {step}, {levels} different ones: data of fewer bits?",
    ),
    Check(
        "clipped",
        clipped,
        "{share:.0%} of the pixels are {value}, {what}: clipped, or scaled wrongly?",
    ),
)


def suspicions(evidence: Evidence, names: Sequence[str]) -> list[Suspicion]:
    """What the CHECKS find in a set of images with these `names` [n], in the table's order."""
    found = []
    for check in CHECKS:
        for rows, words in check.find(evidence):
            if len(rows) or rows is NONE:
                examples = [_example(row, names) for row in rows[:EXAMPLES]]
                sentence = check.sentence.format(**_counted(len(rows)), **words)
                found.append(Suspicion(check.name, len(rows), sentence, examples))
    return found


def _counted(count: int) -> dict[str, str]:
    if count == 1:
        return {"are": "1 image is", "have": "1 image has"}
    return {"are": f"{count} images are", "have": f"{count} images have"}


def _example(row: Array, names: Sequence[str]) -> str:
    """'b.png', or 'b.png' (of 'a.png')."""
    name, *others = (repr(names[i]) for i in np.atleast_1d(row))
    return f"{name} (of {others[0]})" if others else name


def _mirrored(pixels: PixelFacts) -> Array:
    """Pairs [m, 2] of an image and the earlier one that it mirrors; an image that is its own mirror image is none."""
    pairs = _earlier(pixels.mirrored, pixels.digests)
    symmetric: Array = pixels.mirrored == pixels.digests
    return pairs[~symmetric[pairs[:, 0]]]


def _earlier(wanted: Array, digests: Array) -> Array:
    """Pairs [m, 2] of a row i and the first row j < i with digests[j] = wanted[i]."""
    order = np.argsort(digests, kind="stable")
    at = np.searchsorted(digests[order], wanted).clip(max=len(order) - 1)
    first = order[at]
    rows = np.flatnonzero((digests[first] == wanted) & (first < np.arange(len(first))))
    return np.stack([rows, first[rows]], axis=1)


def _points(evidence: Evidence) -> Iterator[tuple[str, Array]]:
    """Labels that are positions in pixels, as [n, points, 2]."""
    for label, values in evidence.labels.items():
        if label in POSITIONS and values.shape[1] % 2 == 0:
            yield label, values.reshape(len(values), -1, 2)


def _sides(evidence: Evidence) -> tuple[int, int]:
    """Width and height."""
    return evidence.shape[2], evidence.shape[1]
