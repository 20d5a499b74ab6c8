"""simgan-fast evaluate realism."""

from __future__ import annotations

import argparse
from typing import Any

from simgan_fast.commands import command, image_size, named_sets
from simgan_fast.files import write_json


def add(kinds: Any) -> None:
    parser = command(
        kinds,
        "realism",
        run,
        "how far sets are from real images: two-sample test, KID, FID, precision and recall, spectrum, grey levels",
        "simgan-fast evaluate realism --real photographs --images raw=simulated --images refined=refined",
    )
    parser.add_argument(
        "--real", required=True, metavar="SET", help="real images, unlabelled; at least 256"
    )
    parser.add_argument(
        "--images",
        action="append",
        required=True,
        metavar="NAME=SET",
        help="a set to compare with them; at least 128 images",
    )
    parser.add_argument(
        "--size", type=image_size, help="HEIGHTxWIDTH that image folders are resized to"
    )
    parser.add_argument(
        "--channels", type=int, choices=(1, 3), help="1: grey, 3: RGB (default: as the real images)"
    )
    parser.add_argument(
        "--equalise",
        choices=("none", "histogram"),
        default="none",
        help="histogram: equalise that of every image first, real ones too, so that exposure tells nothing apart "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="of draws and first weights (default: %(default)s)"
    )
    parser.add_argument("--json", metavar="FILE", help="write all numbers to this file")


def run(arguments: argparse.Namespace) -> None:
    from simgan_fast.data import open_images
    from simgan_fast.evaluation.realism import evaluate_realism, realism_table

    paths = named_sets("--images", arguments.images)
    real = open_images(arguments.real, size=arguments.size, channels=arguments.channels)
    channels, *size = real.shape
    sets = {
        name: open_images(path, size=(size[0], size[1]), channels=channels)
        for name, path in paths.items()
    }
    results = evaluate_realism(real, sets, seed=arguments.seed, equalise=arguments.equalise)
    print(realism_table(results))
    if arguments.json:
        write_json(arguments.json, results)
