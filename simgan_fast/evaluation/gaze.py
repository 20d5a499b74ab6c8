"""What a labelled set of eye images is worth: train the gaze estimator on it, test it on another (paper section 3.1)."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from simgan_fast.data.feed import ResidentFeed
from simgan_fast.errors import InputError, TrainingDiverged
from simgan_fast.evaluation.gaze_labels import gaze_of
from simgan_fast.evaluation.gaze_metrics import (
    CURVE_DEGREES,
    GazeScores,
    angular_error,
    cumulative_curve,
    gaze_scores,
    vector_to_pitch_yaw,
)
from simgan_fast.models.gaze_estimator import GazeEstimator, gaze_loss
from simgan_fast.ops import gather_normalize
from simgan_fast.progress import Progress

GAZE_STREAM = 32  # of the keyed permutation: the estimator's mini-batches
PREDICTION_BATCH = 256


class LabelledSet(Protocol):
    """What is needed of a set: a PackedSet has it. `load()` gives uint8 or uint16 [n, c, h, w]."""

    @property
    def labels(self) -> Mapping[str, NDArray[Any]]: ...

    def load(self) -> Tensor: ...


@dataclass(frozen=True)
class GazeTraining:
    """Settings of one training of the estimator; the same for every set that is compared.

    The paper trains its full width with batches of 512 at a constant rate of 0.001. The defaults are for two CPU cores
    (docs/gaze_evaluation.md has the measurements).
    """

    width_factor: float = 0.25  # of the convolutions; 1 is the paper
    fc_width_factor: float | None = 0.05  # of the hidden fully connected layers; None: width_factor
    standardise: bool = False  # each image to zero mean and unit variance
    updates: int = 1200  # mini-batches, whatever the size of the set
    batch_size: int = 32
    learning_rate: float = 1e-3  # of Adam, at its highest
    warm_up: int = 50  # updates of linear rise before the cosine fall to 0

    def __post_init__(self) -> None:
        for name, least in (("updates", 1), ("batch_size", 1), ("warm_up", 0)):
            if not getattr(self, name) >= least:
                raise InputError(f"{name} is {getattr(self, name)}: it must be at least {least}.")
        if not 0 < self.learning_rate < math.inf:
            raise InputError(f"learning_rate is {self.learning_rate}: it must be above 0 and finite.")

    def rate(self, update: int) -> float:
        """The learning rate of `update`, counted from 0."""
        rise = min(1.0, (update + 1) / (self.warm_up + 1))
        return self.learning_rate * rise * (1 + math.cos(math.pi * update / self.updates)) / 2


def train_gaze_estimator(
    images: Tensor | LabelledSet,
    gaze: ArrayLike | None = None,
    training: GazeTraining | None = None,
    *,
    seed: int = 0,
    device: str | torch.device = "cpu",
    progress: Progress | None = None,
) -> GazeEstimator:
    """Train the estimator with Adam on half the squared distance of predicted and true gaze vectors.

    Args:
        images: uint8 or uint16 [n, c, h, w] with `gaze`, or a labelled set.
        gaze: [n, 3] vectors of any length, in MPIIGaze's camera axes; left out for a labelled set.
        training: settings; the defaults of `GazeTraining` if left out.
        seed: of the first weights and the order of the images. One seed gives one estimator, bit for bit, on one CPU
            and number of threads.
        device: where to train.
        progress: told of every update.

    Raises:
        InputError: an empty set, labels that are missing, not finite or of another number than the images.
        TrainingDiverged: a weight is no longer finite.

    >>> estimator = train_gaze_estimator(open_packed("simulated"), seed=1)  # doctest: +SKIP
    """
    training = training or GazeTraining()
    pixels, targets = _pixels_and_gaze(images, gaze, "the training set")
    feed = ResidentFeed(pixels, training.batch_size, seed=seed, stream=GAZE_STREAM, device=device)
    targets = targets.to(device)
    estimator = _new_estimator(pixels, targets, training, seed).to(device)
    optimizer = torch.optim.Adam(estimator.parameters(), lr=training.learning_rate, fused=True)
    for update in range(training.updates):
        optimizer.param_groups[0]["lr"] = training.rate(update)
        rows = feed.next_indices()
        loss = gaze_loss(estimator(gather_normalize(feed.images, rows)), targets[rows])
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        optimizer.step()
        if progress is not None:
            progress.update(1)
    _require_finite(estimator)
    return estimator.eval()


def predict_gaze(estimator: GazeEstimator, images: Tensor) -> NDArray[np.float64]:
    """Predicted gaze vectors [n, 3], as they come out (not unit), of uint8 or uint16 images [n, c, h, w]."""
    device = next(estimator.parameters()).device
    with torch.inference_mode():
        parts = [
            estimator(gather_normalize(batch, torch.arange(len(batch)))).cpu()
            if device.type == "cpu"
            else estimator(gather_normalize(batch, torch.arange(len(batch))).to(device)).cpu()
            for batch in images.split(PREDICTION_BATCH)
        ]
    return torch.cat(parts).double().numpy()


def evaluate_gaze(
    train_sets: Mapping[str, LabelledSet],
    test_set: LabelledSet,
    *,
    seeds: Sequence[int] = (0, 1, 2),
    training: GazeTraining | None = None,
    device: str | torch.device = "cpu",
) -> dict[str, Any]:
    """Train one estimator per set and seed, all alike, and test each on `test_set`.

    Args:
        train_sets: name -> labelled set (a PackedSet, say), all with images of the test set's shape.
        test_set: the labelled set to measure on; nothing is chosen by it.
        seeds: an estimator is trained per seed; estimators of one seed begin with the same weights in every set.
        training: settings; the defaults of `GazeTraining` if left out.
        device: where to train.

    Returns:
        A JSON-ready dict: `arms` (name -> `images`, each field of `GazeScores` but n as mean, std (of the sample, 0
        for one seed) and per_seed, `cumulative_curve` averaged over the seeds, `predicted_pitch_yaw_deg` [seed][n][2]),
        `true_pitch_yaw_deg` [n][2], `test_images`, `constant_error_deg` (of the best this protocol can do without
        looking at an image: the mean direction of the test labels), `curve_degrees`, `seeds`, `training`.

    Raises:
        InputError: no set, no seed, an empty set, unusable labels, or images of different shapes.

    >>> results = evaluate_gaze({"raw": raw, "refined": refined}, photographs)  # doctest: +SKIP
    >>> print(gaze_table(results))  # doctest: +SKIP
    """
    training = training or GazeTraining()
    if not train_sets or not seeds:
        raise InputError(f"{len(train_sets)} training sets and {len(seeds)} seeds came: want at least one of each.")
    test_images, true = _pixels_and_gaze(test_set, None, "the test set")
    sets = {name: _like(test_images, name, train_set) for name, train_set in train_sets.items()}
    arms: dict[str, Any] = {}
    with Progress(len(sets) * len(seeds) * training.updates, "update", "evaluate gaze") as progress:
        for name, (images, gaze) in sets.items():
            predictions = []
            for seed in seeds:
                progress.note(f"{name}, seed {seed}")
                estimator = train_gaze_estimator(
                    images, gaze, training, seed=seed, device=device, progress=progress
                )
                predictions.append(predict_gaze(estimator, test_images))
            arms[name] = {"images": len(images), **_arm(predictions, true.numpy())}
    return {
        "arms": arms,
        "test_images": len(true),
        "true_pitch_yaw_deg": _rounded_degrees(true.numpy()),
        "constant_error_deg": float(angular_error(true.mean(dim=0).expand(len(true), 3), true).mean()),
        "curve_degrees": list(CURVE_DEGREES),
        "seeds": list(seeds),
        "training": dataclasses.asdict(training),
    }


def gaze_table(results: Mapping[str, Any]) -> str:
    """The scores of `evaluate_gaze` as text, one line per training set: mean +- standard deviation over the seeds."""
    heads = ("trained on", "images", "mean error deg", "within 7 deg %", "without offset deg")
    rows = [heads]
    for name, arm in results["arms"].items():
        close = {key: 100 * arm["within_7_deg"][key] for key in ("mean", "std")}
        rows.append(
            (
                name,
                str(arm["images"]),
                _plus_minus(arm["mean_error_deg"], 2),
                _plus_minus(close, 1),
                _plus_minus(arm["mean_error_without_offset_deg"], 2),
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines.append(
        f"{results['test_images']} test images, {len(results['seeds'])} seeds; the best constant prediction is off by "
        f"{results['constant_error_deg']:.2f} deg; 'without offset' uses the test labels to remove a constant error"
    )
    return "\n".join(lines)


def _arm(predictions: Sequence[NDArray[np.float64]], true: NDArray[Any]) -> dict[str, Any]:
    scores = [gaze_scores(predicted, true) for predicted in predictions]
    curves = [cumulative_curve(angular_error(predicted, true)) for predicted in predictions]
    names = [field.name for field in dataclasses.fields(GazeScores) if field.name != "n"]
    return {
        **{name: _summary([getattr(score, name) for score in scores]) for name in names},
        "cumulative_curve": np.mean(curves, axis=0).tolist(),
        "predicted_pitch_yaw_deg": [_rounded_degrees(predicted) for predicted in predictions],
    }


def _summary(values: Sequence[float]) -> dict[str, Any]:
    spread = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
    return {"mean": float(np.mean(values)), "std": spread, "per_seed": list(values)}


def _rounded_degrees(vectors: NDArray[Any]) -> list[list[float]]:
    angles: list[list[float]] = np.degrees(vector_to_pitch_yaw(vectors)).round(4).tolist()
    return angles


def _plus_minus(summary: Mapping[str, float], digits: int) -> str:
    return f"{summary['mean']:.{digits}f} +- {summary['std']:.{digits}f}"


def _pixels_and_gaze(
    images: Tensor | LabelledSet, gaze: ArrayLike | None, what: str
) -> tuple[Tensor, Tensor]:
    """Integer images [n, c, h, w] and unit vectors [n, 3], as many of one as of the other and at least one."""
    if isinstance(images, Tensor):
        if gaze is None:
            raise InputError(f"{what} came as images without gaze labels: pass gaze [n, 3] too.")
        pixels, labels = images, {"gaze": np.asarray(gaze)}
    else:
        pixels, labels = images.load(), dict(images.labels)
    if pixels.ndim != 4 or pixels.dtype not in (torch.uint8, torch.uint16):
        raise InputError(f"images of {what} are {pixels.dtype} {list(pixels.shape)}: want uint8 [n, c, h, w].")
    if len(pixels) == 0:
        raise InputError(f"{what} has no images: want at least one.")
    vectors = gaze_of(labels, what)
    if len(vectors) != len(pixels):
        raise InputError(f"{what} has {len(pixels)} images and {len(vectors)} gaze labels: want one per image.")
    return pixels, torch.from_numpy(vectors)


def _like(test_images: Tensor, name: str, train_set: LabelledSet) -> tuple[Tensor, Tensor]:
    pixels, gaze = _pixels_and_gaze(train_set, None, f"the training set {name!r}")
    if pixels.shape[1:] != test_images.shape[1:]:
        raise InputError(
            f"images of the training set {name!r} are {list(pixels.shape[1:])} and those of the test set "
            f"{list(test_images.shape[1:])} (channels, height, width): make them alike, with the option size."
        )
    return pixels, gaze


def _new_estimator(pixels: Tensor, gaze: Tensor, training: GazeTraining, seed: int) -> GazeEstimator:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        estimator = GazeEstimator(
            pixels.shape[1],
            (pixels.shape[2], pixels.shape[3]),
            training.width_factor,
            fc_width_factor=training.fc_width_factor,
            standardise=training.standardise,
        ).initialize_around(gaze.mean(dim=0).cpu())
    # 1.5 times as many images a second as with channels first, on one core at a quarter of the paper's width.
    return estimator.to(memory_format=torch.channels_last)


def _require_finite(estimator: GazeEstimator) -> None:
    if not all(bool(parameter.isfinite().all()) for parameter in estimator.parameters()):
        raise TrainingDiverged("the gaze estimator diverged: train it with a lower learning rate.")
