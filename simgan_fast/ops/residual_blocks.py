"""Residual blocks in a row: the body of the refiner (SimGAN, section 3 and appendix)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from simgan_fast.errors import InputError
from simgan_fast.ops._choose import use_native

Block = tuple[Tensor, Tensor, Tensor, Tensor]
_KERNEL_SIZES = (3, 7)
_PADDING = {"zeros": "constant", "reflect": "reflect"}  # torch.nn's names to functional.pad's


def residual_blocks(
    x: Tensor, weights: Sequence[Block], *, padding_mode: str = "zeros", impl: str = "auto"
) -> Tensor:
    """k >= 1 blocks in a row, each relu(x + conv(relu(conv(x, w1) + b1), w2) + b2).

    One op for the whole row, so that a kernel may take one image through all of it while it is in cache. This version
    has no such kernel: "auto" is the reference.

    Args:
        x: [n, c, h, w], of any float type.
        weights: for each block (w1, b1, w2, b2): w [c, c, 3, 3] or [c, c, 7, 7] as in `nn.Conv2d`, b [c].
        padding_mode: "zeros" or "reflect", as in `nn.Conv2d`; the output has the size of x.
        impl: "auto" or "reference".

    Returns:
        [n, c, h, w].

    Raises:
        InputError: shapes that do not fit together, or impl="native".

    >>> c = 64
    >>> block = (torch.zeros(c, c, 3, 3), torch.zeros(c), torch.zeros(c, c, 3, 3), torch.zeros(c))
    >>> residual_blocks(torch.ones(1, c, 35, 55), [block] * 4).mean()
    tensor(1.)
    """
    _check(x, weights, padding_mode)
    use_native("residual_blocks", impl, "this version has no kernels for it; use impl='auto'")
    return _residual_blocks_reference(x, weights, padding_mode)


def _check(x: Tensor, weights: Sequence[Block], padding_mode: str) -> None:
    if x.ndim != 4:
        message = f"residual_blocks: x has shape {list(x.shape)}; it must be [n, c, h, w]."
        raise InputError(message)
    if padding_mode not in _PADDING:
        message = (
            f"residual_blocks: padding_mode is {padding_mode!r}; it must be 'zeros' or 'reflect'."
        )
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
