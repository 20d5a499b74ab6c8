"""simgan-fast study."""

from __future__ import annotations

from typing import Any

from simgan_fast.commands import study_ablations, study_gaze_table, study_hands_table


def add(commands: Any) -> None:
    parser = commands.add_parser("study", help="the paper's studies: many trainings, a table")
    kinds = parser.add_subparsers(title="studies", metavar="STUDY", required=True)
    study_gaze_table.add(kinds)
    study_hands_table.add(kinds)
    study_ablations.add(kinds)
