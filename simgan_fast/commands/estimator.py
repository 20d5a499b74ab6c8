"""The settings of the estimators of gaze and of pose as options of a command."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from simgan_fast.evaluation.gaze_training import GazeTraining
    from simgan_fast.evaluation.pose_training import PoseTraining


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


def add_pose_estimator(parser: argparse.ArgumentParser, defaults: PoseTraining) -> None:
    """Add --updates, --stacks, --width and --depth of a stacked hourglass."""
    parser.add_argument(
        "--updates",
        type=int,
        default=defaults.updates,
        help="of each estimator (default: %(default)s)",
    )
    parser.add_argument(
        "--stacks",
        type=int,
        default=defaults.stacks,
        help="hourglasses, one after the other; 2 in the paper (default: %(default)s)",
    )
    parser.add_argument(
        "--width",
        dest="estimator_width",  # a refiner has a width too
        type=int,
        default=defaults.width,
        help="channels of the hourglasses; the paper's 256 want a GPU (default: %(default)s)",
    )
    parser.add_argument(
        "--depth",
        type=int,
        default=defaults.depth,
        help="halvings in an hourglass; 4 in the paper (default: %(default)s)",
    )


def _updates(text: str) -> int | str:
    try:
        return text if text == "auto" else int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is neither a number nor auto") from None
