"""What the demos have in common: parts in their order, each done once, in a folder that tells how far it is."""

from __future__ import annotations

import dataclasses
import json
import shutil
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

from simgan_fast.config import TrainingConfig
from simgan_fast.errors import InputError
from simgan_fast.files import write_json
from simgan_fast.jobs.refine import refine
from simgan_fast.jobs.report import report
from simgan_fast.jobs.simulate import simulate
from simgan_fast.jobs.train import train_or_resume

TEST_SEED = 1  # the test images are of another seed than the training images: no image is in both
ARMS = {"synthetic": "synthetic", "refined": "refined", "real_labels": "camera"}  # name -> folder
ESTIMATOR_SEEDS = 3


class DemoStages(ABC):
    """The parts of a demo in their order. Each leaves a whole folder or file: what is there is not done again.

    The simulator's `plain` domain is the synthetic side, its `camera` domain stands in for measured images: the refiner
    sees them without labels, and estimators are tested on others of them.
    """

    subject: ClassVar[str]
    training_images: ClassVar[int]  # of each domain
    test_images: ClassVar[int]
    simulator_options: ClassVar[dict[str, Any]] = {}

    def __init__(self, out: Path, config: TrainingConfig, scale: float) -> None:
        if not 0 < scale <= 1:
            raise InputError(f"scale is {scale}: it must be above 0 and at most 1.")
        self.config = dataclasses.replace(config, steps=max(1, round(config.steps * scale)))
        self.out, self.scale = out, scale
        self.record = out / "demo.json"
        self.settings = {"scale": scale, **dataclasses.asdict(self.config)}
        self.seconds: dict[str, float] = {}
        self.measured: dict[str, Any] = {}

    @abstractmethod
    def evaluate(self) -> None:
        """Train estimators on every set of ARMS, test them, and put into `measured` what JSON can hold."""

    @abstractmethod
    def picture(self) -> None:
        """Write samples.png."""

    @abstractmethod
    def figures(self) -> dict[str, Any]:
        """Of the summary: what `evaluate` found."""

    def run(self) -> dict[str, Any]:
        """Do what is not done yet; returns the summary."""
        self._begin()
        summary_file = self.out / "summary.json"
        unfinished = not summary_file.is_file()
        if unfinished:
            self._work(summary_file)
        if unfinished or not (self.out / "report.html").is_file():
            report(self.out)
        finished: dict[str, Any] = json.loads(summary_file.read_text())
        return finished

    def scaled(self, count: int) -> int:
        """`count` images or updates at this demo's scale, at least 1."""
        return max(1, round(count * self.scale))

    def _work(self, summary_file: Path) -> None:
        self._stage("simulate", self._simulate, "synthetic", "camera", "test")
        self._stage("train", self._train, "train")
        self._stage("refine", self._refine, "refined")
        self._stage("evaluate", self.evaluate)
        self.picture()
        summary = {
            **self.figures(),
            "seeds": ESTIMATOR_SEEDS,
            "seconds": self.seconds,
            "refine_images_per_second": self.measured["refine_images_per_second"],
            "mean_abs_change": self.measured["mean_abs_change"],
            "settings": self.settings,
        }
        write_json(summary_file, summary)

    def _begin(self) -> None:
        """Take up what is in the folder if it is this very demo, begin if it is empty, refuse otherwise."""
        if not self.out.exists() or not any(self.out.iterdir()):
            self.out.mkdir(parents=True, exist_ok=True)
            return self._save()
        try:
            record = json.loads(self.record.read_text())
            self.seconds, self.measured = record["seconds"], record["measured"]
        except (OSError, ValueError, KeyError, TypeError):
            raise InputError(
                f"{self.out} already holds something else: name a new folder with --out."
            ) from None
        if (record.get("subject", "eyes"), record.get("settings")) != (self.subject, self.settings):
            raise InputError(
                f"{self.out} holds a demo with other settings: name a new folder with --out."
            )
        return None

    def _save(self) -> None:
        record = {
            "subject": self.subject,
            "settings": self.settings,
            "seconds": self.seconds,
            "measured": self.measured,
        }
        write_json(self.record, record)

    def _stage(self, name: str, work: Callable[[], None], *made: str) -> None:
        """Do it unless it is done and the folders that it `made` are there; what comes after it is done again then."""
        if name in self.seconds:
            if all((self.out / folder).exists() for folder in made):
                return
            done = list(self.seconds)
            self.seconds = {stage: self.seconds[stage] for stage in done[: done.index(name)]}
        began = time.monotonic()
        work()
        self.seconds[name] = round(time.monotonic() - began, 1)
        self._save()

    def _simulate(self) -> None:
        seed, count = 2 * self.config.seed, self.scaled(self.training_images)
        for name, domain, images, number in (
            ("synthetic", "plain", count, seed),
            ("camera", "camera", count, seed),
            ("test", "camera", self.scaled(self.test_images), seed + TEST_SEED),
        ):
            if not (self.out / name).exists():
                simulate(
                    self.subject,
                    self.out / name,
                    count=images,
                    domain=domain,
                    seed=number,
                    **self.simulator_options,
                )

    def _train(self) -> None:
        synthetic, camera = self.out / "synthetic", self.out / "camera"
        train_or_resume(synthetic, camera, self.out / "train", self.config)

    def _refine(self) -> None:
        shutil.rmtree(self.out / "refined", ignore_errors=True)  # whole, but not measured
        result = refine(
            self.out / "train", self.out / "synthetic", self.out / "refined", format="arrow"
        )
        self.measured |= {
            "refine_images_per_second": round(result.images_per_second, 1),
            "mean_abs_change": round(result.mean_abs_change, 4),
        }
