"""simgan-fast study gaze-table."""

from __future__ import annotations

import argparse
from typing import Any

from simgan_fast.commands import command
from simgan_fast.commands.estimator import add_estimator, estimator_training
from simgan_fast.commands.settings import settings
from simgan_fast.commands.study_options import add_study, named_sets_of
from simgan_fast.files import write_json


def add(kinds: Any) -> None:
    parser = command(
        kinds,
        "gaze-table",
        run,
        "tables 2 and 3 and figure 7 of the paper: gaze estimators trained on a quarter and on all of the synthetic "
        "images, raw and refined, with nearest neighbours and ridge regression beside them",
        "simgan-fast study gaze-table --out studies/gaze",
    )
    add_estimator(parser, "auto")
    add_study(parser, "demo-eyes")


def run(arguments: argparse.Namespace) -> None:
    from simgan_fast.studies.gaze_table import study_gaze_table, tables

    results = study_gaze_table(
        arguments.out,
        named_sets_of(arguments),
        seeds=arguments.seeds,
        config=settings(arguments, arguments.preset),
        training=estimator_training(arguments),
        quick=arguments.quick,
        device=arguments.device,
    )
    print(tables(results))
    if arguments.json:
        write_json(arguments.json, results)
    print(f"\n{arguments.out}/gaze-table.md, .csv, .json; {arguments.out}/curve.png, .svg, .csv")
