"""What a run writes for people: metrics.csv, warnings.csv, TensorBoard scalars and pictures, plain log lines."""

from __future__ import annotations

import csv
import math
import os
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

import torch
from torch import Tensor

from simgan_fast.errors import InputError
from simgan_fast.files import written_whole
from simgan_fast.models.refiner import Refiner
from simgan_fast.ops.gather_normalize import to_uint8
from simgan_fast.pictures import difference, image_grid, save_picture

COLUMNS = [
    "phase",
    "update",
    "seconds",
    "images_per_second",
    "feed_seconds",
    "loss_refiner",
    "adversarial",
    "self_regularization",
    "loss_discriminator",
    "accuracy_refined",
    "accuracy_real",
    "decision_spread",
    "mean_abs_change",
    "diversity",
]
WARNING_COLUMNS = ["update", "warning"]


class RunLog:
    """Appends to metrics.csv, warnings.csv and TensorBoard events below `run`; on resume forgets what came after
    `update`. warnings.csv is there once there is a warning.
    """

    def __init__(self, run: Path, *, update: int = 0) -> None:
        from torch.utils.tensorboard import SummaryWriter  # takes a second: only where a run begins

        self.run = run
        path, self._warnings = run / "metrics.csv", run / "warnings.csv"
        write_rows(path, rows_up_to(path, update, COLUMNS), COLUMNS)
        if warnings := rows_up_to(self._warnings, update, WARNING_COLUMNS):
            write_rows(self._warnings, warnings, WARNING_COLUMNS)
        else:
            self._warnings.unlink(missing_ok=True)
        self._file = path.open("a", newline="")
        self._csv = csv.DictWriter(self._file, COLUMNS, restval="")
        self._hook = threading.excepthook
        threading.excepthook = self._quiet_writer
        try:
            self._events = SummaryWriter(
                str(run / "tensorboard"),
                purge_step=update + 1 if update else None,
                filename_suffix=f".{update}",  # or a name of time and process alone, which may come twice
            )
        except BaseException:
            threading.excepthook = self._hook
            raise

    def metrics(self, phase: str, update: int, values: Mapping[str, float]) -> None:
        """One row; `update` counts the updates of all phases."""
        row = {name: f"{value:.6g}" for name, value in values.items()}
        self._csv.writerow({"phase": phase, "update": update, **row})
        self._file.flush()
        for name, value in values.items():
            self._events.add_scalar(name, value, update)

    def samples(self, update: int, pictures: Mapping[str, Tensor]) -> None:
        """A grid of uint8 rows as samples/update-N.png and in TensorBoard."""
        grid = image_grid(pictures)
        save_picture(self.run / "samples" / f"update-{update:08d}.png", grid)
        self._events.add_image("samples", grid, update, dataformats="HWC")

    def alert(self, update: int, text: str) -> None:
        """A warning on standard error, and a row of warnings.csv."""
        print(f"warning: update {update}: {text}", file=sys.stderr, flush=True)
        self.note(update, text)

    def note(self, update: int, text: str) -> None:
        """A row of warnings.csv, of what is said elsewhere."""
        new = not self._warnings.exists()
        with self._warnings.open("a", newline="") as file:
            csv.writer(file).writerows([WARNING_COLUMNS] * new + [[update, text]])

    def __enter__(self) -> RunLog:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            os.fsync(self._file.fileno())
            self._file.close()
            self._events.close()
        finally:
            threading.excepthook = self._hook

    def _quiet_writer(self, args: threading.ExceptHookArgs) -> None:
        """Leave out the traceback of TensorBoard's thread on a full disk: its next call raises the error."""
        writer = type(args.thread).__module__.startswith("tensorboard.")
        if not (writer and issubclass(args.exc_type, OSError)):
            self._hook(args)


class NoLog(RunLog):
    """What a process has that does not write: takes the same calls and does nothing."""

    def __init__(self) -> None:
        pass

    def metrics(self, phase: str, update: int, values: Mapping[str, float]) -> None:
        pass

    def samples(self, update: int, pictures: Mapping[str, Tensor]) -> None:
        pass

    def alert(self, update: int, text: str) -> None:
        pass

    def note(self, update: int, text: str) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        pass


def rows_up_to(path: Path, update: int, columns: list[str]) -> list[dict[str, str]]:
    """Rows of an older file that the checkpoint at `update` has seen; a half-written last line is dropped.

    Columns that an older version did not write come back as they are left out.
    """
    if not update or not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8", errors="replace") as file:
        rows = csv.DictReader(file)
        if not set(rows.fieldnames or ()) <= set(columns):
            raise InputError(
                f"{path} has other columns than this version writes: move it away, then resume."
            )
        return [
            row for row in rows if _number(row.get("update")) <= update and None not in row.values()
        ]


def write_rows(path: Path, rows: list[dict[str, str]], columns: list[str]) -> None:
    """Write what `rows_up_to` kept, whole or not at all: a run that goes on is not to lose what it has seen."""
    with written_whole(path, "w") as file:
        table = csv.DictWriter(file, columns, restval="")
        table.writeheader()
        table.writerows(rows)


def _number(text: str | None) -> float:
    return int(text) if text and text.isdecimal() else math.inf


@torch.no_grad()
def sample_rows(refiner: Refiner, synthetic: Tensor, real: Tensor) -> dict[str, Tensor]:
    """Rows of a sample grid from batches [n, c, h, w] in [-1, 1]: synthetic, refined, difference, real."""
    before, after = to_uint8(synthetic).cpu(), to_uint8(refiner(synthetic)).cpu()
    return {
        "synthetic": before,
        "refined": after,
        "difference": difference(after, before),
        "real": to_uint8(real).cpu(),
    }
