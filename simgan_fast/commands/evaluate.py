"""simgan-fast evaluate."""

from __future__ import annotations

import argparse
from typing import Any

from simgan_fast.commands import (
    command,
    evaluate_all,
    evaluate_labels,
    evaluate_pose,
    evaluate_realism,
    image_size,
    named_sets,
    say_what_is_tested_on_itself,
)
from simgan_fast.commands.estimator import add_estimator, estimator_training
from simgan_fast.errors import InputError
from simgan_fast.files import write_json


def add(commands: Any) -> None:
    example = (
        "simgan-fast evaluate gaze --train raw=simulated --train refined=refined --test photographs"
    )
    parser = commands.add_parser("evaluate", help="measure what a set is worth")
    kinds = parser.add_subparsers(title="measures", metavar="MEASURE", required=True)
    evaluate_all.add(kinds)
    evaluate_realism.add(kinds)
    evaluate_labels.add(kinds)
    evaluate_pose.add(kinds)
    gaze = command(
        kinds,
        "gaze",
        run_gaze,
        "train the paper's gaze estimator on sets, test it on another",
        example,
    )
    gaze.add_argument(
        "--train",
        action="append",
        required=True,
        metavar="NAME=SET",
        help="a labelled training set",
    )
    gaze.add_argument("--test", required=True, metavar="SET", help="a labelled set to test on")
    gaze.add_argument(
        "--test-labels", metavar="CSV", help="labels of --test, if not its labels.csv"
    )
    gaze.add_argument(
        "--seeds", type=int, default=3, help="estimators per set (default: %(default)s)"
    )
    add_estimator(gaze)
    gaze.add_argument(
        "--size", type=image_size, help="HEIGHTxWIDTH that image folders are resized to"
    )
    gaze.add_argument(
        "--baselines",
        action="store_true",
        help="nearest neighbours and ridge regression on the pixels of each set too",
    )
    gaze.add_argument(
        "--curve",
        action="append",
        default=[],
        metavar="FILE",
        help="write the share of test images within each angle to this .svg, .png or .csv file; may come again",
    )
    gaze.add_argument("--json", help="write all numbers to this file")


def run_gaze(arguments: argparse.Namespace) -> None:
    from simgan_fast.data import open_images
    from simgan_fast.evaluation.curve_files import check_curve_file
    from simgan_fast.evaluation.gaze import evaluate_gaze, gaze_table, write_curve

    named = named_sets("--train", arguments.train)
    if arguments.seeds < 1:
        raise InputError(f"--seeds is {arguments.seeds}: train at least one estimator per set.")
    for path in arguments.curve:
        check_curve_file(path)
    sets = {name: open_images(path, size=arguments.size) for name, path in named.items()}
    size = arguments.size or next(iter(sets.values())).shape[1:]
    test = open_images(arguments.test, size=size, labels=arguments.test_labels)
    say_what_is_tested_on_itself(sets, test)
    training = estimator_training(arguments)
    seeds = tuple(range(arguments.seeds))
    results = evaluate_gaze(
        sets, test, seeds=seeds, training=training, baselines=arguments.baselines
    )
    print(gaze_table(results))  # before the files: a full disk must not take both
    for path in arguments.curve:
        write_curve(results, path)
    if arguments.json:
        write_json(arguments.json, results)
