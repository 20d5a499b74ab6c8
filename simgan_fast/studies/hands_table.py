"""Table 4 and figure 12 of the paper: what an estimator of hand pose learns from synthetic, refined and real images."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simgan_fast.config import PRESETS, TrainingConfig
from simgan_fast.data import PackedSet, open_packed
from simgan_fast.data.hold_out import write_part
from simgan_fast.devices import usable_device
from simgan_fast.errors import InputError
from simgan_fast.evaluation.pose import (
    Hands,
    PoseTraining,
    hands_like,
    hands_of,
    pose_arm,
    predict_joints,
    train_pose_estimator,
    write_pose_curve,
)
from simgan_fast.evaluation.pose_metrics import CURVE_PIXELS, PAPER_SIDE
from simgan_fast.evaluation.summaries import plus_minus, summary
from simgan_fast.files import write_json
from simgan_fast.jobs.demo_hands import ESTIMATOR, SIMULATED_AS
from simgan_fast.progress import Progress
from simgan_fast.studies.cells import Cell, Study, open_study
from simgan_fast.studies.sets import (
    QUICK_CONFIG,
    NamedSets,
    StudySets,
    refiner_cell,
    study_sets,
    study_settings,
)
from simgan_fast.tables import Table, markdown, plain, write_csv, write_text

NAME = "hands-table"
PAPER_WITHIN_5 = {  # %, by row in the order of the table
    "synthetic": 69.7,
    "refined": 72.4,
    "real labels": 74.5,
    "3x synthetic": 77.7,
    "3x refined": 83.3,
}
RAW_OF = {"refined": "synthetic", "3x refined": "3x synthetic"}
SCORES = ("pck_5px", "auc", "mean_error_px", "mean_error_mm")
COUNTS = {"synthetic": 15_000, "real": 15_000, "test": 1000}  # where images are simulated
QUICK_COUNTS = {"synthetic": 48, "real": 48, "test": 16}
QUICK_TRAINING = PoseTraining(width=8, depth=1, updates=3, batch_size=4, warm_up=0)
VIEWS = {"synthetic": 3, "real": 3, "test": 1}
FIRST = "data/first-view-"  # folders of the study


def study_hands_table(
    out: str | Path,
    named: NamedSets | None = None,
    *,
    seeds: int = 3,
    config: TrainingConfig = PRESETS["demo-hands"],
    training: PoseTraining | None = None,
    quick: bool = False,
    device: str = "cpu",
) -> dict[str, Any]:
    """Table 4 of the paper in the folder `out`; a study that was stopped goes on with what is missing.

    For each seed a refiner is trained on the synthetic and the real images of the first view, and one on those of all
    views ("3x"); neither sees a label of the real ones. Estimators of the same seed are trained on the images of the
    first view, raw and refined, on real ones with their labels, and on all views raw and refined; and tested. Nothing
    is chosen by the test set.

    Args:
        out: new folder, or one that this study began.
        named: the sets, 16-bit depth with the labels of nyu-hands; None: simulated ones, 15,000 `plain` images in three
            views, as many `camera` images, and 1,000 of the first view. Where the synthetic set has but one view (by
            its label `view`, if it has that) there are no rows of 3x; where the real one has no joints there is no row
            of real labels.
        seeds: refiners of one view and of all, 0 to seeds - 1; and estimators of each row.
        config: of the refiner; its seed is not used.
        training: of the estimators; by default the demo's.
        quick: whether everything is tiny, to try the command: the numbers mean nothing.
        device: where to train.

    Returns:
        What it writes to `out`/hands-table.json. `arms`: row -> as `evaluate_pose` returns it; `change`: row of refined
        images -> share within 5 pixels minus that of as many raw ones, as {mean, std, per_seed}; `refiners`: row of
        refined images -> per seed what `refiner_cell` returns. Beside it lie hands-table.csv and .md, and the curves as
        curve.csv, .svg and .png.

    Raises:
        InputError: unusable sets or settings, or a folder of something else, another version or other settings.
        TrainingDiverged: a weight is no longer finite.

    >>> results = study_hands_table("studies/hands")  # doctest: +SKIP
    >>> print(table_text(results))  # doctest: +SKIP
    """
    usable_device(device)
    if seeds < 1:
        raise InputError(f"seeds is {seeds}: it must be at least 1.")
    if named and named.size:
        raise InputError(
            "a size is given: means of hand and background would be depth where nothing is; prepare the sets in one "
            "size."
        )
    training = training or ESTIMATOR
    if quick:
        config, training = dataclasses.replace(config, **QUICK_CONFIG), QUICK_TRAINING
    config, counts = dataclasses.replace(config, seed=0), QUICK_COUNTS if quick else COUNTS
    settings = study_settings(named, counts, config, training)
    settings["refiners"] = "one of the first view, one of all"  # before, one for both
    with open_study(out, NAME, settings, {}) as study:
        options = SIMULATED_AS | {"views": VIEWS}
        sets = study_sets(study, named, counts, "hands", _check, **options)
        first = _of_first_view(study, sets)
        work = _Work(study, sets, first, _rows(sets), seeds, config, training, device)
        results = work.results()
        _write(study.folder, results)
    return results


@dataclass(frozen=True)
class _Work:
    """The cells of the study: a refiner of each seed, and per row and seed an estimator."""

    study: Study
    sets: StudySets
    first: StudySets  # of the first view
    rows: tuple[str, ...]
    seeds: int
    config: TrainingConfig
    training: PoseTraining
    device: str

    def results(self) -> dict[str, Any]:
        """All cells, those that are missing made first."""
        self.study.costs = self._costs()  # the sets say which rows there are
        test, numbers = hands_of(self.sets.test, "the test set"), range(self.seeds)
        refiners = {
            row: [self._refiner(row, seed) for seed in numbers]
            for row in RAW_OF
            if row in self.rows
        }
        jobs = {
            _cell(row, seed): self._job(row, seed, test) for seed in numbers for row in self.rows
        }
        cells = self.study.cells_side_by_side(jobs, self.training.updates, self.device)
        arms = {row: _arm([cells[_cell(row, seed)] for seed in numbers], test) for row in self.rows}
        return {
            "arms": arms,
            "change": {
                row: _change(arms[row], arms[raw]) for row, raw in RAW_OF.items() if row in arms
            },
            "refiners": refiners,
            "test_images": len(test.images),
            "curve_px": list(CURVE_PIXELS),
            "image_size": list(test.images.shape[2:]),
            "seeds": list(numbers),
            "training": dataclasses.asdict(self.training),
            "refiner": dataclasses.asdict(self.config),
        }

    def _costs(self) -> dict[str, float]:
        """Cell -> minutes or so, on two cores with the default settings."""
        numbers = range(self.seeds)
        refined = [row for row in self.rows if row in RAW_OF]
        refiners = {_refiner_name(row, seed): 2.0 for row in refined for seed in numbers}
        return refiners | {_cell(row, seed): 1.6 for row in self.rows for seed in numbers}

    def _refiner(self, row: str, seed: int) -> Cell:
        name, config = _refiner_name(row, seed), dataclasses.replace(self.config, seed=seed)
        return self.study.cell(
            name, lambda: refiner_cell(self.study, name, self._sets(row), config, self.device)
        )

    def _sets(self, row: str) -> StudySets:
        return self.sets if row.startswith("3x") else self.first

    def _job(self, row: str, seed: int, test: Hands) -> Callable[[Progress], Cell]:
        def work(progress: Progress) -> Cell:
            progress.note(f"{row}, seed {seed}")
            hands = hands_like(test, row, self._images(row, seed))
            estimator = train_pose_estimator(
                hands, self.training, seed=seed, device=self.device, progress=progress
            )
            predicted = predict_joints(estimator, test)
            return {
                "images": len(hands.images),
                "left_out": hands.left_out,
                "predicted_joints": predicted.round(2).tolist(),
            }

        return work

    def _images(self, row: str, seed: int) -> PackedSet:
        """What a row is trained on."""
        if row in RAW_OF:
            return open_packed(self.study.folder / "refined" / _refiner_name(row, seed))
        return self.first.real if row == "real labels" else self._sets(row).synthetic


def _rows(sets: StudySets) -> tuple[str, ...]:
    """Those that the sets have images and labels for."""
    known = {"real labels": "joints" in sets.real.labels}
    views = not _first_view(sets.synthetic).all()
    return tuple(row for row in PAPER_WITHIN_5 if known.get(row, views or not row.startswith("3x")))


def _first_view(images: PackedSet) -> NDArray[np.bool_]:
    """Which images are of the first camera; all where the set does not tell."""
    if "view" not in images.labels:
        return np.ones(len(images), bool)
    view = np.asarray(images.labels["view"])[:, 0]
    first: NDArray[np.bool_] = view == view.min()
    return first


def _of_first_view(study: Study, sets: StudySets) -> StudySets:
    """The training sets' images of the first view, as packed sets of their own where there are others too."""

    def part(name: str, images: PackedSet) -> PackedSet:
        wanted, path = _first_view(images), study.folder / f"{FIRST}{name}"
        if wanted.all():
            return images
        return open_packed(path) if path.exists() else write_part(images, path, wanted)

    return StudySets(part("synthetic", sets.synthetic), part("real", sets.real), sets.test)


