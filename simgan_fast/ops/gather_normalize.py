"""Images of a set as floats in [-1, 1], and the way back."""

from __future__ import annotations

import torch
from torch import Tensor

from simgan_fast import _native
from simgan_fast._native import C
from simgan_fast.errors import InputError
from simgan_fast.ops._choose import past_dispatcher, place, use_native

# Half the largest value: x / half - 1 takes [0, 2 half] to [-1, 1].
_HALF = {torch.uint8: 127.5, torch.uint16: 32767.5}


def gather_normalize(
    images: Tensor,
    indices: Tensor,
    flips: Tensor | None = None,
    *,
    dtype: torch.dtype = torch.float32,
    impl: str = "auto",
) -> Tensor:
    """Pick images by index, mirror some of them, and scale them to [-1, 1].

    Args:
        images: [N, c, h, w], uint8 or uint16, the whole set.
        indices: int64 [n], each in [0, N), on the device of images.
        flips: bool [n], which of the n are mirrored left to right; none by default.
        dtype: of the result, float32 or bfloat16 (float32, rounded).
        impl: "auto", "native" (contiguous images) or "reference"; all give the same bits.

    Returns:
        [n, c, h, w]: value / 127.5 - 1 for uint8, value / 32767.5 - 1 for uint16.

    Raises:
        InputError: other types or shapes, an index out of range (on the CPU; the kernel on a GPU, which the host does
            not wait for, gives an image of NaN), or an impl that cannot run.

    >>> gather_normalize(torch.tensor([0, 255]).to(torch.uint8).view(2, 1, 1, 1), torch.tensor([1]))
    tensor([[[[1.]]]])
    """
    _check(images, indices, flips)
    if dtype not in (torch.float32, torch.bfloat16):
        message = f"gather_normalize: dtype is {dtype}; it must be torch.float32 or torch.bfloat16."
        raise InputError(message)
    if not use_native("gather_normalize", impl, _obstacle(images), images.device):
        _check_range(images, indices)
        return _gather_normalize_reference(images, indices, flips).to(dtype)
    run = (_cpu if images.is_cpu else _cuda) if past_dispatcher(images) else _op
    result: Tensor = run(images, indices, flips, dtype)
    return result


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


def _obstacle(images: Tensor) -> str | None:
    if images.shape[1] * images.shape[2] * images.shape[3] >= 2**30:
        return "an image has 2^30 values or more"
    return None if images.is_contiguous() else "images is not contiguous"


def _check(images: Tensor, indices: Tensor, flips: Tensor | None) -> None:
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
    if flips is not None and (
        flips.dtype != torch.bool or flips.shape != indices.shape or flips.device != images.device
    ):
        message = (
            f"gather_normalize: flips is {flips.dtype} {list(flips.shape)} on {flips.device}; it must be "
            f"bool {list(indices.shape)} on {images.device}."
        )
        raise InputError(message)


def _check_range(images: Tensor, indices: Tensor) -> None:
    if not indices.is_cpu or torch.compiler.is_compiling() or len(indices) == 0:
        return
    low, high = (int(bound) for bound in torch.aminmax(indices))
    if low < 0 or high >= len(images):
        message = (
            f"gather_normalize: indices go from {low} to {high}; "
            f"they must lie in [0, {len(images)})."
        )
        raise InputError(message)


def _gather_normalize_reference(images: Tensor, indices: Tensor, flips: Tensor | None) -> Tensor:
    half = _HALF[images.dtype]
    if images.dtype is torch.uint16:
        # torch gathers no uint16: gather the bits as int16, then undo the sign.
        rows = images.view(torch.int16).index_select(0, indices).to(torch.int32) & 0xFFFF
    else:
        rows = images.index_select(0, indices)
    if flips is not None:
        rows = torch.where(flips.view(-1, 1, 1, 1), rows.flip(3), rows)
    # Divided in float32, not multiplied by the inverse: the numpy formula of the docs to the bit.
    return rows.to(torch.float32).div_(half).sub_(1)


torch.library.define(
    "simgan_fast::gather_normalize",
    "(Tensor images, Tensor indices, Tensor? flips, ScalarType? dtype=None) -> Tensor",
)


def _empty(
    images: Tensor, indices: Tensor, flips: Tensor | None, dtype: torch.dtype | None = None
) -> Tensor:
    return torch.empty(
        (indices.shape[0], *images.shape[1:]), dtype=dtype or torch.float32, device=images.device
    )


def _cpu(
    images: Tensor, indices: Tensor, flips: Tensor | None, dtype: torch.dtype | None = None
) -> Tensor:
    indices = indices.contiguous()
    flips = flips.contiguous() if flips is not None else None
    out = _empty(images, indices, flips)
    count, channels, height, width = out.shape
    in_range = C.gather_normalize(
        images.data_ptr(),
        indices.data_ptr(),
        flips.data_ptr() if flips is not None else 0,
        out.data_ptr(),
        len(images),
        count,
        channels * height,
        width,
        images.element_size(),
        torch.get_num_threads(),
    )
    if not in_range:
        _check_range(images, indices)
    return out if dtype is None else out.to(dtype)


def _cuda(
    images: Tensor, indices: Tensor, flips: Tensor | None, dtype: torch.dtype | None = None
) -> Tensor:
    indices = indices.contiguous()
    flips = flips.contiguous() if flips is not None else None
    out = _empty(images, indices, flips, dtype)
    count, channels, height, width = out.shape
    _native.CUDA.gather_normalize(
        *place(images),
        images.data_ptr(),
        indices.data_ptr(),
        flips.data_ptr() if flips is not None else 0,
        out.data_ptr(),
        len(images),
        count,
        channels * height,
        width,
        images.element_size(),
        out.dtype == torch.bfloat16,
    )
    return out


torch.library.register_fake("simgan_fast::gather_normalize", _empty)
torch.library.impl("simgan_fast::gather_normalize", "CPU", _cpu)
torch.library.impl("simgan_fast::gather_normalize", "CUDA", _cuda)
_op = torch.ops.simgan_fast.gather_normalize.default
