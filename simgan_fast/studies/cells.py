"""A study's folder: what was asked, and the result of every cell of its table as soon as there is one.

A cell is the smallest part that is worth keeping: one training with one seed and what it measured, say. It is a JSON
file that is there whole or not at all, so a study that was stopped goes on with the cells that are missing.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from simgan_fast.errors import InputError
from simgan_fast.evaluation.side_by_side import side_by_side
from simgan_fast.files import LOCK_FILE, folder_locked, write_json
from simgan_fast.progress import Progress, say

STUDY_FILE, CELLS = "study.json", "cells"
STUDY_FORMAT = 1  # raised when cells of an older version would mean something else

Cell = dict[str, Any]


@contextmanager
def open_study(
    folder: str | Path, name: str, settings: Mapping[str, Any], costs: Mapping[str, float]
) -> Iterator[Study]:
    """Begin the study `name` in the new folder `folder`, or go on with the one that is there.

    Args:
        folder: new, empty, or holding this study.
        name: of the kind of study, "gaze-table" say.
        settings: what decides the cells, as JSON can hold it; a folder of other settings is refused.
        costs: cell -> what it costs beside the others, in any unit; for the time that is left.

    Raises InputError where the folder holds something else, another study, one of another version or of other settings,
    or while another process works in it.

    >>> with open_study("study", "hands-table", {"seeds": 3}, {"refined-0": 1.0}) as study:  # doctest: +SKIP
    ...     study.cell("refined-0", lambda: {"error": 1.5})
    """
    folder = Path(folder)
    if not (folder / STUDY_FILE).exists() and _holds_something(folder):
        raise InputError(f"{folder} already holds something else: name a new folder.")
    folder.mkdir(parents=True, exist_ok=True)
    with folder_locked(folder, f"another process is at work on the study {folder} just now."):
        study = Study(folder, name, costs)
        study.require_same(STUDY_FILE, {"study": name, "format": STUDY_FORMAT, **settings})
        yield study


class Study:
    """A study in `folder` (`open_study` makes one): runs the cells that are not done, and reads the others."""

    def __init__(self, folder: Path, name: str, costs: Mapping[str, float]) -> None:
        self.folder, self.name, self.costs = folder, name, dict(costs)
        self._began, self._spent = time.monotonic(), 0.0

    def require_same(self, file: str, facts: Mapping[str, Any]) -> None:
        """Write `facts` to `file` of the folder; where it is there already, InputError unless it says the same."""
        path, wanted = self.folder / file, json.loads(json.dumps(facts))
        if not path.exists():
            write_json(path, wanted)
            return
        found = _read(path)
        for key in ("study", "format"):
            if found.get(key) != wanted.get(key):
                raise InputError(
                    f"{self.folder} holds a study with {key} {found.get(key)!r}, this one has {wanted.get(key)!r}: "
                    "name a new folder."
                )
        other = sorted(k for k in found.keys() | wanted.keys() if found.get(k) != wanted.get(k))
        if other:
            raise InputError(
                f"{self.folder} holds this study with another {' and another '.join(other[:3])}: name a new folder, or "
                "ask for the same again."
            )

    def done(self, cell: str) -> bool:
        """Whether the cell has been finished."""
        return self._file(cell).exists()

    def cell(self, cell: str, work: Callable[[], Cell]) -> Cell:
        """The result of a cell, by `work` if it is not there yet; what JSON can hold."""
        if not self.done(cell):
            self._keep(cell, work())
        return _read(self._file(cell))

    def cells_side_by_side(
        self,
        jobs: Mapping[str, Callable[[Progress], Cell]],
        updates: int,
        device: str | torch.device = "cpu",
    ) -> dict[str, Cell]:
        """The results of several cells; those that are not there yet are made at a time, as `side_by_side` does it.

        `updates`: of which each job tells its progress.
        """

        def kept(cell: str, job: Callable[[Progress], Cell]) -> Callable[[Progress], None]:
            return lambda progress: self._keep(cell, job(progress))

        missing = {cell: kept(cell, job) for cell, job in jobs.items() if not self.done(cell)}
        if missing:
            with Progress(len(missing) * updates, "update", self.name) as progress:
                side_by_side(missing, progress, device)
        return {cell: _read(self._file(cell)) for cell in jobs}

    def _keep(self, cell: str, result: Cell) -> None:
        write_json(self._file(cell), result)
        self._spent += self.costs[cell]
        waiting = [cost for name, cost in self.costs.items() if not self.done(name)]
        minutes = (time.monotonic() - self._began) / self._spent * sum(waiting) / 60
        left = f"about {minutes:.0f} min left" if minutes >= 1 else "less than a minute left"
        done = len(self.costs) - len(waiting)
        say(
            f"{self.name}: {cell} done, {done} of {len(self.costs)} cells"
            + (f", {left}" if waiting else "")
        )

    def _file(self, cell: str) -> Path:
        return self.folder / CELLS / f"{cell}.json"


def _holds_something(path: Path) -> bool:
    if path.is_dir():
        return any(inner.name != LOCK_FILE for inner in path.iterdir())
    return path.exists()


def _read(path: Path) -> Cell:
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path} is damaged ({error}): remove it, and what it held is done again."
        ) from None
    if not isinstance(found, dict):
        raise InputError(f"{path} is damaged: remove it, and what it held is done again.")
    return found
