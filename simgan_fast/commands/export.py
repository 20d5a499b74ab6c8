"""simgan-fast export."""

from __future__ import annotations

import argparse
from typing import Any

from simgan_fast.commands import add_format, command, image_size


def add(commands: Any) -> None:
    parser = command(
        commands,
        "export",
        run,
        "write a set in another format, names and labels kept",
        "simgan-fast export refined refined-shards --format webdataset",
    )
    parser.add_argument("source", help="packed set or image folder")
    parser.add_argument("out", help="new folder; of hdf5 a new file")
    add_format(parser, "png")
    parser.add_argument(
        "--size", type=image_size, help="HEIGHTxWIDTH that an image folder is resized to"
    )
    parser.add_argument("--channels", type=int, choices=(1, 3), help="1: grey, 3: RGB")
    parser.add_argument(
        "--labels", metavar="FILE", help="of an image folder: .csv or .json, if not its labels.csv"
    )


def run(arguments: argparse.Namespace) -> None:
    from simgan_fast.jobs.export import export

    options = {name: getattr(arguments, name) for name in ("format", "size", "channels", "labels")}
    images = export(arguments.source, arguments.out, **options)
    left_out = f", {len(images.rejects)} left out" if images.rejects else ""
    print(f"{len(images)} images in {arguments.out}, {arguments.format}{left_out}")
