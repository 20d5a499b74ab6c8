"""Can a small network tell two sets of images apart? A classifier two-sample test, cross-validated."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from simgan_fast.config import SEEDS
from simgan_fast.data.feed import ResidentFeed
from simgan_fast.errors import InputError
from simgan_fast.evaluation.side_by_side import first_weights
from simgan_fast.ops import gather_normalize
from simgan_fast.progress import Progress

TWO_SAMPLE_STREAM = 48  # of the keyed permutation; one more for each fold
QUANTILE = 1.959964  # of the normal distribution, for 95 %
PREDICTION_BATCH = 256


@dataclass(frozen=True)
class ClassifierTraining:
    """Settings of the test, the same for every set that is compared."""

    folds: int = 5
    updates: int = 400  # mini-batches for each fold
    batch_size: int = 64
    learning_rate: float = 2e-3  # of Adam; a cosine takes it to 0

    def __post_init__(self) -> None:
        for name, least in (("folds", 2), ("updates", 1), ("batch_size", 1)):
            if not getattr(self, name) >= least:
                raise InputError(f"{name} is {getattr(self, name)}: it must be at least {least}.")
        if not 0 < self.learning_rate < math.inf:
            raise InputError(
                f"learning_rate is {self.learning_rate}: it must be above 0 and finite."
            )


@dataclass(frozen=True)
class Accuracy:
    """Share of `images` held-out images that were told right, 0 to 1, and its 95 % interval."""

    accuracy: float
    low: float
    high: float
    images: int


class DomainClassifier(nn.Module):
    """Images [n, c, h, w] in [-1, 1] to logits [n], above 0 for the second set.

    Conv3x3-16, conv3x3-32 and conv3x3-64 of stride 2 with ReLU, an average over each of 2x3 parts of the map, one
    linear layer. Not the discriminator that the refiner was trained against: it decides by the whole image.
    """

    def __init__(self, in_channels: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, 16, 3, stride=2, padding=1)
        self.conv2 = nn.Conv2d(16, 32, 3, stride=2, padding=1)
        self.conv3 = nn.Conv2d(32, 64, 3, stride=2, padding=1)
        self.decide = nn.Linear(64 * 6, 1)
        for layer in (self.conv1, self.conv2, self.conv3):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        x = F.relu(self.conv1(images)).contiguous(memory_format=torch.channels_last)
        x = F.relu(self.conv3(F.relu(self.conv2(x))))
        logits: Tensor = self.decide(F.adaptive_avg_pool2d(x, (2, 3)).flatten(1))
        return logits[:, 0]


Fold = Callable[[Progress], NDArray[np.bool_]]


def two_sample_folds(
    x: Tensor, y: Tensor, training: ClassifierTraining, seed: int = 0
) -> list[Fold]:
    """The folds of a two-sample test of uint8 or uint16 images [n, c, h, w] and [n, c, h, w], as jobs.

    Each job trains a `DomainClassifier` on the other folds and says which images of its own fold it told right.

    Lopez-Paz and Oquab, "Revisiting Classifier Two-Sample Tests", ICLR 2017. Both sets go through the same
    preprocessing. Images with the same pixels always fall into the same fold, so a network cannot know an image by
    heart that it is asked about, and an image that is in both sets counts once right and once wrong.

    Near duplicates (the next frame of a film) are not found. Where a set has them in several folds, a network may know
    that set's scenes rather than its look, and the accuracy is too high; where both sets have them from one source, it
    is too low, below 50 % even. The reference against itself has the second kind.
    """
    if len(x) != len(y):
        raise InputError(f"{len(x)} and {len(y)} images came: draw equally many of both sets.")
    images = torch.from_numpy(np.concatenate([x.numpy(), y.numpy()]))
    second = torch.arange(len(images)) >= len(x)
    fold_of = torch.from_numpy(fold_numbers(images.numpy(), len(x), training.folds, seed))
    return [
        _fold(images, second, fold_of == number, training, seed, number)
        for number in range(training.folds)
    ]


def fold_numbers(
    images: NDArray[np.generic], first: int, folds: int, seed: int
) -> NDArray[np.intp]:
    """The fold of each image [n]: at random, equally many of the `first` and of the others in each fold.

    Images with the same pixels have the same fold.
    """
    rows: dict[bytes, int] = {}  # pixels -> the first image with them
    same = np.array([rows.setdefault(image.tobytes(), row) for row, image in enumerate(images)])
    order = np.random.default_rng(seed).permutation(np.unique(same))
    order = order[np.argsort(order >= first, kind="stable")]
    fold_of = np.empty(len(images), np.intp)
    fold_of[order] = np.arange(len(order)) % folds
    folds_of_all: NDArray[np.intp] = fold_of[same]
    return folds_of_all


def accuracy_of(right: NDArray[np.bool_]) -> Accuracy:
    """The share of `right` [n] with Wilson's score interval (JASA 1927) of 95 %.

    It counts the held-out images as independent. The networks of two folds share most of their training images, so the
    true interval is a little wider.
    """
    n, share = len(right), float(right.mean())
    middle = (share + QUANTILE**2 / (2 * n)) / (1 + QUANTILE**2 / n)
    half = QUANTILE * math.sqrt(share * (1 - share) / n + (QUANTILE / (2 * n)) ** 2)
    half /= 1 + QUANTILE**2 / n
    return Accuracy(share, middle - half, middle + half, n)


def _fold(
    images: Tensor,
    second: Tensor,
    held_out: Tensor,
    training: ClassifierTraining,
    seed: int,
    number: int,
) -> Fold:
    with first_weights((seed * training.folds + number) % SEEDS):
        network = DomainClassifier(images.shape[1]).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    rows, asked = torch.nonzero(~held_out)[:, 0], torch.nonzero(held_out)[:, 0]

    def run(progress: Progress) -> NDArray[np.bool_]:
        _train(network, images, second, rows, training, seed, number, progress)
        with torch.inference_mode():
            logits = [
                network(gather_normalize(images, part))
                for part in torch.split(asked, PREDICTION_BATCH)
            ]
        right: NDArray[np.bool_] = ((torch.cat(logits) > 0) == second[asked]).numpy()
        return right

    return run


def _train(
    network: DomainClassifier,
    images: Tensor,
    second: Tensor,
    rows: Tensor,
    training: ClassifierTraining,
    seed: int,
    number: int,
    progress: Progress,
) -> None:
    """Adam on the cross-entropy, over `rows` of `images`."""
    subset = torch.from_numpy(images.numpy()[rows.numpy()])
    target = second[rows].float()
    stream = TWO_SAMPLE_STREAM + number
    feed = ResidentFeed(subset, training.batch_size, seed=seed, stream=stream)
    optimizer = torch.optim.Adam(network.parameters(), lr=training.learning_rate, fused=True)
    for update in range(training.updates):
        fall = (1 + math.cos(math.pi * update / training.updates)) / 2
        optimizer.param_groups[0]["lr"] = training.learning_rate * fall
        drawn = feed.next_indices()
        logits = network(gather_normalize(feed.images, drawn))
        loss = F.binary_cross_entropy_with_logits(logits, target[drawn])
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        optimizer.step()
        progress.update(1)
