"""Tables 2 and 3 and figure 7 of the paper: what a gaze estimator learns from synthetic and from refined images."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from simgan_fast.config import PRESETS, TrainingConfig
from simgan_fast.data import open_packed
from simgan_fast.devices import usable_device
from simgan_fast.errors import InputError
from simgan_fast.evaluation.gaze import GazeTraining, constant_error, write_curve
from simgan_fast.evaluation.gaze_baselines import evaluate_baselines
from simgan_fast.evaluation.gaze_metrics import CURVE_DEGREES
from simgan_fast.evaluation.summaries import plus_minus, summary
from simgan_fast.files import write_json
from simgan_fast.gaze import Floats
from simgan_fast.progress import Progress
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
from simgan_fast.tables import Table, markdown, plain, write_csv, write_text

NAME = "gaze-table"
ROWS = ("synthetic", "4x synthetic", "refined", "4x refined")
RAW_OF = {"refined": "synthetic", "4x refined": "4x synthetic"}
METHODS = {
    "CNN": "the paper's estimator",
    "nearest": "nearest neighbours",
    "ridge": "ridge regression",
}
SCORES = ("mean_error_deg", "within_7_deg", "mean_error_without_offset_deg")
PAPER_WITHIN_7 = {"synthetic": 62.3, "4x synthetic": 64.9, "refined": 69.4, "4x refined": 87.2}  # %
PAPER_ERROR = {  # degrees; trained on all images
    ("nearest", "4x synthetic"): "9.9",
    ("CNN", "4x synthetic"): "11.2",
    ("CNN", "4x refined"): "7.8",
}
CONVERGED = "until the error on held-out training images converged"
COUNTS = {"synthetic": 32_000, "real": 16_000, "test": 2000}  # where images are simulated
QUICK_COUNTS = {"synthetic": 320, "real": 64, "test": 40}


def study_gaze_table(
    out: str | Path,
    named: NamedSets | None = None,
    *,
    seeds: int = 3,
    config: TrainingConfig = PRESETS["demo-eyes"],
    training: GazeTraining | None = None,
    quick: bool = False,
    device: str = "cpu",
) -> dict[str, Any]:
    """Tables 2 and 3 of the paper in the folder `out`; a study that was stopped goes on with what is missing.

    For each seed a refiner is trained on all synthetic images and the real ones, and the synthetic images are refined.
    Estimators of the same seed, and the two baselines, are then trained on a quarter of the images (every fourth, the
    same ones raw and refined), raw and refined, and on all of them ("4x"), and tested. The real images' labels are not
    used, and nothing is chosen by the test set.

    Args:
        out: new folder, or one that this study began.
        named: the sets; None: simulated ones, 32,000 `plain` images, 16,000 and 2,000 `camera` images.
        seeds: refiners, 0 to seeds - 1; and estimators of each row.
        config: of the refiner; its seed is not used.
        training: of the estimators; by default until the error on held-out training images converges.
        quick: whether everything is tiny, to try the command: the numbers mean nothing.
        device: where to train.

    Returns:
        What it writes to `out`/gaze-table.json. `arms`: row -> as `evaluate_gaze` returns it; `baselines`: row ->
        method -> `chosen` and each score as {mean, std, per_seed}; `change`: row of refined images -> mean error over
        that of as many raw ones, minus 1, the same; `refiners`: per seed what `refiner_cell` returns. Beside it lie
        gaze-table.csv and .md, and the curves as curve.csv, .svg and .png.

    Raises:
        InputError: unusable sets or settings, or a folder of something else, another version or other settings.
        TrainingDiverged: a weight is no longer finite.

    >>> results = study_gaze_table("studies/gaze")  # doctest: +SKIP
    >>> print(tables(results))  # doctest: +SKIP
    """
    usable_device(device)
    if seeds < 1:
        raise InputError(f"seeds is {seeds}: it must be at least 1.")
    training = training or GazeTraining.until_converged()
    if quick:
        config, training = dataclasses.replace(config, **QUICK_CONFIG), QUICK_TRAINING
    work = _Work(seeds, dataclasses.replace(config, seed=0), training, device)
    counts = QUICK_COUNTS if quick else COUNTS
    settings = study_settings(named, counts, work.config, training)
    with open_study(out, NAME, settings, work.costs()) as study:
        results = work.results(study, eye_sets(study, named, counts))
        _write(study.folder, results)
    return results


@dataclass(frozen=True)
class _Work:
    """The cells of the study: a refiner of each seed, and per row and seed an estimator and the baselines."""

    seeds: int
    config: TrainingConfig
    training: GazeTraining
    device: str

    def costs(self) -> dict[str, float]:
        """Cell -> minutes or so, on two cores with the default settings."""
        refiners = {f"refiner-{seed}": 4.0 for seed in range(self.seeds)}
        estimators = {_cell(row, seed): 0.8 for row in ROWS for seed in range(self.seeds)}
        baselines = {_cell(row, seed, "baselines"): 0.5 for row, seed in self._baselines()}
        return refiners | estimators | baselines

    def results(self, study: Study, sets: StudySets) -> dict[str, Any]:
        """All cells, those that are missing made first."""
        test_images, gaze = labelled(sets.test, "the test set")
        true = gaze.double().numpy()
        refiners = [self._refiner(study, seed, sets) for seed in range(self.seeds)]
        predicted = self._predicted(study, sets, test_images)
        baselines = {
            (row, seed): study.cell(
                _cell(row, seed, "baselines"),
                lambda row=row, seed=seed: _baselines(  # type: ignore[misc]
                    row, _part(study, sets, row, seed), test_images, true
                ),
            )
            for row, seed in self._baselines()
        }
        arms = {
            row: arm_of([predicted[_cell(row, seed)] for seed in range(self.seeds)], true)
            for row in ROWS
        }
        return {
            "arms": arms,
            "baselines": {row: _summaries(baselines, row) for row in ROWS},
            "change": {row: _change(arms[row], arms[raw]) for row, raw in RAW_OF.items()},
            "refiners": refiners,
            "test_images": len(true),
            "constant_error_deg": constant_error(true),
            "curve_degrees": list(CURVE_DEGREES),
            "seeds": list(range(self.seeds)),
            "training": dataclasses.asdict(self.training),
            "refiner": dataclasses.asdict(self.config),
        }

    def _refiner(self, study: Study, seed: int, sets: StudySets) -> Cell:
        name, config = f"refiner-{seed}", dataclasses.replace(self.config, seed=seed)
        return study.cell(name, lambda: refiner_cell(study, name, sets, config, self.device))

    def _predicted(self, study: Study, sets: StudySets, test_images: Tensor) -> dict[str, Cell]:
        def job(row: str, seed: int) -> Callable[[Progress], Cell]:
            part = partial(_part, study, sets, row, seed)
            return estimator_job(row, part, test_images, self.training, seed, self.device)

        jobs = {_cell(row, seed): job(row, seed) for seed in range(self.seeds) for row in ROWS}
        return study.cells_side_by_side(jobs, self.training.updates, self.device)

    def _baselines(self) -> list[tuple[str, int]]:
        """Rows and seeds that have their own: there is nothing random in them, so raw images have one."""
        return [(r, s) for r in ROWS for s in range(self.seeds if r in RAW_OF else 1)]


def _cell(row: str, seed: int, kind: str = "estimator") -> str:
    return f"{kind}-{row.replace(' ', '-')}-{seed}"


def _part(study: Study, sets: StudySets, row: str, seed: int) -> tuple[Tensor, Tensor]:
    """Images and gaze that a row is trained on."""
    is_refined, every = row in RAW_OF, 1 if row.startswith("4x") else 4
    images = (
        open_packed(study.folder / "refined" / f"refiner-{seed}") if is_refined else sets.synthetic
    )
    pixels, gaze = labelled(images, f"the {row} set")
    rows = slice(None, None, every)  # by numpy: torch copies no strided uint16
    return torch.from_numpy(pixels.numpy()[rows].copy()), gaze[rows].contiguous()


def _baselines(row: str, part: tuple[Tensor, Tensor], test_images: Tensor, true: Floats) -> Cell:
    found: Cell = evaluate_baselines({row: part}, test_images, true)[row]
    return found


def _summaries(found: Mapping[tuple[str, int], Cell], row: str) -> dict[str, Any]:
    """Each baseline of a row: `chosen` of each seed, and its scores over them."""
    cells = [cell for (name, _), cell in found.items() if name == row]
    return {
        method: {
            "chosen": [cell[method]["chosen"] for cell in cells],
            **{score: summary([cell[method][score] for cell in cells]) for score in SCORES},
        }
        for method in ("nearest", "ridge")
    }


def _change(refined: Mapping[str, Any], raw: Mapping[str, Any]) -> dict[str, Any]:
    """Mean error over that of raw images, minus 1, seed by seed."""
    pairs = zip(*(arm["mean_error_deg"]["per_seed"] for arm in (refined, raw)), strict=True)
    return summary([after / before - 1 for after, before in pairs])


def records(results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A row per training set and method, each score as mean and standard deviation over the seeds."""
    found = []
    for row, arm in results["arms"].items():
        for method in METHODS:
            scores = _scores(results, row, method)
            numbers = {
                f"{score}_{part}" if part == "std" else score: scores[score][part]
                for score in SCORES
                for part in ("mean", "std")
            }
            found.append({"trained_on": row, "method": method, "images": arm["images"], **numbers})
    return found


