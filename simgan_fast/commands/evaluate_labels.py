"""simgan-fast evaluate labels."""

from __future__ import annotations

import argparse
from typing import Any

from simgan_fast.commands import command, image_size
from simgan_fast.files import require_absent_or_empty, write_json


def add(kinds: Any) -> None:
    parser = command(
        kinds,
        "labels",
        run,
        "what refining changed, and how far pupil, lids and gaze seem to have moved",
        "simgan-fast evaluate labels simulated refined --out moved",
    )
    parser.add_argument("raw", metavar="RAW", help="the set that was refined, with its labels")
    parser.add_argument("refined", metavar="REFINED", help="the refined set, with the same names")
    parser.add_argument(
        "--truth", metavar="FILE", help="labels of RAW: .csv or .json, if not its labels.csv"
    )
    parser.add_argument(
        "--size", type=image_size, help="HEIGHTxWIDTH that image folders are resized to"
    )
    parser.add_argument(
        "--channels", type=int, choices=(1, 3), help="1: grey, 3: RGB (default: as the raw images)"
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="of halves and first weights (default: %(default)s)"
    )
    parser.add_argument("--json", metavar="FILE", help="write all numbers to this file")
    parser.add_argument(
        "--out", metavar="FOLDER", help="a new folder for change.png and pupils.png"
    )


def run(arguments: argparse.Namespace) -> None:
    from simgan_fast.data import open_images
    from simgan_fast.evaluation.label_measures import evaluate_labels, labels_table
    from simgan_fast.evaluation.label_pictures import save_label_pictures

    if arguments.out:
        require_absent_or_empty(arguments.out)
    options = {"size": arguments.size, "channels": arguments.channels}
    raw = open_images(arguments.raw, labels=arguments.truth, **options)
    channels, *size = raw.shape
    refined = open_images(arguments.refined, size=(size[0], size[1]), channels=channels)
    results = evaluate_labels(raw, refined, seed=arguments.seed)
    print(labels_table(results))
    if arguments.out:
        save_label_pictures(results, raw, refined, arguments.out)
    if arguments.json:
        write_json(arguments.json, results)
