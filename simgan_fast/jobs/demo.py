"""The main job from end to end on simulated eyes: simulate, train, refine, and measure what refining bought."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from simgan_fast.config import PRESETS, TrainingConfig
from simgan_fast.data.packed import open_packed
from simgan_fast.evaluation.gaze import GazeTraining, evaluate_gaze
from simgan_fast.files import write_json
from simgan_fast.jobs.demo_stages import ARMS, ESTIMATOR_SEEDS, DemoStages
from simgan_fast.pictures import difference, image_grid, save_picture

SHOWN = 10  # images in a row of samples.png


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
    return _Eyes(Path(out), config, scale).run()


class _Eyes(DemoStages):
    subject = "eyes"
    training_images = 16000
    test_images = 2000

    def evaluate(self) -> None:
        sets = {name: open_packed(self.out / folder) for name, folder in ARMS.items()}
        training = GazeTraining(updates=self.scaled(GazeTraining.updates))
        results = evaluate_gaze(
            sets,
            open_packed(self.out / "test"),
            seeds=tuple(range(ESTIMATOR_SEEDS)),
            training=training,
        )
        write_json(self.out / "gaze.json", results)
        kept = ("mean_error_deg", "within_7_deg", "mean_error_without_offset_deg")
        self.measured["gaze"] = {
            arm: {name: scores[name] for name in kept} for arm, scores in results["arms"].items()
        }

    def picture(self) -> None:
        rows = {
            name: torch.from_numpy(open_packed(self.out / name).images(0, SHOWN).copy())
            for name in ("synthetic", "refined", "camera")
        }
        moved = difference(rows["refined"], rows["synthetic"])
        ordered = {"synthetic": rows["synthetic"], "refined": rows["refined"], "difference": moved}
        save_picture(self.out / "samples.png", image_grid({**ordered, "camera": rows["camera"]}))

    def figures(self) -> dict[str, Any]:
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
