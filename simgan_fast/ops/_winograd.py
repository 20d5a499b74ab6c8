"""What residual_blocks and residual_network share: the choice of the convolution, memory, and the native call.

3x3 filters are convolved by Winograd's algorithm; 7x7 ones by Fourier transforms, which need no choice.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence

import torch
from torch import Tensor

from simgan_fast._native import AVAILABLE, C
from simgan_fast.errors import InputError

# Each with more rounding than the one before (docs/numerics.md); that of 6 is too much to be chosen unasked.
TILES = (4, 5, 6)
PADDING_MODES = ("zeros", "reflect")
CHANNELS = 8  # the kernels take multiples; they work in groups of 16
GROUP = 16

# Read once: a traced function cannot look at the environment.
_ALGORITHM = os.environ.get("SIMGAN_FAST_CONV") or "winograd"
_ALGORITHMS = ("direct", "winograd", *(f"winograd{tile}" for tile in TILES))
# Kinds of devices with autocast, asked here because torch 2.11 cannot trace the question.
_CASTING = [kind for kind in ("cpu", "cuda", "mps", "xpu") if torch.amp.is_autocast_available(kind)]


def release_memory() -> int:
    """Free the working memory that native ops keep between calls; gives the number of bytes.

    Kept are the memory that one training step needs, so that the next one finds it, and the transformed weights of
    the last refiner; nothing is lost by freeing them but the time to get them again. Memory in use stays.
    """
    return int(C.release_memory()) if AVAILABLE else 0


def check(op: str, tile: int | None) -> None:
    """InputError for an unknown tile, or an unknown SIMGAN_FAST_CONV."""
    if _ALGORITHM not in _ALGORITHMS:
        message = f"SIMGAN_FAST_CONV is {_ALGORITHM!r}; it must be one of {', '.join(_ALGORITHMS)}, or unset."
        raise InputError(message)
    if tile is not None and tile not in TILES:
        message = f"{op}: tile is {tile!r}; it must be 4, 5 or 6, or None."
        raise InputError(message)


def check_for_torch(
    op: str, images: Tensor, others: Sequence[Tensor], padding_mode: str, least: int
) -> None:
    """InputError where plain PyTorch would not take images [n, c, h, w] with these weights and biases.

    That is, unless all are of one float type (autocast sees to that) on one device, and the images have a value, and
    `least` pixels a side where they are to be reflected. Asked only where the native kernel is not taken.
    """
    device = images.device.type
    casts = device in _CASTING and torch.is_autocast_enabled(device)
    for tensor in others:
        if tensor.device != images.device or (tensor.dtype != images.dtype and not casts):
            message = (
                f"{op}: {images.dtype} on {images.device} and {tensor.dtype} on {tensor.device} came together; "
                "images, weights and biases must be of one type, on one device."
            )
            raise InputError(message)
    if not images.is_floating_point():
        message = f"{op}: images and weights are {images.dtype}; they must be of a float type."
        raise InputError(message)
    channels, height, width = images.shape[1:]
    least = least if padding_mode == "reflect" else 1
    if min(height, width) < least or channels == 0:
        message = (
            f"{op}: images are {height}x{width} of {channels} channels; they must have at least one, and with "
            f"padding_mode {padding_mode!r} at least {least} pixels a side."
        )
        raise InputError(message)


def algorithm() -> str:
    """How the residual blocks convolve unless told otherwise: one of _ALGORITHMS."""
    return _ALGORITHM


def tile_for(images: Tensor) -> int:
    """The tile of F(tile x tile, 3x3) for images [n, ., h, w]: what SIMGAN_FAST_CONV says, or the faster of 4 and 5."""
    if _ALGORITHM not in ("direct", "winograd"):
        return int(_ALGORITHM.removeprefix("winograd"))
    _, _, height, width = images.shape
    four, five = (-(-height // tile) * -(-width // tile) * (tile + 2) ** 2 for tile in (4, 5))
    # With more than 0.94 of the multiplications, 4 is as fast (docs/numerics.md) and rounds less.
    return 5 if 100 * five < 94 * four else 4


def usual(impl: str, padding_mode: str, tile: int | None = None) -> bool:
    """Whether these are such that the native kernel may take a call at once, if the tensors fit too.

    The look at the tensors (`C.residual_blocks_fit`) takes 2 us where the checks in Python, which know what to say,
    take 10 and more. Where either says no, the checks decide.
    """
    return (
        AVAILABLE
        and (impl == "native" or (impl == "auto" and _ALGORITHM != "direct"))
        and padding_mode in PADDING_MODES
        and (tile is None or tile in TILES)
        and _ALGORITHM in _ALGORITHMS
        and not torch.compiler.is_compiling()
    )


def obstacle(
    x: Tensor, weights: Sequence[Tensor], channels: int, padding_mode: str, impl: str, size: int = 3
) -> str | None:
    """Why the native kernels cannot run on images x [n, ., h, w], hidden maps of `channels`, size x size filters."""
    if _ALGORITHM == "direct" and impl == "auto":
        return "SIMGAN_FAST_CONV is direct"
    float32 = torch.float32
    for tensor in (x, *weights):
        if tensor.dtype is not float32 or not tensor.is_cpu:
            kind = tensor.dtype if tensor.is_cpu else tensor.device.type
            return f"there is no kernel for {kind}"
    if channels % CHANNELS:
        return f"there is no kernel for {channels} channels, only for multiples of {CHANNELS}"
    return size_obstacle(x, padding_mode, size)


def size_obstacle(x: Tensor, padding_mode: str, size: int) -> str | None:
    """Why images x [n, ., h, w] are too small for the kernels of size x size filters, or None."""
    n, _, height, width = x.shape
    if n * height * width == 0 or (padding_mode == "reflect" and min(height, width) <= size // 2):
        return f"there is no kernel for images of {height}x{width}, {n} of them"
    return None


def empty_channels_last(x: Tensor) -> Tensor:
    """Like x, in channels-last memory."""
    return torch.empty_like(x, memory_format=torch.channels_last)


def maps_shape(
    x: Tensor, weights: Sequence[Tensor], number: int, tile: int, keep: bool
) -> tuple[int, ...]:
    """Of `number` maps an image, in the kernel's padded layout (PaddedMap in csrc/residual_blocks.h)."""
    if not keep:
        return (0,)
    n, _, rows, columns = x.shape
    channels, size = weights[0].shape[0], weights[0].shape[-1]
    if size == 3:
        rows, columns = (-(-side // tile) * tile + 2 for side in (rows, columns))
    return (n, number, rows, columns, -(-channels // GROUP) * GROUP)


def kept_memory(x: Tensor, weights: Sequence[Tensor], number: int, tile: int, keep: bool) -> Tensor:
    """Uninitialised memory for maps that the next step will find again.

    Fresh pages would have to be cleared first.
    """
    return kept(maps_shape(x, weights, number, tile, keep)) if keep else x.new_empty(0)


def kept(shape: Sequence[int]) -> Tensor:
    """Uninitialised memory of `shape`, float32, that is kept for the next who asks when this one is freed."""
    count = math.prod(shape)
    return torch.frombuffer(C.Scratch(count), dtype=torch.float32)[:count].view(shape)


def empty_block_gradients(weights: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Of the blocks' weights [2 k, c, size, size, c], input channel last, and biases [2 k, c]."""
    convolutions, channels, size = len(weights) // 2, weights[0].shape[0], weights[0].shape[-1]
    return (
        weights[0].new_empty((convolutions, channels, size, size, channels)),
        weights[0].new_empty((convolutions, channels)),
    )


def empty_network_gradients(
    images: Tensor, weights: Sequence[Tensor], of_images: bool
) -> tuple[Tensor, ...]:
    """Of the images, or nothing, of the blocks' weights and biases, and of the ends', input channel last."""
    (first, first_bias, last, last_bias), blocks = weights[-4:], weights[:-4]
    channels, in_channels, size, _ = first.shape
    return (
        images.new_empty(images.shape if of_images else (0,)),
        *empty_block_gradients(blocks),
        first.new_empty((channels, size, size, in_channels)),
        first.new_empty(first_bias.shape),
        first.new_empty((last.shape[0], 1, 1, channels)),
        first.new_empty(last_bias.shape),
    )


def unpacked(grad_weights: Tensor, grad_biases: Tensor) -> list[Tensor]:
    """The gradients one by one, as views in the layout of channels-last weights, which take them without a copy."""
    gradients: list[Tensor] = []
    for weight, bias in zip(grad_weights, grad_biases, strict=True):
        gradients += [weight.permute(0, 3, 1, 2), bias]
    return gradients
