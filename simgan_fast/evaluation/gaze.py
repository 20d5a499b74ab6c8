"""What a labelled set of eye images is worth: train the gaze estimator on it, test it on another
(paper, section 3.1).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from simgan_fast.errors import InputError
from simgan_fast.evaluation.gaze_baselines import evaluate_baselines
from simgan_fast.evaluation.gaze_curve import baseline_name, write_curve
from simgan_fast.evaluation.gaze_labels import gaze_of
from simgan_fast.evaluation.gaze_metrics import (
    CURVE_DEGREES,
    GazeScores,
    angular_error,
    cumulative_curve,
    gaze_scores,
)
from simgan_fast.evaluation.gaze_training import (
    GazeTraining,
    LabelledSet,
    images_and_gaze,
    predict_gaze,
    train_gaze_estimator,
)
from simgan_fast.evaluation.side_by_side import side_by_side
from simgan_fast.evaluation.summaries import plus_minus, summary
from simgan_fast.gaze import pitch_yaw_to_vector, vector_to_pitch_yaw
from simgan_fast.progress import Progress
from simgan_fast.tables import plain

__all__ = [
    "GazeScores",
    "GazeTraining",
    "LabelledSet",
    "angular_error",
    "cumulative_curve",
    "evaluate_gaze",
    "gaze_of",
    "gaze_scores",
    "gaze_table",
    "pitch_yaw_to_vector",
    "predict_gaze",
    "train_gaze_estimator",
    "vector_to_pitch_yaw",
    "write_curve",
]


def evaluate_gaze(
    train_sets: Mapping[str, LabelledSet],
    test_set: LabelledSet,
    *,
    seeds: Sequence[int] = (0, 1, 2),
    training: GazeTraining | None = None,
    device: str | torch.device = "cpu",
    baselines: bool = False,
) -> dict[str, Any]:
    """Train one estimator per set and seed, all alike, and test each on `test_set`.

    Args:
        train_sets: name -> labelled set (a PackedSet, say), with images of the test set's shape.
        test_set: the labelled set to measure on; nothing is chosen by it.
        seeds: one estimator each; those of one seed begin with the same weights in every set.
        training: settings; the defaults of `GazeTraining` if left out.
        device: where to train.
        baselines: whether to fit `predict_baselines` to every set too.

    Returns:
        A dict that JSON can hold. `arms`: name -> `images` (how many), each field of `GazeScores`
        but n as {mean, std, per_seed} (std: of the sample, 0 for one seed), `cumulative_curve` (the
        mean over the seeds at each of `curve_degrees`) and `predicted_pitch_yaw_deg` [seed][n][2].
        Beside it: `true_pitch_yaw_deg` [n][2], `test_images`, `constant_error_deg` (of predicting
        the mean direction of the test labels, always), `curve_degrees`, `seeds`, `training`; with baselines,
        `baselines`: name -> `nearest` and `ridge` -> `chosen`, `validation_error_deg` (candidate -> error), each field
        of `GazeScores` and `cumulative_curve`.

    Raises:
        InputError: no set, no seed, an empty set, unusable labels, or images of different shapes.
        TrainingDiverged: a weight is no longer finite.

    >>> results = evaluate_gaze({"raw": raw, "refined": refined}, photographs)  # doctest: +SKIP
    >>> print(gaze_table(results))  # doctest: +SKIP
    """
    training = training or GazeTraining()
    if not train_sets or not seeds:
        raise InputError(
            f"{len(train_sets)} training sets and {len(seeds)} seeds came: want at least one of "
            "each."
        )
    test_images, gaze = images_and_gaze(test_set, None, "the test set")
    true = gaze.double().numpy()
    sets = {name: _like(test_images, name, train_set) for name, train_set in train_sets.items()}
    predictions = _predictions(sets, test_images, seeds, training, device)
    arms = {
        name: {
            "images": len(labelled[0]),
            **arm_scores([predictions[name, seed] for seed in seeds], true),
        }
        for name, labelled in sets.items()
    }
    compared = evaluate_baselines(sets, test_images, true) if baselines else {}
    return {
        "arms": arms,
        **({"baselines": compared} if compared else {}),
        "test_images": len(true),
        "true_pitch_yaw_deg": rounded_degrees(true),
        "constant_error_deg": constant_error(true),
        "curve_degrees": list(CURVE_DEGREES),
        "seeds": list(seeds),
        "training": dataclasses.asdict(training),
    }


def gaze_table(results: Mapping[str, Any]) -> str:
    """Text of what `evaluate_gaze` found: a line per training set, mean +- std over the seeds."""
    rows = [("trained on", "images", "mean error deg", "within 7 deg %", "without offset deg")]
    for name, arm in results["arms"].items():
        mean, close, centred = (
            arm[score]
            for score in ("mean_error_deg", "within_7_deg", "mean_error_without_offset_deg")
        )
        numbers = (plus_minus(mean, 1, 2), plus_minus(close, 100, 1), plus_minus(centred, 1, 2))
        rows.append((name, str(arm["images"]), *numbers))
        rows += [
            (f"  {baseline_name(method, found)}", "", *_plain_scores(found))
            for method, found in results.get("baselines", {}).get(name, {}).items()
        ]
    return (
        f"{plain(rows)}\n"
        f"{results['test_images']} test images, {len(results['seeds'])} seeds; always predicting "
        f"the mean direction of the test labels: {results['constant_error_deg']:.2f} deg\n"
        "without offset: after a constant error, found with the test labels, is taken off"
    )


def _plain_scores(found: Mapping[str, Any]) -> tuple[str, str, str]:
    return (
        f"{found['mean_error_deg']:.2f}",
        f"{found['within_7_deg'] * 100:.1f}",
        f"{found['mean_error_without_offset_deg']:.2f}",
    )


def _predictions(
    sets: Mapping[str, tuple[Tensor, Tensor]],
    test_images: Tensor,
    seeds: Sequence[int],
    training: GazeTraining,
    device: str | torch.device,
) -> dict[tuple[str, int], NDArray[np.float64]]:
    """What the estimator of each set and seed predicts."""

    def job(name: str, seed: int) -> Callable[[Progress], NDArray[np.float64]]:
        def predict(progress: Progress) -> NDArray[np.float64]:
            progress.note(f"{name}, seed {seed}")
            estimator = train_gaze_estimator(
                *sets[name], training, seed=seed, device=device, progress=progress
            )
            return predict_gaze(estimator, test_images)

        return predict

    jobs = {(name, seed): job(name, seed) for name in sets for seed in seeds}
    with Progress(len(jobs) * training.updates, "update", "evaluate gaze") as progress:
        return side_by_side(jobs, progress, device)


def _like(test_images: Tensor, name: str, train_set: LabelledSet) -> tuple[Tensor, Tensor]:
    """Images and gaze of `train_set`; InputError unless its images have the test set's shape."""
    pixels, gaze = images_and_gaze(train_set, None, f"the training set {name!r}")
    if pixels.shape[1:] != test_images.shape[1:]:
        raise InputError(
            f"images of the training set {name!r} are {list(pixels.shape[1:])} and those of the "
            f"test set {list(test_images.shape[1:])} (channels, height, width): make them alike."
        )
    return pixels, gaze


