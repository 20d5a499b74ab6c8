"""Histogram equalisation, for the simulator's camera and for measures."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def equalised(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Histogram-equalise uint8 images [n, h, w] one by one, by OpenCV's equalizeHist formula.

    MPIIGaze's normalisation ends with this step. A picture of one grey stays as it is, and so does one that was
    equalised before.

    >>> equalised(np.array([[[10, 20], [20, 30]]], np.uint8)).tolist()
    [[[0, 170], [170, 255]]]
    """
    n, pixels = len(images), images[0].size
    offset = (np.arange(n) * 256)[:, None, None]
    counts = np.bincount((images + offset).ravel(), minlength=256 * n).reshape(n, 256)
    below = counts.cumsum(1)
    darkest = np.take_along_axis(counts, (counts > 0).argmax(1)[:, None], 1)
    table = np.rint((below - darkest) * 255.0 / np.maximum(pixels - darkest, 1)).clip(0, 255)
    single = darkest[:, 0] == pixels
    table[single] = np.arange(256)
    flat = images.reshape(n, -1).astype(np.intp)
    return np.take_along_axis(table.astype(np.uint8), flat, 1).reshape(images.shape)
