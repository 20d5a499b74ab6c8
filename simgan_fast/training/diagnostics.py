"""What goes wrong in SimGAN training, noticed while it happens."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Mapping

from torch import Tensor, nn

from simgan_fast.errors import TrainingDiverged

WINDOW = 10  # logged steps that must agree before a warning: one bad mini-batch is no diagnosis
IDENTITY = 0.004  # mean |R(x) - x| in [-1, 1]: half a grey level of 255
CONSTANT = 0.005  # standard deviation of D's probability over patches
SATURATED = (
    0.95  # share of patches judged rightly, mean of the window: a few mistakes do not help R
)
COLLAPSED = 0.1  # differences between refined images against those between synthetic ones


class Diagnostics:
    """Watches the logged metrics of a run; each warning is given once while its cause lasts."""

    def __init__(self) -> None:
        self._recent: deque[Mapping[str, float]] = deque(maxlen=WINDOW)
        self._said: set[str] = set()

    def check(self, metrics: Mapping[str, float]) -> list[str]:
        """Take the metrics of a logged step, return the warnings that are new; TrainingDiverged on NaN or infinity."""
        broken = next((name for name, value in metrics.items() if not math.isfinite(value)), None)
        if broken is not None:
            raise TrainingDiverged(f"{broken} is {metrics[broken]}")
        self._recent.append(metrics)
        if len(self._recent) < WINDOW:
            return []
        causes = self._causes()
        new = [text for name, text in causes.items() if name not in self._said]
        self._said = set(causes)
        return new

    def _causes(self) -> dict[str, str]:
        causes = {}
        if self._always("mean_abs_change", below=IDENTITY):
            causes["identity"] = (
                f"the refiner is the identity (mean change {self._last('mean_abs_change'):.4f}): "
                "lower --self-regularization or train longer"
            )
        if self._always("decision_spread", below=CONSTANT):
            causes["constant"] = (
                "the discriminator is constant (it gives every patch the same probability): "
                "check that the real images differ from the synthetic ones, or raise --discriminator-learning-rate"
            )
        elif min(self._mean("accuracy_real"), self._mean("accuracy_refined")) > SATURATED:
            causes["saturated"] = (
                "the discriminator is saturated (it tells all patches apart, the refiner learns little): "
                "lower --discriminator-learning-rate or --self-regularization, or raise --refiner-updates"
            )
        if self._always("diversity", below=COLLAPSED):
            causes["collapsed"] = (
                "the refiner has collapsed (its images have become alike): "
                "raise --self-regularization, or lower --learning-rate or --refiner-updates"
            )
        return causes

    def _last(self, name: str) -> float:
        return self._recent[-1][name]

    def _mean(self, name: str) -> float:
        return sum(metrics.get(name, 0.0) for metrics in self._recent) / len(self._recent)

    def _always(self, name: str, *, below: float) -> bool:
        return all(name in metrics and metrics[name] < below for metrics in self._recent)


def require_finite_weights(models: Iterable[nn.Module]) -> None:
    """TrainingDiverged if a weight is NaN or infinite, so that no broken checkpoint replaces a good one."""
    for model in models:
        for name, tensor in model.state_dict().items():
            if isinstance(tensor, Tensor) and not tensor.isfinite().all():
                raise TrainingDiverged(f"weight {name} of the {type(model).__name__} is not finite")
