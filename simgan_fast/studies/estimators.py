"""The gaze estimators of a study: one training each is a cell, and what the cells of several seeds are worth."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from simgan_fast.evaluation.gaze import (
    GazeTraining,
    arm_scores,
    pitch_yaw_to_vector,
    predict_gaze,
    rounded_degrees,
    train_gaze_estimator,
)
from simgan_fast.gaze import Floats
from simgan_fast.progress import Progress
from simgan_fast.studies.cells import Cell


def estimator_job(
    name: str,
    part: Callable[[], tuple[Tensor, Tensor]],
    test_images: Tensor,
    training: GazeTraining,
    seed: int,
    device: str,
) -> Callable[[Progress], Cell]:
    """A job of `Study.cells_side_by_side`: train on `part()`, images [n, c, h, w] and gaze [n, 3]; predict the test."""

    def work(progress: Progress) -> Cell:
        progress.note(f"{name}, seed {seed}")
        images, gaze = part()
        estimator = train_gaze_estimator(
            images, gaze, training, seed=seed, device=device, progress=progress
        )
        predicted = predict_gaze(estimator, test_images)
        return {"images": len(images), "predicted_pitch_yaw_deg": rounded_degrees(predicted)}

    return work


def arm_of(cells: Sequence[Cell], true: Floats) -> dict[str, Any]:
    """An arm as `evaluate_gaze` returns it, from its cells, one of each seed; true: gaze vectors [m, 3]."""
    vectors = [pitch_yaw_to_vector(np.radians(cell["predicted_pitch_yaw_deg"])) for cell in cells]
    return {"images": cells[0]["images"], **arm_scores(vectors, true)}
