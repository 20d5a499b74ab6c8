"""Where the pupil and the lids are in an image: a small network trained on a labelled set."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from simgan_fast.data.feed import ResidentFeed
from simgan_fast.errors import TrainingDiverged
from simgan_fast.evaluation.cosine_training import CosineTraining
from simgan_fast.evaluation.side_by_side import first_weights
from simgan_fast.models.gaze_estimator import FIRST_ANSWER_SCALE, half_up
from simgan_fast.ops import gather_normalize
from simgan_fast.progress import Progress

LANDMARK_STREAM = 40  # of the keyed permutation: the estimator's mini-batches
STRIDE, MARGIN = 4, 2  # pixels between two places; places beyond the image on each side
PREDICTION_BATCH = 256


@dataclass(frozen=True)
class LandmarkTraining(CosineTraining):
    """Settings of one training of the estimator; docs/realism.md has what they give."""

    updates: int = 2000
    batch_size: int = 32
    learning_rate: float = 3e-3
    warm_up: int = 50


class LandmarkEstimator(nn.Module):
    """Images [n, c, h, w] in [-1, 1] to points [n, points, 2], x and y in pixels; (0, 0) is the first pixel's centre.

    Six 3x3 convolutions, the second and third of stride 2, give a map of weights for each point, which reaches two
    places (8 pixels) beyond the image; softmax makes it a distribution, and the point is its mean (integral regression,
    Sun et al., ECCV 2018). So a point moves with what it is seen by, to fractions of a pixel, as an output of fully
    connected layers need not.
    """

    places: Tensor

    def __init__(self, points: int, in_channels: int = 1, size: tuple[int, int] = (35, 55)) -> None:
        super().__init__()
        widths = (in_channels, 16, 32, 48, 48, 48, points)
        strides, padding = (1, 2, 2, 1, 1, 1), (1, 1, 1, 1, 2, 2)  # the last two add the margin
        layers = [
            nn.Conv2d(a, b, 3, stride=s, padding=p)
            for a, b, s, p in zip(widths[:-1], widths[1:], strides, padding, strict=True)
        ]
        for layer in layers:
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        layers[-1].weight.data *= FIRST_ANSWER_SCALE  # begin near the middle
        self.layers = nn.ModuleList(layers)
        self.register_buffer("places", _places(size))

    def forward(self, images: Tensor) -> Tensor:
        x = images
        for layer in list(self.layers)[:-1]:
            x = F.relu(layer(x)).contiguous(memory_format=torch.channels_last)
        weights = self.layers[-1](x).flatten(2).softmax(dim=2)  # [n, points, places]
        return torch.as_tensor(weights @ self.places)


def train_landmark_estimator(
    images: Tensor,
    points: NDArray[np.float32],
    training: LandmarkTraining | None = None,
    *,
    seed: int = 0,
    progress: Progress | None = None,
) -> LandmarkEstimator:
    """Train the estimator with Adam on the mean distance, in pixels, of estimated and true points.

    Args:
        images: uint8 or uint16 [n, c, h, w].
        points: [n, points, 2], x and y in pixels, finite.
        training: settings; the defaults of `LandmarkTraining` if left out.
        seed: of the first weights and the order of the images.
        progress: told of every update.

    Raises TrainingDiverged where a weight is no longer finite.

    >>> estimator = train_landmark_estimator(images, pupils[:, None])  # doctest: +SKIP
    """
    training = training or LandmarkTraining()
    targets = torch.from_numpy(points)
    feed = ResidentFeed(images, training.batch_size, seed=seed, stream=LANDMARK_STREAM)
    estimator = _new_estimator(images, targets.shape[1], seed)
    optimizer = torch.optim.Adam(estimator.parameters(), lr=training.learning_rate, fused=True)
    for update in range(training.updates):
        optimizer.param_groups[0]["lr"] = training.rate(update)
        rows = feed.next_indices()
        estimated = estimator(gather_normalize(feed.images, rows))
        loss = ((estimated - targets[rows]).square().sum(dim=2) + 1e-4).sqrt().mean()
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        optimizer.step()
        if progress is not None:
            progress.update(1)
    if not all(bool(parameter.isfinite().all()) for parameter in estimator.parameters()):
        raise TrainingDiverged("the landmark estimator diverged: train it with a lower rate.")
    return estimator.eval()


def predict_landmarks(estimator: LandmarkEstimator, images: Tensor) -> NDArray[np.float64]:
    """Estimated points [n, points, 2] of uint8 or uint16 images [n, c, h, w]."""
    with torch.inference_mode():
        parts = [
            estimator(gather_normalize(images, rows)).double().numpy()
            for rows in torch.split(torch.arange(len(images)), PREDICTION_BATCH)
        ]
    return np.concatenate(parts)


def _new_estimator(images: Tensor, points: int, seed: int) -> LandmarkEstimator:
    with first_weights(seed):
        _, channels, height, width = images.shape
        estimator = LandmarkEstimator(points, channels, (height, width))
    for parameter in estimator.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    return estimator


def _places(size: tuple[int, int]) -> Tensor:
    """x and y in pixels [places, 2] of a map of a quarter of the image's height and width, with its margin."""
    y, x = (
        torch.arange(-MARGIN, half_up(half_up(side)) + MARGIN, dtype=torch.float32) * STRIDE
        for side in size
    )
    rows, columns = torch.meshgrid(y, x, indexing="ij")
    return torch.stack([columns.flatten(), rows.flatten()], dim=1)
