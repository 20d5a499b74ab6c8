"""What the settings of every small network here have in common."""

from __future__ import annotations

import math
from dataclasses import dataclass

from simgan_fast.errors import InputError


@dataclass(frozen=True)
class CosineTraining:
    """Training by Adam with a rate that rises for `warm_up` updates and falls to 0 along a cosine.

    Raises InputError for numbers that cannot be.

    >>> CosineTraining(updates=100, batch_size=8, learning_rate=1e-3, warm_up=0).rate(50)
    0.0005
    """

    updates: int  # mini-batches, whatever the size of the set
    batch_size: int
    learning_rate: float  # at its highest
    warm_up: int

    def __post_init__(self) -> None:
        for name, least in (("updates", 1), ("batch_size", 1), ("warm_up", 0)):
            if not getattr(self, name) >= least:
                raise InputError(f"{name} is {getattr(self, name)}: it must be at least {least}.")
        if not 0 < self.learning_rate < math.inf:
            raise InputError(
                f"learning_rate is {self.learning_rate}: it must be above 0 and finite."
            )

    def rate(self, update: int) -> float:
        """The learning rate of `update`, counted from 0."""
        rise = min(1.0, (update + 1) / (self.warm_up + 1))
        return self.learning_rate * rise * (1 + math.cos(math.pi * update / self.updates)) / 2
