"""simgan-fast demo."""

from __future__ import annotations

import argparse
from typing import Any

from simgan_fast.commands import command
from simgan_fast.commands.settings import add_settings, settings

FOLDERS = {"eyes": "runs/demo", "hands": "runs/demo-hands"}


def add(commands: Any) -> None:
    parser = command(
        commands,
        "demo",
        run,
        "the whole story on simulated eyes or hands, in minutes",
        "simgan-fast demo hands --out runs/demo-hands",
    )
    parser.add_argument(
        "subject", nargs="?", choices=list(FOLDERS), default="eyes", help="(default: %(default)s)"
    )
    parser.add_argument(
        "--out", help="new folder for everything (default: runs/demo, hands runs/demo-hands)"
    )
    parser.add_argument(
        "--scale",
        type=float,
        default=1.0,
        help="times images, training steps and estimator updates, for quick trials (default: 1)",
    )
    add_settings(parser, "demo-eyes")


def run(arguments: argparse.Namespace) -> None:
    from simgan_fast.jobs.demo import demo, summary_table
    from simgan_fast.jobs.demo_hands import demo_hands, hands_table

    out, subject = arguments.out or FOLDERS[arguments.subject], arguments.subject
    job, table = (demo, summary_table) if subject == "eyes" else (demo_hands, hands_table)
    print(table(job(out, settings(arguments, f"demo-{subject}"), scale=arguments.scale)))
    print(f"report: {out}/report.html")
