"""simgan-fast show."""

from __future__ import annotations

import argparse
from typing import Any

from simgan_fast.commands import command, image_size


def add(commands: Any) -> None:
    parser = command(
        commands,
        "show",
        run,
        "look at a set: a contact sheet with its labels drawn, its numbers, and what looks wrong",
        "simgan-fast show simulated --out simulated.png",
    )
    parser.add_argument("source", metavar="SET", help="packed set or image folder")
    parser.add_argument(
        "--out", metavar="FILE", help="the sheet, a PNG (default: SET-sheet.png, here)"
    )
    parser.add_argument(
        "--count", type=int, default=60, help="images on the sheet (default: %(default)s)"
    )
    parser.add_argument(
        "--seed", type=int, help="draw them at random (default: spread evenly over the set)"
    )
    parser.add_argument(
        "--size", type=image_size, help="HEIGHTxWIDTH that an image folder is resized to"
    )
    parser.add_argument("--channels", type=int, choices=(1, 3), help="1: grey, 3: RGB")
    parser.add_argument(
        "--labels", metavar="FILE", help="of an image folder: .csv or .json, if not its labels.csv"
    )
    parser.add_argument("--json", metavar="FILE", help="write all facts to this file")


def run(arguments: argparse.Namespace) -> None:
    from simgan_fast.jobs.show import show
    from simgan_fast.jobs.show_table import facts_table

    options = {
        name: getattr(arguments, name) for name in ("count", "seed", "size", "channels", "labels")
    }
    print(facts_table(show(arguments.source, arguments.out, json_out=arguments.json, **options)))
