"""Options that the studies have in common."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from simgan_fast.commands import image_size
from simgan_fast.commands.settings import add_settings
from simgan_fast.config import PRESETS
from simgan_fast.errors import InputError

if TYPE_CHECKING:
    from simgan_fast.studies.sets import NamedSets


def add_study(parser: argparse.ArgumentParser, base: str, *, resized: bool = True) -> None:
    """Add the folder, the sets (that may be `resized`), seeds, settings of the refiner, --quick and --json."""
    parser.add_argument(
        "--out", required=True, metavar="FOLDER", help="of the study; one that is there goes on"
    )
    parser.add_argument(
        "--synthetic",
        metavar="SET",
        help="labelled synthetic images; without sets all are simulated",
    )
    parser.add_argument(
        "--real", metavar="SET", help="real images for the refiner, which sees no labels"
    )
    parser.add_argument("--test", metavar="SET", help="other real images, labelled")
    parser.add_argument(
        "--test-labels", metavar="CSV", help="labels of --test, if not its labels.csv"
    )
    if resized:
        parser.add_argument(
            "--size", type=image_size, help="HEIGHTxWIDTH that image folders are resized to"
        )
    else:
        parser.set_defaults(size=None)
    parser.add_argument("--seeds", type=int, default=3, help="of everything (default: %(default)s)")
    parser.add_argument(
        "--quick", action="store_true", help="everything tiny, a trial: the numbers mean nothing"
    )
    parser.add_argument("--device", default="cpu", help="torch device (default: %(default)s)")
    parser.add_argument("--json", metavar="FILE", help="write all numbers to this file too")
    parser.add_argument(
        "--preset",
        choices=list(PRESETS),
        default=base,
        help="settings of the refiner to start from (default: %(default)s)",
    )
    add_settings(parser, base, leave_out=("seed", "width"))  # width: the estimator's


def named_sets_of(arguments: argparse.Namespace) -> NamedSets | None:
    """The sets that were named; None where none was."""
    from simgan_fast.studies.sets import NamedSets

    given = [arguments.synthetic, arguments.real, arguments.test]
    if not any(given):
        if arguments.test_labels or arguments.size:
            raise InputError(
                "--test-labels and --size are for sets: name --synthetic, --real and --test."
            )
        return None
    if not all(given):
        raise InputError(
            "name all of --synthetic, --real and --test, or none: then all are simulated."
        )
    return NamedSets(
        arguments.synthetic,
        arguments.real,
        arguments.test,
        test_labels=arguments.test_labels,
        size=arguments.size,
    )
