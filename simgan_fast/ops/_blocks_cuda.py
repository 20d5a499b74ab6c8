"""`residual_blocks` on CUDA: bfloat16 maps, a launch for each convolution (csrc/cuda/residual_blocks.cu)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from simgan_fast import _native
from simgan_fast.ops import _winograd
from simgan_fast.ops._choose import past_dispatcher, place

CHANNELS = 16  # the kernels take multiples


def takes(x: Tensor) -> bool:
    """Whether x is for these kernels to convolve or to refuse; tests pretend so."""
    return x.is_cuda


def at_once(x: Tensor, weights: Sequence[Tensor]) -> bool:
    """Whether the CPU's kernels may be called without torch's dispatcher, which else finds those of CUDA."""
    return not takes(x) and past_dispatcher(x, weights)


def dtype(x: Tensor) -> torch.dtype:
    """The type that x is convolved in: autocast's, or its own."""
    if x.dtype is torch.float32 and torch.is_autocast_enabled("cuda"):
        return torch.get_autocast_dtype("cuda")
    return x.dtype


def obstacle(
    x: Tensor, weights: Sequence[Tensor], channels: int, padding_mode: str, impl: str
) -> str | None:
    """Why the kernels cannot run on images x [n, ., h, w] with maps of `channels`, or None.

    weights: weights and biases in turn.
    """
    size, of_weights = weights[0].shape[-1], weights[0].dtype
    if _winograd.algorithm() == "direct" and impl == "auto":
        return "SIMGAN_FAST_CONV is direct"
    if dtype(x) is not torch.bfloat16:
        return f"there is no kernel for {dtype(x)} on cuda, only for torch.bfloat16"
    if of_weights not in (torch.float32, torch.bfloat16):
        return f"there is no kernel for weights of {of_weights} on cuda"
    if any(tensor.device != x.device or tensor.dtype is not of_weights for tensor in weights):
        return "weights and biases are not all of one type and on the device of x"
    if channels % CHANNELS:
        return (
            f"there is no kernel for {channels} channels on cuda, only for multiples of {CHANNELS}"
        )
    return _winograd.size_obstacle(x, padding_mode, size)


def maps_shape(x: Tensor, weights: Sequence[Tensor], keep: bool) -> tuple[int, ...]:
    """Of what each convolution but the first reads, channels last."""
    n, c, h, w = x.shape
    return (len(weights) // 2 - 1, n, h, w, c) if keep else (0,)


def forward(
    x: Tensor, weights: list[Tensor], reflect: bool, tile: int, keep: bool
) -> tuple[Tensor, Tensor]:
    """The op `residual_blocks`; `tile` is nothing to it."""
    x = _aligned(x)
    y, maps = _winograd.empty_channels_last(x), x.new_empty(maps_shape(x, weights, keep))
    hidden = maps if keep else torch.empty_like(x)
    biases = torch.stack(weights[1::2]).float()
    common, _held = arguments(_sizes(x), weights, reflect)
    addresses = (biases.data_ptr(), x.data_ptr(), hidden.data_ptr())
    _native.CUDA.residual_blocks(*place(x), *common, *addresses, keep, y.data_ptr())
    return y, maps


def backward(
    grad: Tensor,
    x: Tensor | None,
    y: Tensor,
    maps: Tensor,
    weights: list[Tensor],
    reflect: bool,
    tile: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """The op `residual_blocks_backward`, with x."""
    assert x is not None
    grad, x, y, maps = _aligned(grad), _aligned(x), _aligned(y), maps.contiguous()
    gradients = (_winograd.empty_channels_last(x), *_winograd.empty_block_gradients(weights))
    common, _held = arguments(_sizes(x), weights, reflect)
    n, c, h, w = x.shape
    more = weights[0].shape[-1] - 1
    parts = _native.CUDA.residual_blocks_parts(common[0])
    scratch = (
        torch.empty_like(x),
        x.new_empty((n, h + more, w + more, c) if reflect else (0,)),
        x.new_empty(parts, dtype=torch.float32),
    )
    addresses = (grad.data_ptr(), x.data_ptr(), y.data_ptr(), maps.data_ptr())
    to = [tensor.data_ptr() for tensor in (*gradients, *scratch)]
    _native.CUDA.residual_blocks_backward(*place(x), *common, *addresses, to)
    return gradients


def arguments(
    nhwc: Sequence[int], weights: Sequence[Tensor], reflect: bool
) -> tuple[tuple[Any, ...], tuple[Tensor, ...]]:
    """What forward and backward on maps [n, h, w, c] have in common, with the tensors whose addresses it has."""
    stacked = torch.stack(tuple(weights[::2])).contiguous()  # [2 k, c, c, size, size]
    arranged = torch.empty_like(stacked, dtype=torch.bfloat16)
    sizes = (*nhwc, len(weights) // 4, stacked.shape[-1], int(reflect))
    bf16 = stacked.dtype is torch.bfloat16
    return (sizes, stacked.data_ptr(), bf16, arranged.data_ptr()), (stacked, arranged)


def _sizes(x: Tensor) -> tuple[int, int, int, int]:
    n, c, h, w = x.shape
    return n, h, w, c


def _aligned(x: Tensor) -> Tensor:
    """In channels-last memory that begins at a multiple of 16 bytes."""
    x = x.contiguous(memory_format=torch.channels_last)
    return x if x.data_ptr() % 16 == 0 else x.clone()
