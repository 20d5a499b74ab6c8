"""How far two sets of feature vectors are apart: KID, FID, precision and recall. Everything in float64.

x, y: features [n, d] and [m, d], at least 2 each. Which features they are is the caller's affair.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

SUBSETS, SUBSET_SIZE = 50, 1000
SIZES, REPEATS = 8, 4  # of FID's extrapolation
NEIGHBOUR = 3
BLOCK = 512  # rows of a distance matrix at a time


@dataclass(frozen=True)
class Spread:
    """The mean over subsets, and their standard deviation: that of one subset's value, not of the mean's error."""

    mean: float
    std: float


def kernel_distance(x: Floats, y: Floats) -> float:
    """KID: the unbiased estimate of MMD^2 with the kernel (x.y / d + 1)^3.

    Binkowski et al., "Demystifying MMD GANs", ICLR 2018. Its expectation is 0 for two samples of one distribution, at
    every sample size, so that it is negative about half of the time there.

    >>> x = np.array([[0.0], [1.0]])
    >>> kernel_distance(x, x)  # 1 within the sets, (1 + 1 + 1 + 8) / 4 between them
    -3.5
    """
    n, m = len(x), len(y)
    within_x, within_y, between = _kernel(x, x), _kernel(y, y), _kernel(x, y)
    mean_x = (within_x.sum() - np.trace(within_x)) / (n * (n - 1))
    mean_y = (within_y.sum() - np.trace(within_y)) / (m * (m - 1))
    return float(mean_x + mean_y - 2 * between.mean())


def kernel_distance_of_subsets(x: Floats, y: Floats, rng: np.random.Generator) -> Spread:
    """KID over 50 random subsets of 1,000 (or half of the smaller set, if that is fewer), as its authors report it."""
    size = min(SUBSET_SIZE, len(x) // 2, len(y) // 2)
    values = [
        kernel_distance(
            x[rng.choice(len(x), size, replace=False)], y[rng.choice(len(y), size, replace=False)]
        )
        for _ in range(SUBSETS)
    ]
    return Spread(float(np.mean(values)), float(np.std(values, ddof=1)))


def frechet_distance(x: Floats, y: Floats) -> float:
    """FID: the squared Frechet distance of the Gaussians with the means and covariances of x and y.

    Heusel et al., "GANs Trained by a Two Time-Scale Update Rule", NIPS 2017. |mean_x - mean_y|^2 + tr(C_x + C_y - 2
    (C_x C_y)^(1/2)). Too large for finite samples, by about a constant over n (`frechet_distance_unbiased`).

    >>> frechet_distance(np.array([[0.0], [2.0]]), np.array([[3.0], [5.0]]))
    9.0
    """
    offset = x.mean(axis=0) - y.mean(axis=0)
    cov_x, cov_y = (np.atleast_2d(np.cov(z, rowvar=False)) for z in (x, y))
    values, vectors = np.linalg.eigh(cov_x)
    root = (vectors * np.sqrt(values.clip(min=0))) @ vectors.T  # of cov_x
    # C_x C_y has the eigenvalues of the symmetric root C_y root, which rounding keeps real.
    product = np.linalg.eigvalsh(root @ cov_y @ root).clip(min=0)
    return float(offset @ offset + np.trace(cov_x) + np.trace(cov_y) - 2 * np.sqrt(product).sum())


def frechet_distance_unbiased(x: Floats, y: Floats, rng: np.random.Generator) -> float:
    """FID extrapolated to infinitely many images: a line through FID over 1/n, at 1/n = 0.

    Chong and Forsyth, "Effectively Unbiased FID and Inception Score and Where to Find Them", CVPR 2020, with random
    subsets of both sets, from half of the images to all. It may be a little below 0. What is left of the bias shrinks
    as 1/n^2: with twice as many images as features it is still felt, with ten times as many no more.
    """
    largest = min(len(x), len(y))
    sizes = np.rint(1 / np.linspace(1 / largest, 2 / largest, SIZES)).astype(int)
    means = [np.mean([_of_subset(x, y, size, rng) for _ in range(REPEATS)]) for size in sizes]
    _, intercept = np.polyfit(1 / sizes, means, 1)
    return float(intercept)


def precision_recall(real: Floats, other: Floats) -> tuple[float, float]:
    """Share of `other` within the manifold of `real`, and of `real` within that of `other`; each 0 to 1.

    Kynkaanniemi et al., "Improved Precision and Recall Metric for Assessing Generative Models", NeurIPS 2019, k = 3: a
    point is in the manifold of a set if it is no farther from one of its points than that one's third-nearest
    neighbour in the set. Two samples of one distribution do not come to 1: how far they come is to be measured.
    """
    return _covered(other, real), _covered(real, other)


def _covered(points: Floats, manifold: Floats) -> float:
    """Share of `points` within the balls around `manifold`."""
    k = min(NEIGHBOUR, len(manifold) - 1)
    radii = np.concatenate(
        [
            np.partition(_squared_distances(manifold[i : i + BLOCK], manifold), k, axis=1)[:, k]
            for i in range(0, len(manifold), BLOCK)
        ]
    )  # the nearest is the point itself
    inside = [
        (_squared_distances(points[i : i + BLOCK], manifold) <= radii).any(axis=1)
        for i in range(0, len(points), BLOCK)
    ]
    return float(np.concatenate(inside).mean())


def _squared_distances(x: Floats, y: Floats) -> Floats:
    squares: Floats = (x**2).sum(axis=1)[:, None] + (y**2).sum(axis=1) - 2 * x @ y.T
    return squares.clip(min=0)


def _kernel(x: Floats, y: Floats) -> Floats:
    kernel: Floats = (x @ y.T / x.shape[1] + 1) ** 3
    return kernel


def _of_subset(x: Floats, y: Floats, size: int, rng: np.random.Generator) -> float:
    rows = [rng.choice(len(z), size, replace=False) for z in (x, y)]
    return frechet_distance(x[rows[0]], y[rows[1]])
