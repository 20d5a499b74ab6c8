"""simgan-fast report."""

from __future__ import annotations

import argparse
from typing import Any

from simgan_fast.commands import command
from simgan_fast.errors import InputError


def add(commands: Any) -> None:
    parser = command(
        commands,
        "report",
        run,
        "write a training run as one page: settings, curves, samples, measures, time",
        "simgan-fast report runs/first --measure gaze=gaze.json",
    )
    parser.add_argument("folder", metavar="RUN", help="run folder, or a demo's folder")
    parser.add_argument("--out", metavar="FILE", help="the page, .html (default: RUN/report.html)")
    parser.add_argument(
        "--measure",
        action="append",
        default=[],
        metavar="NAME=FILE",
        help="numbers to show, a file that evaluate --json wrote; as often as there are some",
    )
    parser.add_argument("--json", metavar="FILE", help="write the facts to this file")


def run(arguments: argparse.Namespace) -> None:
    from simgan_fast.jobs.report import report

    named = [text.partition("=") for text in arguments.measure]
    if any(not file for _, _, file in named) or len({name for name, _, _ in named}) < len(named):
        raise InputError("--measure takes NAME=FILE, with a different NAME each time.")
    measures = {name: file for name, _, file in named}
    print(report(arguments.folder, arguments.out, measures=measures, json_out=arguments.json))
