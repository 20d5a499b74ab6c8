"""simgan-fast prepare."""

from __future__ import annotations

import argparse
from typing import Any

from simgan_fast.commands import add_timeout, command, image_size
from simgan_fast.errors import InputError
from simgan_fast.stalls import ended_when_stalled


def add(commands: Any) -> None:
    parser = command(
        commands,
        "prepare",
        run,
        "pack a data set: UnityEyes, MPIIGaze, NYU hands, NumPy files, image folders and others",
        "simgan-fast prepare unityeyes UnityEyes/imgs simulated --size 35x55 --channels 1",
    )
    parser.add_argument("--list", action="store_true", help="all formats, each with an example")
    parser.add_argument("format", nargs="?", help="of the data set: see --list")
    parser.add_argument("source", nargs="?", help="folder or file of the data set")
    parser.add_argument("out", nargs="?", help="new folder for the packed set")
    parser.add_argument("--size", type=image_size, help="HEIGHTxWIDTH that images are resized to")
    parser.add_argument("--channels", type=int, choices=(1, 3), help="1: grey, 3: RGB")
    parser.add_argument(
        "--labels", metavar="FILE", help="folder: .csv or .json, if not its labels.csv"
    )
    parser.add_argument(
        "--crop",
        help="unityeyes [fixed], unityeyes2 [eye-width]: fixed, eye-width, none; nyu-hands: box, mask, none [box]; "
        "depth: box, none [box]",
    )
    parser.add_argument(
        "--processes", type=int, metavar="N", help="that decode (default: one per core)"
    )
    add_timeout(parser)
    parser.add_argument("--kind", help="nyu-hands: depth or synthdepth [depth]")
    parser.add_argument("--view", help="nyu-hands: camera 1, 2, 3 or all [1]")
    parser.add_argument(
        "--values", help="nyu-hands, depth: millimetres, paper or metric [millimetres]"
    )
    parser.add_argument("--near", type=float, metavar="MM", help="depth: what is nearer has none")
    parser.add_argument("--far", type=float, metavar="MM", help="depth: what is farther has none")
    parser.add_argument(
        "--lowest", type=int, metavar="LEVEL", help="depth, 8 bits: what is lower has none [1]"
    )
    parser.add_argument("--image", metavar="COLUMN", help="parquet, hf: column of images [image]")
    parser.add_argument("--split", help="hf: train, test, ...")


def run(arguments: argparse.Namespace) -> None:
    from simgan_fast.jobs.prepare import formats_table, prepare

    if arguments.list:
        print(formats_table())
        return
    missing = [name for name in ("format", "source", "out") if getattr(arguments, name) is None]
    if missing:
        raise InputError(
            f"{' and '.join(missing)} missing: prepare FORMAT SOURCE OUT; --list has the formats."
        )
    kept = "Shards that are finished are kept, and the same command goes on there."
    with ended_when_stalled(arguments.timeout, kept):
        packed = prepare(
            arguments.format,
            arguments.source,
            arguments.out,
            size=arguments.size,
            channels=arguments.channels,
            processes=arguments.processes,
            labels=arguments.labels,
            crop=arguments.crop,
            kind=arguments.kind,
            view=arguments.view,
            values=arguments.values,
            near=arguments.near,
            far=arguments.far,
            lowest=arguments.lowest,
            image=arguments.image,
            split=arguments.split,
        )
    channels, height, width = packed.shape
    print(
        f"{len(packed)} images of {height}x{width}, {channels} channel{'s' * (channels > 1)}, in {arguments.out}; "
        f"labels: {', '.join(packed.labels) or 'none'}"
    )
