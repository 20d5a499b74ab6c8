"""simgan-fast evaluate pose."""

from __future__ import annotations

import argparse
from typing import Any

from simgan_fast.commands import command, named_sets, say_what_is_tested_on_itself
from simgan_fast.commands.estimator import add_pose_estimator
from simgan_fast.errors import InputError
from simgan_fast.files import write_json


def add(kinds: Any) -> None:
    from simgan_fast.evaluation.pose_training import PoseTraining

    parser = command(
        kinds,
        "pose",
        run,
        "train the paper's estimator of hand pose, a stacked hourglass, on sets of depth images, test it on another",
        "simgan-fast evaluate pose --train synthetic=rendered --train refined=refined --test frames",
    )
    parser.add_argument(
        "--train",
        action="append",
        required=True,
        metavar="NAME=SET",
        help="a training set with joints",
    )
    parser.add_argument("--test", required=True, metavar="SET", help="a set with joints to test on")
    parser.add_argument(
        "--seeds", type=int, default=3, help="estimators per set (default: %(default)s)"
    )
    add_pose_estimator(parser, PoseTraining())
    parser.add_argument(
        "--batch-size",
        type=int,
        default=PoseTraining.batch_size,
        help="images of an update (default: %(default)s)",
    )
    parser.add_argument("--device", default="cpu", help="torch device (default: %(default)s)")
    parser.add_argument(
        "--curve",
        action="append",
        default=[],
        metavar="FILE",
        help="write the share of joints within 0 to 10 px to this .svg, .png or .csv file; may come again",
    )
    parser.add_argument(
        "--picture", metavar="PNG", help="write some test images with true and predicted joints"
    )
    parser.add_argument("--json", help="write all numbers to this file")


def run(arguments: argparse.Namespace) -> None:
    from simgan_fast.data import open_images
    from simgan_fast.devices import usable_device
    from simgan_fast.evaluation.curve_files import check_curve_file
    from simgan_fast.evaluation.pose import (
        PoseTraining,
        evaluate_pose,
        pose_table,
        save_pose_picture,
        write_pose_curve,
    )

    named = named_sets("--train", arguments.train)
    if arguments.seeds < 1:
        raise InputError(f"--seeds is {arguments.seeds}: train at least one estimator per set.")
    for path in arguments.curve:
        check_curve_file(path)
    sets = {name: open_images(path) for name, path in named.items()}
    test = open_images(arguments.test)
    say_what_is_tested_on_itself(sets, test)
    training = PoseTraining(
        stacks=arguments.stacks,
        width=arguments.estimator_width,
        depth=arguments.depth,
        updates=arguments.updates,
        batch_size=arguments.batch_size,
    )
    seeds = tuple(range(arguments.seeds))
    results = evaluate_pose(
        sets, test, seeds=seeds, training=training, device=usable_device(arguments.device)
    )
    print(pose_table(results))
    for path in arguments.curve:
        write_pose_curve(results, path)
    if arguments.picture:
        save_pose_picture(results, test, arguments.picture)
    if arguments.json:
        write_json(arguments.json, results)
