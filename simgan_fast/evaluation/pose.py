"""What a labelled set of hands is worth: train the pose estimator on it, test it on another (paper, section 3.2)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from simgan_fast.errors import InputError
from simgan_fast.evaluation.gaze_training import LabelledSet
from simgan_fast.evaluation.pose_curve import write_pose_curve
from simgan_fast.evaluation.pose_labels import Hands, hands_of, joint_names
from simgan_fast.evaluation.pose_metrics import (
    CLOSE_PIXELS,
    CURVE_PIXELS,
    PAPER_SIDE,
    PoseScores,
    pck_curve,
    pixel_errors,
    pose_scores,
)
from simgan_fast.evaluation.pose_pictures import save_pose_picture
from simgan_fast.evaluation.pose_training import (
    PoseTraining,
    predict_joints,
    train_pose_estimator,
)
from simgan_fast.evaluation.side_by_side import side_by_side
from simgan_fast.evaluation.summaries import plus_minus, summary
from simgan_fast.models.stacked_hourglass import STRIDE
from simgan_fast.progress import Progress
from simgan_fast.tables import plain

__all__ = [
    "Hands",
    "PoseScores",
    "PoseTraining",
    "evaluate_pose",
    "hands_like",
    "hands_of",
    "pose_arm",
    "pose_scores",
    "pose_table",
    "predict_joints",
    "save_pose_picture",
    "train_pose_estimator",
    "write_pose_curve",
]

FAR = 0.5  # between two backgrounds in [-1, 1]: then they are of two encodings

Floats = NDArray[np.float64]


def evaluate_pose(
    train_sets: Mapping[str, LabelledSet],
    test_set: LabelledSet,
    *,
    seeds: Sequence[int] = (0, 1, 2),
    training: PoseTraining | None = None,
    device: str | torch.device = "cpu",
) -> dict[str, Any]:
    """Train one estimator per set and seed, all alike, and test each on `test_set`.

    Args:
        train_sets: name -> labelled set (a PackedSet, say), with images of the test set's shape and encoding, and the
            labels that `hands_of` reads. "3x views" of the paper is a set of all views.
        test_set: the labelled set to measure on; nothing is chosen by it.
        seeds: one estimator each; those of one seed begin with the same weights in every set.
        training: settings; the defaults of `PoseTraining` if left out.
        device: where to train.

    Returns:
        A dict that JSON can hold. `arms`: name -> `images` (how many), `left_out` (all background), each field of
        `PoseScores` but n as {mean, std, per_seed} (None where the set does not tell it), `pck_curve` and
        `pck_curve_heat_map` (the mean over the seeds at each of `curve_px`, in pixels of the input and of heat maps),
        `per_joint` (joint -> `pck_5px`, `mean_error_px` and `mean_error_mm`, means over the seeds), and
        `predicted_joints` [seed][n][j][2] in pixels of the image. Beside it: `true_joints` [n][j][2], `test_images`,
        `test_left_out`, `joints_outside` (of the test images: not scored), `curve_px`, `image_size`, `seeds`,
        `training`.

    Raises:
        InputError: no set, no seed, unusable sets (see `hands_of`), or images of different shapes or encodings.
        TrainingDiverged: a weight is no longer finite.

    >>> results = evaluate_pose({"raw": raw, "refined": refined}, frames)  # doctest: +SKIP
    >>> print(pose_table(results))  # doctest: +SKIP
    """
    training = training or PoseTraining()
    if not train_sets or not seeds:
        raise InputError(
            f"{len(train_sets)} training sets and {len(seeds)} seeds came: want at least one of each."
        )
    test = hands_of(test_set, "the test set")
    sets = {name: hands_like(test, name, labelled) for name, labelled in train_sets.items()}
    predictions = _predictions(sets, test, seeds, training, device)
    return {
        "arms": {
            name: {
                "images": len(hands.images),
                "left_out": hands.left_out,
                **pose_arm([predictions[name, seed] for seed in seeds], test),
            }
            for name, hands in sets.items()
        },
        "test_images": len(test.images),
        "test_left_out": test.left_out,
        "joints_outside": int((~test.inside).sum()),
        "true_joints": _rounded(test.joints.numpy()),
        "curve_px": list(CURVE_PIXELS),
        "image_size": list(test.images.shape[2:]),
        "seeds": list(seeds),
        "training": dataclasses.asdict(training),
    }


def pose_table(results: Mapping[str, Any]) -> str:
    """Text of what `evaluate_pose` found: a line per training set, mean +- std over the seeds, and one per joint."""
    arms = results["arms"]
    rows = [
        ("trained on", "images", "within 5 px %", "mean error px", "AUC %", "mean mm", "max mm")
    ]
    rows += [
        (
            name,
            str(arm["images"]),
            plus_minus(arm["pck_5px"], 100, 1),
            plus_minus(arm["mean_error_px"], 1, 2),
            plus_minus(arm["auc"], 100, 1),
            *(
                plus_minus(arm[score], 1, 1) if arm[score] else "unknown"
                for score in ("mean_error_mm", "max_error_mm")
            ),
        )
        for name, arm in arms.items()
    ]
    joints = [("within 5 px %", *arms)]
    joints += [
        (joint, *(f"{arm['per_joint'][joint]['pck_5px'] * 100:.1f}" for arm in arms.values()))
        for joint in next(iter(arms.values()))["per_joint"]
    ]
    skipped = results["test_left_out"] + sum(arm["left_out"] for arm in arms.values())
    notes = (
        f"{results['test_images']} test images, {len(results['seeds'])} seeds; px: of images {PAPER_SIDE} wide; "
        f"mm: across the line of sight, at the true depth\n"
        f"joints outside of their image, not scored: {results['joints_outside']}; images without depth, left out: "
        f"{skipped}\n"
    )
    return "\n".join([plain(rows), notes, plain(joints)])


def hands_like(test: Hands, name: str, labelled: LabelledSet) -> Hands:
    """The hands of a training set; InputError unless its images are of the test set's kind."""
    hands = hands_of(labelled, f"the training set {name!r}")
    shapes = [list(each.images.shape[1:]) for each in (hands, test)]
    if shapes[0] != shapes[1] or hands.joints.shape[1] != test.joints.shape[1]:
        raise InputError(
            f"images of the training set {name!r} are {shapes[0]} (channels, height, width) with "
            f"{hands.joints.shape[1]} joints and those of the test set {shapes[1]} with {test.joints.shape[1]}: make "
            "them alike."
        )
    if abs(hands.background - test.background) > FAR:
        raise InputError(
            f"around the hands the training set {name!r} is {hands.background:.2f} and the test set "
            f"{test.background:.2f}: they are encoded differently; prepare both with the same values, paper or metric."
        )
    return hands


