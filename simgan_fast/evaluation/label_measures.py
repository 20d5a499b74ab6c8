"""Are the labels still true? What refining moved, seen by estimators that never saw a refined image."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simgan_fast.config import SEEDS
from simgan_fast.errors import InputError
from simgan_fast.evaluation.altered_looks import altered_looks
from simgan_fast.evaluation.gaze_labels import ANGLE_NAMES, gaze_of
from simgan_fast.evaluation.gaze_training import (
    GazeTraining,
    predict_gaze,
    train_gaze_estimator,
)
from simgan_fast.evaluation.label_pairs import (
    NamedSet,
    Pairs,
    joined,
    matched,
    pixel_change,
    rows_of,
)
from simgan_fast.evaluation.label_shifts import FAR, Shift, gaze_shift, moved_right, point_shift
from simgan_fast.evaluation.landmarks import (
    LandmarkTraining,
    predict_landmarks,
    train_landmark_estimator,
)
from simgan_fast.evaluation.side_by_side import checked_seed, side_by_side
from simgan_fast.progress import Progress

Floats = NDArray[np.float64]

GAZE_UPDATES = 2 * GazeTraining.updates  # images in altered looks take longer to learn
LOOKS = 3  # altered copies of each training image
POINTS = ("pupil", "eyelids")  # labels that are x0, y0, x1, y1, ... in pixels


def evaluate_labels(
    raw: NamedSet,
    refined: NamedSet,
    *,
    seed: int = 0,
    landmark_training: LandmarkTraining | None = None,
    gaze_training: GazeTraining | None = None,
) -> dict[str, Any]:
    """Compare refined images with the raw ones of the same names, and say how far what their labels name has moved.

    Shrivastava et al. 2017 (section 3.1, "Preserving ground truth") had people mark the pupil in 100 raw and refined
    images: 1.1 +- 0.8 pixels apart. Here estimators take the people's place. One for `pupil` and `eyelids` and one for
    gaze are trained on one half of the raw images, as they are and in altered looks; then they look at the other half,
    raw and refined. The shift is the distance of the two estimates. Its error on raw images is the floor: a shift below
    it is no evidence that anything moved. A look that it has never seen can mislead it, which makes a shift too large,
    or make it slow to follow, which makes it too small: `response` tells.

    Args:
        raw: the set that was refined, with whichever of the labels `pupil`, `eyelids` and gaze it has.
        refined: images of the same names (the ending may differ), shape and type; its labels are not looked at.
        seed: of the halves, of the first weights and of the mini-batches.
        landmark_training, gaze_training: settings; the defaults if left out.

    Returns:
        A dict that JSON can hold: `change` as the fields of `Change`; `shifts`, name of a label -> the fields of
        `Shift`, for the labels that are there; `pairs`, `held_out`, `without_partner` (numbers of images), `seed`,
        `held_out_names` and, where the label is there, `pupil_raw_px` and `pupil_refined_px`, the estimates of these.

    Raises:
        InputError: fewer than 200 pairs, images of other shapes or types, or labels that are not finite.

    >>> results = evaluate_labels(open_packed("simulated"), open_packed("refined"))  # doctest: +SKIP
    """
    pairs = matched(raw, refined)
    rows = np.random.default_rng(checked_seed(seed)).permutation(len(pairs.names))
    seen, unseen = np.sort(rows[: len(rows) // 2]), np.sort(rows[len(rows) // 2 :])
    points, gaze = _points(pairs.labels), _gaze(pairs.labels)
    found = _estimates(
        pairs,
        np.concatenate(list(points.values()), axis=1) if points else None,
        gaze,
        (seen, unseen),
        seed,
        landmark_training or LandmarkTraining(),
        gaze_training or GazeTraining(updates=GAZE_UPDATES),
    )
    shifts: dict[str, Shift] = {}
    pupils: dict[str, list[list[float]]] = {}
    first = 0
    for name, true in points.items():
        part = slice(first, first := first + true.shape[1])
        before, after, moved = (estimate[:, part] for estimate in found["points"])
        shifts[name] = point_shift(before, after, moved, true[unseen])
        if name == "pupil":
            pupils["pupil_raw_px"], pupils["pupil_refined_px"] = (
                estimate[:, 0].round(4).tolist() for estimate in (before, after)
            )
    if gaze is not None:
        before, after = found["gaze"]
        shifts["gaze"] = gaze_shift(before, after, gaze[unseen])
    return {
        "change": dataclasses.asdict(pixel_change(pairs.raw, pairs.refined)),
        "shifts": {name: dataclasses.asdict(shift) for name, shift in shifts.items()},
        "pairs": len(rows),
        "held_out": len(unseen),
        "without_partner": pairs.alone,
        "seed": seed,
        "held_out_names": [pairs.names[row] for row in unseen],
        **pupils,
    }


def labels_table(results: Mapping[str, Any]) -> str:
    """Text of what `evaluate_labels` found: a line per label."""
    change = results["change"]
    titles = ("label", "shift", "median", "rms", f"above {FAR:g} px %", "common shift", "response")
    rows: list[tuple[str, ...]] = [(*titles, "error on raw", "on refined")]
    for name, shift in results["shifts"].items():
        rows.append((f"{name}, {'px' if shift['far'] is not None else 'deg'}", *_cells(shift)))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    lines.append(
        f"estimators trained on {results['pairs'] - results['held_out']} raw images, asked about "
        f"{results['held_out']} others, raw and refined"
    )
    if not results["shifts"]:
        lines = ["no pupil, eyelids or gaze among the labels: only pixels were compared"]
    lines.append(
        f"pixels changed by {change['mean']:.2f} +- {change['std']:.2f} grey levels, {change['signed']:+.2f} in the "
        f"mean, over {results['pairs']} pairs"
    )
    if results["without_partner"]:
        lines.append(f"{results['without_partner']} images are in one of the sets only")
    return "\n".join(lines)


def _cells(shift: Mapping[str, Any]) -> tuple[str, ...]:
    x, y = shift["offset"]
    return (
        f"{shift['mean']:.2f} +- {shift['std']:.2f}",
        f"{shift['median']:.2f}",
        f"{shift['rms']:.2f}",
        f"{100 * shift['far']:.1f}" if shift["far"] is not None else "",
        f"{x:+.2f}, {y:+.2f}",
        f"{shift['response']:.2f}" if shift["response"] is not None else "",
        f"{shift['error_raw_mean']:.2f} +- {shift['error_raw_std']:.2f}",
        f"{shift['error_refined_mean']:.2f} +- {shift['error_refined_std']:.2f}",
    )


def _estimates(
    pairs: Pairs,
    points: NDArray[np.float32] | None,
    gaze: NDArray[np.float32] | None,
    halves: tuple[NDArray[np.intp], NDArray[np.intp]],
    seed: int,
    landmark_training: LandmarkTraining,
    gaze_training: GazeTraining,
) -> dict[str, tuple[Floats, ...]]:
    """`points` and `gaze`, where there are labels: estimates of the held-out images, raw and refined."""
    seen, unseen = halves
    raw, refined = rows_of(pairs.raw, unseen), rows_of(pairs.refined, unseen)
    train = rows_of(pairs.raw, seen)
    looks = [altered_looks(train, (seed + look) % SEEDS) for look in range(LOOKS)]
    train, seen = joined([train, *looks]), np.tile(seen, LOOKS + 1)

    def find_points(progress: Progress) -> tuple[Floats, ...]:
        assert points is not None
        estimator = train_landmark_estimator(
            train, points[seen], landmark_training, seed=seed, progress=progress
        )
        asked = (raw, refined, moved_right(refined))
        return tuple(predict_landmarks(estimator, images) for images in asked)

    def find_gaze(progress: Progress) -> tuple[Floats, ...]:
        assert gaze is not None
        estimator = train_gaze_estimator(
            train, gaze[seen], gaze_training, seed=seed, progress=progress
        )
        return tuple(predict_gaze(estimator, images) for images in (raw, refined))

    jobs: dict[str, Callable[[Progress], tuple[Floats, ...]]] = {}
    updates = 0
    if points is not None:
        jobs["points"], updates = find_points, updates + landmark_training.updates
    if gaze is not None:
        jobs["gaze"], updates = find_gaze, updates + gaze_training.updates
    if not jobs:
        return {}
    with Progress(updates, "update", "evaluate labels") as progress:
        return side_by_side(jobs, progress)


def _points(labels: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
    """Label -> points [n, k, 2] of the labels that are positions."""
    points = {}
    for name in POINTS:
        if name not in labels:
            continue
        values = np.asarray(labels[name], np.float32)
        if values.ndim != 2 or values.shape[1] % 2:
            raise InputError(
                f"the label {name!r} of the raw images is {list(values.shape)}: want x and y of each point."
            )
        if not np.isfinite(values).all():
            raise InputError(f"the label {name!r} of the raw images is not finite everywhere.")
        points[name] = values.reshape(len(values), -1, 2)
    return points


def _gaze(labels: Mapping[str, NDArray[Any]]) -> NDArray[np.float32] | None:
    names = (("gaze",), *ANGLE_NAMES)
    if any(all(name in labels for name in group) for group in names):
        return gaze_of(labels, "the raw set")
    return None
