"""Residual blocks in a row: the body of the refiner (SimGAN, section 3 and appendix)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from simgan_fast._native import C
from simgan_fast.errors import InputError
from simgan_fast.ops._choose import use_native

Block = tuple[Tensor, Tensor, Tensor, Tensor]
_KERNEL_SIZES = (3, 7)
_PADDING = {"zeros": "constant", "reflect": "reflect"}  # torch.nn's names to functional.pad's
# 5 is a tenth faster and 6 a little slower on the paper's eyes, both with four times the rounding
# error of 4, whose own is about that of a direct convolution (docs/numerics.md).
_TILES = (4, 5, 6)
_CHANNELS = 8  # the kernel takes multiples; it works in groups of 16


# Read once: a traced function cannot look at the environment.
_ALGORITHM = os.environ.get("SIMGAN_FAST_CONV") or f"winograd{_TILES[0]}"
_ALGORITHMS = ("direct", *(f"winograd{tile}" for tile in _TILES))


def residual_blocks(
    x: Tensor,
    weights: Sequence[Block],
    *,
    padding_mode: str = "zeros",
    impl: str = "auto",
    tile: int | None = None,
) -> Tensor:
    """k >= 1 blocks in a row, each relu(x + conv(relu(conv(x, w1) + b1), w2) + b2).

    One op for the whole row: the native kernel takes one image through all of it while it is in cache. It convolves by
    Winograd's F(4x4, 3x3) in float32, and works on channels-last memory.

    Args:
        x: [n, c, h, w], of any float type; the native kernel takes float32 on the CPU, c a multiple of 8.
        weights: for each block (w1, b1, w2, b2): w [c, c, 3, 3] or [c, c, 7, 7] as in `nn.Conv2d`, b [c]. The native
            kernel takes 3x3.
        padding_mode: "zeros" or "reflect", as in `nn.Conv2d`; the output has the size of x.
        impl: "auto", "native" or "reference". The environment variable SIMGAN_FAST_CONV=direct makes "auto" the
            reference, that is torch's own direct convolutions.
        tile: 4, 5 or 6, of Winograd's F(tile x tile, 3x3); None is 4, or what SIMGAN_FAST_CONV=winograd5 says.

    Returns:
        [n, c, h, w], channels-last where it comes from the native kernel. NaN and infinity stay NaN or infinity, but
        the native kernel spreads them over the tile that they are in. Its second derivative raises.

    Raises:
        InputError: shapes or types that do not fit together, an unknown tile, impl="native" where it cannot run, or
            a SIMGAN_FAST_CONV that is neither direct nor winograd4, 5 or 6.

    >>> c = 64
    >>> block = (torch.zeros(c, c, 3, 3), torch.zeros(c), torch.zeros(c, c, 3, 3), torch.zeros(c))
    >>> residual_blocks(torch.ones(1, c, 35, 55), [block] * 4).mean()
    tensor(1.)
    """
    _check(x, weights, padding_mode, tile)
    if not use_native("residual_blocks", impl, _obstacle(x, weights, padding_mode, impl)):
        return _residual_blocks_reference(x, weights, padding_mode)
    flat = [tensor for block in weights for tensor in block]
    reflect, tile = padding_mode == "reflect", tile or _default_tile()
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in (x, *flat)):
        y: Tensor = _ResidualBlocks.apply(x, reflect, tile, *flat)  # type: ignore[no-untyped-call]
        return y
    y, _ = _op(x, flat, reflect, tile, False)
    return y


def release_memory() -> int:
    """Free the working memory that native ops keep between calls; gives the number of bytes.

    A training step keeps what one step needs, so that the next one finds it; nothing is lost by freeing it but the
    time to get it again.
    """
    return int(C.release_scratch())


def _default_tile() -> int:
    return _TILES[0] if _ALGORITHM == "direct" else int(_ALGORITHM.removeprefix("winograd"))


def _obstacle(x: Tensor, weights: Sequence[Block], padding_mode: str, impl: str) -> str | None:
    """Why the native kernel cannot run, or None."""
    if _ALGORITHM == "direct" and impl == "auto":
        return "SIMGAN_FAST_CONV is direct"
    for tensor in (x, *(tensor for block in weights for tensor in block)):
        if not tensor.is_cpu:
            return f"there is no kernel for {tensor.device.type}"
        if tensor.dtype is not torch.float32:
            return f"there is no kernel for {tensor.dtype}"
    if any(block[0].shape[-1] != 3 or block[2].shape[-1] != 3 for block in weights):
        return "there is no kernel for 7x7 convolutions"
    n, channels, height, width = x.shape
    if channels % _CHANNELS:
        return f"there is no kernel for {channels} channels, only for multiples of {_CHANNELS}"
    if n * height * width == 0 or (padding_mode == "reflect" and min(height, width) < 2):
        return f"there is no kernel for images of {height}x{width}, {n} of them"
    return None


def _check(x: Tensor, weights: Sequence[Block], padding_mode: str, tile: int | None) -> None:
    if x.ndim != 4:
        message = f"residual_blocks: x has shape {list(x.shape)}; it must be [n, c, h, w]."
        raise InputError(message)
    if padding_mode not in _PADDING:
        message = (
            f"residual_blocks: padding_mode is {padding_mode!r}; it must be 'zeros' or 'reflect'."
        )
        raise InputError(message)
    if _ALGORITHM not in _ALGORITHMS:
        message = f"SIMGAN_FAST_CONV is {_ALGORITHM!r}; it must be one of {', '.join(_ALGORITHMS)}, or unset."
        raise InputError(message)
    if tile is not None and tile not in _TILES:
        message = f"residual_blocks: tile is {tile!r}; it must be 4, 5 or 6, or None."
        raise InputError(message)
    if len(weights) == 0:
        message = "residual_blocks: weights is empty; give (w1, b1, w2, b2) for each block."
        raise InputError(message)
    for block in weights:
        for weight, bias in (block[:2], block[2:]):
            _check_convolution(x.shape[1], weight, bias)


def _check_convolution(channels: int, weight: Tensor, bias: Tensor) -> None:
    size = weight.shape[-1]
    if (
        size not in _KERNEL_SIZES
        or weight.shape != (channels, channels, size, size)
        or bias.shape != (channels,)
    ):
        message = (
            f"residual_blocks: a weight is {list(weight.shape)} with bias {list(bias.shape)}; for "
            f"{channels} channels it must be [{channels}, {channels}, k, k], k = 3 or 7, "
            f"with bias [{channels}]."
        )
        raise InputError(message)


def _same_convolution(x: Tensor, weight: Tensor, bias: Tensor, padding_mode: str) -> Tensor:
    margin = weight.shape[-1] // 2
    if padding_mode == "zeros":
        return F.conv2d(x, weight, bias, padding=margin)
    return F.conv2d(F.pad(x, (margin,) * 4, mode=_PADDING[padding_mode]), weight, bias)


def _residual_blocks_reference(x: Tensor, weights: Sequence[Block], padding_mode: str) -> Tensor:
    for w1, b1, w2, b2 in weights:
        hidden = torch.relu(_same_convolution(x, w1, b1, padding_mode))
        x = torch.relu(x + _same_convolution(hidden, w2, b2, padding_mode))
    return x


_SCHEMA = "(Tensor x, Tensor[] weights, bool reflect, int tile, bool keep) -> (Tensor, Tensor)"
_BACKWARD_SCHEMA = (
    "(Tensor grad, Tensor y, Tensor maps, Tensor[] weights, bool reflect, int tile)"
    " -> (Tensor, Tensor, Tensor)"
)
torch.library.define("simgan_fast::residual_blocks", _SCHEMA)
torch.library.define("simgan_fast::residual_blocks_backward", _BACKWARD_SCHEMA)
_op = torch.ops.simgan_fast.residual_blocks.default
_backward_op = torch.ops.simgan_fast.residual_blocks_backward.default


def _maps_shape(x: Tensor, weights: list[Tensor], tile: int, keep: bool) -> tuple[int, ...]:
    """Of what every convolution reads, in the kernel's padded layout (PaddedMap in csrc/residual_blocks.h)."""
    if not keep:
        return (0,)
    n, channels, height, width = x.shape
    rows, columns = (-(-side // tile) * tile + 2 for side in (height, width))
    return (n, len(weights) // 2, rows, columns, -(-channels // 16) * 16)


def _channels_last(x: Tensor) -> Tensor:
    return torch.empty(x.shape, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)


def _fake(
    x: Tensor, weights: list[Tensor], reflect: bool, tile: int, keep: bool
) -> tuple[Tensor, Tensor]:
    return _channels_last(x), x.new_empty(_maps_shape(x, weights, tile, keep))


def _sizes(x: Tensor, weights: list[Tensor], reflect: bool, tile: int) -> list[int]:
    n, channels, height, width = x.shape
    threads = torch.get_num_threads()
    return [n, height, width, channels, len(weights) // 4, int(reflect), tile, threads]


def _addresses(weights: list[Tensor]) -> list[list[int]]:
    """Of each convolution: the weight, its strides, the bias; the kernel reads any layout of weights."""
    pairs = zip(weights[::2], weights[1::2], strict=True)
    return [[w.data_ptr(), *w.stride(), b.data_ptr()] for w, b in pairs]


def _with_plain_biases(weights: list[Tensor]) -> list[Tensor]:
    return [tensor if i % 2 == 0 else tensor.contiguous() for i, tensor in enumerate(weights)]


def _cpu(
    x: Tensor, weights: list[Tensor], reflect: bool, tile: int, keep: bool
) -> tuple[Tensor, Tensor]:
    x = x.contiguous(memory_format=torch.channels_last)
    weights = _with_plain_biases(weights)
    y, shape = _channels_last(x), _maps_shape(x, weights, tile, keep)
    maps = _kept_memory(shape) if keep else x.new_empty(shape)
    C.residual_blocks(
        _sizes(x, weights, reflect, tile),
        _addresses(weights),
        x.data_ptr(),
        y.data_ptr(),
        maps.data_ptr() if keep else 0,
    )
    return y, maps


def _kept_memory(shape: tuple[int, ...]) -> Tensor:
    """Uninitialised float32 memory that the next step will find again: fresh pages cost a tenth of a training step."""
    count = 1
    for size in shape:
        count *= size
    return torch.frombuffer(C.Scratch(count), dtype=torch.float32)[:count].view(shape)


def _fake_backward(
    grad: Tensor, y: Tensor, maps: Tensor, weights: list[Tensor], reflect: bool, tile: int
) -> tuple[Tensor, Tensor, Tensor]:
    convolutions, channels = len(weights) // 2, y.shape[1]
    return (
        _channels_last(y),
        y.new_empty((convolutions, channels, 3, 3, channels)),
        y.new_empty((convolutions, channels)),
    )


def _backward_cpu(
    grad: Tensor, y: Tensor, maps: Tensor, weights: list[Tensor], reflect: bool, tile: int
) -> tuple[Tensor, Tensor, Tensor]:
    grad, y = (tensor.contiguous(memory_format=torch.channels_last) for tensor in (grad, y))
    maps, weights = maps.contiguous(), _with_plain_biases(weights)
    grad_x, grad_weights, grad_biases = _fake_backward(grad, y, maps, weights, reflect, tile)
    C.residual_blocks_backward(
        _sizes(y, weights, reflect, tile),
        _addresses(weights),
        grad.data_ptr(),
        y.data_ptr(),
        maps.data_ptr(),
        grad_x.data_ptr(),
        grad_weights.data_ptr(),
        grad_biases.data_ptr(),
    )
    return grad_x, grad_weights, grad_biases


torch.library.register_fake("simgan_fast::residual_blocks", _fake)
torch.library.register_fake("simgan_fast::residual_blocks_backward", _fake_backward)
torch.library.impl("simgan_fast::residual_blocks", "CPU", _cpu)
torch.library.impl("simgan_fast::residual_blocks_backward", "CPU", _backward_cpu)


class _ResidualBlocks(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, reflect: bool, tile: int, *weights: Tensor) -> Tensor:
        y, maps = _op(x, list(weights), reflect, tile, True)
        ctx.save_for_backward(y, maps, *weights)
        ctx.reflect, ctx.tile = reflect, tile
        result: Tensor = y
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        y, maps, *weights = ctx.saved_tensors
        grad_x, grad_weights, grad_biases = _backward_op(
            grad, y, maps, weights, ctx.reflect, ctx.tile
        )
        gradients: list[Tensor | None] = [grad_x, None, None]
        for i in range(len(weights) // 2):
            # Views in the layout of channels-last weights, which take them without a copy.
            gradients += [grad_weights[i].permute(0, 3, 1, 2), grad_biases[i]]
        return tuple(gradients)
