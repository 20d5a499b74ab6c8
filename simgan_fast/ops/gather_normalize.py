"""Rows of a resident image set as floats in [-1, 1], and the way back."""

from __future__ import annotations

import torch
from torch import Tensor

from simgan_fast.errors import InputError
from simgan_fast.ops._choose import use_native

# Half the largest value: x / half - 1 takes [0, 2 half] to [-1, 1].
_HALF = {torch.uint8: 127.5, torch.uint16: 32767.5}


def gather_normalize(images: Tensor, indices: Tensor, *, impl: str = "auto") -> Tensor:
    """Pick images by index and scale them to [-1, 1].

    Args:
        images: [N, c, h, w], uint8 or uint16, the whole set.
        indices: int64 [n], each in [0, N), on the device of images.
        impl: "auto" or "reference"; this version has no kernel.

    Returns:
        float32 [n, c, h, w]: value / 127.5 - 1 for uint8, value / 32767.5 - 1 for uint16.

    Raises:
        InputError: other types or shapes, an index out of range (on the CPU), or impl="native".

    >>> gather_normalize(torch.tensor([0, 255]).to(torch.uint8).view(2, 1, 1, 1), torch.tensor([1]))
    tensor([[[[1.]]]])
    """
    _check(images, indices)
    use_native("gather_normalize", impl, "this version has no kernels for it; use impl='auto'")
    return _gather_normalize_reference(images, indices)


def to_uint8(x: Tensor) -> Tensor:
    """Floats in [-1, 1] back to uint8: (x + 1) * 127.5, rounded to nearest, clamped.

    Undoes `gather_normalize` of a uint8 image exactly.

    Args:
        x: any shape, any float type. What is outside [-1, 1] is clamped; NaN is refused on the CPU.

    Raises:
        InputError: x is no float tensor, or holds NaN.
    """
    return _to_integers(x, torch.uint8)


def to_uint16(x: Tensor) -> Tensor:
    """Floats in [-1, 1] back to uint16: (x + 1) * 32767.5; otherwise as `to_uint8`."""
    return _to_integers(x, torch.uint16)


def _to_integers(x: Tensor, dtype: torch.dtype) -> Tensor:
    if not x.is_floating_point():
        message = f"x is {x.dtype}; it must be a float tensor in [-1, 1]."
        raise InputError(message)
    if x.is_cpu and not torch.compiler.is_compiling() and bool(torch.isnan(x).any()):
        message = "x holds NaN; the refiner that made it is broken."
        raise InputError(message)
    half = _HALF[dtype]
    return ((x.float() + 1) * half).round().clamp(0, 2 * half).to(dtype)


def _check(images: Tensor, indices: Tensor) -> None:
    if images.dtype not in _HALF or images.ndim != 4:
        message = (
            f"gather_normalize: images is {images.dtype} {list(images.shape)}; "
            "it must be uint8 or uint16 [N, c, h, w]."
        )
        raise InputError(message)
    if indices.dtype != torch.int64 or indices.ndim != 1 or indices.device != images.device:
        message = (
            f"gather_normalize: indices is {indices.dtype} {list(indices.shape)} on "
            f"{indices.device}; it must be int64 [n] on {images.device}."
        )
        raise InputError(message)
    if not indices.is_cpu or torch.compiler.is_compiling() or len(indices) == 0:
        return
    low, high = (int(bound) for bound in torch.aminmax(indices))
    if low < 0 or high >= len(images):
        message = (
            f"gather_normalize: indices go from {low} to {high}; "
            f"they must lie in [0, {len(images)})."
        )
        raise InputError(message)


def _gather_normalize_reference(images: Tensor, indices: Tensor) -> Tensor:
    half = _HALF[images.dtype]
    if images.dtype is torch.uint16:
        # torch gathers no uint16: gather the bits as int16, then undo the sign.
        rows = images.view(torch.int16).index_select(0, indices).to(torch.int32) & 0xFFFF
    else:
        rows = images.index_select(0, indices)
    # Divided in float32, not multiplied by the inverse: the numpy formula of the docs to the bit.
    return rows.to(torch.float32).div_(half).sub_(1)
