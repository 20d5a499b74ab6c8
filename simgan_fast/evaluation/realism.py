"""How far sets of images are from a set of real ones, without a network that was trained elsewhere."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from simgan_fast.errors import InputError
from simgan_fast.evaluation.feature_distances import (
    Spread,
    frechet_distance,
    frechet_distance_unbiased,
    kernel_distance_of_subsets,
    precision_recall,
)
from simgan_fast.evaluation.pixel_distances import intensity_distance, octave_levels, octaves
from simgan_fast.evaluation.random_features import (
    FEATURES,
    SMALLEST_SIDE,
    feature_scale,
    random_features,
)
from simgan_fast.evaluation.side_by_side import checked_seed, side_by_side
from simgan_fast.evaluation.two_sample import (
    Accuracy,
    ClassifierTraining,
    accuracy_of,
    two_sample_folds,
)
from simgan_fast.histogram import equalised
from simgan_fast.progress import Progress

LEAST = 2 * FEATURES  # images of each set: with fewer a covariance of the features means nothing
MOST = 5000
EQUALISE = ("none", "histogram")


class ImageSet(Protocol):
    """What is needed of a set; a PackedSet has it. `images(start, stop)` gives `dtype` [m, *shape]."""

    @property
    def shape(self) -> tuple[int, int, int]: ...

    @property
    def dtype(self) -> str: ...

    def __len__(self) -> int: ...

    def images(self, start: int, stop: int) -> NDArray[Any]: ...


@dataclass(frozen=True)
class Realism:
    """What one set is from the real one; docs/realism.md says how to read each.

    `octaves_db`: octave -> level of this set minus that of the real one, in decibels; `octaves_rms_db`: the root of
    their mean square. `intensity`: in grey levels.
    """

    classifier: Accuracy
    kid: Spread
    fid: float
    fid_unbiased: float
    precision: float
    recall: float
    octaves_db: dict[str, float]
    octaves_rms_db: float
    intensity: float


def evaluate_realism(
    real: ImageSet,
    sets: Mapping[str, ImageSet],
    *,
    seed: int = 0,
    most: int = MOST,
    equalise: str = "none",
    training: ClassifierTraining | None = None,
) -> dict[str, Any]:
    """Compare each of `sets` with one half of the `real` images, and the other half of these too.

    The comparison of the halves is the reference: what the measures give where there is nothing to find. All
    comparisons have equally many images, as many as half of `real`, the smallest set and `most` allow, drawn at random
    without replacement, so that all numbers can be compared.

    Args:
        real: the set to compare with, at least 256 images.
        sets: name -> set of at least 128 images of the same shape and type.
        seed: of the draws, of the classifiers' first weights and of their mini-batches.
        most: images of each set at most, at least 128.
        equalise: "histogram": every image of every set, the real one too, is histogram-equalised first (OpenCV's
            equalizeHist, each channel by itself; uint8 only), so that exposure and contrast tell nothing apart.
        training: settings of the two-sample test.

    Returns:
        A dict that JSON can hold: `reference` and `sets` (name -> the same) as the fields of `Realism`, and `images`
        (of each set in a comparison), `shape`, `seed`, `equalise`, `training`.

    Raises:
        InputError: no set, too few images, other shapes or types, real images that are all alike, or a setting that
            cannot be.

    >>> results = evaluate_realism(photographs, {"raw": raw, "refined": refined})  # doctest: +SKIP
    """
    training = training or ClassifierTraining()
    count = _images_each(real, sets, most)
    even = _equaliser(equalise, real.dtype)
    rng = np.random.default_rng(checked_seed(seed))
    halves = even(_drawn(real, 2 * count, rng))
    first, second = halves[:count], halves[count:]
    drawn = {name: even(_drawn(images, count, rng)) for name, images in sets.items()}
    others = {"": second} | drawn
    middle, scale = feature_scale(random_features(halves))
    accuracies = _accuracies(first, others, training, seed)
    found: dict[str, dict[str, Any]] = {}
    with Progress(len(others), "set", "distances", quiet_for=2.0) as progress:
        reference = (random_features(first) - middle) / scale
        levels = octave_levels(first)
        for name, images in others.items():
            moved = (random_features(images) - middle) / scale
            distances = _feature_distances(reference, moved, seed)
            pixels = _pixel_distances(first, levels, images)
            realism = Realism(classifier=accuracies[name], **distances, **pixels)
            found[name] = dataclasses.asdict(realism)
            progress.update(1)
    return {
        "reference": found.pop(""),
        "sets": found,
        "images": count,
        "shape": list(real.shape),
        "seed": seed,
        "equalise": equalise,
        "training": dataclasses.asdict(training),
    }


def realism_table(results: Mapping[str, Any]) -> str:
    """Text of what `evaluate_realism` found: a line per measure, a column per set."""
    columns = [("real itself", results["reference"]), *results["sets"].items()]
    rows = [("", *(name for name, _ in columns))]
    rows += [(title, *(show(found) for _, found in columns)) for title, show in _LINES.items()]
    for octave in results["reference"]["octaves_db"]:
        levels = (f"{found['octaves_db'][octave]:+.2f}" for _, found in columns)
        rows.append((f"  {octave}", *levels))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    lines.append(
        f"{results['images']} images of each set against as many real ones; real itself: as many others of them"
    )
    if results["equalise"] != "none":
        lines.append("the histogram of every image was equalised first")
    return "\n".join(lines)


def _percent(accuracy: float, low: float, high: float, **_: Any) -> str:
    return f"{100 * accuracy:.1f} ({100 * low:.1f} to {100 * high:.1f})"


def _rounded(value: float) -> str:
    """Three decimals, and no more digits than that says something."""
    return f"{value:.3f}" if abs(value) < 100 else f"{value:,.0f}"


_LINES: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "told apart %": lambda x: _percent(**x["classifier"]),
    "KID": lambda x: f"{_rounded(x['kid']['mean'])} +- {_rounded(x['kid']['std'])}",
    "FID, unbiased": lambda x: _rounded(x["fid_unbiased"]),
    "FID": lambda x: _rounded(x["fid"]),
    "precision": lambda x: f"{x['precision']:.3f}",
    "recall": lambda x: f"{x['recall']:.3f}",
    "grey levels": lambda x: f"{x['intensity']:.2f}",
    "spectrum dB": lambda x: f"{x['octaves_rms_db']:.2f}",
}


def _images_each(real: ImageSet, sets: Mapping[str, ImageSet], most: int) -> int:
    """How many images of each set to compare; InputError where that cannot be done."""
    if not sets:
        raise InputError("no set came to compare with the real one: name at least one.")
    if most < LEAST:
        raise InputError(f"most is {most}: realism needs at least {LEAST} images of each set.")
    if min(real.shape[1:]) < SMALLEST_SIDE:
        height, width = real.shape[1:]
        raise InputError(
            f"the real images are {height}x{width} pixels: realism needs {SMALLEST_SIDE} a side."
        )
    for name, images in sets.items():
        if images.shape != real.shape or images.dtype != real.dtype:
            raise InputError(
                f"images of {name!r} are {images.dtype} {list(images.shape)} and the real ones {real.dtype} "
                f"{list(real.shape)} (channels, height, width): make them alike."
            )
        if len(images) < LEAST:
            raise InputError(f"{name!r} has {len(images)} images: realism needs at least {LEAST}.")
    if len(real) < 2 * LEAST:
        raise InputError(
            f"the real set has {len(real)} images: realism needs at least {2 * LEAST}, as one half is compared with "
            "the other."
        )
    return min(most, len(real) // 2, *map(len, sets.values()))


def _equaliser(equalise: str, dtype: str) -> Callable[[Tensor], Tensor]:
    """What is done to the images [n, c, h, w] of every set before they are measured."""
    if equalise not in EQUALISE:
        raise InputError(f"equalise is {equalise!r}: want one of {', '.join(EQUALISE)}.")
    if equalise == "none":
        return lambda images: images
    if dtype != "uint8":
        raise InputError(f"the images are {dtype}: histograms are equalised of uint8 images only.")
    return lambda images: torch.from_numpy(
        equalised(images.flatten(0, 1).numpy()).reshape(images.shape)
    )


def _drawn(images: ImageSet, count: int, rng: np.random.Generator) -> Tensor:
    """`count` images at random, in random order; only these are read."""
    rows = rng.choice(len(images), count, replace=False)
    out = np.empty((count, *images.shape), images.dtype)
    for place in np.argsort(rows):  # in the order of the disk
        out[place] = images.images(rows[place], rows[place] + 1)[0]
    return torch.from_numpy(out)


def _accuracies(
    first: Tensor, others: Mapping[str, Tensor], training: ClassifierTraining, seed: int
) -> dict[str, Accuracy]:
    """The two-sample test of `first` against each of the others."""
    jobs = {
        (name, number): fold
        for name, images in others.items()
        for number, fold in enumerate(two_sample_folds(first, images, training, seed))
    }
    with Progress(len(jobs) * training.updates, "update", "two-sample test") as progress:
        right = side_by_side(jobs, progress)
    return {
        name: accuracy_of(np.concatenate([right[name, fold] for fold in range(training.folds)]))
        for name in others
    }


def _feature_distances(reference: NDArray[Any], other: NDArray[Any], seed: int) -> dict[str, Any]:
    rng = np.random.default_rng(seed)  # the same subsets for every set
    precision, recall = precision_recall(reference, other)
    return {
        "kid": kernel_distance_of_subsets(reference, other, rng),
        "fid": frechet_distance(reference, other),
        "fid_unbiased": frechet_distance_unbiased(reference, other, rng),
        "precision": precision,
        "recall": recall,
    }


def _pixel_distances(first: Tensor, levels: NDArray[Any], other: Tensor) -> dict[str, Any]:
    moved = octave_levels(other) - levels
    return {
        "octaves_db": dict(zip(octaves(*first.shape[2:]), moved.tolist(), strict=True)),
        "octaves_rms_db": float(np.sqrt((moved**2).mean())),
        "intensity": intensity_distance(first, other),
    }
