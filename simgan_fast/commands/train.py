"""simgan-fast train."""

from __future__ import annotations

import argparse
import os
from typing import Any

from simgan_fast.commands import add_timeout, command, image_size
from simgan_fast.commands.settings import add_settings, changes, settings
from simgan_fast.config import PRESETS
from simgan_fast.errors import InputError
from simgan_fast.stalls import ended_when_stalled

USUAL = "eyes"  # preset


def add(commands: Any) -> None:
    parser = command(
        commands,
        "train",
        run,
        "learn a refiner from simulated and real images, or go on with a run",
        "simgan-fast train --synthetic simulated --real photographs --out runs/first --self-regularization 0.8",
    )
    parser.add_argument("--synthetic", help="packed set or image folder of simulated images")
    parser.add_argument("--real", help="packed set or image folder of real images; needs no labels")
    parser.add_argument("--out", help="new run folder")
    parser.add_argument(
        "--size", type=image_size, help="HEIGHTxWIDTH that image folders are resized to"
    )
    parser.add_argument(
        "--resume",
        metavar="RUN",
        help="go on with this run; takes no other setting than --device and --timeout",
    )
    parser.add_argument(
        "--feed",
        choices=("auto", "resident", "stream"),
        help="images from memory, or from the disk for sets larger than it (default: auto, and says which)",
    )
    parser.add_argument(
        "--select-labelled",
        metavar="SET",
        help="labelled real images, neither trained nor tested on, for --select-by gaze",
    )
    add_timeout(parser)
    parser.add_argument("--device", default="cpu", help="torch device (default: %(default)s)")
    parser.add_argument(
        "--preset",
        choices=list(PRESETS),
        help=f"settings to start from (default: {USUAL})",
    )
    add_settings(parser, USUAL)


def run(arguments: argparse.Namespace) -> None:
    folder = arguments.resume or arguments.out
    kept = f"Checkpoints are kept: simgan-fast train --resume {folder} goes on from the newest."
    with ended_when_stalled(arguments.timeout, kept):
        _run(arguments)


def _run(arguments: argparse.Namespace) -> None:
    from simgan_fast.jobs.train import resume, train

    if arguments.resume:
        changed = [
            name
            for name in ("synthetic", "real", "out", "size", "feed", "select_labelled", "preset")
            if getattr(arguments, name)
        ]
        if changed or changes(arguments):
            raise InputError(
                "--resume goes on with a run as it is: give it no other setting, or start a new run."
            )
        resume(arguments.resume, device=arguments.device)
        return
    missing = [f"--{name}" for name in ("synthetic", "real", "out") if not getattr(arguments, name)]
    if missing:
        raise InputError(
            f"{' and '.join(missing)} missing: name the two image sets and a new run folder."
        )
    config = settings(arguments, arguments.preset or USUAL)
    train(
        arguments.synthetic,
        arguments.real,
        arguments.out,
        config,
        size=arguments.size,
        device=arguments.device,
        feed=arguments.feed or "auto",
        labelled=arguments.select_labelled,
    )
    if os.environ.get("RANK", "0") == "0":
        print(
            f"refiner: {arguments.out}/refiner  pictures: {arguments.out}/samples  numbers: {arguments.out}/metrics.csv"
        )
