"""simgan-fast evaluate all."""

from __future__ import annotations

import argparse
from typing import Any

from simgan_fast.commands import command, image_size
from simgan_fast.files import write_json


def add(kinds: Any) -> None:
    parser = command(
        kinds,
        "all",
        run,
        "realism, labels, and gaze where the real images are labelled with it, in one go",
        "simgan-fast evaluate all simulated refined photographs --json measures.json",
    )
    parser.add_argument("synthetic", help="the set that was refined, with its labels")
    parser.add_argument("refined", help="the refined set, with the same names")
    parser.add_argument(
        "real", help="at least 256 real images; if labelled with gaze, none that was trained on"
    )
    parser.add_argument(
        "--size", type=image_size, help="HEIGHTxWIDTH that image folders are resized to"
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="of everything random (default: %(default)s)"
    )
    parser.add_argument("--json", metavar="FILE", help="write all numbers to this file")


def run(arguments: argparse.Namespace) -> None:
    from simgan_fast.evaluation.gaze import gaze_table
    from simgan_fast.evaluation.label_measures import labels_table
    from simgan_fast.evaluation.realism import realism_table
    from simgan_fast.jobs.evaluate_all import evaluate_all

    results = evaluate_all(
        arguments.synthetic,
        arguments.refined,
        arguments.real,
        size=arguments.size,
        seed=arguments.seed,
    )
    print(realism_table(results["realism"]), labels_table(results["labels"]), sep="\n\n")
    print()
    print(
        gaze_table(results["gaze"]) if results["gaze"] else "no gaze labels: gaze was not measured"
    )
    print("seconds: " + ", ".join(f"{name} {t:.0f}" for name, t in results["seconds"].items()))
    if arguments.json:
        write_json(arguments.json, results)
