"""`residual_network` on CUDA: its two ends, a launch each, around the blocks (csrc/cuda/residual_network.cu)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from simgan_fast import _native
from simgan_fast.ops import _blocks_cuda, _winograd
from simgan_fast.ops._choose import place

ENDS = (1, 3)  # channels of images, in and out, that the kernels take


def obstacle(images: Tensor, weights: Sequence[Tensor], padding_mode: str, impl: str) -> str | None:
    """Why the kernels cannot run on images [n, c_in, h, w], or None.

    weights: weight and bias of each of the blocks' convolutions in turn, then of the first and of the last one.
    """
    channels, ins, size, _ = weights[-4].shape
    outs = len(weights[-1])
    if size != 3:
        return f"there is no kernel for ends with {size}x{size} filters on cuda, only for 3x3"
    if ins not in ENDS or outs not in ENDS:
        return f"there is no kernel for {ins} to {outs} channels on cuda, only for 1 and 3"
    return _blocks_cuda.obstacle(images, weights, channels, padding_mode, impl)


def dtype(float32: bool) -> torch.dtype:
    """Of what is computed, and of the output. Images of float32 are read as they are."""
    return torch.float32 if float32 else torch.bfloat16


def empty_maps(images: Tensor, weights: Sequence[Tensor], number: int, float32: bool) -> Tensor:
    """`number` maps as the convolutions read them, channels last."""
    n, _, h, w = images.shape
    values = _blocks_cuda.PLANES[dtype(float32)] * weights[0].shape[0]
    return images.new_empty((number, n, h, w, values), dtype=torch.bfloat16)


def forward(
    images: Tensor,
    weights: list[Tensor],
    reflect: bool,
    tile: int,
    keep: bool,
    tanh: bool = False,
    float32: bool = False,
) -> tuple[Tensor, Tensor]:
    """The op `residual_network`; `tile` is nothing to it."""
    images, blocks, ends = images.contiguous(), weights[:-4], _ends(weights)
    n, _, h, w = images.shape
    y = images.new_empty((n, len(weights[-1]), h, w), dtype=dtype(float32))
    # Every convolution but the first reads one; two are enough where they are not kept.
    maps = empty_maps(images, weights, len(weights) // 2 - 1 if keep else 2, float32)
    arguments, _held = _blocks_cuda.arguments(maps.shape[1:], blocks, reflect)
    biases = torch.stack(blocks[1::2]).float()
    addresses = (biases.data_ptr(), *_of_ends(images, ends, tanh), images.data_ptr())
    _native.CUDA.residual_network(
        *place(images), *arguments, *addresses, maps.data_ptr(), keep, y.data_ptr()
    )
    return y, maps if keep else maps.new_empty(0)


def backward(
    grad: Tensor,
    images: Tensor,
    maps: Tensor,
    weights: list[Tensor],
    reflect: bool,
    tile: int,
    y: Tensor | None = None,
    of_images: bool = False,
) -> tuple[Tensor, ...]:
    """The op `residual_network_backward`."""
    grad, images, maps = grad.contiguous(), images.contiguous(), maps.contiguous()
    y = None if y is None else y.contiguous()
    ends = _ends(weights)
    gradients = _winograd.empty_network_gradients(images, weights, of_images)
    arguments, _held = _blocks_cuda.arguments(maps.shape[1:], weights[:-4], reflect)
    sizes, addresses = _of_ends(images, ends, y is not None)
    n, h, w, values = maps.shape[1:]
    parts = _native.CUDA.residual_network_parts(arguments[0], sizes)
    scratch = (
        torch.empty_like(maps[0]),
        torch.empty_like(maps[0]),
        maps.new_empty((n, h + 2, w + 2, values) if reflect else (0,)),
        maps.new_empty(parts, dtype=torch.float32),
    )
    given = (grad, images, y, maps)
    to = [tensor.data_ptr() for tensor in (*gradients, *scratch)]
    _native.CUDA.residual_network_backward(
        *place(images),
        *arguments,
        sizes,
        addresses,
        *(0 if tensor is None else tensor.data_ptr() for tensor in given),
        to,
    )
    return gradients


def _ends(weights: Sequence[Tensor]) -> list[Tensor]:
    """Weight and bias of the first and the last convolution as the kernels read them."""
    return [tensor.float().contiguous() for tensor in weights[-4:]]


def _of_ends(
    images: Tensor, ends: Sequence[Tensor], tanh: bool
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Sizes and addresses."""
    sizes = (ends[0].shape[1], ends[2].shape[0], int(images.dtype is torch.bfloat16), int(tanh))
    return sizes, tuple(tensor.data_ptr() for tensor in ends)
