"""history_exchange beside the ways to do it in torch and numpy: draw m rows of B, then replace m slots.

    pytest benchmarks/bench_history_exchange.py -s [--write-results]

The peers draw distinct rows, as history_exchange does. In brackets, for comparison, what does less: drawing with
repeats, and no draw at all: as many rows copied in order, the least that memory takes on one thread.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from cases import EXCHANGES_TIMED
from interleaved import Candidate, Timing, time_interleaved
from torch import Tensor

from simgan_fast.ops import history_exchange, permutation
from simgan_fast.training.history import History


def exchanges(slots: int, rows: int) -> dict[str, Candidate]:
    """Each on a buffer as its users have it, every page in memory: numpy's for us and for numpy, torch's for torch."""
    buffer = History(slots, (1, 35, 55), seed=0).images
    torch_buffer, fresh = torch.rand(slots, 1, 35, 55), torch.rand(rows, 1, 35, 55)
    buffer.copy_(torch_buffer)
    counter = torch.zeros(1, dtype=torch.int64)
    buffer_np, fresh_np = buffer.numpy().copy(), fresh.numpy()
    generator = np.random.default_rng(0)
    check(buffer, fresh, counter)

    def in_torch(draw: Callable[[], Tensor]) -> Candidate:
        def exchange() -> Tensor:
            drawn = torch_buffer.index_select(0, draw())
            torch_buffer.index_copy_(0, draw(), fresh)
            return drawn

        return exchange

    def in_numpy(draw: Callable[[], Any]) -> Candidate:
        def exchange() -> Any:
            drawn = buffer_np.take(draw(), 0)
            buffer_np[draw()] = fresh_np
            return drawn

        return exchange

    def in_order() -> Any:
        first = int(generator.integers(0, slots - rows + 1))
        drawn = buffer_np[first : first + rows].copy()
        first = int(generator.integers(0, slots - rows + 1))
        buffer_np[first : first + rows] = fresh_np
        return drawn

    return {
        "simgan_fast": lambda: history_exchange(buffer, fresh, counter),
        "torch.randperm": in_torch(lambda: torch.randperm(slots)[:rows]),
        "(torch.randint)": in_torch(lambda: torch.randint(slots, (rows,))),
        "numpy choice": in_numpy(
            lambda: generator.choice(slots, rows, replace=False, shuffle=False)
        ),
        "(numpy, rows in order)": in_order,
        "(numpy integers)": in_numpy(lambda: generator.integers(0, slots, rows)),
    }


def check(buffer: Tensor, fresh: Tensor, counter: Tensor) -> None:
    """What is drawn and what is replaced, against plain indexing."""
    before, step = buffer.clone(), int(counter)
    draws, replaced = (permutation(len(buffer), 0, len(fresh), step=step, stream=s) for s in (0, 1))
    assert torch.equal(history_exchange(buffer, fresh, counter), before[draws])
    before[replaced] = fresh
    assert torch.equal(buffer, before)


@pytest.mark.parametrize(("slots", "rows"), EXCHANGES_TIMED)
def bench_history_exchange(
    slots: int, rows: int, benchmark: Any, record: Callable[[str, Timing], None]
) -> None:
    candidates = exchanges(slots, rows)
    timing = time_interleaved(candidates, seconds=0.005)
    record(f"B = {slots}, m = {rows}, 35 x 55 float32", timing)
    benchmark.extra_info.update(timing.summary("simgan_fast"))
    benchmark(candidates["simgan_fast"])