def _check(sets: StudySets) -> None:
    test = hands_of(sets.test, "the test set")
    hands_like(test, "synthetic", sets.synthetic)
    if "joints" in sets.real.labels:
        hands_like(test, "real", sets.real)


def _cell(row: str, seed: int) -> str:
    return f"estimator-{row.replace(' ', '-')}-{seed}"


def _refiner_name(row: str, seed: int) -> str:
    return f"refiner-{'3x-' if row.startswith('3x') else ''}{seed}"


def _arm(cells: list[Cell], test: Hands) -> dict[str, Any]:
    predicted = [np.array(cell["predicted_joints"]) for cell in cells]
    found = {name: cells[0][name] for name in ("images", "left_out")} | pose_arm(predicted, test)
    del found["predicted_joints"]  # they are in the cells
    return found


def _change(refined: Mapping[str, Any], raw: Mapping[str, Any]) -> dict[str, Any]:
    """Share within 5 pixels minus that of raw images, seed by seed."""
    pairs = zip(*(arm["pck_5px"]["per_seed"] for arm in (refined, raw)), strict=True)
    return summary([after - before for after, before in pairs])


def records(results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A row per training set, each score as mean and standard deviation over the seeds."""
    found = []
    for row, arm in results["arms"].items():
        numbers = {
            f"{score}_{part}" if part == "std" else score: arm[score] and arm[score][part]
            for score in SCORES
            for part in ("mean", "std")
        }
        found.append({"trained_on": row, "images": arm["images"], **numbers})
    return found


def table_4(results: Mapping[str, Any]) -> Table:
    """The paper's table 4, share of the joints within 5 pixels, and more."""
    names = ("within 5 px %", "AUC %", "mean error px", "mean error mm")
    rows = [("trained on", "images", *names, "paper: within 5 px %")]
    for row, arm in results["arms"].items():
        numbers = (
            plus_minus(arm[score], unit, digits) if arm[score] else "unknown"
            for score, unit, digits in zip(SCORES, (100, 100, 1, 1), (1, 1, 2, 1), strict=True)
        )
        rows.append((row, str(arm["images"]), *numbers, f"{PAPER_WITHIN_5[row]:.1f}"))
    return rows


def notes(results: Mapping[str, Any]) -> list[str]:
    """What to know beside the table, a sentence each."""
    changes = [
        f"{row} {plus_minus(found, 100, 1)} points" for row, found in results["change"].items()
    ]
    training, size = results["training"], "x".join(map(str, results["image_size"]))
    left = [row for row in PAPER_WITHIN_5 if row not in results["arms"]]
    return [
        f"Change of the share within 5 px by refining: {', '.join(changes)}.",
        f"{len(results['seeds'])} seeds, mean +- standard deviation; {results['test_images']} test images of {size}.",
        f"Pixels are those of images {PAPER_SIDE} wide; mm: across the line of sight, at the true depth.",
        f"Estimator: {training['stacks']} hourglasses of {training['width']} channels, {training['updates']} updates.",
        *([f"Not in the sets, so not in the table: {', '.join(left)}."] if left else []),
        "The paper's numbers: NYU's hands, 72,757 frames as 1x; they are no target for other images.",
    ]


def table_text(results: Mapping[str, Any]) -> str:
    """The table and the notes for people."""
    return "\n\n".join([plain(table_4(results)), "\n".join(notes(results))])


def _write(folder: Path, results: Mapping[str, Any]) -> None:
    write_json(folder / f"{NAME}.json", results)
    write_csv(folder / f"{NAME}.csv", records(results))
    listed = "\n".join(f"- {note}" for note in notes(results))
    write_text(folder / f"{NAME}.md", f"Table 4\n\n{markdown(table_4(results))}\n\n{listed}\n")
    for kind in ("csv", "svg", "png"):
        write_pose_curve(results, folder / f"curve.{kind}")
