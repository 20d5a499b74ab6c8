"""simgan-fast simulate."""

from __future__ import annotations

import argparse
from typing import Any

from simgan_fast.commands import add_format, command, image_size


def add(commands: Any) -> None:
    parser = command(
        commands,
        "simulate",
        run,
        "write simulated, labelled images",
        "simgan-fast simulate eyes simulated --count 10000 --format png",
    )
    parser.add_argument("subject", choices=["eyes", "hands"], help="what to simulate")
    parser.add_argument("out", help="new folder; of hdf5 a new file")
    parser.add_argument("--count", type=int, default=10_000, help="images (default: %(default)s)")
    parser.add_argument(
        "--domain",
        choices=["plain", "camera"],
        default="plain",
        help="'plain', or 'camera': other people, and a sensor model (default: %(default)s)",
    )
    parser.add_argument(
        "--size", type=image_size, help="HEIGHTxWIDTH (default: 35x55, hands 224x224)"
    )
    parser.add_argument("--seed", type=int, default=0, help="(default: %(default)s)")
    parser.add_argument(
        "--start", type=int, default=0, help="number of the first image (default: %(default)s)"
    )
    parser.add_argument("--views", type=int, help="hands: 1 or 3 cameras for each pose [1]")
    parser.add_argument(
        "--poses", help="hands: all, or open for easier, open hands that show their palm [all]"
    )
    parser.add_argument("--crop", help="hands: box, or none for the camera's 480x640 image [box]")
    parser.add_argument("--values", help="hands: millimetres, paper or metric [millimetres]")
    add_format(parser, "arrow")


def run(arguments: argparse.Namespace) -> None:
    from simgan_fast.jobs.simulate import simulate

    options = {
        name: getattr(arguments, name)
        for name in ("count", "domain", "size", "seed", "start", "format")
    }
    for name in ("views", "poses", "crop", "values"):
        if getattr(arguments, name) is not None:
            options[name] = getattr(arguments, name)
    simulate(arguments.subject, arguments.out, **options)
