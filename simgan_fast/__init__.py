"""SimGAN, fast and faithful: make simulated images look real and keep their labels.

>>> import simgan_fast
>>> simgan_fast.train("simulated", "photographs", "runs/first")  # doctest: +SKIP
>>> simgan_fast.refine("runs/first", "simulated", "refined")  # doctest: +SKIP
"""

from __future__ import annotations

from simgan_fast.config import PRESETS, TrainingConfig, preset
from simgan_fast.errors import InputError, Interrupted, TrainingDiverged
from simgan_fast.jobs.export import export
from simgan_fast.jobs.prepare import prepare
from simgan_fast.jobs.refine import refine
from simgan_fast.jobs.report import report
from simgan_fast.jobs.show import show
from simgan_fast.jobs.simulate import simulate
from simgan_fast.jobs.train import resume, train
from simgan_fast.jobs.turing import turing, turing_results
from simgan_fast.jobs.verify import verify
from simgan_fast.memory import keep_freed_memory
from simgan_fast.models.discriminator import (
    GlobalDiscriminator,
    HandPatchDiscriminator,
    PatchDiscriminator,
)
from simgan_fast.models.gaze_estimator import GazeEstimator
from simgan_fast.models.refiner import Refiner

__version__ = "0.1.0"

__all__ = [
    "PRESETS",
    "GazeEstimator",
    "GlobalDiscriminator",
    "HandPatchDiscriminator",
    "InputError",
    "Interrupted",
    "PatchDiscriminator",
    "Refiner",
    "TrainingConfig",
    "TrainingDiverged",
    "__version__",
    "export",
    "keep_freed_memory",
    "prepare",
    "preset",
    "refine",
    "report",
    "resume",
    "show",
    "simulate",
    "train",
    "turing",
    "turing_results",
    "verify",
]
