"""Philox and the keyed permutation: frozen, the same on both ways, and fair."""

from __future__ import annotations

import json
import math
from itertools import permutations
from pathlib import Path

import pytest
import torch
from cases import PERMUTED
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from simgan_fast import _native
from simgan_fast.errors import InputError
from simgan_fast.ops import permutation, philox4x32

GOLDEN = json.loads((Path(__file__).parent / "golden" / "random.json").read_text())
needs_native = pytest.mark.skipif(not _native.AVAILABLE, reason="no native part")


@pytest.mark.parametrize("case", GOLDEN["philox4x32"], ids=lambda case: str(case["counter"]))
def test_philox_golden(impl: str, case: dict[str, list[int] | int]) -> None:
    words = philox4x32([case["counter"]] * 3, key=case["key"], impl=impl)
    assert words.tolist() == [case["words"]] * 3


@pytest.mark.parametrize(
    "case", GOLDEN["permutation"], ids=lambda case: f"{case['n']}-{case['step']}"
)
def test_permutation_golden(impl: str, case: dict[str, int]) -> None:
    arguments = dict(case)
    values = arguments.pop("values")
    assert permutation(**arguments, impl=impl).tolist() == values


@needs_native
@settings(deadline=None, max_examples=60)
@given(
    n=st.integers(1, 2**62),
    start=st.floats(0, 1),
    step=st.integers(0, 2**63 - 1),
    stream=st.integers(0, 2**32 - 1),
    seed=st.integers(0, 2**64 - 1),
)
def test_native_equals_reference(n: int, start: float, step: int, stream: int, seed: int) -> None:
    first = min(int(start * n), n - 1)
    count = min(150, n - first)
    native, reference = (
        permutation(n, first, count, step=step, stream=stream, seed=seed, impl=impl)
        for impl in ("native", "reference")
    )
    assert torch.equal(native, reference)
    assert ((native >= 0) & (native < n)).all()


