"""simgan-fast study hands-table."""

from __future__ import annotations

import argparse
import dataclasses
from typing import Any

from simgan_fast.commands import command
from simgan_fast.commands.estimator import add_pose_estimator
from simgan_fast.commands.settings import settings
from simgan_fast.commands.study_options import add_study, named_sets_of
from simgan_fast.files import write_json


def add(kinds: Any) -> None:
    from simgan_fast.jobs.demo_hands import ESTIMATOR

    parser = command(
        kinds,
        "hands-table",
        run,
        "table 4 and figure 12 of the paper: estimators of hand pose trained on synthetic, refined and labelled real "
        "depth images of one view, and on synthetic and refined ones of all views",
        "simgan-fast study hands-table --out studies/hands",
    )
    add_pose_estimator(parser, ESTIMATOR)
    parser.add_argument(
        "--augment",
        action="store_true",
        help="turn, enlarge and move the estimators' images at random, as the paper does",
    )
    add_study(parser, "demo-hands", resized=False)


def run(arguments: argparse.Namespace) -> None:
    from simgan_fast.evaluation.pose import PoseTraining
    from simgan_fast.jobs.demo_hands import ESTIMATOR
    from simgan_fast.studies.hands_table import study_hands_table, table_text

    moved = ("rotation", "scale", "shift") if arguments.augment else ()
    training = dataclasses.replace(
        ESTIMATOR,
        **{name: getattr(PoseTraining, name) for name in moved},
        updates=arguments.updates,
        stacks=arguments.stacks,
        width=arguments.estimator_width,
        depth=arguments.depth,
    )
    results = study_hands_table(
        arguments.out,
        named_sets_of(arguments),
        seeds=arguments.seeds,
        config=settings(arguments, arguments.preset),
        training=training,
        quick=arguments.quick,
        device=arguments.device,
    )
    print(table_text(results))
    if arguments.json:
        write_json(arguments.json, results)
    print(f"\n{arguments.out}/hands-table.md, .csv, .json; {arguments.out}/curve.png, .svg, .csv")
