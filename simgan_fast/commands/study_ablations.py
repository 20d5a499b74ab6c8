"""simgan-fast study ablations."""

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
        "ablations",
        run,
        "what each part of the method is worth: local against global loss, with and without a history, what lambda "
        "holds, lambda, K_g; gaze error, realism and pupil shift over several seeds, and pictures side by side",
        "simgan-fast study ablations --out studies/ablations --only loss --only history",
    )
    parser.add_argument(
        "--only",
        action="append",
        metavar="GROUP",
        help="one of loss, history, psi, lambda, kg; may come again (default: all)",
    )
    parser.add_argument(
        "--lambdas",
        type=_numbers,
        metavar="X,Y,...",
        help="to compare, in the paper's units (default: 1/4, 1/2, 1, 2 and 4 times --lambda)",
    )
    add_estimator(parser)
    add_study(parser, "demo-eyes")


def run(arguments: argparse.Namespace) -> None:
    from simgan_fast.studies.ablation_arms import GROUPS
    from simgan_fast.studies.ablation_tables import ablation_tables
    from simgan_fast.studies.ablations import study_ablations

    results = study_ablations(
        arguments.out,
        named_sets_of(arguments),
        seeds=arguments.seeds,
        config=settings(arguments, arguments.preset),
        training=estimator_training(arguments),
        groups=arguments.only or tuple(GROUPS),
        lambdas=arguments.lambdas,
        quick=arguments.quick,
        device=arguments.device,
    )
    print(ablation_tables(results))
    if arguments.json:
        write_json(arguments.json, results)
    pictures = ", ".join(f"{group}.png" for group in results["groups"])
    print(f"\n{arguments.out}/ablations.md, .csv, .json; {pictures}")


def _numbers(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} are no numbers with commas between") from None
