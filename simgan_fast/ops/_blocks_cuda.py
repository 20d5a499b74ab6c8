"""`residual_blocks` on CUDA: a launch for each convolution (csrc/cuda/residual_blocks.cu).

Maps of bfloat16, or of float32 as three planes of bfloat16, whose sum they are (csrc/cuda/maps.h).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from simgan_fast import _native
from simgan_fast.ops import _winograd
from simgan_fast.ops._choose import past_dispatcher, place

CHANNELS = 16  # the kernels take multiples
PLANES = {torch.bfloat16: 1, torch.float32: 3}


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
    size, of_maps, of_weights = weights[0].shape[-1], dtype(x), weights[0].dtype
    if _winograd.algorithm() == "direct" and impl == "auto":
        return "SIMGAN_FAST_CONV is direct"
    if of_maps not in PLANES:
        return f"there is no kernel for {of_maps} on cuda, only for {', '.join(map(str, PLANES))}"
    if of_weights not in (torch.float32, of_maps):
        return f"there is no kernel for {of_maps} with weights of {of_weights} on cuda"
    if any(tensor.device != x.device or tensor.dtype is not of_weights for tensor in weights):
        return "weights and biases are not all of one type and on the device of x"
    if channels % CHANNELS:
        return (
            f"there is no kernel for {channels} channels on cuda, only for multiples of {CHANNELS}"
        )
    return _winograd.size_obstacle(x, padding_mode, size)


def empty_maps(x: Tensor, weights: Sequence[Tensor], keep: bool) -> Tensor:
    """What each convolution but the first reads, channels last."""
    shape = (len(weights) // 2 - 1, *map_shape(x)) if keep else (0,)
    return x.new_empty(shape, dtype=torch.bfloat16)


def map_shape(x: Tensor, more: int = 0) -> tuple[int, int, int, int]:
    """Of a map like x, channels last, with `more` rows and columns."""
    n, c, h, w = x.shape
    return n, h + more, w + more, PLANES[x.dtype] * c


def forward(
    x: Tensor, weights: list[Tensor], reflect: bool, tile: int, keep: bool
) -> tuple[Tensor, Tensor]:
    """The op `residual_blocks`; `tile` is nothing to it."""
    x = _aligned(x)
    y, maps = _winograd.empty_channels_last(x), empty_maps(x, weights, keep)
    hidden = maps if keep else _empty_map(x)
    biases, x_map = torch.stack(weights[1::2]).float(), _map_of(x)
    common, _held = arguments(map_shape(x), weights, reflect)
    addresses = [tensor.data_ptr() for tensor in (biases, x, x_map, hidden)]
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
    of_x = _winograd.empty_channels_last(x)
    gradients = (of_x, *_winograd.empty_block_gradients(weights))
    common, _held = arguments(map_shape(x), weights, reflect)
    parts = _native.CUDA.residual_blocks_parts(common[0])
    scratch = (
        _map_of(of_x),
        _empty_map(x),
        _empty_map(x, weights[0].shape[-1] - 1) if reflect else maps.new_empty(0),
        x.new_empty(parts, dtype=torch.float32),
    )
    given = (grad, x, y, _map_of(x), maps)
    addresses = [tensor.data_ptr() for tensor in given]
    to = [tensor.data_ptr() for tensor in (*gradients, *scratch)]
    _native.CUDA.residual_blocks_backward(*place(x), *common, *addresses, to)
    return gradients


def arguments(
    of_map: Sequence[int], weights: Sequence[Tensor], reflect: bool
) -> tuple[tuple[Any, ...], tuple[Tensor, ...]]:
    """What forward and backward on maps of this shape have in common, with the tensors whose addresses it has."""
    stacked = torch.stack(tuple(weights[::2])).contiguous()  # [2 k, c, c, size, size]
    *nhw, values = of_map
    channels, size = stacked.shape[2], stacked.shape[-1]
    planes = values // channels
    arranged = stacked.new_empty((planes, *stacked.shape), dtype=torch.bfloat16)
    sizes = (*nhw, channels, len(weights) // 4, size, int(reflect), planes)
    bf16 = stacked.dtype is torch.bfloat16
    return (sizes, stacked.data_ptr(), bf16, arranged.data_ptr()), (stacked, arranged)


def _empty_map(x: Tensor, more: int = 0) -> Tensor:
    return x.new_empty(map_shape(x, more), dtype=torch.bfloat16)


def _map_of(x: Tensor) -> Tensor:
    """Memory for x as a map: of bfloat16 it is one."""
    return x if x.dtype is torch.bfloat16 else _empty_map(x)


def _aligned(x: Tensor) -> Tensor:
    """In channels-last memory that begins at a multiple of 16 bytes."""
    x = x.contiguous(memory_format=torch.channels_last)
    return x if x.data_ptr() % 16 == 0 else x.clone()
