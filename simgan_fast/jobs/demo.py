"""The main job from end to end on simulated eyes: simulate, train, refine, and measure what refining bought."""

from __future__ import annotations

import dataclasses
import json
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from simgan_fast.config import PRESETS, TrainingConfig
from simgan_fast.data.packed import open_packed
from simgan_fast.errors import InputError
from simgan_fast.evaluation.gaze import GazeTraining, evaluate_gaze
from simgan_fast.files import write_json, written_whole
from simgan_fast.jobs.refine import refine
from simgan_fast.jobs.report import report
from simgan_fast.jobs.simulate import simulate
from simgan_fast.jobs.train import train_or_resume
from simgan_fast.pictures import difference, image_grid, save_picture

TRAINING_IMAGES = 16000  # of each domain
TEST_IMAGES = 2000
TEST_SEED = 1  # the test images are of another seed than the training images: no image is in both
SHOWN = 10  # images in a row of samples.png
ESTIMATOR_SEEDS = 3


def demo(
    out: str | Path = "runs/demo",
    config: TrainingConfig = PRESETS["demo-eyes"],
    *,
    scale: float = 1.0,
) -> dict[str, Any]:
    """Run the demo in the folder `out`; an interrupted one goes on where it stopped, a finished one is only read.

    The simulator's `plain` domain is the synthetic side, its `camera` domain stands in for
    photographs: the refiner sees camera images without labels, and the gaze estimators are tested
    on other camera images.

    scale: of the number of images, training steps and estimator updates, for quick trials.
    Returns what it writes to `out`/summary.json: gaze errors in degrees and shares within 7 degrees
    for estimators trained on synthetic, refined and labelled camera images (mean over seeds and
    standard deviation), seconds of each part, refined images per second, and the mean |R(x) - x|
    of images in [-1, 1]. `out`/report.html shows it together with the training.
    """
    out = Path(out)
    if not 0 < scale <= 1:
        raise InputError(f"scale is {scale}: it must be above 0 and at most 1.")
    config = dataclasses.replace(config, steps=max(1, round(config.steps * scale)))
    return _Stages(out, config, scale).run()


