"""SimGAN, fast and faithful: make simulated images look real and keep their labels.

>>> import simgan_fast
>>> simgan_fast.train("simulated", "photographs", "runs/first")  # doctest: +SKIP
>>> simgan_fast.refine("runs/first", "simulated", "refined")  # doctest: +SKIP
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from simgan_fast.arrays import refine_array
from simgan_fast.config import PRESETS, TrainingConfig, preset
from simgan_fast.errors import InputError, Interrupted, ProcessLost, TrainingDiverged
from simgan_fast.memory import keep_freed_memory
from simgan_fast.models.discriminator import (
    GlobalDiscriminator,
    HandPatchDiscriminator,
    PatchDiscriminator,
)
from simgan_fast.models.gaze_estimator import GazeEstimator
from simgan_fast.models.refiner import Refiner

if TYPE_CHECKING:
    from simgan_fast.jobs.export import export
    from simgan_fast.jobs.prepare import prepare
    from simgan_fast.jobs.refine import refine
    from simgan_fast.jobs.refine_shared import refine_shared
    from simgan_fast.jobs.report import report
    from simgan_fast.jobs.show import show
    from simgan_fast.jobs.simulate import simulate
    from simgan_fast.jobs.train import resume, train
    from simgan_fast.jobs.turing import turing, turing_results
    from simgan_fast.jobs.verify import verify

__version__ = "0.1.0"

__all__ = [
    "PRESETS",
    "GazeEstimator",
    "GlobalDiscriminator",
    "HandPatchDiscriminator",
    "InputError",
    "Interrupted",
    "PatchDiscriminator",
    "ProcessLost",
    "Refiner",
    "TrainingConfig",
    "TrainingDiverged",
    "__version__",
    "export",
    "keep_freed_memory",
    "prepare",
    "preset",
    "refine",
    "refine_array",
    "refine_shared",
    "report",
    "resume",
    "show",
    "simulate",
    "train",
    "turing",
    "turing_results",
    "verify",
]

# Whole jobs are imported where they are first used: with pyarrow and Pillow they take longer than all the rest. What
# registers the ops is imported above, so that a saved program finds them.
_JOBS = {
    "export": "export",
    "prepare": "prepare",
    "refine": "refine",
    "refine_shared": "refine_shared",
    "report": "report",
    "resume": "train",
    "show": "show",
    "simulate": "simulate",
    "train": "train",
    "turing": "turing",
    "turing_results": "turing",
    "verify": "verify",
}


def __getattr__(name: str) -> object:
    if name not in _JOBS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = job = getattr(import_module(f"simgan_fast.jobs.{_JOBS[name]}"), name)
    return job


def __dir__() -> list[str]:
    return sorted({*globals(), *_JOBS})
