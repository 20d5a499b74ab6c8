"""simgan-fast verify."""

from __future__ import annotations

import argparse
from typing import Any

from simgan_fast.commands import command


def add(commands: Any) -> None:
    parser = command(
        commands,
        "verify",
        run,
        "read all of a packed set and compare it with its SHA-256",
        "simgan-fast verify simulated",
    )
    parser.add_argument("source", metavar="SET", help="packed set")


def run(arguments: argparse.Namespace) -> None:
    from simgan_fast.jobs.verify import verify

    found = verify(arguments.source)
    print(
        f"{arguments.source} is whole: {found.images} images in {found.shards} "
        f"shard{'s' * (found.shards > 1)}, {found.rejects} rejected, sha256 {found.digest}"
    )
