"""The paper's second task from end to end on simulated hands: simulate, train, refine, estimate pose, compare."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from simgan_fast.config import PRESETS, TrainingConfig
from simgan_fast.data.contact_sheet import contact_sheet
from simgan_fast.data.packed import PackedSet, open_packed
from simgan_fast.evaluation.edge_noise import edge_noise
from simgan_fast.evaluation.pose import PoseTraining, evaluate_pose
from simgan_fast.files import write_json
from simgan_fast.jobs.demo_stages import ARMS, ESTIMATOR_SEEDS, DemoStages
from simgan_fast.pictures import save_picture

# Options of `simulate`.
SIMULATED_AS: dict[str, Any] = {"size": (64, 64), "values": "paper", "poses": "open"}
# One hourglass, and images as they are: turned ones take longer to learn. After 800 updates estimators are far from
# having learned, and it matters less from what.
ESTIMATOR = PoseTraining(stacks=1, width=64, updates=1200, rotation=0.0, scale=0.0, shift=0.0)
SHOWN = 8  # images in a row of samples.png
LOOKED_AT = 2000  # images of each kind at most, for the noise at their edges


def demo_hands(
    out: str | Path = "runs/demo-hands",
    config: TrainingConfig = PRESETS["demo-hands"],
    *,
    scale: float = 1.0,
) -> dict[str, Any]:
    """Run the demo of hands in the folder `out`; an interrupted one goes on where it stopped.

    Depth images of the simulator's `plain` domain are refined toward its `camera` domain, which the refiner sees
    without labels; stacked hourglasses are trained on synthetic, refined and labelled camera images, and tested on
    other camera images.

    scale: of the number of images, training steps and estimator updates, for quick trials.
    Returns what it writes to `out`/summary.json: `pck_5px` (share of joints within 5 pixels of a 224 pixel wide image)
    and `mean_joint_error_mm`, means over seeds, with their standard deviations; `edge_noise` of synthetic, refined and
    camera images (`simgan_fast.evaluation.edge_noise`); seconds of each part, refined images per second, and the mean
    |R(x) - x| of images in [-1, 1]. `out`/samples.png shows some, `out`/report.html the training and the figures.
    """
    return _Hands(Path(out), config, scale).run()


class _Hands(DemoStages):
    subject = "hands"
    training_images = 5000
    test_images = 1000
    simulator_options: ClassVar[dict[str, Any]] = SIMULATED_AS

    def evaluate(self) -> None:
        sets = {name: open_packed(self.out / folder) for name, folder in ARMS.items()}
        training = dataclasses.replace(ESTIMATOR, updates=self.scaled(ESTIMATOR.updates))
        results = evaluate_pose(
            sets,
            open_packed(self.out / "test"),
            seeds=tuple(range(ESTIMATOR_SEEDS)),
            training=training,
        )
        write_json(self.out / "pose.json", results)
        kept = ("pck_5px", "mean_error_px", "mean_error_mm")
        self.measured["pose"] = {
            arm: {name: scores[name] for name in kept} for arm, scores in results["arms"].items()
        }
        self.measured["edge_noise"] = {
            name: dataclasses.asdict(edge_noise(_first(open_packed(self.out / name), LOOKED_AT)))
            for name in ("synthetic", "refined", "camera")
        }

    def picture(self) -> None:
        rows = [open_packed(self.out / name) for name in ("synthetic", "refined", "camera")]
        images = np.concatenate([row.images(0, SHOWN) for row in rows])
        names = [row.names[n] for row in rows for n in range(min(SHOWN, len(row)))]
        joints = np.concatenate([row.labels["joints"][:SHOWN] for row in rows])
        sheet = contact_sheet(images, names, {"joints": joints}, columns=len(names) // len(rows))
        save_picture(self.out / "samples.png", sheet)

    def figures(self) -> dict[str, Any]:
        def over_seeds(score: str, statistic: str, digits: int) -> dict[str, float]:
            arms = self.measured["pose"].items()
            return {arm: round(scores[score][statistic], digits) for arm, scores in arms}

        return {
            "pck_5px": over_seeds("pck_5px", "mean", 4),
            "pck_5px_std": over_seeds("pck_5px", "std", 4),
            "mean_joint_error_mm": over_seeds("mean_error_mm", "mean", 2),
            "mean_joint_error_mm_std": over_seeds("mean_error_mm", "std", 2),
            "edge_noise": {
                name: {measure: round(value, 4) for measure, value in measures.items()}
                for name, measures in self.measured["edge_noise"].items()
            },
        }


def _first(images: PackedSet, count: int) -> Tensor:
    return torch.from_numpy(images.images(0, count).copy())


def hands_table(summary: Mapping[str, Any]) -> str:
    """The summary for people."""
    lines = [f"{'trained on':<14}{'within 5 px':>12}{'spread':>9}{'joint error':>13}{'spread':>9}"]
    for arm, share in summary["pck_5px"].items():
        spread, error = summary["pck_5px_std"][arm], summary["mean_joint_error_mm"][arm]
        error_spread = summary["mean_joint_error_mm_std"][arm]
        lines.append(
            f"{arm:<14}{share:>12.1%}{spread:>9.1%}{error:>10.1f} mm{error_spread:>6.1f} mm"
        )
    shares = summary["pck_5px"]
    gained = 100 * (shares["refined"] - shares["synthetic"])
    lines.append(f"refining changed the share within 5 px by {gained:+.1f} points")
    lines.append(f"{'edges of':<14}{'gradient':>12}{'rim':>9}{'dropouts':>13}{'holes':>9}")
    for name, noise in summary["edge_noise"].items():
        lines.append(
            f"{name:<14}{noise['silhouette_gradient']:>12.3f}{noise['rim_share']:>9.1%}{noise['dropout_rate']:>13.2%}"
            f"{noise['hole_rate']:>9.2%}"
        )
    seconds = ", ".join(f"{name} {value:.0f} s" for name, value in summary["seconds"].items())
    lines.append(f"{seconds}; refined {summary['refine_images_per_second']:.0f} images/s")
    return "\n".join(lines)
