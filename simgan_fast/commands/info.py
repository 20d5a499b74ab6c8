"""simgan-fast info."""

from __future__ import annotations

import argparse
from typing import Any

from simgan_fast.commands import command


def add(commands: Any) -> None:
    command(
        commands, "info", run, "versions, CPU level, CUDA and why not, DALI", "simgan-fast info"
    )


def run(_arguments: argparse.Namespace) -> None:
    from simgan_fast.jobs.info import info

    width = max(map(len, facts := info()))
    print("\n".join(f"{name:<{width}}  {value}" for name, value in facts.items()))
