"""What a run writes for people: metrics.csv, TensorBoard scalars and pictures, plain log lines."""

from __future__ import annotations

import csv
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

import torch
from torch import Tensor

from simgan_fast.errors import InputError
from simgan_fast.models.refiner import Refiner
from simgan_fast.ops.gather_normalize import to_uint8
from simgan_fast.pictures import difference, image_grid, save_picture

COLUMNS = [
    "phase",
    "update",
    "seconds",
    "images_per_second",
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


class RunLog:
    """Appends to metrics.csv and to TensorBoard events below `run`; on resume forgets what came after `update`."""

    def __init__(self, run: Path, *, update: int = 0) -> None:
        from torch.utils.tensorboard import SummaryWriter  # takes a second: only where a run begins

        self.run = run
        path = run / "metrics.csv"
        kept = _rows_up_to(path, update)
        self._file = path.open("w", newline="")
        self._csv = csv.DictWriter(self._file, COLUMNS, restval="")
        self._csv.writeheader()
        self._csv.writerows(kept)
        self._file.flush()
        self._events = SummaryWriter(
            str(run / "tensorboard"), purge_step=update + 1 if update else None
        )

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

    def alert(self, text: str) -> None:
        """A warning on standard error."""
        print(f"warning: {text}", file=sys.stderr, flush=True)

    def __enter__(self) -> RunLog:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.fsync(self._file.fileno())
        self._file.close()
        self._events.close()


def _rows_up_to(path: Path, update: int) -> list[dict[str, str]]:
    """Rows of an older metrics.csv that the checkpoint at `update` has seen; a half-written last line is dropped."""
    if not update or not path.is_file():
        return []
    with path.open(newline="") as file:
        rows = csv.DictReader(file)
        if rows.fieldnames != COLUMNS:
            raise InputError(
                f"{path} has other columns than this version writes: move it away, then resume."
            )
        return [row for row in rows if row["update"].isdecimal() and int(row["update"]) <= update]


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
