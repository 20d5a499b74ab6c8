"""What other processes do in tests: in a module that a process which was spawned can import."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def total(model: nn.Module, x: Tensor) -> float:
    """The sum of what `model` makes of x, on one thread."""
    torch.set_num_threads(1)
    with torch.inference_mode():
        return float(model(x).sum())
