"""All measures of a refined set in one go: realism, labels, and gaze where the real images have it."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from simgan_fast.data import open_images
from simgan_fast.data.packed import PackedSet
from simgan_fast.evaluation.gaze import GazeTraining, evaluate_gaze
from simgan_fast.evaluation.gaze_labels import gaze_of
from simgan_fast.evaluation.label_measures import evaluate_labels
from simgan_fast.evaluation.label_pairs import paired_rows
from simgan_fast.evaluation.realism import evaluate_realism


def evaluate_all(
    synthetic: str | Path,
    refined: str | Path,
    real: str | Path,
    *,
    size: tuple[int, int] | None = None,
    seed: int = 0,
    gaze_training: GazeTraining | None = None,
) -> dict[str, Any]:
    """Ask whether `refined` looks real, kept the labels of `synthetic`, and teaches gaze better.

    Args:
        synthetic, refined: packed sets or image folders with the same names, of which they share 200 at least.
        real: real images, 256 at least; gaze is measured on them if they are labelled with it, and then they must not
            have been trained on, nor have chosen the refiner.
        size: (height, width) that folders are resized to; by default the synthetic images keep theirs, and the
            others are resized to it.
        seed: of everything random; gaze takes three estimators a set, from this seed on.
        gaze_training: settings of these estimators.

    Returns a dict that JSON can hold: `realism`, `labels` and `gaze` as `evaluate_realism`, `evaluate_labels` and
    `evaluate_gaze` give them, `gaze` None where the real or the synthetic images have no gaze label, and `seconds`
    (measure -> time). Raises InputError for unusable input, before anything is trained where that can be told.

    >>> evaluate_all("simulated", "refined", "photographs")["realism"]["sets"]["refined"]  # doctest: +SKIP
    """
    raw = open_images(synthetic, size=size)
    channels, height, width = raw.shape
    others = [
        open_images(path, size=(height, width), channels=channels) for path in (refined, real)
    ]
    sets, photographs = {"synthetic": raw, "refined": others[0]}, others[1]
    paired_rows(raw, others[0])  # too few are told now, and not when realism has been measured
    measures: dict[str, Callable[[], dict[str, Any]]] = {
        "realism": lambda: evaluate_realism(photographs, sets, seed=seed),
        "labels": lambda: evaluate_labels(raw, others[0], seed=seed),
    }
    if _has_gaze(photographs) and _has_gaze(raw):
        seeds = tuple(range(seed, seed + 3))
        measures["gaze"] = lambda: evaluate_gaze(
            sets, photographs, seeds=seeds, training=gaze_training
        )
    results: dict[str, Any] = {"gaze": None, "seconds": {}}
    for name, measure in measures.items():
        began = time.monotonic()
        results[name] = measure()
        results["seconds"][name] = time.monotonic() - began
    return results


def _has_gaze(images: PackedSet) -> bool:
    """Whether a label of `images` tells gaze; InputError where one should and is unusable."""
    if not {"gaze", "pitch", "pitch_rad"} & set(images.labels):
        return False
    gaze_of(images.labels, str(images.path))
    return True
