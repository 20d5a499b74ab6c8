"""The ablations of the paper (section 3.3): what each part of the method is worth, over several seeds."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from simgan_fast.config import PRESETS, TrainingConfig
from simgan_fast.data import PackedSet, open_packed
from simgan_fast.devices import usable_device
from simgan_fast.errors import InputError
from simgan_fast.evaluation.gaze import GazeTraining, constant_error
from simgan_fast.evaluation.label_measures import evaluate_labels
from simgan_fast.evaluation.label_pairs import LEAST
from simgan_fast.evaluation.landmarks import LandmarkTraining
from simgan_fast.evaluation.realism import evaluate_realism
from simgan_fast.evaluation.summaries import summary
from simgan_fast.evaluation.two_sample import ClassifierTraining
from simgan_fast.files import write_json
from simgan_fast.pictures import image_grid, save_picture
from simgan_fast.progress import Progress
from simgan_fast.studies.ablation_arms import BASE, GROUPS, Arms, ablation_arms
from simgan_fast.studies.ablation_tables import RAW, document, records
from simgan_fast.studies.cells import Cell, Study, open_study
from simgan_fast.studies.estimators import arm_of, estimator_job
from simgan_fast.studies.eye_sets import QUICK_TRAINING, eye_sets, labelled
from simgan_fast.studies.sets import (
    QUICK_CONFIG,
    NamedSets,
    StudySets,
    refiner_cell,
    study_settings,
)
from simgan_fast.tables import write_csv, write_text

NAME = "ablations"
COUNTS = {"synthetic": 16_000, "real": 16_000, "test": 2000}  # where images are simulated
QUICK_COUNTS = {"synthetic": 200, "real": 256, "test": 40}
GAZE_SCORES = ("mean_error_deg", "within_7_deg", "mean_error_without_offset_deg")
COMPARED = 2000  # images at most, in a measure of realism
ANY_SIZE = (35, 55)  # of images, for the names of the arms alone
SHOWN, SCALE = 10, 2  # images in a row of a picture, and how many times as large


@dataclass(frozen=True)
class _Measures:
    """Settings of everything that is trained to measure with."""

    gaze: GazeTraining
    classifier: ClassifierTraining
    landmarks: LandmarkTraining
    label_gaze: GazeTraining | None = None  # None: the default of `evaluate_labels`


QUICK_MEASURES = _Measures(
    QUICK_TRAINING,
    ClassifierTraining(folds=2, updates=2, batch_size=16),
    LandmarkTraining(updates=4, batch_size=8, warm_up=1),
    QUICK_TRAINING,
)


def study_ablations(
    out: str | Path,
    named: NamedSets | None = None,
    *,
    seeds: int = 3,
    config: TrainingConfig = PRESETS["demo-eyes"],
    training: GazeTraining | None = None,
    groups: Sequence[str] = tuple(GROUPS),
    lambdas: Sequence[float] | None = None,
    quick: bool = False,
    device: str = "cpu",
) -> dict[str, Any]:
    """Train refiners with one thing changed at a time, and measure what each is worth, in the folder `out`.

    `ablation_arms` says what is compared. Each arm and seed is a refiner of its own, by which all synthetic images are
    refined; then a gaze estimator is trained on them and tested, and realism and labels are measured. A study that was
    stopped goes on with what is missing, and one that is finished takes more seeds, groups and lambdas.

    Args:
        out: new folder, or one that this study began.
        named: the sets; None: simulated ones, 16,000 `plain` images, 16,000 and 2,000 `camera` images.
        seeds: 0 to seeds - 1, of refiners, estimators and draws alike.
        config: what to change things of, its lambda in the paper's units; its seed is not used.
        training: of the gaze estimators, `GazeTraining()` if left out.
        groups: of `GROUPS`.
        lambdas: to compare, by default five around that of `config`.
        quick: whether everything is tiny, to try the command: the numbers mean nothing.
        device: where to train.

    Returns:
        What it writes to `out`/ablations.json. `arms`: arm (`raw` is the synthetic set as it is) -> measure ->
        {mean, std, per_seed}: `mean_error_deg`, `within_7_deg`, `mean_error_without_offset_deg`, `told_apart` (share of
        images), `told_apart_of_real` (real images against others of them), `kid`; and of refined images
        `error_against_base_deg` (the difference seed by seed), `mean_abs_change` (of 2), `gaze_drift_deg` (rms, of
        `evaluate_labels`) and, where the pupil is a label, `pupil_shift_px` and `pupil_floor_px`, the error of what
        finds it. `groups`: group -> row -> arm; `settings`: arm -> what differs from `base`. Beside it lie
        ablations.csv and .md, and a picture per group, loss.png say: images raw, refined by each arm, and real.

    Raises:
        InputError: unusable sets or settings, too few images for a measure, or a folder of something else, another
            version or other settings.
        TrainingDiverged: a weight is no longer finite.

    >>> results = study_ablations("studies/ablations", groups=["loss", "history"])  # doctest: +SKIP
    >>> print(ablation_tables(results))  # doctest: +SKIP
    """
    usable_device(device)
    if seeds < 1:
        raise InputError(f"seeds is {seeds}: it must be at least 1.")
    measures = _Measures(training or GazeTraining(), ClassifierTraining(), LandmarkTraining())
    if quick:
        config, measures = dataclasses.replace(config, **QUICK_CONFIG), QUICK_MEASURES
    config = dataclasses.replace(config, seed=0)
    counts = QUICK_COUNTS if quick else COUNTS
    names = list(ablation_arms(config, ANY_SIZE, groups, lambdas).configs)
    settings = study_settings(named, counts, config, measures.gaze)
    with open_study(out, NAME, settings, _costs(names, range(seeds))) as study:
        sets = eye_sets(study, named, counts)
        _, height, width = sets.synthetic.shape
        arms = ablation_arms(config, (height, width), groups, lambdas)
        results = _Work(study, sets, arms, range(seeds), measures, device).results()
        _write(study.folder, results, sets, arms)
    return results


@dataclass(frozen=True)
class _Work:
    """The cells of the study: of each arm and seed a refiner, an estimator of gaze, realism and labels."""

    study: Study
    sets: StudySets
    arms: Arms
    seeds: range
    measures: _Measures
    device: str

    def results(self) -> dict[str, Any]:
        """All cells, those that are missing made first."""
        if len(self.sets.synthetic) < LEAST:
            raise InputError(
                f"the synthetic set has {len(self.sets.synthetic)} images: ablations need at least {LEAST}, to measure "
                "what moved."
            )
        test_images, gaze = labelled(self.sets.test, "the test set")
        true = gaze.double().numpy()
        found: dict[str, dict[str, list[Cell]]] = {RAW: {}}
        found[RAW]["realism"] = [self._realism(RAW, seed) for seed in self.seeds]  # refuses too few
        for arm in self.arms.configs:
            found[arm] = {"refiner": [self._refiner(arm, seed) for seed in self.seeds]}
        estimators = self._estimators(test_images)
        for arm, kinds in found.items():
            kinds["estimator"] = [estimators[_cell("estimator", arm, s)] for s in self.seeds]
            if arm != RAW:
                kinds["realism"] = [self._realism(arm, seed) for seed in self.seeds]
                kinds["labels"] = [self._labels(arm, seed) for seed in self.seeds]
        measured = {arm: _measured(kinds, true) for arm, kinds in found.items()}
        for arm in self.arms.configs:
            measured[arm]["error_against_base_deg"] = _difference(measured[arm], measured[BASE])
        return {
            "arms": measured,
            "groups": self.arms.groups,
            "settings": {arm: self._changed(config) for arm, config in self.arms.configs.items()},
            "images": len(self.sets.synthetic),
            "test_images": len(true),
            "constant_error_deg": constant_error(true),
            "seeds": list(self.seeds),
            "training": dataclasses.asdict(self.measures.gaze),
            "refiner": dataclasses.asdict(self.arms.configs[BASE]),
        }

    def _refiner(self, arm: str, seed: int) -> Cell:
        name, config = _cell("refiner", arm, seed), self.arms.configs[arm]
        config = dataclasses.replace(config, seed=seed)
        work = partial(refiner_cell, self.study, name, self.sets, config, self.device)
        return self.study.cell(name, work)

    def _estimators(self, test_images: Tensor) -> dict[str, Cell]:
        def job(arm: str, seed: int) -> Callable[[Progress], Cell]:
            def part() -> tuple[Tensor, Tensor]:
                return labelled(self._images(arm, seed), f"the {arm} set")

            return estimator_job(arm, part, test_images, self.measures.gaze, seed, self.device)

        jobs = {
            _cell("estimator", arm, seed): job(arm, seed)
            for seed in self.seeds
            for arm in (RAW, *self.arms.configs)
        }
        return self.study.cells_side_by_side(jobs, self.measures.gaze.updates, self.device)

    def _realism(self, arm: str, seed: int) -> Cell:
        def work() -> Cell:
            compared = {arm: self._images(arm, seed)}
            training = self.measures.classifier
            found = evaluate_realism(
                self.sets.real, compared, seed=seed, most=COMPARED, training=training
            )
            return {"reference": found["reference"], "arm": found["sets"][arm]}

        return self.study.cell(_cell("realism", arm, seed), work)

    def _labels(self, arm: str, seed: int) -> Cell:
        def work() -> Cell:
            found = evaluate_labels(
                self.sets.synthetic,
                self._images(arm, seed),
                seed=seed,
                landmark_training=self.measures.landmarks,
                gaze_training=self.measures.label_gaze,
            )
            return {"shifts": found["shifts"]}

        return self.study.cell(_cell("labels", arm, seed), work)

    def _images(self, arm: str, seed: int) -> PackedSet:
        if arm == RAW:
            return self.sets.synthetic
        return open_packed(self.study.folder / "refined" / _cell("refiner", arm, seed))

    def _changed(self, config: TrainingConfig) -> dict[str, Any]:
        base = dataclasses.asdict(self.arms.configs[BASE])
        return {k: v for k, v in dataclasses.asdict(config).items() if v != base[k]}


def _costs(arms: Sequence[str], seeds: range) -> dict[str, float]:
    """Cell -> minutes or so, on two cores with the default settings."""
    of_raw = {"estimator": 0.3, "realism": 0.4}
    minutes = {"refiner": 3.0, **of_raw, "labels": 1.0}
    costs = {RAW: of_raw} | dict.fromkeys(arms, minutes)
    return {
        _cell(kind, arm, seed): cost
        for arm, kinds in costs.items()
        for kind, cost in kinds.items()
        for seed in seeds
    }


def _cell(kind: str, arm: str, seed: int) -> str:
    return f"{kind}-{arm}-{seed}"


def _measured(kinds: Mapping[str, Sequence[Cell]], true: Any) -> dict[str, Any]:
    """Each measure of an arm, over its seeds."""
    scores = arm_of(kinds["estimator"], true)
    realism = kinds["realism"]
    found = {
        **{score: scores[score] for score in GAZE_SCORES},
        "told_apart": summary([cell["arm"]["classifier"]["accuracy"] for cell in realism]),
        "told_apart_of_real": summary(
            [cell["reference"]["classifier"]["accuracy"] for cell in realism]
        ),
        "kid": summary([cell["arm"]["kid"]["mean"] for cell in realism]),
    }
    if "refiner" in kinds:
        found["mean_abs_change"] = summary([cell["mean_abs_change"] for cell in kinds["refiner"]])
    if "labels" in kinds:
        found |= _label_measures([cell["shifts"] for cell in kinds["labels"]])
    return found


def _label_measures(shifts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    found = {"gaze_drift_deg": summary([one["gaze"]["rms"] for one in shifts])}
    if "pupil" in shifts[0]:
        found["pupil_shift_px"] = summary([one["pupil"]["mean"] for one in shifts])
        found["pupil_floor_px"] = summary([one["pupil"]["error_raw_mean"] for one in shifts])
    return found


def _difference(arm: Mapping[str, Any], base: Mapping[str, Any]) -> dict[str, Any]:
    """Mean error minus that of the base, seed by seed."""
    pairs = zip(*(one["mean_error_deg"]["per_seed"] for one in (arm, base)), strict=True)
    return summary([of_arm - of_base for of_arm, of_base in pairs])


def _write(folder: Path, results: Mapping[str, Any], sets: StudySets, arms: Arms) -> None:
    write_json(folder / f"{NAME}.json", results)
    write_csv(folder / f"{NAME}.csv", records(results))
    write_text(folder / f"{NAME}.md", document(results))
    for group, rows in arms.groups.items():
        refined = {
            row: open_packed(folder / "refined" / _cell("refiner", arm, 0))
            for row, arm in rows.items()
        }
        shown = {"synthetic": sets.synthetic, **refined, "real": sets.real}
        grid = image_grid({name: _first(images) for name, images in shown.items()}, SCALE)
        save_picture(folder / f"{group}.png", grid)


def _first(images: PackedSet) -> Tensor:
    """The first images as uint8 [n, c, h, w], from the first on again where there are fewer."""
    pixels = images.images(0, SHOWN)
    eight_bit = pixels if images.dtype == "uint8" else (pixels // 257).astype("uint8")
    rows = torch.arange(SHOWN) % len(pixels)
    return torch.from_numpy(eight_bit.copy())[rows]