def table_2(results: Mapping[str, Any]) -> Table:
    """The paper's table 2: share of the test images within 7 degrees, and more."""
    scores = ("mean error deg", "within 7 deg %", "without offset deg")
    rows = [("trained on", "images", "method", *scores, "paper: within 7 deg %")]
    for row, arm in results["arms"].items():
        for method in METHODS:
            found = _scores(results, row, method)
            numbers = (
                plus_minus(found[score], unit, digits)
                for score, unit, digits in zip(SCORES, (1, 100, 1), (2, 1, 2), strict=True)
            )
            paper = f"{PAPER_WITHIN_7[row]:.1f}" if method == "CNN" else ""
            rows.append((row, str(arm["images"]), method, *numbers, paper))
    return rows


def table_3(results: Mapping[str, Any]) -> Table:
    """The paper's table 3: the mean error of methods that are trained on all images."""
    rows = [("method", "trained on", "mean error deg", "paper: mean error deg")]
    compared = [(method, "4x synthetic") for method in ("nearest", "ridge", "CNN")]
    for method, row in [*compared, ("CNN", "4x refined")]:
        error = plus_minus(_scores(results, row, method)["mean_error_deg"], 1, 2)
        rows.append((METHODS[method], row, error, PAPER_ERROR.get((method, row), "")))
    return rows


