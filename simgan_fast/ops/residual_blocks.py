"""Residual blocks in a row: the body of the refiner (SimGAN, section 3 and appendix)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from simgan_fast._native import C
from simgan_fast.errors import InputError
from simgan_fast.ops import _blocks_cuda, _winograd
from simgan_fast.ops._choose import use_native

Block = tuple[Tensor, Tensor, Tensor, Tensor]
_KERNEL_SIZES = (3, 7)
_PADDING = {"zeros": "constant", "reflect": "reflect"}  # torch.nn's names to functional.pad's


def residual_blocks(
    x: Tensor,
    weights: Sequence[Block],
    *,
    padding_mode: str = "zeros",
    impl: str = "auto",
    tile: int | None = None,
) -> Tensor:
    """k >= 1 blocks in a row, each relu(x + conv(relu(conv(x, w1) + b1), w2) + b2).

    One op for the whole row, on channels-last memory. On the CPU in float32: 3x3 filters are convolved by Winograd's
    F(5x5, 3x3) or F(4x4, 3x3), one image going through all blocks while it is in cache; 7x7 ones by Fourier transforms
    of tiles of 16x16 pixels, one convolution after the other, as images that want such filters are larger than a cache.
    On CUDA in bfloat16, summed in float32, or in float32, not TF32: each convolution in one launch with what follows.

    Args:
        x: [n, c, h, w], of any float type; the native kernel takes float32 on the CPU, c a multiple of 8; on CUDA
            bfloat16 or float32, c a multiple of 16.
        weights: for each block (w1, b1, w2, b2): w [c, c, k, k], k = 3 or 7, as in `nn.Conv2d`, b [c]. The native
            kernel takes one k for all.
        padding_mode: "zeros" or "reflect", as in `nn.Conv2d`; the output has the size of x.
        impl: "auto", "native" or "reference". The environment variable SIMGAN_FAST_CONV=direct makes "auto" the
            reference, that is torch's own direct convolutions.
        tile: 4, 5 or 6, of Winograd's F(tile x tile, 3x3); None is what SIMGAN_FAST_CONV=winograd5 says, or that
            of 4 and 5 which is the faster for images of this size: 5 for eyes of 35x55. It does nothing to 7x7 filters.

    Returns:
        [n, c, h, w], channels-last where it comes from the native kernel. NaN and infinity stay NaN or infinity, but
        the native kernel of the CPU spreads them over the tile that they are in, and on CUDA in float32 an infinity
        may come out as NaN, also before a ReLU that would have made 0 of it. Its second derivative raises.

    Raises:
        InputError: shapes or types that do not fit together, an unknown tile, impl="native" where it cannot run, or
            a SIMGAN_FAST_CONV that is none of direct, winograd, winograd4, 5 and 6.

    >>> c = 64
    >>> block = (torch.zeros(c, c, 3, 3), torch.zeros(c), torch.zeros(c, c, 3, 3), torch.zeros(c))
    >>> residual_blocks(torch.ones(1, c, 35, 55), [block] * 4).mean()
    tensor(1.)
    """
    flat = [tensor for block in weights for tensor in block]
    reflect = padding_mode == "reflect"
    usual = _winograd.usual(impl, padding_mode, tile) and len(flat) == 4 * len(weights)
    usual = usual and not _blocks_cuda.takes(x) and C.residual_blocks_fit(x, flat, False, reflect)
    if not usual and not _natively(x, weights, flat, padding_mode, impl, tile):
        largest = max(weight.shape[-1] for weight in flat[::2])
        _winograd.check_for_torch("residual_blocks", x, flat, padding_mode, largest // 2 + 1)
        return _residual_blocks_reference(x, weights, padding_mode)
    if _blocks_cuda.takes(x):
        x = x.to(_blocks_cuda.dtype(x))
    tile = tile or _winograd.tile_for(x)
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in (x, *flat)):
        y: Tensor = _ResidualBlocks.apply(x, reflect, tile, *flat)  # type: ignore[no-untyped-call]
        return y
    if _blocks_cuda.at_once(x, flat):
        return _run(x, flat, reflect, tile, None)
    y, _ = _op(x, flat, reflect, tile, False)
    return y


def _natively(
    x: Tensor,
    weights: Sequence[Block],
    flat: list[Tensor],
    padding_mode: str,
    impl: str,
    tile: int | None,
) -> bool:
    """Whether the native kernel takes them; says why not, and what nothing takes."""
    _check(x, weights, padding_mode, tile)
    obstacle = _obstacle(x, flat, padding_mode, impl)
    return use_native("residual_blocks", impl, obstacle, x.device)


def _obstacle(x: Tensor, flat: Sequence[Tensor], padding_mode: str, impl: str) -> str | None:
    """Why the native kernel cannot run, or None."""
    shape = flat[0].shape
    for weight in flat[2::2]:
        if weight.shape != shape:
            return "there is no kernel for filters of different sizes"
    if _blocks_cuda.takes(x):
        return _blocks_cuda.obstacle(x, flat, x.shape[1], padding_mode, impl)
    return _winograd.obstacle(x, flat, x.shape[1], padding_mode, impl, shape[-1])


def _check(x: Tensor, weights: Sequence[Block], padding_mode: str, tile: int | None) -> None:
    if x.ndim != 4:
        message = f"residual_blocks: x has shape {list(x.shape)}; it must be [n, c, h, w]."
        raise InputError(message)
    check_padding_mode("residual_blocks", padding_mode)
    _winograd.check("residual_blocks", tile)
    if len(weights) == 0:
        message = "residual_blocks: weights is empty; give (w1, b1, w2, b2) for each block."
        raise InputError(message)
    channels = x.shape[1]
    size = weights[0][0].shape[-1] if weights[0][0].ndim else 0
    wanted, wanted_bias = (channels, channels, size, size), (channels,)
    for w1, b1, w2, b2 in weights:
        usual = w1.shape == w2.shape == wanted and b1.shape == b2.shape == wanted_bias
        if size not in _KERNEL_SIZES or not usual:  # of another size perhaps, or wrong
            _check_convolution(channels, w1, b1)
            _check_convolution(channels, w2, b2)


def check_padding_mode(op: str, padding_mode: str) -> None:
    """InputError unless it is one of the two that there are."""
    if padding_mode not in _winograd.PADDING_MODES:
        message = f"{op}: padding_mode is {padding_mode!r}; it must be 'zeros' or 'reflect'."
        raise InputError(message)


def _check_convolution(channels: int, weight: Tensor, bias: Tensor) -> None:
    size = weight.shape[-1] if weight.ndim else 0
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


def same_convolution(
    x: Tensor, weight: Tensor, bias: Tensor, padding_mode: str, stride: int = 1
) -> Tensor:
    """torch's convolution with as much padding as keeps the size at stride 1."""
    margin = weight.shape[-1] // 2
    if padding_mode == "zeros":
        return F.conv2d(x, weight, bias, stride, margin)
    return F.conv2d(F.pad(x, (margin,) * 4, mode=_PADDING[padding_mode]), weight, bias, stride)


