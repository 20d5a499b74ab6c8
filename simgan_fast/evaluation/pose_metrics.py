"""How far joints are from where they should be, and the scores made of that."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simgan_fast.errors import InputError

CLOSE_PIXELS = 5.0  # the threshold of the paper's table 4
CURVE_PIXELS = tuple(range(11))  # the abscissa of the paper's figure 12, with 0
PAPER_SIDE = 224  # pixels: of the paper's images, which pixels of the input are those of

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class PoseScores:
    """What an estimator is worth on `n` images with joints.

    pck_5px: share, 0 to 1, of the joints within 5 pixels of the input (table 4 of the paper). images_5px: share of the
    images of which every joint is. mean_error_px: mean distance in pixels of the input. auc: area under the curve of
    figure 12 from 0 to 10 pixels of the input, 0 to 1. mean_error_mm: mean distance in mm, across the line of sight at
    the joint's true depth. max_error_mm: that of the worst joint of an image, in the mean over the images. The last
    two are None where the set does not tell the joints' depth and the crop's box.

    Pixels of the input are those of the paper, whose images are 224 wide: for images of another width, 224 / width of
    a pixel of theirs, so that crops of any size can be compared.
    """

    pck_5px: float
    images_5px: float
    mean_error_px: float
    auc: float
    mean_error_mm: float | None
    max_error_mm: float | None
    n: int


def pixel_errors(predicted: Floats, true: Floats, width: int) -> Floats:
    """Distances [n, j] in pixels of the input of positions [n, j, 2] in images so many pixels wide.

    Raises InputError for a prediction that is not finite, which would otherwise count as merely far.

    >>> pixel_errors(np.array([[[3.0, 4.0]]]), np.zeros((1, 1, 2)), 112)
    array([[10.]])
    """
    if not np.isfinite(predicted).all():
        raise InputError("a predicted joint is not finite: the estimator that made it is broken.")
    error: Floats = np.linalg.norm(predicted - true, axis=-1) * PAPER_SIDE / width
    return error


def pose_scores(
    pixels: Floats, millimetres: Floats | None, inside: NDArray[np.bool_]
) -> PoseScores:
    """Scores of errors [n, j] in pixels of the input and in mm; only joints `inside` [n, j] of the image count."""
    if not inside.any():
        raise InputError("no joint lies inside of its image: there is nothing to score.")
    errors, some = pixels[inside], np.flatnonzero(inside.any(axis=1))
    close = (pixels <= CLOSE_PIXELS) | ~inside
    mean_mm = max_mm = None
    if millimetres is not None:
        mean_mm = float(millimetres[inside].mean())
        max_mm = float(np.where(inside, millimetres, 0)[some].max(axis=1).mean())
    return PoseScores(
        pck_5px=float((errors <= CLOSE_PIXELS).mean()),
        images_5px=float(close[some].all(axis=1).mean()),
        mean_error_px=float(errors.mean()),
        auc=float(np.maximum(0, 1 - errors / CURVE_PIXELS[-1]).mean()),
        mean_error_mm=mean_mm,
        max_error_mm=max_mm,
        n=len(some),
    )


def pck_curve(errors: Floats) -> list[float]:
    """Shares, 0 to 1, of the errors, of any shape, that are at most 0, 1, ... 10 pixels (figure 12 of the paper)."""
    if not errors.size:
        raise InputError("no errors came: want at least one.")
    return [float((errors <= pixels).mean()) for pixels in CURVE_PIXELS]
