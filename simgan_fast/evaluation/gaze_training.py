"""Training the gaze estimator on a labelled set, the same way for every set that is compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from simgan_fast.data.feed import ResidentFeed
from simgan_fast.errors import InputError, TrainingDiverged
from simgan_fast.evaluation.cosine_training import CosineTraining
from simgan_fast.evaluation.gaze_convergence import Convergence, parted
from simgan_fast.evaluation.gaze_labels import gaze_of
from simgan_fast.evaluation.gaze_metrics import angular_error
from simgan_fast.evaluation.side_by_side import channels_last, first_weights
from simgan_fast.models.gaze_estimator import GazeEstimator, gaze_loss
from simgan_fast.ops import gather_normalize
from simgan_fast.progress import Progress

GAZE_STREAM = 32  # of the keyed permutation: the estimator's mini-batches
PREDICTION_BATCH = 256
LONGEST, PATIENCE = 20_000, 5  # updates, and checks, of training until the error converges


class LabelledSet(Protocol):
    """What is needed of a set; a PackedSet has it. `load()` gives uint8 or uint16 [n, c, h, w]."""

    @property
    def labels(self) -> Mapping[str, NDArray[Any]]: ...

    def load(self) -> Tensor: ...


@dataclass(frozen=True)
class GazeTraining(CosineTraining):
    """Settings of one training of the estimator; the same for every set that is compared.

    The paper trains its full width with batches of 512 at a constant rate of 0.001. The defaults
    are for two CPU cores; docs/gaze_evaluation.md has the measurements behind them.
    """

    width_factor: float = 0.25  # of the convolutions; 1 is the paper
    fc_width_factor: float | None = 0.05  # of the hidden fully connected layers; None: width_factor
    standardise: bool = False  # each image to zero mean and unit variance
    _: KW_ONLY
    updates: int = 700
    batch_size: int = 32
    learning_rate: float = 1e-3
    warm_up: int = 50
    patience: int | None = None  # of training until the error converges (`until_converged`)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.patience is not None and self.patience < 1:
            raise InputError(f"patience is {self.patience}: it must be at least 1.")

    @classmethod
    def until_converged(cls, **settings: Any) -> GazeTraining:
        """Training "until the validation error converges" (paper, 3.1): at most `updates`, by default 20,000.

        A tenth of the training set, at most 1,000 images, is held out. Every 100 updates it is asked; where `patience`
        times (by default 5) nothing has become better, the rate, constant so far, falls to a tenth, and the next time
        the best weights are kept. The test set is not asked.

        >>> GazeTraining.until_converged(width_factor=0.5).patience
        5
        """
        return cls(**({"updates": LONGEST, "patience": PATIENCE} | settings))

    def rate(self, update: int) -> float:
        """The learning rate of `update`, counted from 0."""
        if self.patience is None:
            return super().rate(update)
        return self.learning_rate * min(1.0, (update + 1) / (self.warm_up + 1))


def train_gaze_estimator(
    images: Tensor | LabelledSet,
    gaze: ArrayLike | None = None,
    training: GazeTraining | None = None,
    *,
    seed: int = 0,
    device: str | torch.device = "cpu",
    progress: Progress | None = None,
) -> GazeEstimator:
    """Train the estimator with Adam on half the squared distance of predicted and true vectors.

    Args:
        images: uint8 or uint16 [n, c, h, w] with `gaze`, or a labelled set.
        gaze: [n, 3] vectors of any length, in MPIIGaze's camera axes; None for a labelled set.
        training: settings; the defaults of `GazeTraining` if left out.
        seed: of the first weights and the order of the images. One seed gives one estimator, bit
            for bit, on one kind of CPU with one number of threads.
        device: where to train.
        progress: told of every update.

    Raises:
        InputError: an empty set, or labels that are missing, not finite, or more or fewer than the
            images.
        TrainingDiverged: a weight is no longer finite.

    >>> estimator = train_gaze_estimator(open_packed("simulated"), seed=1)  # doctest: +SKIP
    """
    training = training or GazeTraining()
    pixels, targets = images_and_gaze(images, gaze, "the training set")
    held: tuple[Tensor, Tensor] | None = None
    if training.patience is not None:
        held, (pixels, targets) = parted(pixels, targets)
    feed = ResidentFeed(pixels, training.batch_size, seed=seed, stream=GAZE_STREAM, device=device)
    estimator = _new_estimator(pixels, targets, training, seed).to(device)
    watch = _watch(estimator, held, training.patience)
    targets = targets.to(device)
    optimizer = torch.optim.Adam(estimator.parameters(), lr=training.learning_rate, fused=True)
    for update in range(training.updates):
        optimizer.param_groups[0]["lr"] = training.rate(update) * (watch.rate if watch else 1.0)
        rows = feed.next_indices()
        loss = gaze_loss(estimator(gather_normalize(feed.images, rows)), targets[rows])
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        optimizer.step()
        if progress is not None:
            progress.update(1)
        if watch and watch.over_after(update + 1):
            break
    if watch:
        watch.restore()
        if progress is not None:
            progress.update(training.updates - watch.updates)
    _require_finite(estimator)
    return estimator.eval()


def predict_gaze(estimator: GazeEstimator, images: Tensor) -> NDArray[np.float64]:
    """Predict gaze vectors [n, 3], not of unit length, of uint8 or uint16 images [n, c, h, w]."""
    device = next(estimator.parameters()).device
    parts = [np.empty((0, 3))]
    with torch.inference_mode():
        for start in range(0, len(images), PREDICTION_BATCH):
            batch = images[start : start + PREDICTION_BATCH].to(device)
            rows = torch.arange(len(batch), device=device)
            parts.append(estimator(gather_normalize(batch, rows)).double().cpu().numpy())
    return np.concatenate(parts)


def images_and_gaze(
    images: Tensor | LabelledSet, gaze: ArrayLike | None, what: str
) -> tuple[Tensor, Tensor]:
    """Integer images [n, c, h, w] and unit gaze vectors [n, 3] of a set, at least one.

    `what` is the set's name in an InputError: no image, or labels that do not fit.
    """
    if isinstance(images, Tensor):
        if gaze is None:
            raise InputError(f"{what} came as images without gaze labels: pass gaze [n, 3] too.")
        pixels, labels = images, {"gaze": np.asarray(gaze)}
    else:
        pixels, labels = images.load(), dict(images.labels)
    if pixels.ndim != 4 or pixels.dtype not in (torch.uint8, torch.uint16):
        raise InputError(
            f"images of {what} are {pixels.dtype} {list(pixels.shape)}: want uint8 or uint16 "
            "[n, c, h, w]."
        )
    if len(pixels) == 0:
        raise InputError(f"{what} has no images: want at least one.")
    vectors = gaze_of(labels, what)
    if len(vectors) != len(pixels):
        raise InputError(
            f"{what} has {len(pixels)} images and {len(vectors)} gaze labels: want one per image."
        )
    return pixels, torch.from_numpy(vectors)


def _new_estimator(
    pixels: Tensor, gaze: Tensor, training: GazeTraining, seed: int
) -> GazeEstimator:
    with first_weights(seed):
        estimator = GazeEstimator(
            pixels.shape[1],
            (pixels.shape[2], pixels.shape[3]),
            training.width_factor,
            fc_width_factor=training.fc_width_factor,
            standardise=training.standardise,
        ).initialize_around(gaze.mean(dim=0))
    return channels_last(estimator)


def _watch(
    estimator: GazeEstimator, held: tuple[Tensor, Tensor] | None, patience: int | None
) -> Convergence | None:
    if held is None or patience is None:
        return None
    images, gaze = held

    def error() -> float:
        _require_finite(estimator)
        return float(angular_error(predict_gaze(estimator, images), gaze.numpy()).mean())

    return Convergence(estimator, error, patience)


def _require_finite(estimator: GazeEstimator) -> None:
    if not all(bool(parameter.isfinite().all()) for parameter in estimator.parameters()):
        raise TrainingDiverged("the gaze estimator diverged: train it with a lower learning rate.")
