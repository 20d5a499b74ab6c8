"""Scores of several seeds as one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


def summary(values: Sequence[float]) -> dict[str, Any]:
    """{mean, std, per_seed} of one score; std is that of the sample, 0 for one seed.

    >>> summary([1.0, 3.0])
    {'mean': 2.0, 'std': 1.4142135623730951, 'per_seed': [1.0, 3.0]}
    """
    spread = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
    return {"mean": float(np.mean(values)), "std": spread, "per_seed": list(values)}


def plus_minus(found: Mapping[str, Any], unit: float, digits: int) -> str:
    """A summary as text, in units of 1 / `unit`; of one seed there is no spread to tell.

    >>> plus_minus({"mean": 0.5, "std": 0.01, "per_seed": [0.49, 0.51]}, 100, 1)
    '50.0 +- 1.0'
    """
    if len(found["per_seed"]) == 1:
        return f"{found['mean'] * unit:.{digits}f}"
    return f"{found['mean'] * unit:.{digits}f} +- {found['std'] * unit:.{digits}f}"
