"""Features of images from a fixed network with random weights: nothing to download, and the same for everybody."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from simgan_fast.errors import InputError
from simgan_fast.ops import gather_normalize, philox4x32

STAGES, WIDTH = 4, 16
FEATURES = STAGES * WIDTH
WEIGHTS_KEY = 0x5EED  # of Philox; part of the definition of the features
SMALLEST_SIDE = 8  # pixels: the maps are halved three times
BATCH = 256
FLATTEST = 0.3  # of the usual spread of a feature: where equalised images differ by rounding alone, it counts as this


class RandomFeatures(nn.Module):
    """Images [n, c, h, w] in [-1, 1] to features [n, 64]: what a fixed, untrained network sees at four scales.

    Four stages of conv3x3-16 (edges repeated, no bias) and ReLU, a 2x2 average pool between them; the features are the
    means of each stage's 16 maps over the image. Weights are uniform with He's variance, drawn from Philox (docs/
    random.md), so they are the same on every machine. Half of the first filters have their mean taken off: brightness
    would hide texture from them. The features of an image say how much of each texture there is, not where.

    Random networks rank generative models much as trained ones do (Lee, Kim and Lee, "Demystifying Randomly Initialized
    Networks for Evaluating Generative Models", AAAI 2023; Naeem et al., ICML 2020, use a random VGG16). Numbers made
    with them are not those of Inception features, and only to be compared with others made by this class.

    >>> RandomFeatures()(torch.zeros(2, 1, 35, 55)).shape
    torch.Size([2, 64])
    """

    def __init__(self, in_channels: int = 1) -> None:
        super().__init__()
        widths = (in_channels, *[WIDTH] * STAGES)
        for stage in range(STAGES):
            weight = _weights(stage, (widths[stage + 1], widths[stage], 3, 3))
            if stage == 0:
                weight[::2] -= weight[::2].mean(dim=(1, 2, 3), keepdim=True)
            self.register_buffer(f"weight{stage}", weight)

    def forward(self, images: Tensor) -> Tensor:
        """Features [n, 64] of float images [n, c, h, w] of at least 8x8 pixels."""
        if min(images.shape[-2:]) < SMALLEST_SIDE:
            height, width = images.shape[-2:]
            raise InputError(
                f"images are {height}x{width} pixels: features need {SMALLEST_SIDE} a side."
            )
        x, means = images, []
        for stage in range(STAGES):
            x = F.avg_pool2d(x, 2) if stage else x
            x = F.pad(x, (1, 1, 1, 1), mode="replicate")
            x = F.relu(F.conv2d(x, self.get_buffer(f"weight{stage}")))
            means.append(x.mean(dim=(2, 3)))
        return torch.cat(means, dim=1)


def random_features(images: Tensor) -> NDArray[np.float64]:
    """Features [n, 64] of uint8 or uint16 images [n, c, h, w]."""
    network = RandomFeatures(images.shape[1])
    parts = []
    with torch.inference_mode():
        for rows in torch.split(torch.arange(len(images)), BATCH):
            parts.append(network(gather_normalize(images, rows)).double().numpy())
    return np.concatenate(parts)


def feature_scale(features: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and spread [d] of features [n, d] of real images: (features - mean) / spread is what distances are made of.

    The usual spread is the root of the mean variance; a feature with less than 0.3 of it is taken to have that. Raises
    InputError where all images are alike.
    """
    spread = features.std(axis=0)
    usual = float(np.sqrt((spread**2).mean()))
    if not usual > 0:
        raise InputError("the real images are all alike: there is nothing to compare with.")
    return features.mean(axis=0), spread.clip(min=FLATTEST * usual)


def _weights(stage: int, shape: tuple[int, int, int, int]) -> Tensor:
    """He's uniform weights: 2^-31 word - 1, times sqrt(6 / fan-in)."""
    count = math.prod(shape)
    counters = torch.zeros(-(-count // 4), 4, dtype=torch.int64)
    counters[:, 0], counters[:, 1] = torch.arange(len(counters)), stage
    words = philox4x32(counters, key=WEIGHTS_KEY).flatten()[:count].double()
    weights = (words / 2**31 - 1) * math.sqrt(6 / math.prod(shape[1:]))
    return weights.float().reshape(shape)
