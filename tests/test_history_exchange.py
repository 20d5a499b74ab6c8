"""history_exchange: the same rows on both ways, first drawn, then replaced."""

from __future__ import annotations

import pytest
import torch
from cases import EXCHANGES
from torch import Tensor

from simgan_fast import _native
from simgan_fast.errors import InputError
from simgan_fast.ops import history_exchange, permutation

needs_native = pytest.mark.skipif(not _native.AVAILABLE, reason="no native part")


def random_rows(count: int, trailing: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    return (torch.rand(count, *trailing) * 200).to(dtype)


def counter_at(step: int) -> Tensor:
    return torch.tensor([step])


@pytest.mark.parametrize(("slots", "rows", "trailing", "dtype"), EXCHANGES, ids=str)
def test_draws_and_replaces_what_the_permutations_say(
    impl: str, slots: int, rows: int, trailing: tuple[int, ...], dtype: torch.dtype
) -> None:
    before, fresh = (random_rows(n, trailing, dtype) for n in (slots, rows))
    buffer, counter, step, seed = before.clone(), counter_at(9), 9, 5
    drawn = history_exchange(buffer, fresh, counter, seed=seed, impl=impl)
    draws = permutation(slots, 0, rows, step=step, stream=0, seed=seed)
    slots_replaced = permutation(slots, 0, rows, step=step, stream=1, seed=seed)
    expected = before.clone()
    expected[slots_replaced] = fresh
    assert torch.equal(drawn, before[draws])
    assert torch.equal(buffer, expected)
    assert counter.item() == step + 1


def test_many_steps_in_a_row_draw_no_row_twice(impl: str) -> None:
    buffer, counter = torch.arange(64.0).view(64, 1), counter_at(0)
    for step in range(50):
        drawn = history_exchange(buffer, torch.full((32, 1), 1000.0 + step), counter, impl=impl)
        old = drawn[drawn < 1000]
        assert len(old.unique()) == len(old)
        assert not (drawn == 1000 + step).any()  # drawn before replaced
        assert (buffer == 1000 + step).sum() == 32
    assert counter.item() == 50


@needs_native
def test_native_and_reference_stay_the_same() -> None:
    states = []
    for impl in ("native", "reference"):
        torch.manual_seed(1)
        buffer, counter = torch.rand(100, 3, 4), counter_at(2**40)
        drawn = [
            history_exchange(buffer, torch.rand(37, 3, 4), counter, seed=2**62, impl=impl)
            for _ in range(5)
        ]
        states.append((torch.cat(drawn), buffer, counter))
    for native, reference in zip(*states, strict=True):
        assert torch.equal(native, reference)


@needs_native
def test_many_rows_are_shared_out_to_threads() -> None:
    """Enough bytes for three threads: 64 rows of 7,700."""
    states = []
    for threads, impl in ((1, "reference"), (1, "native"), (2, "native"), (3, "native")):
        torch.manual_seed(2)
        buffer, fresh, counter = torch.rand(200, 35, 55), torch.rand(64, 35, 55), counter_at(3)
        torch.set_num_threads(threads)
        try:
            drawn = history_exchange(buffer, fresh, counter, impl=impl)
        finally:
            torch.set_num_threads(1)
        states.append((drawn, buffer))
    for drawn, buffer in states[1:]:
        assert torch.equal(drawn, states[0][0]) and torch.equal(buffer, states[0][1])


@pytest.mark.parametrize("layout", ["channels_last", "strided"])
def test_fresh_of_any_strides(impl: str, layout: str) -> None:
    plain = torch.rand(3, 2, 4, 5)
    fresh = {
        "channels_last": plain.to(memory_format=torch.channels_last),
        "strided": torch.stack((plain, plain), -1)[..., 0],
    }[layout]
    buffers = [torch.zeros(8, 2, 4, 5) for _ in range(2)]
    for buffer, rows in zip(buffers, (plain, fresh), strict=True):
        drawn = history_exchange(buffer, rows, counter_at(0), impl=impl)
        assert drawn.is_contiguous()
    assert torch.equal(*buffers)


@needs_native
def test_writes_nothing_outside() -> None:
    sentinel, slots, rows, size = 7e7, 20, 9, 33
    outer = torch.full((slots + 4, size), sentinel)
    outer_drawn = torch.full((rows + 4, size), sentinel)
    outer[2:-2] = torch.rand(slots, size)
    fresh, counter = torch.rand(rows, size), torch.tensor([sentinel, 0, sentinel]).long()
    for _ in range(20):
        _native.C.history_exchange(
            outer[2:].data_ptr(),
            fresh.data_ptr(),
            outer_drawn[2:].data_ptr(),
            counter[1:].data_ptr(),
            slots,
            rows,
            size * 4,
            3,
            2,
        )
    for whole in (outer, outer_drawn):
        assert (whole[:2] == sentinel).all() and (whole[-2:] == sentinel).all()
        assert not (whole[2:-2] == sentinel).any()
    assert counter.tolist() == [int(sentinel), 20, int(sentinel)]


def test_a_negative_counter_is_refused_and_nothing_changes(impl: str) -> None:
    for slots in (0, 6):
        buffer, counter = torch.zeros(slots, 3), counter_at(-1)
        with pytest.raises(ValueError, match="counter is negative"):
            history_exchange(buffer, torch.ones(min(slots, 2), 3), counter, impl=impl)
        assert counter.item() == -1
        assert not buffer.any()


def test_a_slice_of_a_larger_tensor_is_a_buffer(impl: str) -> None:
    outer = torch.full((10, 3), -1.0)
    history_exchange(outer[2:8], torch.ones(6, 3), counter_at(0), impl=impl)
    assert outer[:, 0].tolist() == [-1, -1, 1, 1, 1, 1, 1, 1, -1, -1]


@needs_native
@pytest.mark.parametrize(("slots", "rows", "trailing", "dtype"), EXCHANGES[1:], ids=str)
def test_opcheck(slots: int, rows: int, trailing: tuple[int, ...], dtype: torch.dtype) -> None:
    exchange = torch.ops.simgan_fast.history_exchange.default
    buffer, fresh = (random_rows(n, trailing, dtype) for n in (slots, rows))
    torch.library.opcheck(exchange, (buffer, fresh, counter_at(3), 11))
    if trailing and trailing[-1] > 1:
        spread = random_rows(rows, (*trailing, 2), dtype)[..., 0]
        torch.library.opcheck(exchange, (buffer, spread, counter_at(3), 11))


def test_compiled_equals_eager() -> None:
    torch.compiler.reset()

    def step(buffer: Tensor, fresh: Tensor, counter: Tensor) -> Tensor:
        return history_exchange(buffer, fresh * 2, counter, seed=1) + 1

    compiled = torch.compile(step, fullgraph=True, dynamic=True, backend="aot_eager")
    for slots, rows in ((32, 8), (50, 21)):
        results = []
        for run in (step, compiled):
            buffer, counter = torch.arange(slots * 3.0).view(slots, 3), counter_at(4)
            results.append((run(buffer, torch.ones(rows, 3), counter), buffer, counter))
        for eager, traced in zip(*results, strict=True):
            assert torch.equal(eager, traced)


def test_no_gradient_and_no_stale_copy(impl: str) -> None:
    buffer, counter = torch.rand(4, 2), counter_at(0)
    fresh = torch.rand(2, 2, requires_grad=True) * 2
    weight = torch.ones(4, 2, requires_grad=True)
    product = (weight * buffer).sum()  # autograd keeps the buffer
    drawn = history_exchange(buffer, fresh, counter, impl=impl)
    assert not drawn.requires_grad and not buffer.requires_grad
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        product.backward()


def wide(*shape: int) -> Tensor:
    return torch.zeros(shape)


@pytest.mark.parametrize(
    ("buffer", "fresh", "options", "message"),
    [
        (wide(4, 3), wide(5, 3), {}, "more than the 4 slots"),
        (wide(4, 3), wide(2, 2), {}, "may differ in the first size only"),
        (wide(4, 3), wide(2, 3).double(), {}, "torch.float64"),
        (wide(4, 3, 2).transpose(1, 2), wide(2, 2, 3), {}, "must be contiguous"),
        (wide(4, 3).requires_grad_(), wide(2, 3), {}, "need no gradient"),
        (wide(4, 3), wide(2, 3), {"counter": torch.zeros(1)}, "torch.int64 \\[1\\]"),
        (wide(4, 3), wide(2, 3), {"counter": torch.tensor(0)}, "torch.int64 \\[1\\]"),
        (wide(4, 3), wide(2, 3), {"seed": -1}, "seed is -1"),
        (wide(4, 3), wide(2, 3), {"seed": 2**63}, "from 0 to 2\\^63 - 1"),
        (wide(4, 3), wide(2, 3), {"impl": "cuda"}, "impl is 'cuda'"),
    ],
)
def test_bad_input(buffer: Tensor, fresh: Tensor, options: dict[str, object], message: str) -> None:
    arguments = {"counter": counter_at(0), **options}
    with pytest.raises(InputError, match=message):
        history_exchange(buffer, fresh, **arguments)


def test_shared_memory_is_refused(impl: str) -> None:
    buffer = wide(4, 3)
    with pytest.raises(InputError, match=r"fresh shares memory with buffer"):
        history_exchange(buffer, buffer[:2], counter_at(0), impl=impl)
