"""A training run in a folder: pretraining and Algorithm 1, with checkpoints, logs, pictures and clean stops."""

from __future__ import annotations

import csv
import math
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from torch import Tensor

from simgan_fast.errors import Interrupted, TrainingDiverged
from simgan_fast.files import folder_locked, remove_leftovers
from simgan_fast.models.refiner import Refiner
from simgan_fast.progress import Progress, say
from simgan_fast.signals import handled_by
from simgan_fast.training.algorithm import SimGAN
from simgan_fast.training.diagnostics import Diagnostics, require_finite_weights
from simgan_fast.training.logging import NoLog, RunLog, sample_rows
from simgan_fast.training.metrics import Metrics, scalars
from simgan_fast.training.selection import Selection
from simgan_fast.training.state import Done, save_checkpoint


@dataclass(frozen=True)
class Phase:
    """One part of a run: `total` calls of `update`, `images` refined or judged in each."""

    name: str
    total: int
    update: Callable[[], Metrics]
    images: int


class Run:
    """One folder, one SimGAN, and how far it is. Of several processes the first alone writes and shows.

    `samples` are two batches (synthetic, real) [n, c, h, w] in [-1, 1] that every sample grid
    shows.
    """

    def __init__(self, folder: Path, simgan: SimGAN, samples: tuple[Tensor, Tensor]) -> None:
        self.folder, self.simgan, self.samples = folder, simgan, samples
        config, b = simgan.config, simgan.config.batch_size
        per_step = b * (config.refiner_updates + config.discriminator_updates)
        self.phases = [
            Phase("pretrain_refiner", config.refiner_pretraining, simgan.pretrain_refiner, b),
            Phase(
                "pretrain_discriminator",
                config.discriminator_pretraining,
                simgan.pretrain_discriminator,
                b,
            ),
            Phase("train", config.steps, self._step, per_step),
        ]
        self.done: Done = {phase.name: 0 for phase in self.phases}
        self.diagnostics = Diagnostics()
        self.processes = simgan.processes
        self.selection: Selection | None = None  # what keeps the best refiner, if anything does

    @property
    def update(self) -> int:
        """Updates done so far, all phases together."""
        return sum(self.done.values())

    def finish(self) -> Refiner:
        """Do what is left of every phase, then write the refiner for use elsewhere.

        Raises InputError while another process, not of this run, trains in the same folder.
        """
        complaint = f"{self.folder} is being trained by another process just now."
        with stop_requests() as stop:
            if not self.processes.first:
                return self._finish(stop, NoLog())
            with folder_locked(self.folder, complaint):
                for folder in ("", "checkpoints", "samples", "refiner"):
                    remove_leftovers(self.folder / folder)
                if self.selection:
                    self.selection.resume(self.update)
                with RunLog(self.folder, update=self.update) as log:
                    refiner = self._finish(stop, log)
                refiner.save_pretrained(self.folder / "refiner", measures=self._measures())
                return refiner

    def _finish(self, stop: StopRequest, log: RunLog) -> Refiner:
        try:
            for phase in self.phases:
                self._do(phase, log, stop)
            self._checkpoint()
        except TrainingDiverged as error:
            log.note(self.update, f"stopped: {error}")
            raise
        log.samples(self.update, sample_rows(self.simgan.averaged, *self.samples))
        return self.simgan.averaged.eval()

    def _measures(self) -> dict[str, object]:
        """For the model card: settings that say most, and the last row of metrics.csv."""
        config = self.simgan.config
        settings = {
            name: getattr(config, name) for name in ("steps", "batch_size", "self_regularization")
        }
        with (self.folder / "metrics.csv").open(newline="") as file:
            last = list(csv.DictReader(file))[-1:]
        shown = {name: row[name] for row in last for name in _SHOWN if row.get(name)}
        return {**settings, **shown}

    def _step(self) -> Metrics:
        self.simgan.set_learning_rates(self.done["train"])
        return self.simgan.step()

    def _do(self, phase: Phase, log: RunLog, stop: StopRequest) -> None:
        config, began = self.simgan.config, time.monotonic()
        first, fed = self.done[phase.name], self._feed_seconds()
        if first >= phase.total:
            return
        with Progress(
            phase.total * phase.images,
            "image",
            phase.name,
            first * phase.images,
            quiet_for=0.0 if self.processes.first else math.inf,
        ) as progress:
            while self.done[phase.name] < phase.total:
                metrics = phase.update()
                self.done[phase.name] += 1
                progress.update(phase.images)
                done, last = self.done[phase.name], self.done[phase.name] == phase.total
                if done % config.log_every == 0 or last:
                    seconds = time.monotonic() - began
                    rate = (done - first) * phase.images / seconds
                    feed = self._feed_seconds() - fed
                    times = {"seconds": seconds, "images_per_second": rate, "feed_seconds": feed}
                    self._log(log, phase, metrics, times, progress)
                if phase.name == "train" and done % config.sample_every == 0:
                    log.samples(self.update, sample_rows(self.simgan.averaged, *self.samples))
                if phase.name == "train" and self.selection:
                    self._consider(self.selection, done, last)
                stopped = self.processes.most(stop.signal)
                if done % config.checkpoint_every == 0 or stopped:
                    self._checkpoint()
                if stopped:
                    raise Interrupted(
                        stopped,
                        f"stopped; continue with: simgan-fast train --resume {self.folder}",
                    )

    def _consider(self, selection: Selection, done: int, last: bool) -> None:
        """Measure the averaged refiner after every `selection.every` steps and after the last."""
        if done % selection.every == 0 or last:
            value = selection.consider(self.update, self.simgan.averaged)
            say(f"selection: update {self.update}: {value:.4g}")

    def _log(
        self,
        log: RunLog,
        phase: Phase,
        metrics: Metrics,
        times: dict[str, float],
        progress: Progress,
    ) -> None:
        values = self.processes.means(scalars(metrics))
        log.metrics(phase.name, self.update, {**times, **values})
        shown = [f"{name}={values[name]:.3g}" for name in _SHOWN if name in values]
        progress.note(" ".join([*shown, f"feed={times['feed_seconds'] / times['seconds']:.1%}"]))
        with self._explained():
            warnings = self.diagnostics.check(values)
        for text in warnings if phase.name == "train" else []:
            log.alert(self.update, text)

    def _feed_seconds(self) -> float:
        return self.simgan.synthetic.seconds + self.simgan.real.seconds

    def _checkpoint(self) -> None:
        with self._explained():
            require_finite_weights([self.simgan.refiner, self.simgan.discriminator])
        save_checkpoint(self.folder / "checkpoints", self.simgan, self.done)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Add to TrainingDiverged where the last good state is."""
        try:
            yield
        except TrainingDiverged as error:
            kept = sorted((self.folder / "checkpoints").glob("update-*.safetensors"))
            where = (
                f"the last good checkpoint is {kept[-1]}" if kept else "there is no checkpoint yet"
            )
            raise TrainingDiverged(
                f"{error} at update {self.update}: {where}; start again with lower learning rates."
            ) from None


_SHOWN = (
    "mean_abs_change",
    "adversarial",
    "loss_discriminator",
    "accuracy_refined",
    "accuracy_real",
)


class StopRequest:
    """Holds the number of the first SIGINT or SIGTERM that came, 0 before."""

    def __init__(self) -> None:
        self.signal = 0

    def __call__(self, number: int, _frame: FrameType | None) -> None:
        """Signal handler: remember the first signal; a second one stops at once."""
        if self.signal:
            raise KeyboardInterrupt
        self.signal = number


@contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Turn SIGINT and SIGTERM into a request that the loop sees between two updates (main thread only)."""
    stop = StopRequest()
    with handled_by(stop, signal.SIGINT, signal.SIGTERM):
        yield stop