def notes(results: Mapping[str, Any]) -> list[str]:
    """What to know beside the tables, a sentence each."""
    changes = [f"{row} {plus_minus(found, 100, 1)} %" for row, found in results["change"].items()]
    count, tested, training = len(results["seeds"]), results["test_images"], results["training"]
    ended = f"{training['updates']} updates" if training["patience"] is None else CONVERGED
    constant = f"{results['constant_error_deg']:.2f} deg"
    return [
        f"Change of the CNN's mean error by refining: {', '.join(changes)}.",
        f"{count} seeds, mean +- standard deviation; {tested} test images.",
        f"Always predicting the mean direction of the test labels: {constant}.",
        "Without offset: after a constant error, found with the test labels, is taken off.",
        f"CNN: width {training['width_factor']:g} of the paper's, {ended}.",
        "The paper's numbers: MPIIGaze, 1.2 million UnityEyes images as 4x; they are no target for other images.",
    ]


def tables(results: Mapping[str, Any]) -> str:
    """Both tables and the notes for people."""
    return "\n\n".join(
        [plain(table_2(results)), plain(table_3(results)), "\n".join(notes(results))]
    )


def _scores(results: Mapping[str, Any], row: str, method: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = (
        results["arms"][row] if method == "CNN" else results["baselines"][row][method]
    )
    return found


def _write(folder: Path, results: Mapping[str, Any]) -> None:
    write_json(folder / f"{NAME}.json", results)
    write_csv(folder / f"{NAME}.csv", records(results))
    parts = (f"Table 2\n\n{markdown(table_2(results))}", f"Table 3\n\n{markdown(table_3(results))}")
    listed = "\n".join(f"- {note}" for note in notes(results))
    write_text(folder / f"{NAME}.md", "\n\n".join([*parts, listed]) + "\n")
    for kind in ("csv", "svg", "png"):
        write_curve(
            {name: results[name] for name in ("arms", "curve_degrees")}, folder / f"curve.{kind}"
        )
