"""patch_cross_entropy, forward and backward through autograd, beside what torch offers for the same value.

pytest benchmarks/bench_patch_cross_entropy.py -s [--write-results]
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from cases import PATCH_BATCHES, logits_of
from interleaved import Candidate, Timing, time_interleaved
from torch import Tensor
from torch.nn import functional as F

from simgan_fast.ops import patch_cross_entropy

Loss = Callable[[Tensor], Tensor]


def losses(n: int) -> dict[str, Loss]:
    """The mean over images of the sum over patches, refined images (class 1), in every usual form.

    The peers get their targets ready made.
    """
    labels = torch.ones(n, 9, 14, dtype=torch.int64)
    ones = torch.ones(n, 9, 14)
    plain: dict[str, Loss] = {
        "F.cross_entropy": lambda x: F.cross_entropy(x, labels, reduction="sum") / n,
        "F.softplus": lambda x: F.softplus(x[:, 0] - x[:, 1]).sum() / n,
        "F.logsigmoid": lambda x: F.logsigmoid(x[:, 1] - x[:, 0]).sum() / -n,
        "F.bce_with_logits": lambda x: (
            F.binary_cross_entropy_with_logits(x[:, 1] - x[:, 0], ones, reduction="sum") / n
        ),
    }
    compiled = {
        f"{name}, compiled": torch.compile(plain[name], dynamic=False)
        for name in ("F.cross_entropy", "F.softplus")
    }
    return {"simgan_fast": lambda x: patch_cross_entropy(x, 1), **plain, **compiled}


def steps(n: int) -> dict[str, Candidate]:
    """Forward and backward to the logits, values and gradients checked."""
    logits = logits_of((n, 2, 9, 14)).requires_grad_()

    def step_of(loss: Loss) -> Candidate:
        def step() -> tuple[Tensor, Tensor | None]:
            logits.grad = None
            value = loss(logits)
            value.backward()
            return value, logits.grad

        return step

    steps = {name: step_of(loss) for name, loss in losses(n).items()}
    expected = steps["F.cross_entropy"]()
    for step in steps.values():
        torch.testing.assert_close(step(), expected, rtol=1e-5, atol=1e-7)
    return steps


@pytest.fixture(autouse=True)
def _compiler_warnings() -> None:
    torch.compiler.reset()


@pytest.mark.filterwarnings("ignore")  # Inductor's own, of its compiler and its cache
@pytest.mark.timeout(300)
@pytest.mark.parametrize("n", PATCH_BATCHES)
def bench_patch_cross_entropy(
    n: int, benchmark: Any, record: Callable[[str, Timing], None]
) -> None:
    candidates = steps(n)
    timing = time_interleaved(candidates)
    record(f"[{n}, 2, 9, 14]", timing)
    benchmark.extra_info.update(timing.summary("simgan_fast"))
    benchmark(candidates["simgan_fast"])
