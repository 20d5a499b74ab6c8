"""The settings of the gaze estimator as options of a command."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from simgan_fast.evaluation.gaze_training import GazeTraining


def add_estimator(parser: argparse.ArgumentParser, updates: int | str | None = None) -> None:
    """Add --updates and --width; `updates` is the default, by default that of GazeTraining."""
    from simgan_fast.evaluation.gaze_training import GazeTraining

    parser.add_argument(
        "--updates",
        type=_updates,
        default=updates or GazeTraining.updates,
        metavar="N|auto",
        help="of each gaze estimator; auto: until its error on held-out images of its training set converges "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--width",
        dest="estimator_width",  # a refiner has a width too
        type=float,
        default=GazeTraining.width_factor,
        metavar="W",
        help="of its convolutions, 1 is the paper's; its fully connected layers get a fifth of it, and the paper's "
        "with 1 (default: %(default)s)",
    )


def estimator_training(arguments: argparse.Namespace) -> GazeTraining:
    """What was asked for."""
    from simgan_fast.evaluation.gaze_training import GazeTraining

    width = arguments.estimator_width
    sizes: dict[str, Any] = {
        "width_factor": width,
        "fc_width_factor": None if width == 1 else width / 5,
    }
    if arguments.updates == "auto":
        return GazeTraining.until_converged(**sizes)
    return GazeTraining(updates=arguments.updates, **sizes)


def _updates(text: str) -> int | str:
    return text if text == "auto" else int(text)
