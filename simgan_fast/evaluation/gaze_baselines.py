"""What pixels alone say about gaze: nearest neighbours and ridge regression, beside the paper's estimator.

A network that does not beat them has learned little, and what helps them too is seen in the pixels as they lie. Nearest
neighbours are among the methods that the paper's table 3 compares with.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from simgan_fast.errors import InputError
from simgan_fast.evaluation.gaze_metrics import angular_error, cumulative_curve, gaze_scores
from simgan_fast.progress import Progress

NEIGHBOURS = (1, 2, 4, 8, 16, 32, 64)
STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0)  # against the mean variance of a pixel
VALIDATION_SHARE, MOST_VALIDATION = 0.2, 2000  # of the training set, to choose by
MOST_VALUES = 4096  # of an image: the normal equations of more take above 128 MiB
BLOCK = 2048  # images that are float64 at a time

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Baseline:
    """What one of the two predicts.

    `predicted`: gaze vectors [m, 3] of the test images, not of unit length. `chosen`: the number of neighbours, or the
    strength of the ridge. `validation_error_deg`: candidate -> mean angular error on the images that chose.
    """

    predicted: Floats
    chosen: float
    validation_error_deg: dict[float, float]


class Pixels:
    """Images [n, c, h, w] of uint8 or uint16 as rows of float64 in [-1, 1], block by block.

    Images of more than MOST_VALUES values are averaged over squares until they have no more.
    """

    def __init__(self, images: NDArray[Any]) -> None:
        self._images, self._half = images, np.iinfo(images.dtype).max / 2
        channels, height, width = images.shape[1:]
        sides = range(1, min(height, width) + 1)
        fits = (s for s in sides if channels * (height // s) * (width // s) <= MOST_VALUES)
        self._side = next(fits, sides[-1])

    def __len__(self) -> int:
        return len(self._images)

    def rows(self, chosen: NDArray[np.intp]) -> Pixels:
        return Pixels(self._images[chosen])

    def blocks(self) -> Iterator[tuple[slice, Floats]]:
        """Where a block lies, and its rows [m, d]."""
        for start in range(0, len(self), BLOCK):
            where = slice(start, min(start + BLOCK, len(self)))
            values = _averaged(self._images[where], self._side).reshape(where.stop - start, -1)
            yield where, values / self._half - 1


Method = Callable[[Pixels, Floats, Pixels, Sequence[float]], dict[float, Floats]]


def evaluate_baselines(
    sets: Mapping[str, tuple[Tensor, Tensor]], test_images: Tensor, true: Floats
) -> dict[str, Any]:
    """`predict_baselines` for each set (images, gaze), scored: the `baselines` of what `evaluate_gaze` returns."""
    results = {}
    with Progress(len(sets), "set", "baselines") as progress:
        for name, labelled in sets.items():
            fitted = predict_baselines(*labelled, test_images, f"the training set {name!r}")
            results[name] = {method: _scored(found, true) for method, found in fitted.items()}
            progress.update(1)
    return results


def predict_baselines(
    images: Tensor, gaze: Tensor, test_images: Tensor, name: str = "the training set"
) -> dict[str, Baseline]:
    """Fit both to a training set and predict the gaze of other images, by which nothing is chosen.

    A fifth of the training set, at most 2,000 images, drawn at random but always the same, chooses among NEIGHBOURS
    and STRENGTHS; then all of the set is used.

    Args:
        images: uint8 or uint16 [n, c, h, w], n at least 2.
        gaze: unit vectors [n, 3].
        test_images: [m, c, h, w].
        name: of the training set, in an InputError.

    Returns a Baseline each for "nearest" and "ridge".

    >>> predict_baselines(images, gaze, photographs)["nearest"].chosen  # doctest: +SKIP
    8
    """
    if len(images) < 2:
        raise InputError(f"{name} has 1 image: baselines want 2 or more, to choose by some.")
    pixels, test = Pixels(images.numpy()), Pixels(test_images.numpy())
    vectors = gaze.double().numpy()
    methods: dict[str, tuple[Method, Sequence[float]]] = {
        "nearest": (nearest_neighbours, NEIGHBOURS),
        "ridge": (ridge_regression, STRENGTHS),
    }
    return {
        method: _fitted(work, candidates, pixels, vectors, test)
        for method, (work, candidates) in methods.items()
    }


def nearest_neighbours(
    known: Pixels, gaze: Floats, asked: Pixels, counts: Sequence[float]
) -> dict[float, Floats]:
    """Mean gaze [m, 3] of the nearest images by Euclidean distance, for each number of them that there is."""
    usable = [int(count) for count in counts if count <= len(known)]
    means = {count: np.empty((len(asked), 3)) for count in usable}
    for where, block in asked.blocks():
        sums = gaze[_nearest(known, block, max(usable))].cumsum(axis=1)
        for count in usable:
            means[count][where] = sums[:, count - 1] / count
    return {float(count): mean for count, mean in means.items()}


def ridge_regression(
    known: Pixels, gaze: Floats, asked: Pixels, strengths: Sequence[float]
) -> dict[float, Floats]:
    """Gaze [m, 3] that is linear in the pixels, for each strength of the ridge; the constant is not penalised."""
    mean, covariance, shared = _moments(known, gaze)
    unit = np.trace(covariance) / len(mean) or 1.0
    centre = gaze.mean(axis=0)
    weights = {
        strength: np.linalg.solve(covariance + strength * unit * np.eye(len(mean)), shared)
        for strength in strengths
    }
    predicted = {strength: np.empty((len(asked), 3)) for strength in strengths}
    for where, block in asked.blocks():
        for strength, weight in weights.items():
            predicted[strength][where] = (block - mean) @ weight + centre
    return predicted


def _scored(baseline: Baseline, true: Floats) -> dict[str, Any]:
    return {
        "chosen": baseline.chosen,
        "validation_error_deg": {
            f"{candidate:g}": error for candidate, error in baseline.validation_error_deg.items()
        },
        **asdict(gaze_scores(baseline.predicted, true)),
        "cumulative_curve": cumulative_curve(angular_error(baseline.predicted, true)),
    }


def _fitted(
    method: Method, candidates: Sequence[float], pixels: Pixels, vectors: Floats, test: Pixels
) -> Baseline:
    """Choose by one part of the training set what the rest does best, then use all of it."""
    order = np.random.default_rng(0).permutation(len(pixels))
    held, rest = np.split(order, [min(MOST_VALIDATION, math.ceil(VALIDATION_SHARE * len(order)))])
    tried = method(pixels.rows(rest), vectors[rest], pixels.rows(held), candidates)
    errors = {
        candidate: float(angular_error(predicted, vectors[held]).mean())
        for candidate, predicted in tried.items()
    }
    best = min(errors, key=lambda candidate: errors[candidate])
    return Baseline(method(pixels, vectors, test, [best])[best], best, errors)


def _nearest(known: Pixels, asked: Floats, count: int) -> NDArray[np.intp]:
    """Rows [m, count] of the nearest images of `known`, the nearest first."""
    distances: Floats = np.empty((len(asked), 0))
    rows: NDArray[np.intp] = np.empty((len(asked), 0), np.intp)
    for where, block in known.blocks():
        # |a - b|^2 but for |a|^2, which is the same for all b
        more = (block**2).sum(axis=1) - 2 * asked @ block.T
        here = np.broadcast_to(np.arange(where.start, where.stop), more.shape)
        distances = np.concatenate([distances, more], axis=1)
        rows = np.concatenate([rows, here], axis=1)
        if distances.shape[1] > count:
            best = np.argpartition(distances, count - 1, axis=1)[:, :count]
            distances = np.take_along_axis(distances, best, axis=1)
            rows = np.take_along_axis(rows, best, axis=1)
    return np.take_along_axis(rows, np.argsort(distances, axis=1, kind="stable"), axis=1)


def _moments(known: Pixels, gaze: Floats) -> tuple[Floats, Floats, Floats]:
    """Mean pixels [d], their covariance [d, d] and that with the gaze [d, 3]."""
    sums, squares, products = 0.0, 0.0, 0.0
    for where, block in known.blocks():
        sums, squares = sums + block.sum(axis=0), squares + block.T @ block
        products = products + block.T @ gaze[where]
    n = len(known)
    mean = np.asarray(sums / n)
    return (
        mean,
        np.asarray(squares / n - np.outer(mean, mean)),
        np.asarray(products / n - np.outer(mean, gaze.mean(axis=0))),
    )


def _averaged(images: NDArray[Any], side: int) -> NDArray[Any]:
    """Means over squares of `side` pixels; what is left at the right and below is dropped."""
    if side == 1:
        return images
    n, channels, height, width = images.shape
    down, across = height // side, width // side
    whole = images[:, :, : down * side, : across * side]
    parts = whole.reshape(n, channels, down, side, across, side)
    averaged: Floats = parts.mean(axis=(3, 5), dtype=np.float64)
    return averaged
