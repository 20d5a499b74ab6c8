"""simgan-fast refine."""

from __future__ import annotations

import argparse
import os
from typing import Any

from simgan_fast.commands import add_format, command, image_size
from simgan_fast.config import PRECISIONS
from simgan_fast.errors import InputError


def add(commands: Any) -> None:
    parser = command(
        commands,
        "refine",
        run,
        "refine a whole set, names and labels kept",
        "simgan-fast refine runs/first simulated refined --format arrow",
    )
    parser.add_argument(
        "refiner",
        help="run folder (of one that selects, its best; RUN/refiner: that of the end), or a saved refiner",
    )
    parser.add_argument("source", help="packed set or image folder")
    parser.add_argument("out", help="new folder; of hdf5 a new file")
    add_format(parser, "png")
    parser.add_argument(
        "--size", type=image_size, help="HEIGHTxWIDTH that an image folder is resized to"
    )
    parser.add_argument(
        "--batch-size", type=int, default=64, help="images at a time (default: %(default)s)"
    )
    parser.add_argument("--device", default="cpu", help="torch device (default: %(default)s)")
    parser.add_argument(
        "--precision",
        choices=PRECISIONS,
        default="auto",
        help="what the refiner computes in; auto: bfloat16 on a GPU for 8-bit images, else float32",
    )
    parser.add_argument(
        "--shared",
        action="store_true",
        help="do a share of it, beside all processes with the same arguments; wants packed sets (--format arrow); "
        "the default under torchrun",
    )


def run(arguments: argparse.Namespace) -> None:
    if arguments.shared or int(os.environ.get("WORLD_SIZE", "1")) > 1:
        _run_shared(arguments)
        return
    from simgan_fast.jobs.refine import refine

    options = {
        name: getattr(arguments, name)
        for name in ("format", "size", "batch_size", "device", "precision")
    }
    result = refine(arguments.refiner, arguments.source, arguments.out, **options)
    print(
        f"{result.images} images in {arguments.out}, {result.images_per_second:.0f} images/s, "
        f"mean change {result.mean_abs_change:.3f} of a range of 2"
    )


def _run_shared(arguments: argparse.Namespace) -> None:
    from simgan_fast.devices import device_of_process
    from simgan_fast.jobs.refine_shared import refine_shared

    if arguments.format != "arrow" or arguments.size is not None:
        raise InputError(
            "several processes refine one packed set into another: give --format arrow, and no --size."
        )
    result = refine_shared(
        arguments.refiner,
        arguments.source,
        arguments.out,
        batch_size=arguments.batch_size,
        device=device_of_process(arguments.device),
        precision=arguments.precision,
    )
    print(f"{arguments.out} is done; {result.images} images of it by this process")
