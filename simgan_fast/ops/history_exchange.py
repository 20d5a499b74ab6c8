"""The history of refined images that steadies the discriminator: SimGAN, section 2.3."""

from __future__ import annotations

import torch
from torch import Tensor

from simgan_fast import _native
from simgan_fast._native import C
from simgan_fast.errors import InputError
from simgan_fast.ops._choose import past_dispatcher, place, use_native
from simgan_fast.ops.random import permutation

DRAW_STREAM, REPLACE_STREAM = 0, 1  # streams of the permutation


def history_exchange(
    buffer: Tensor, fresh: Tensor, counter: Tensor, *, seed: int = 0, impl: str = "auto"
) -> Tensor:
    """Draw m distinct rows of the buffer, then overwrite m distinct random slots with fresh rows.

    First drawn, then replaced, by independent permutations of the slots: what is drawn never comes from `fresh`.
    Nothing is differentiated. Keep it out of torch.compile, which may clone a tensor that an op changes.

    Args:
        buffer: [B, ...], any type, contiguous in the plain sense (a channels_last buffer is refused); changed.
        fresh: [m, ...], m <= B, same type, trailing shape and device; any strides. It shares no memory with buffer.
        counter: int64 [1]: the step, which is all the state there is; one more on return. On a GPU it is read and
            counted there, so that a captured CUDA graph goes on by itself; a negative one goes unnoticed.
        seed: in [0, 2^63).
        impl: "auto", "native" or "reference"; all draw and replace the same rows.

    Returns:
        drawn: [m, ...], contiguous.

    Raises:
        InputError: arguments that do not fit together.

    >>> buffer, counter = torch.zeros(512, 1, 35, 55), torch.zeros(1, dtype=torch.int64)
    >>> drawn = history_exchange(buffer, torch.ones(256, 1, 35, 55), counter)
    >>> int(drawn.sum()), int(buffer[:, 0, 0, 0].sum()), counter.item()
    (0, 256, 1)
    """
    _check(buffer, fresh, counter, seed)
    fresh = fresh.detach()
    if not use_native("history_exchange", impl, None, buffer.device):
        return _history_exchange_reference(buffer, fresh, counter, seed)
    at_once = past_dispatcher(buffer, (fresh,))
    exchange = (_cpu if buffer.is_cpu else _cuda) if at_once else _op
    drawn: Tensor = exchange(buffer, fresh, counter, seed)
    return drawn


def _fits(buffer: Tensor, fresh: Tensor) -> bool:
    return (
        buffer.dtype == fresh.dtype
        and buffer.device == fresh.device
        and buffer.ndim >= 1
        and buffer.shape[1:] == fresh.shape[1:]
        and buffer.ndim == fresh.ndim
    )


def _check(buffer: Tensor, fresh: Tensor, counter: Tensor, seed: int) -> None:
    if not _fits(buffer, fresh):
        message = (
            f"history_exchange: fresh is {_kind(fresh)} and buffer {_kind(buffer)}; "
            "they may differ in the first size only."
        )
        raise InputError(message)
    if fresh.shape[0] > buffer.shape[0]:
        message = (
            f"history_exchange: fresh has {fresh.shape[0]} rows, more than the {buffer.shape[0]} "
            "slots of buffer; make the buffer larger or the batch smaller."
        )
        raise InputError(message)
    if not buffer.is_contiguous() or buffer.requires_grad:
        message = (
            "history_exchange: buffer must be contiguous (not channels_last) and need no gradient; "
            "make it with torch.empty([B, ...])."
        )
        raise InputError(message)
    if not torch.compiler.is_compiling() and _shares_memory(buffer, fresh):
        message = "history_exchange: fresh shares memory with buffer; pass fresh.clone()."
        raise InputError(message)
    if counter.dtype != torch.int64 or counter.shape != (1,) or counter.device != buffer.device:
        message = (
            f"history_exchange: counter is {_kind(counter)}; "
            f"it must be torch.int64 [1] on {buffer.device}."
        )
        raise InputError(message)
    if not 0 <= seed < 2**63:
        message = f"history_exchange: seed is {seed}; it must be from 0 to 2^63 - 1."
        raise InputError(message)


