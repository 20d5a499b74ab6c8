"""The refiner's arithmetic in one op: convolution, residual blocks, convolution (SimGAN, section 3 and appendix)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from simgan_fast._native import C
from simgan_fast.errors import InputError
from simgan_fast.ops import _blocks_cuda, _network_cuda, _winograd
from simgan_fast.ops._choose import use_native
from simgan_fast.ops.residual_blocks import (
    Block,
    check_padding_mode,
    residual_blocks,
    same_convolution,
)

_MOST_CHANNELS = 8  # of images in and out: the kernels of the ends are made for few


def residual_network(
    images: Tensor,
    first: tuple[Tensor, Tensor],
    blocks: Sequence[Block],
    last: tuple[Tensor, Tensor],
    *,
    padding_mode: str = "zeros",
    impl: str = "auto",
    tile: int | None = None,
    tanh: bool = False,
) -> Tensor:
    """Conv and ReLU, k residual blocks, conv 1x1 and perhaps tanh: the refiner.

    With 3x3 filters the native kernel of the CPU takes an image from its pixels to its refined pixels while it is in
    cache. On CUDA the two ends are a launch each before and after those of `residual_blocks`; with 7x7 filters the ends
    run on torch there, and the blocks as `residual_blocks`.

    Args:
        images: [n, c_in, h, w], of any float type; the native kernel takes float32 on the CPU, c_in and c_out at most
            8; on CUDA bfloat16 or float32, c_in and c_out 1 or 3, k = 3.
        first: (weight [c, c_in, k, k], bias [c]), k = 3 or 7.
        blocks: as in `residual_blocks`, of c channels.
        last: (weight [c_out, c, 1, 1], bias [c_out]).
        padding_mode, impl, tile: as in `residual_blocks`.
        tanh: whether the last convolution's output goes through tanh, as the refiner's does.

    Returns:
        [n, c_out, h, w]; of autocast's type under autocast.

    Raises:
        InputError: as `residual_blocks`; shapes of the ends that do not fit.

    Where the gradient of the images themselves is wanted on the CPU, the ends run on torch and the blocks as
    `residual_blocks`.

    >>> c = 64
    >>> block = (torch.zeros(c, c, 3, 3), torch.zeros(c), torch.zeros(c, c, 3, 3), torch.zeros(c))
    >>> first, last = (torch.ones(c, 1, 3, 3), torch.zeros(c)), (torch.ones(1, c, 1, 1), torch.ones(1))
    >>> residual_network(torch.ones(1, 1, 35, 55), first, [block] * 4, last)[0, 0, 1, 1]
    tensor(577.)
    """
    flat = [tensor for pair in (*blocks, first, last) for tensor in pair]
    reflect, differentiable = padding_mode == "reflect", torch.is_grad_enabled()
    on_cuda = _blocks_cuda.takes(images)
    usual = _winograd.usual(impl, padding_mode, tile) and len(flat) == 4 * (len(blocks) + 1)
    usual = usual and not on_cuda and C.residual_blocks_fit(images, flat, True, reflect)
    if not usual:
        _check(images, first, last, padding_mode)
    if (images.requires_grad and differentiable and not on_cuda) or not (
        usual or _natively(images, flat, padding_mode, impl)
    ):
        least = first[0].shape[-1] // 2 + 1
        _winograd.check_for_torch("residual_network", images, (*first, *last), padding_mode, least)
        return _composed(images, first, blocks, last, padding_mode, impl, tile, tanh)
    _winograd.check("residual_network", tile)
    tile = tile or _winograd.tile_for(images)
    float32 = on_cuda and _blocks_cuda.dtype(images) is torch.float32  # asked where autocast is
    if differentiable and any(tensor.requires_grad for tensor in (images, *flat)):
        y: Tensor = _ResidualNetwork.apply(images, reflect, tile, tanh, float32, *flat)  # type: ignore[no-untyped-call]
        return y
    if _blocks_cuda.at_once(images, flat):
        return _run(images, flat, reflect, tile, None, tanh)
    y, _ = _op(images, flat, reflect, tile, False, tanh, float32)
    return y


def _natively(images: Tensor, flat: list[Tensor], padding_mode: str, impl: str) -> bool:
    """Whether the native kernel takes them; says why not."""
    if impl == "reference":
        return False
    obstacle = _obstacle(images, flat, padding_mode, impl)
    return use_native("residual_network", impl, obstacle, images.device)


def _check(
    images: Tensor, first: tuple[Tensor, Tensor], last: tuple[Tensor, Tensor], padding_mode: str
) -> None:
    check_padding_mode("residual_network", padding_mode)
    if images.ndim != 4:
        message = (
            f"residual_network: images has shape {list(images.shape)}; it must be [n, c_in, h, w]."
        )
        raise InputError(message)
    shape = first[0].shape
    channels, size = (shape[0], shape[-1]) if len(shape) == 4 else (0, 0)
    wanted = (channels, images.shape[1], size, size)
    if size not in (3, 7) or shape != wanted or first[1].shape != wanted[:1]:
        message = (
            f"residual_network: first is {list(shape)} with bias {list(first[1].shape)}; for images of "
            f"{images.shape[1]} channels it must be [c, {images.shape[1]}, k, k], k = 3 or 7, with bias [c]."
        )
        raise InputError(message)
    if last[1].ndim != 1 or len(last[1]) == 0 or last[0].shape != (len(last[1]), channels, 1, 1):
        message = (
            f"residual_network: last is {list(last[0].shape)} with bias {list(last[1].shape)}; after {channels} "
            f"channels it must be [c_out, {channels}, 1, 1] with bias [c_out]."
        )
        raise InputError(message)


def _obstacle(images: Tensor, flat: Sequence[Tensor], padding_mode: str, impl: str) -> str | None:
    """Why the whole cannot run natively, or None. What `residual_blocks` refuses, it says itself.

    `flat`: weights and biases of the blocks, then of the first and the last convolution.
    """
    channels, ins, size, _ = flat[-4].shape
    outs, inner, inner_bias = len(flat[-1]), (channels, channels, size, size), (channels,)
    for weight, bias in zip(flat[:-4:2], flat[1:-4:2], strict=True):
        if weight.shape != inner or bias.shape != inner_bias:
            return "the blocks have other channels, or filters of another size"
    if len(flat) == 4:
        return "there are no blocks"
    if _blocks_cuda.takes(images):
        return _network_cuda.obstacle(images, flat, padding_mode, impl)
    if not (0 < ins <= _MOST_CHANNELS and 0 < outs <= _MOST_CHANNELS):
        return f"there is no kernel for {ins} to {outs} channels, only for at most {_MOST_CHANNELS}"
    return _winograd.obstacle(images, flat, channels, padding_mode, impl, size)


def _composed(
    images: Tensor,
    first: tuple[Tensor, Tensor],
    blocks: Sequence[Block],
    last: tuple[Tensor, Tensor],
    padding_mode: str,
    impl: str,
    tile: int | None,
    tanh: bool,
) -> Tensor:
    """The ends by torch: the twin where impl is "reference", and the way with a gradient of the images."""
    hidden = F.relu(same_convolution(images, *first, padding_mode))
    hidden = residual_blocks(hidden, blocks, padding_mode=padding_mode, impl=impl, tile=tile)
    y = F.conv2d(hidden, *last)
    return torch.tanh(y) if tanh else y


# float32: what CUDA computes in and gives, else bfloat16.
_SCHEMA = (
    "(Tensor images, Tensor[] weights, bool reflect, int tile, bool keep, bool tanh=False, bool float32=False)"
    " -> (Tensor, Tensor)"
)
# y: where it went through tanh. of_images: their gradient comes first, which only CUDA gives; else that is empty.
_BACKWARD_SCHEMA = (
    "(Tensor grad, Tensor images, Tensor maps, Tensor[] weights, bool reflect, int tile, Tensor? y=None,"
    " bool of_images=False) -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)"
)
torch.library.define("simgan_fast::residual_network", _SCHEMA)
torch.library.define("simgan_fast::residual_network_backward", _BACKWARD_SCHEMA)
_op = torch.ops.simgan_fast.residual_network.default
_backward_op = torch.ops.simgan_fast.residual_network_backward.default


def _empty_output(images: Tensor, weights: list[Tensor]) -> Tensor:
    n, channels, height, width = images.shape
    if channels == len(weights[-1]):  # three times as fast
        return torch.empty_like(images, memory_format=torch.contiguous_format)
    return images.new_empty((n, len(weights[-1]), height, width))


def _number(weights: list[Tensor]) -> int:
    """Of maps an image that the backward pass wants: what every convolution but the first reads."""
    return len(weights) // 2 - 1


def _fake(
    images: Tensor,
    weights: list[Tensor],
    reflect: bool,
    tile: int,
    keep: bool,
    tanh: bool = False,
    float32: bool = False,
) -> tuple[Tensor, Tensor]:
    y, number = _empty_output(images, weights), _number(weights)
    if _blocks_cuda.takes(images):
        maps = _network_cuda.empty_maps(images, weights, number, float32)
        return y.to(_network_cuda.dtype(float32)), maps if keep else maps.new_empty(0)
    return y, images.new_empty(_winograd.maps_shape(images, weights, number, tile, keep))


def _run(
    images: Tensor,
    weights: list[Tensor],
    reflect: bool,
    tile: int,
    maps: Tensor | None,
    tanh: bool,
) -> Tensor:
    images = images.contiguous()
    y = _empty_output(images, weights)
    C.residual_blocks(images, y, maps, weights, True, reflect, tile, torch.get_num_threads())
    return y.tanh_() if tanh else y


def _cpu(
    images: Tensor,
    weights: list[Tensor],
    reflect: bool,
    tile: int,
    keep: bool,
    tanh: bool = False,
    float32: bool = False,
) -> tuple[Tensor, Tensor]:
    maps = _winograd.kept_memory(images, weights, _number(weights), tile, keep)
    return _run(images, weights, reflect, tile, maps if keep else None, tanh), maps


def _fake_backward(
    grad: Tensor,
    images: Tensor,
    maps: Tensor,
    weights: list[Tensor],
    reflect: bool,
    tile: int,
    y: Tensor | None = None,
    of_images: bool = False,
) -> tuple[Tensor, ...]:
    return _winograd.empty_network_gradients(images, weights, of_images)


def _backward_cpu(
    grad: Tensor,
    images: Tensor,
    maps: Tensor,
    weights: list[Tensor],
    reflect: bool,
    tile: int,
    y: Tensor | None = None,
    of_images: bool = False,
) -> tuple[Tensor, ...]:
    assert not of_images
    if y is not None:
        grad = torch.ops.aten.tanh_backward(grad, y)
    grad, images, maps = grad.contiguous(), images.contiguous(), maps.contiguous()
    gradients = _winograd.empty_network_gradients(images, weights, of_images)
    to, threads = [None, *gradients[1:]], torch.get_num_threads()
    C.residual_blocks_backward(grad, images, None, maps, weights, True, reflect, tile, threads, to)
    return gradients


torch.library.register_fake("simgan_fast::residual_network", _fake)
torch.library.register_fake("simgan_fast::residual_network_backward", _fake_backward)
torch.library.impl("simgan_fast::residual_network", "CPU", _cpu)
torch.library.impl("simgan_fast::residual_network_backward", "CPU", _backward_cpu)
torch.library.impl("simgan_fast::residual_network", "CUDA", _network_cuda.forward)
torch.library.impl("simgan_fast::residual_network_backward", "CUDA", _network_cuda.backward)


class _ResidualNetwork(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        images: Tensor,
        reflect: bool,
        tile: int,
        tanh: bool,
        float32: bool,
        *weights: Tensor,
    ) -> Tensor:
        run = _cpu if _blocks_cuda.at_once(images, weights) else _op
        y, maps = run(images, list(weights), reflect, tile, True, tanh, float32)
        ctx.save_for_backward(images, maps, y if tanh else None, *weights)
        ctx.reflect, ctx.tile = reflect, tile
        result: Tensor = y
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        images, maps, y, *weights = ctx.saved_tensors
        run = _backward_cpu if _blocks_cuda.at_once(grad, (images, *weights)) else _backward_op
        of_images, grad_weights, grad_biases, first, first_bias, last, last_bias = run(
            grad, images, maps, weights, ctx.reflect, ctx.tile, y, ctx.needs_input_grad[0]
        )
        ends = (first.permute(0, 3, 1, 2), first_bias, last.permute(0, 3, 1, 2), last_bias)
        inputs = (of_images if ctx.needs_input_grad[0] else None, None, None, None, None)
        return *inputs, *_winograd.unpacked(grad_weights, grad_biases), *ends