def _predictions(
    sets: Mapping[str, Hands],
    test: Hands,
    seeds: Sequence[int],
    training: PoseTraining,
    device: str | torch.device,
) -> dict[tuple[str, int], Floats]:
    """What the estimator of each set and seed predicts."""

    def job(name: str, seed: int) -> Callable[[Progress], Floats]:
        def predict(progress: Progress) -> Floats:
            progress.note(f"{name}, seed {seed}")
            estimator = train_pose_estimator(
                sets[name], training, seed=seed, device=device, progress=progress
            )
            return predict_joints(estimator, test)

        return predict

    jobs = {(name, seed): job(name, seed) for name in sets for seed in seeds}
    with Progress(len(jobs) * training.updates, "update", "evaluate pose") as progress:
        return side_by_side(jobs, progress, device)


def pose_arm(predictions: Sequence[Floats], test: Hands) -> dict[str, Any]:
    """What `evaluate_pose` returns of an arm, but for its images: predictions [n, j, 2] of each seed on `test`."""
    true, inside, width = test.joints.double().numpy(), test.inside, test.images.shape[3]
    pixels = [pixel_errors(predicted, true, width) for predicted in predictions]
    distances = [_millimetres(predicted, true, test) for predicted in predictions]
    scores = [pose_scores(px, mm, inside) for px, mm in zip(pixels, distances, strict=True)]
    names = [field.name for field in dataclasses.fields(PoseScores) if field.name != "n"]
    heat_map = width / PAPER_SIDE / STRIDE  # of its pixels are one of the input's
    curves = {"pck_curve": 1.0, "pck_curve_heat_map": heat_map}
    return {
        **{name: _over_seeds([getattr(score, name) for score in scores]) for name in names},
        **{
            name: np.mean([pck_curve(px[inside] * unit) for px in pixels], axis=0).tolist()
            for name, unit in curves.items()
        },
        "per_joint": _per_joint(pixels, distances, inside),
        "predicted_joints": [_rounded(predicted) for predicted in predictions],
    }


def _millimetres(predicted: Floats, true: Floats, test: Hands) -> Floats | None:
    """Distances [n, j] in mm at the joints' true depths."""
    points = test.millimetres(predicted), test.millimetres(true)
    if points[0] is None or points[1] is None:
        return None
    distance: Floats = np.linalg.norm(points[0] - points[1], axis=-1)
    return distance


def _over_seeds(values: Sequence[float | None]) -> dict[str, Any] | None:
    known = [value for value in values if value is not None]
    return summary(known) if known else None


def _per_joint(
    pixels: Sequence[Floats], distances: Sequence[Floats | None], inside: NDArray[np.bool_]
) -> dict[str, dict[str, float | None]]:
    """Means over images and seeds for each joint; None for one that is never in an image."""
    found = {}
    for joint, name in enumerate(joint_names(inside.shape[1])):
        rows = inside[:, joint]
        px = np.array([each[rows, joint] for each in pixels])
        mm = np.array([each[rows, joint] for each in distances if each is not None])
        found[name] = {
            "pck_5px": _mean(px <= CLOSE_PIXELS),
            "mean_error_px": _mean(px),
            "mean_error_mm": _mean(mm),
        }
    return found


def _mean(values: NDArray[Any]) -> float | None:
    return float(values.mean()) if values.size else None


def _rounded(joints: NDArray[Any]) -> list[list[list[float]]]:
    rounded: list[list[list[float]]] = np.asarray(joints, np.float64).round(2).tolist()
    return rounded
