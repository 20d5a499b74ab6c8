"""Predicted joints beside the true ones, drawn into the images of a test set."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from simgan_fast.data.contact_sheet import contact_sheet
from simgan_fast.errors import InputError
from simgan_fast.evaluation.gaze_training import LabelledSet
from simgan_fast.evaluation.pose_labels import hands_of
from simgan_fast.pictures import save_picture

SHOWN = 6  # images


def save_pose_picture(
    results: Mapping[str, Any], test_set: LabelledSet, path: str | Path, *, count: int = SHOWN
) -> None:
    """Write a PNG of `count` test images: with the true joints, then with those that each training set led to.

    `results`: of `evaluate_pose` with that `test_set`; the first seed is drawn. From each predicted joint a thin white
    line goes to where it should be. The images are spread over the set.

    Raises InputError where the results are of another set.
    """
    hands = hands_of(test_set, "the test set")
    true = hands.joints.numpy()
    if np.shape(results["true_joints"]) != true.shape:
        raise InputError(
            f"the results are of {len(results['true_joints'])} test images and {len(true)} came: draw those that were "
            "tested on."
        )
    rows = np.unique(np.linspace(0, len(true) - 1, min(count, len(true))).round().astype(int))
    kinds = {
        "true": true,
        **{k: np.array(v["predicted_joints"][0]) for k, v in results["arms"].items()},
    }
    drawn, whither, names = [], [], []
    for row in rows:
        for kind, joints in kinds.items():
            drawn.append(joints[row].reshape(-1))
            whither.append(true[row].reshape(-1))
            names.append(f"{row} {kind}")
    images = np.repeat(hands.images.numpy()[rows], len(kinds), axis=0)
    labels = {"joints": np.array(drawn), "joints_true": np.array(whither)}
    save_picture(path, contact_sheet(images, names, labels, columns=len(kinds) * 2))