class _Stages:
    """The parts of the demo in their order. Each leaves a whole folder or file: what is there is not done again."""

    def __init__(self, out: Path, config: TrainingConfig, scale: float) -> None:
        self.out, self.config, self.scale = out, config, scale
        self.count, self.test_count = round(TRAINING_IMAGES * scale), round(TEST_IMAGES * scale)
        self.record = out / "demo.json"
        self.settings = {"scale": scale, **dataclasses.asdict(config)}
        self.seconds: dict[str, float] = {}
        self.measured: dict[str, Any] = {}

    def run(self) -> dict[str, Any]:
        self._begin()
        summary_file = self.out / "summary.json"
        if not summary_file.is_file():
            self._work(summary_file)
        if not (self.out / "report.html").is_file():
            report(self.out)
        finished: dict[str, Any] = json.loads(summary_file.read_text())
        return finished

    def _work(self, summary_file: Path) -> None:
        self._stage("simulate", self._simulate)
        self._stage("train", self._train)
        self._stage("refine", self._refine)
        self._stage("evaluate", self._evaluate)
        self._picture()
        write_json(summary_file, self._summary())

    def _begin(self) -> None:
        """Take up what is in the folder if it is this very demo, begin if it is empty, refuse otherwise."""
        if not self.out.exists() or not any(self.out.iterdir()):
            self.out.mkdir(parents=True, exist_ok=True)
            return self._save()
        try:
            record = json.loads(self.record.read_text())
            self.seconds, self.measured = record["seconds"], record["measured"]
        except (OSError, ValueError, KeyError, TypeError):
            raise InputError(
                f"{self.out} already holds something else: name a new folder with --out."
            ) from None
        if record.get("settings") != self.settings:
            raise InputError(
                f"{self.out} holds a demo with other settings: name a new folder with --out."
            )
        return None

    def _save(self) -> None:
        with written_whole(self.record, "w") as file:
            record = {"settings": self.settings, "seconds": self.seconds, "measured": self.measured}
            json.dump(record, file, indent=1)

    def _stage(self, name: str, work: Callable[[], None]) -> None:
        if name in self.seconds:
            return
        began = time.monotonic()
        work()
        self.seconds[name] = round(time.monotonic() - began, 1)
        self._save()

    def _simulate(self) -> None:
        seed = self.config.seed
        for name, domain, count, number in (
            ("synthetic", "plain", self.count, 2 * seed),
            ("camera", "camera", self.count, 2 * seed),
            ("test", "camera", self.test_count, 2 * seed + TEST_SEED),
        ):
            if not (self.out / name).exists():
                simulate("eyes", self.out / name, count=count, domain=domain, seed=number)

    def _train(self) -> None:
        synthetic, camera = self.out / "synthetic", self.out / "camera"
        train_or_resume(synthetic, camera, self.out / "train", self.config)

    def _refine(self) -> None:
        shutil.rmtree(self.out / "refined", ignore_errors=True)  # whole, but not measured
        result = refine(
            self.out / "train", self.out / "synthetic", self.out / "refined", format="arrow"
        )
        self.measured |= {
            "refine_images_per_second": round(result.images_per_second, 1),
            "mean_abs_change": round(result.mean_abs_change, 4),
        }

    def _evaluate(self) -> None:
        arms = {"synthetic": "synthetic", "refined": "refined", "real_labels": "camera"}
        sets = {name: open_packed(self.out / folder) for name, folder in arms.items()}
        seeds = tuple(range(ESTIMATOR_SEEDS))
        training = GazeTraining(updates=max(1, round(GazeTraining.updates * self.scale)))
        results = evaluate_gaze(
            sets, open_packed(self.out / "test"), seeds=seeds, training=training
        )
        with written_whole(self.out / "gaze.json", "w") as file:
            json.dump(results, file)
        kept = ("mean_error_deg", "within_7_deg", "mean_error_without_offset_deg")
        self.measured["gaze"] = {
            arm: {name: scores[name] for name in kept} for arm, scores in results["arms"].items()
        }

    def _picture(self) -> None:
        rows = {
            name: torch.from_numpy(open_packed(self.out / name).images(0, SHOWN).copy())
            for name in ("synthetic", "refined", "camera")
        }
        moved = difference(rows["refined"], rows["synthetic"])
        ordered = {"synthetic": rows["synthetic"], "refined": rows["refined"], "difference": moved}
        save_picture(self.out / "samples.png", image_grid({**ordered, "camera": rows["camera"]}))

    def _summary(self) -> dict[str, Any]:
        arms = self.measured["gaze"]
        return {
            "gaze_error_deg": {
                arm: round(scores["mean_error_deg"]["mean"], 3) for arm, scores in arms.items()
            },
            "gaze_error_deg_std": {
                arm: round(scores["mean_error_deg"]["std"], 3) for arm, scores in arms.items()
            },
            "within_7_deg": {
                arm: round(scores["within_7_deg"]["mean"], 4) for arm, scores in arms.items()
            },
            "within_7_deg_std": {
                arm: round(scores["within_7_deg"]["std"], 4) for arm, scores in arms.items()
            },
            "seeds": ESTIMATOR_SEEDS,
            "seconds": self.seconds,
            "refine_images_per_second": self.measured["refine_images_per_second"],
            "mean_abs_change": self.measured["mean_abs_change"],
            "settings": self.settings,
        }


def summary_table(summary: Mapping[str, Any]) -> str:
    """The summary for people."""
    lines = [f"{'trained on':<14}{'gaze error':>12}{'spread':>10}{'within 7 deg':>14}"]
    for arm, error in summary["gaze_error_deg"].items():
        spread, within = summary["gaze_error_deg_std"][arm], summary["within_7_deg"][arm]
        lines.append(f"{arm:<14}{error:>8.2f} deg{spread:>6.2f} deg{within:>13.1%}")
    errors = summary["gaze_error_deg"]
    lines.append(
        f"refining changed the gaze error by {errors['refined'] / errors['synthetic'] - 1:+.1%}"
    )
    seconds = ", ".join(f"{name} {value:.0f} s" for name, value in summary["seconds"].items())
    lines.append(f"{seconds}; refined {summary['refine_images_per_second']:.0f} images/s")
    return "\n".join(lines)
