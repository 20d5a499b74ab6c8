"""The three sets that a study takes, named or simulated, and refiners that are trained on them."""

from __future__ import annotations

import dataclasses
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simgan_fast.config import TrainingConfig
from simgan_fast.data import PackedSet, open_images, open_packed
from simgan_fast.errors import InputError
from simgan_fast.evaluation.cosine_training import CosineTraining
from simgan_fast.jobs.refine import refine
from simgan_fast.jobs.simulate import simulate
from simgan_fast.jobs.train import train_or_resume
from simgan_fast.studies.cells import Cell, Study

SIMULATED = {  # domain and seed; no setting here was chosen on images of these seeds
    "synthetic": ("plain", 100),
    "real": ("camera", 100),
    "test": ("camera", 101),
}
# Of a trial of a study, which takes seconds and means nothing.
QUICK_CONFIG: dict[str, Any] = {
    "width": 8,
    "blocks": 1,
    "steps": 6,
    "batch_size": 8,
    "history": 8,
    "refiner_pretraining": 4,
    "discriminator_pretraining": 2,
}


@dataclass(frozen=True)
class NamedSets:
    """Paths of packed sets or image folders: labelled `synthetic` images, `real` ones, and a labelled real `test` set
    of other images. `test_labels`: a CSV file for an image folder without one. `size`: (height, width) that folders are
    resized to.
    """

    synthetic: str | Path
    real: str | Path
    test: str | Path
    test_labels: str | Path | None = None
    size: tuple[int, int] | None = None

    def described(self) -> dict[str, Any]:
        """What they are, as JSON can hold it."""
        paths = {name: str(Path(getattr(self, name)).resolve()) for name in SIMULATED}
        labels = {"test_labels": str(Path(self.test_labels).resolve())} if self.test_labels else {}
        return paths | labels | ({"size": list(self.size)} if self.size else {})


@dataclass(frozen=True)
class StudySets:
    """Three packed sets of images of one shape; `synthetic` and `test` are labelled."""

    synthetic: PackedSet
    real: PackedSet
    test: PackedSet


def study_settings(
    named: NamedSets | None,
    counts: Mapping[str, int],
    config: TrainingConfig,
    training: CosineTraining,
) -> dict[str, Any]:
    """What decides the cells of a study, as `open_study` takes it."""
    return {
        "sets": named.described() if named else {"simulated": dict(counts)},
        "training": dataclasses.asdict(config),
        "estimator": dataclasses.asdict(training),
    }


def study_sets(
    study: Study,
    named: NamedSets | None,
    counts: Mapping[str, int],
    subject: str,
    check: Callable[[StudySets], object],
    **options: Any,
) -> StudySets:
    """The named sets, folders packed below the study; or as many simulated images of each as `counts` says.

    subject: "eyes" or "hands"; options: more of `simulate`, each a value, or set -> value. check: raises InputError for
    sets or labels that cannot be used, now rather than after the training. Raises InputError for other images than the
    study began with, too.
    """
    if named is None:
        for name, (domain, seed) in SIMULATED.items():
            folder = study.folder / "data" / name
            own = {k: v[name] if isinstance(v, Mapping) else v for k, v in options.items()}
            if not folder.exists():
                simulate(subject, folder, count=counts[name], domain=domain, seed=seed, **own)
        sets = StudySets(*(open_packed(study.folder / "data" / name) for name in SIMULATED))
    else:
        sets = _opened(named, study.folder / "data")
    check(sets)
    digests = {name: getattr(sets, name).info["digest"] for name in SIMULATED}
    study.require_same("images.json", digests)
    return sets


def refiner_cell(
    study: Study, name: str, sets: StudySets, config: TrainingConfig, device: str
) -> Cell:
    """Train a refiner in runs/NAME, or go on with it, and refine the synthetic set into refined/NAME."""
    began = time.monotonic()
    run, refined = study.folder / "runs" / name, study.folder / "refined" / name
    train_or_resume(sets.synthetic.path, sets.real.path, run, config, device=device)
    trained = time.monotonic()
    shutil.rmtree(refined, ignore_errors=True)
    result = refine(run, sets.synthetic.path, refined, format="arrow", device=device)
    return {
        "mean_abs_change": result.mean_abs_change,
        "train_seconds": round(trained - began, 1),
        "refine_images_per_second": round(result.images_per_second, 1),
    }


def _opened(named: NamedSets, cache: Path) -> StudySets:
    synthetic = open_images(named.synthetic, size=named.size, cache=cache / "synthetic")
    channels, height, width = synthetic.shape
    real, test = (
        open_images(
            path, size=(height, width), channels=channels, cache=cache / name, labels=labels
        )
        for name, path, labels in (
            ("real", named.real, None),
            ("test", named.test, named.test_labels),
        )
    )
    if real.dtype != synthetic.dtype or test.dtype != synthetic.dtype:
        raise InputError(
            f"the synthetic set is {synthetic.dtype}, the real one {real.dtype} and the test set {test.dtype}: make "
            "them alike."
        )
    return StudySets(synthetic, real, test)
