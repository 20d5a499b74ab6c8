"""Keeping the best refiner of a run, by a measure on images that it was not trained on."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable
from pathlib import Path

from safetensors import SafetensorError, safe_open

from simgan_fast.errors import InputError
from simgan_fast.models.hub import WEIGHTS_FILE
from simgan_fast.models.refiner import BEST, Refiner
from simgan_fast.training.logging import rows_up_to, write_rows

COLUMNS = ["update", "value"]
LOG = "selection.csv"


class Selection:
    """Measures a refiner now and then: `folder`/best has the one with the smallest value, selection.csv all values.

    `measure`: a refiner to a number that is smaller for a better one. `every`: steps between two measurements.
    The weights carry their update and value, so that both appear at once or not at all.
    """

    def __init__(self, folder: Path, every: int, measure: Callable[[Refiner], float]) -> None:
        self.folder, self.every, self.measure = folder, every, measure

    def resume(self, update: int) -> None:
        """Begin, or go on from the checkpoint at `update`: what was measured after it is measured again."""
        log = self.folder / LOG
        write_rows(log, rows_up_to(log, update, COLUMNS), COLUMNS)

    def consider(self, update: int, refiner: Refiner) -> float:
        """Measure `refiner`, log it, and keep it if it is the best so far; NaN never is."""
        value = self.measure(refiner)
        with (self.folder / LOG).open("a", newline="") as file:
            csv.writer(file).writerow([update, f"{value:.9g}"])
        best = best_of(self.folder)
        if value < (best[1] if best else math.inf):
            metadata = {"selection": json.dumps({"update": update, "value": value})}
            refiner.save_pretrained(self.folder / BEST, metadata=metadata)
        return value


def best_of(folder: Path) -> tuple[int, float] | None:
    """(update, value) of the refiner that was selected in the run `folder`, None where none was.

    Raises InputError where its file is damaged.
    """
    path = folder / BEST / WEIGHTS_FILE
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            found = json.loads((file.metadata() or {})["selection"])
        return int(found["update"]), float(found["value"])
    except (SafetensorError, KeyError, TypeError, ValueError, OSError) as error:
        raise InputError(f"{path} is damaged ({error}): remove {folder / BEST}.") from None