def _residual_blocks_reference(x: Tensor, weights: Sequence[Block], padding_mode: str) -> Tensor:
    for w1, b1, w2, b2 in weights:
        hidden = torch.relu(same_convolution(x, w1, b1, padding_mode))
        x = torch.relu(x + same_convolution(hidden, w2, b2, padding_mode))
    return x


_SCHEMA = "(Tensor x, Tensor[] weights, bool reflect, int tile, bool keep) -> (Tensor, Tensor)"
_BACKWARD_SCHEMA = (
    "(Tensor grad, Tensor? x, Tensor y, Tensor maps, Tensor[] weights, bool reflect, int tile)"
    " -> (Tensor, Tensor, Tensor)"
)
torch.library.define("simgan_fast::residual_blocks", _SCHEMA)
torch.library.define("simgan_fast::residual_blocks_backward", _BACKWARD_SCHEMA)
_op = torch.ops.simgan_fast.residual_blocks.default
_backward_op = torch.ops.simgan_fast.residual_blocks_backward.default


def _fake(
    x: Tensor, weights: list[Tensor], reflect: bool, tile: int, keep: bool
) -> tuple[Tensor, Tensor]:
    if _blocks_cuda.takes(x):
        return _winograd.empty_channels_last(x), _blocks_cuda.empty_maps(x, weights, keep)
    maps = x.new_empty(_winograd.maps_shape(x, weights, len(weights) // 2, tile, keep))
    return _winograd.empty_channels_last(x), maps


def _run(x: Tensor, weights: list[Tensor], reflect: bool, tile: int, maps: Tensor | None) -> Tensor:
    x = x.contiguous(memory_format=torch.channels_last)
    y = _winograd.empty_channels_last(x)
    C.residual_blocks(x, y, maps, weights, False, reflect, tile, torch.get_num_threads())
    return y


def _cpu(
    x: Tensor, weights: list[Tensor], reflect: bool, tile: int, keep: bool
) -> tuple[Tensor, Tensor]:
    maps = _winograd.kept_memory(x, weights, len(weights) // 2, tile, keep)
    return _run(x, weights, reflect, tile, maps if keep else None), maps


def _fake_backward(
    grad: Tensor,
    x: Tensor | None,
    y: Tensor,
    maps: Tensor,
    weights: list[Tensor],
    reflect: bool,
    tile: int,
) -> tuple[Tensor, Tensor, Tensor]:
    return (_winograd.empty_channels_last(y), *_winograd.empty_block_gradients(weights))


def _backward_cpu(
    grad: Tensor,
    x: Tensor | None,
    y: Tensor,
    maps: Tensor,
    weights: list[Tensor],
    reflect: bool,
    tile: int,
) -> tuple[Tensor, Tensor, Tensor]:
    grad, y = (tensor.contiguous(memory_format=torch.channels_last) for tensor in (grad, y))
    maps = maps.contiguous()
    gradients = _fake_backward(grad, x, y, maps, weights, reflect, tile)
    threads = torch.get_num_threads()
    C.residual_blocks_backward(
        grad, None, y, maps, weights, False, reflect, tile, threads, list(gradients)
    )
    return gradients


torch.library.register_fake("simgan_fast::residual_blocks", _fake)
torch.library.register_fake("simgan_fast::residual_blocks_backward", _fake_backward)
torch.library.impl("simgan_fast::residual_blocks", "CPU", _cpu)
torch.library.impl("simgan_fast::residual_blocks_backward", "CPU", _backward_cpu)
torch.library.impl("simgan_fast::residual_blocks", "CUDA", _blocks_cuda.forward)
torch.library.impl("simgan_fast::residual_blocks_backward", "CUDA", _blocks_cuda.backward)


class _ResidualBlocks(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, reflect: bool, tile: int, *weights: Tensor) -> Tensor:
        run = _cpu if _blocks_cuda.at_once(x, weights) else _op
        y, maps = run(x, list(weights), reflect, tile, True)
        # The CPU's maps begin with x.
        ctx.save_for_backward(x if _blocks_cuda.takes(x) else None, y, maps, *weights)
        ctx.reflect, ctx.tile = reflect, tile
        result: Tensor = y
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, y, maps, *weights = ctx.saved_tensors
        run = _backward_cpu if _blocks_cuda.at_once(grad, weights) else _backward_op
        grad_x, grad_weights, grad_biases = run(grad, x, y, maps, weights, ctx.reflect, ctx.tile)
        return grad_x, None, None, *_winograd.unpacked(grad_weights, grad_biases)
