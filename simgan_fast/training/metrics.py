"""What an update tells: tensors, and functions that compute one, done (and waited for) only where it is logged."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from simgan_fast.models.discriminator import probability_refined

Metrics = dict[str, Tensor | Callable[[], Tensor]]


def spread(refined: Tensor, synthetic: Tensor) -> Metrics:
    """How far refining moves pixels, and how different the images of a batch still are from one another."""
    return {
        "mean_abs_change": lambda: (refined - synthetic).abs().mean(),
        "diversity": lambda: refined.std(0).mean() / synthetic.std(0).mean().clamp(min=1e-6),
    }


def decisions(logits_refined: Tensor, logits_real: Tensor) -> Metrics:
    """Shares of patches judged rightly, and how much the discriminator's probability varies over patches."""
    refined, real = logits_refined.detach().float(), logits_real.detach().float()
    both = (refined, real)
    return {
        "accuracy_refined": lambda: (probability_refined(refined) > 0.5).float().mean(),
        "accuracy_real": lambda: (probability_refined(real) <= 0.5).float().mean(),
        "decision_spread": lambda: torch.cat(
            [probability_refined(logits).flatten() for logits in both]
        ).std(),
    }


def scalars(metrics: Metrics) -> dict[str, float]:
    """Metrics as plain numbers."""
    return {name: float(value() if callable(value) else value) for name, value in metrics.items()}