def _shares_memory(x: Tensor, y: Tensor) -> bool:
    return x.untyped_storage().data_ptr() == y.untyped_storage().data_ptr() and x.numel() > 0


def _kind(x: Tensor) -> str:
    return f"{x.dtype} {list(x.shape)} on {x.device}"


# torch indexes no unsigned types but uint8: their bits travel as signed ones.
_SIGNED = {torch.uint16: torch.int16, torch.uint32: torch.int32, torch.uint64: torch.int64}


def _history_exchange_reference(
    buffer: Tensor, fresh: Tensor, counter: Tensor, seed: int
) -> Tensor:
    slots, rows, step = buffer.shape[0], fresh.shape[0], int(counter.item())
    if step < 0:
        message = "history_exchange: counter is negative; it must count from 0."
        raise InputError(message)
    if slots == 0:
        counter += 1
        return torch.empty_like(fresh, memory_format=torch.contiguous_format)
    draws, replaced = (
        permutation(slots, 0, rows, step=step, stream=stream, seed=seed).to(buffer.device)
        for stream in (DRAW_STREAM, REPLACE_STREAM)
    )
    bits = _SIGNED.get(buffer.dtype, buffer.dtype)
    drawn = buffer.view(bits).index_select(0, draws).view(buffer.dtype)
    buffer.view(bits).index_copy_(0, replaced, fresh.contiguous().view(bits))
    counter += 1
    return drawn


torch.library.define(
    "simgan_fast::history_exchange",
    "(Tensor(a!) buffer, Tensor fresh, Tensor(b!) counter, int seed) -> Tensor",
)


_op = torch.ops.simgan_fast.history_exchange.default


def _empty_drawn(buffer: Tensor, fresh: Tensor, counter: Tensor, seed: int) -> Tensor:
    return buffer.new_empty(fresh.shape)


def _cpu(buffer: Tensor, fresh: Tensor, counter: Tensor, seed: int) -> Tensor:
    fresh = fresh.contiguous()
    drawn = torch.empty_like(fresh)  # laid out as _empty_drawn has it
    slots, rows = buffer.shape[0], fresh.shape[0]
    try:
        C.history_exchange(
            buffer.data_ptr(),
            fresh.data_ptr(),
            drawn.data_ptr(),
            counter.data_ptr(),
            slots,
            rows,
            buffer.nbytes // slots if slots > 0 else 0,
            seed,
            torch.get_num_threads(),
        )
    except ValueError as error:  # of a negative counter
        raise InputError(str(error)) from None
    # Written behind torch's back: tell autograd that saved copies are stale.
    torch.autograd.graph.increment_version((buffer, counter))
    return drawn


def _cuda(buffer: Tensor, fresh: Tensor, counter: Tensor, seed: int) -> Tensor:
    fresh = fresh.contiguous()
    drawn = torch.empty_like(fresh)
    slots, rows = buffer.shape[0], fresh.shape[0]
    replaced = torch.empty(rows, dtype=torch.int64, device=buffer.device)
    _native.CUDA.history_exchange(
        *place(buffer),
        buffer.data_ptr(),
        fresh.data_ptr(),
        drawn.data_ptr(),
        counter.data_ptr(),
        replaced.data_ptr(),
        slots,
        rows,
        buffer.nbytes // slots if slots > 0 else 0,
        seed,
    )
    torch.autograd.graph.increment_version((buffer, counter))
    return drawn


torch.library.register_fake("simgan_fast::history_exchange", _empty_drawn)
torch.library.impl("simgan_fast::history_exchange", "CPU", _cpu)
torch.library.impl("simgan_fast::history_exchange", "CUDA", _cuda)
