"""Choosing the best refiner of a run: which images are held out, and what is measured on them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from simgan_fast.config import TrainingConfig
from simgan_fast.data import open_images
from simgan_fast.data.hold_out import LEAST, hold_out
from simgan_fast.data.packed import PackedSet, open_packed
from simgan_fast.errors import InputError
from simgan_fast.evaluation.feature_distances import kernel_distance
from simgan_fast.evaluation.gaze_labels import gaze_of
from simgan_fast.evaluation.gaze_metrics import gaze_scores
from simgan_fast.evaluation.gaze_training import GazeTraining, predict_gaze, train_gaze_estimator
from simgan_fast.evaluation.random_features import SMALLEST_SIDE, feature_scale, random_features
from simgan_fast.jobs.refine import refined_batches
from simgan_fast.models.refiner import Refiner
from simgan_fast.training.selection import Selection

BATCH = 64  # images refined at a time
# Shorter than a comparison's 700 updates: it is trained anew at each measurement.
ESTIMATOR = GazeTraining(updates=300)


def held_out(
    config: TrainingConfig,
    synthetic: PackedSet,
    real: PackedSet,
    labelled: str | Path | None,
    out: Path,
) -> tuple[PackedSet, PackedSet, dict[str, str]]:
    """The synthetic and the real images that are left to train on, and what config.toml keeps of the labelled set.

    The others go to `out`/data/held-out. `labelled`: labelled real images to select by gaze with, neither trained on
    nor tested on. Nothing is held out where `config` selects by nothing.

    Raises InputError for too few images, a labelled set that is missing, superfluous, of another shape or type or
    without gaze labels, or one with images that are trained on.
    """
    if (labelled is not None) != (config.select_by == "gaze"):
        raise InputError(
            f"select_by is {config.select_by!r}: select-labelled, a set of labelled real images that are neither "
            "trained nor tested on, belongs to select_by 'gaze' and to it alone."
        )
    if config.select_by == "none":
        return synthetic, real, {}
    if config.select_by == "realism" and min(real.shape[1:]) < SMALLEST_SIDE:
        height, width = real.shape[1:]
        raise InputError(
            f"images are {height}x{width} pixels: selecting by realism needs {SMALLEST_SIDE} a side."
        )
    origin = _labelled(synthetic, real, labelled, out) if labelled is not None else {}
    parts = [
        hold_out(images, out / "data" / "held-out" / side, seed=config.seed)[0]
        for side, images in (("synthetic", synthetic), ("real", real))
    ]
    return parts[0], parts[1], origin


def open_selection(
    config: TrainingConfig, labelled: str | None, out: Path, device: str
) -> Selection | None:
    """What measures the refiners of the run `out`; None where `config` selects by nothing.

    `labelled`: the set's folder as config.toml has it. Raises InputError where a set is no longer there.
    """
    if config.select_by == "none":
        return None
    held = out / "data" / "held-out"
    synthetic = open_packed(held / "synthetic" / "validation")
    if config.select_by == "realism":
        measure = _realism(synthetic, open_packed(held / "real" / "validation"), device)
    else:
        if labelled is None:
            raise InputError(f"{out}/config.toml names no labelled set: restore it.")
        measure = _gaze(synthetic, open_packed(out / labelled), config.seed, device)
    return Selection(out, config.select_every, measure)


def _realism(synthetic: PackedSet, real: PackedSet, device: str) -> Callable[[Refiner], float]:
    """KID of refined and real images, with the fixed random features of `evaluate realism`.

    Of all pairs, not of random subsets: the same images every time, so values differ by the refiner alone.
    """
    features = random_features(real.load())
    mean, spread = feature_scale(features)
    target = (features - mean) / spread

    def measure(refiner: Refiner) -> float:
        refined = random_features(_refined(refiner, synthetic, device))
        return kernel_distance((refined - mean) / spread, target)

    return measure


def _gaze(
    synthetic: PackedSet, labelled: PackedSet, seed: int, device: str
) -> Callable[[Refiner], float]:
    """Mean gaze error, degrees, on `labelled` of a small estimator trained on the refined images."""
    truth, test = gaze_of(labelled.labels, str(labelled.path)), labelled.load()
    taught = gaze_of(synthetic.labels, "the synthetic set")

    def measure(refiner: Refiner) -> float:
        refined = _refined(refiner, synthetic, device)
        estimator = train_gaze_estimator(refined, taught, ESTIMATOR, seed=seed, device=device)
        return gaze_scores(predict_gaze(estimator, test), truth).mean_error_deg

    return measure


def _refined(refiner: Refiner, images: PackedSet, device: str) -> torch.Tensor:
    """Every image refined, rounded as `refine` writes it: uint8 or uint16 [n, c, h, w]."""
    parts = [batch for _, batch, _ in refined_batches(refiner, images, BATCH, device)]
    return torch.from_numpy(np.concatenate(parts))


def _labelled(
    synthetic: PackedSet, real: PackedSet, labelled: str | Path, out: Path
) -> dict[str, str]:
    """Check the labelled set; its folder and digest."""
    channels, height, width = real.shape
    cache = out / "data" / "labelled"
    images = open_images(labelled, size=(height, width), channels=channels, cache=cache)
    if images.dtype != real.dtype:
        raise InputError(f"{labelled} holds {images.dtype} images, the real set {real.dtype}.")
    if len(images) < LEAST:
        raise InputError(
            f"{labelled} has {len(images)} images: selecting by gaze needs at least {LEAST}."
        )
    gaze_of(images.labels, str(labelled))
    gaze_of(synthetic.labels, str(synthetic.path))
    chosen_by = {image.tobytes() for image in images.images()}
    common = sum(
        image.tobytes() in chosen_by
        for start in range(0, len(real), 1024)
        for image in real.images(start, start + 1024)
    )
    if common:
        raise InputError(
            f"{common} of the real images are in {labelled} too: what a refiner is chosen by must not be trained on, "
            "so take them out of one set."
        )
    path, run = images.path.resolve(), out.resolve()
    folder = str(path.relative_to(run) if path.is_relative_to(run) else path)
    return {"labelled": folder, "labelled_digest": images.info["digest"]}