def arm_scores(
    predictions: Sequence[NDArray[np.float64]], true: NDArray[np.float64]
) -> dict[str, Any]:
    """What the estimators of one training set are worth, as `evaluate_gaze` returns it: vectors [n, 3] of each seed."""
    scores = [gaze_scores(predicted, true) for predicted in predictions]
    curves = [cumulative_curve(angular_error(predicted, true)) for predicted in predictions]
    names = [field.name for field in dataclasses.fields(GazeScores) if field.name != "n"]
    return {
        **{name: summary([getattr(score, name) for score in scores]) for name in names},
        "cumulative_curve": np.mean(curves, axis=0).tolist(),
        "predicted_pitch_yaw_deg": [rounded_degrees(predicted) for predicted in predictions],
    }


def constant_error(true: NDArray[np.float64]) -> float:
    """Mean angle in degrees between the vectors [n, 3] and their mean direction."""
    mean = true.mean(axis=0)
    return float(angular_error(np.broadcast_to(mean, true.shape), true).mean())


def rounded_degrees(vectors: NDArray[np.float64]) -> list[list[float]]:
    """Pitch and yaw [n][2] in degrees, to four digits."""
    angles: list[list[float]] = np.degrees(vector_to_pitch_yaw(vectors)).round(4).tolist()
    return angles