@pytest.mark.parametrize("n", PERMUTED)
def test_is_a_permutation(impl: str, n: int) -> None:
    for step in range(5):
        whole = permutation(n, 0, n, step=step, seed=3, impl=impl)
        assert whole.sort().values.tolist() == list(range(n))
        assert torch.equal(permutation(n, n // 3, n - n // 3, step=step, seed=3), whole[n // 3 :])


def test_empty_slices(impl: str) -> None:
    assert permutation(10, 10, 0, impl=impl).tolist() == []
    assert philox4x32(torch.empty(0, 4), key=1, impl=impl).shape == (0, 4)


def draws(n: int, m: int, steps: int, stream: int = 0, seed: int = 1234) -> Tensor:
    """The first m of the permutations of many steps: [steps, m]."""
    slices = [permutation(n, 0, m, step=step, stream=stream, seed=seed) for step in range(steps)]
    return torch.stack(slices)


def z_of_chi2(counts: Tensor, expected: float, freedom: int, spread: float = 1.0) -> float:
    """How many standard deviations the chi-squared of `counts` lies above its mean."""
    chi2 = float(((counts - expected) ** 2).sum()) / (expected * spread)
    return (chi2 - freedom) / math.sqrt(2 * freedom)


@needs_native
@pytest.mark.parametrize(("n", "m"), [(512, 256), (320, 160), (100, 7), (7, 3), (2, 1)])
def test_every_index_is_drawn_as_often(n: int, m: int) -> None:
    steps = 20000
    counts = torch.bincount(draws(n, m, steps).flatten(), minlength=n).double()
    expected = steps * m / n
    # Within a step, draws are without replacement: a count's variance is expected * (1 - m / n) * n / (n - 1).
    z = z_of_chi2(counts, expected, n - 1, (1 - m / n) * n / (n - 1))
    assert abs(z) < 4.5


@needs_native
@pytest.mark.parametrize("n", [2, 3, 4, 5])
def test_every_order_comes_as_often(n: int) -> None:
    steps = 24000
    names = {order: i for i, order in enumerate(permutations(range(n)))}
    found = torch.tensor([names[tuple(row)] for row in draws(n, n, steps).tolist()])
    counts = torch.bincount(found, minlength=len(names)).double()
    assert abs(z_of_chi2(counts, steps / len(names), len(names) - 1)) < 4.5


@needs_native
@pytest.mark.parametrize(("n", "m"), [(512, 256), (320, 160), (7, 3)])
def test_pairs_are_drawn_together_as_often(n: int, m: int) -> None:
    steps = 8000
    drawn = torch.zeros(steps, n).scatter_(1, draws(n, m, steps), 1.0)
    together = drawn.T @ drawn  # [n, n]: in how many steps both came
    pairs = together[torch.triu(torch.ones(n, n), 1).bool()].double()
    share = m * (m - 1) / (n * (n - 1))
    deviation = math.sqrt(steps * share * (1 - share))
    assert abs(pairs.mean() - steps * share) < 1e-3 * steps * share + 1e-9  # exact by distinctness
    # The largest of the pairs' deviations, against that of as many normal numbers.
    assert (pairs - steps * share).abs().max() / deviation < math.sqrt(2 * math.log(len(pairs))) + 2
    # And their spread: a fair draw has a mean square of 1.
    assert ((pairs - steps * share) ** 2).mean().sqrt() / deviation == pytest.approx(
        1, abs=0.05 + 2 / math.sqrt(len(pairs))
    )


@needs_native
@pytest.mark.parametrize(("n", "m"), [(512, 256), (320, 160), (51200, 256)])
def test_steps_and_streams_know_nothing_of_each_other(n: int, m: int) -> None:
    """What one permutation draws says nothing about the next step, the other stream, or the next seed."""
    steps = 4000
    first = draws(n, m, steps + 1)
    others = {
        "next step": (first[:-1], first[1:]),
        "other stream": (first, draws(n, m, steps + 1, stream=1)),
        "next seed": (first, draws(n, m, steps + 1, seed=1235)),
    }
    for name, (a, b) in others.items():
        # Both draw m of n: the overlap is hypergeometric.
        marked = torch.zeros(len(a), n, dtype=torch.bool).scatter_(1, a, True)
        overlap = marked.gather(1, b).sum(1).double()
        mean = m * m / n
        variance = m * (m / n) * (1 - m / n) * (n - m) / (n - 1)
        assert abs(overlap.mean() - mean) < 4.5 * math.sqrt(variance / len(a)), name
        assert overlap.var() / variance == pytest.approx(1, abs=0.12), name
        # And place by place: P_step(i) and P_step+1(i) are uncorrelated.
        x, y = a.double() / n - 0.5, b.double() / n - 0.5
        correlation = (x * y).mean() * 12
        assert abs(correlation) < 4.5 / math.sqrt(x.numel()), name


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 0, 0), "n is 0; it must be from 1 to 2\\^62"),
        ((2**62 + 1, 0, 1), "it must be from 1"),
        ((5, 3, 3), "do not fit into n = 5"),
        ((5, -1, 3), "start -1"),
        ((5, 0, -1), "count -1"),
    ],
)
def test_bad_slices(arguments: tuple[int, int, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        permutation(*arguments)


@pytest.mark.parametrize("name", ["step", "stream", "seed"])
def test_bad_names(name: str) -> None:
    with pytest.raises(InputError, match=f"{name} is -1"):
        permutation(5, 0, 1, **{name: -1})
    with pytest.raises(InputError, match=name):
        permutation(5, 0, 1, **{name: 2**64})


def test_bad_counters() -> None:
    with pytest.raises(InputError, match=r"counters has shape \[2, 3\]"):
        philox4x32(torch.zeros(2, 3), key=0)
    with pytest.raises(InputError, match="key is -1"):
        philox4x32([[0, 0, 0, 0]], key=-1)
