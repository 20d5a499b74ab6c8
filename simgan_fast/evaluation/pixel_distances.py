"""How far the pixels of two sets are apart: grey levels, and power per octave of spatial frequency."""

from __future__ import annotations

from itertools import count, takewhile

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from simgan_fast.data.packed_format import VALUE_RANGE

Floats = NDArray[np.float64]

BATCH = 512


def intensity_distance(x: Tensor, y: Tensor) -> float:
    """1-Wasserstein distance, in grey levels, of the values of all pixels of two sets of images of one integer type.

    The area between the two cumulative histograms (Rubner et al., "The Earth Mover's Distance as a Metric for Image
    Retrieval", IJCV 2000): by how many levels a pixel must change on average to make the histograms alike. A set that
    is 10 levels brighter, without clipping, is 10 away.

    >>> import torch
    >>> intensity_distance(torch.zeros(1, 1, 2, 2).byte(), torch.full((1, 1, 2, 2), 7).byte())
    7.0
    """
    cumulative = [_histogram(images).cumsum() for images in (x, y)]
    return float(np.abs(cumulative[0] - cumulative[1]).sum())


def octaves(height: int, width: int) -> dict[str, tuple[float, float]]:
    """Name -> (lowest, highest) frequency, in periods per pixel, of the octaves that images of this size have.

    >>> octaves(35, 55)["4 to 8 px"]
    (0.125, 0.25)
    """
    periods = takewhile(lambda period: 2 * period <= min(height, width), (2**k for k in count(2)))
    return {
        "under 4 px": (0.25, 1.0),
        **{f"{period} to {2 * period} px": (0.5 / period, 1 / period) for period in periods},
    }


def octave_levels(images: Tensor) -> Floats:
    """Mean level [bands] in decibels of the power of uint8 or uint16 images [n, c, h, w] in each octave.

    The radially averaged power spectrum (Durall et al., "Watch your Up-Convolution", CVPR 2020, compare it for real and
    generated images) of each image, averaged over an octave as power, then over the images as 10 log10. Channels are
    averaged first, the mean is taken off, and a Hann window keeps the borders out. The power of rounding to integers
    is added, so that a flat image has a level too.
    """
    height, width = images.shape[2:]
    window = np.outer(np.hanning(height + 2)[1:-1], np.hanning(width + 2)[1:-1])
    window /= np.sqrt((window**2).mean())
    radius = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width))
    masks = np.stack([(radius >= a) & (radius < b) for a, b in octaves(height, width).values()])
    levels = []
    for start in range(0, len(images), BATCH):
        pixels = images[start : start + BATCH].numpy().mean(axis=1, dtype=np.float64)
        pixels -= pixels.mean(axis=(1, 2), keepdims=True)
        power = np.abs(np.fft.fft2(pixels * window)) ** 2 / (height * width)
        bands = np.stack([power[:, mask].mean(axis=1) for mask in masks], axis=1)
        levels.append(10 * np.log10(bands + 1 / 12))  # in grey levels squared
    mean: Floats = np.concatenate(levels).mean(axis=0)
    return mean


def _histogram(images: Tensor) -> Floats:
    """Share of the pixels at each level; block by block, as numpy counts in int64."""
    levels = VALUE_RANGE[str(images.dtype).removeprefix("torch.")][1] + 1
    total = np.zeros(levels, np.int64)
    for start in range(0, len(images), BATCH):
        total += np.bincount(images[start : start + BATCH].numpy().ravel(), minlength=levels)
    return total / images.numel()
