"""simgan-fast demo."""

from __future__ import annotations

import argparse
from typing import Any

from simgan_fast.commands import command
from simgan_fast.commands.settings import add_settings, settings


def add(commands: Any) -> None:
    parser = command(
        commands,
        "demo",
        run,
        "the whole story on simulated eyes, in minutes",
        "simgan-fast demo --out runs/demo",
    )
    parser.add_argument(
        "--out", default="runs/demo", help="new folder for everything (default: %(default)s)"
    )
    parser.add_argument(
        "--scale", type=float, default=1.0, help="scale of all amounts of work, for quick trials"
    )
    add_settings(parser, "demo-eyes")


def run(arguments: argparse.Namespace) -> None:
    from simgan_fast.jobs.demo import demo, summary_table

    summary = demo(arguments.out, settings(arguments, "demo-eyes"), scale=arguments.scale)
    print(summary_table(summary))
    print(f"report: {arguments.out}/report.html")
