"""Refined images out of images in memory, by one function."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol, TypeVar, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.dlpack import from_dlpack

from simgan_fast.errors import InputError
from simgan_fast.models.refiner import Refiner
from simgan_fast.ops.gather_normalize import gather_normalize, to_uint8, to_uint16

_INTEGERS = {torch.uint8: to_uint8, torch.uint16: to_uint16}
_Pixel = TypeVar("_Pixel", bound=np.generic)


class DLPack(Protocol):
    """An array of any library that follows the DLPack protocol: torch, JAX, CuPy, TensorFlow and others."""

    def __dlpack__(self, **options: Any) -> Any: ...
    def __dlpack_device__(self) -> tuple[Any, int]: ...


@overload
def refine_array(
    images: NDArray[_Pixel], refiner: Refiner | str | Path, *, batch_size: int = 64
) -> NDArray[_Pixel]: ...
@overload
def refine_array(
    images: DLPack, refiner: Refiner | str | Path, *, batch_size: int = 64
) -> Tensor: ...
@torch.inference_mode()
def refine_array(
    images: Any, refiner: Refiner | str | Path, *, batch_size: int = 64
) -> NDArray[Any] | Tensor:
    """Refine images that are in memory; nothing is changed in place.

    Args:
        images: [h, w] or [n, h, w] for a refiner of one channel, [h, w, c] for one of more, or [n, h, w, c]: uint8 or
            uint16 of the full range, or floats in [-1, 1]. A NumPy array in any memory order, or what follows DLPack.
        refiner: a Refiner, which works on the device where it is, or anything that `Refiner.from_pretrained` takes.
            Read it once where there are many calls.
        batch_size: images at a time; the result does not depend on it beyond rounding.

    Returns the refined images in the same shape and type: a NumPy array for one, for all else a `torch.Tensor` on the
    device of `images`, which other libraries take by DLPack.

    Raises InputError for another type or shape, floats outside [-1, 1] or NaN, or a batch_size below 1.

    >>> refine_array(np.zeros((5, 35, 55), np.uint8), Refiner()).shape
    (5, 35, 55)
    """
    if batch_size < 1:
        raise InputError(f"batch_size is {batch_size}: it must be at least 1.")
    refiner = refiner if isinstance(refiner, Refiner) else Refiner.from_pretrained(refiner)
    given = _tensor(images)
    shape = _four_sides(given, refiner.config.in_channels)
    batches = torch.split(given.reshape(shape), batch_size)
    # A set without images is one batch of none.
    refined = torch.cat([_refined(batch, refiner) for batch in batches]).reshape(given.shape)
    return refined.numpy() if isinstance(images, np.ndarray) else refined


def _tensor(images: Any) -> Tensor:
    if isinstance(images, np.ndarray):
        native = images.dtype.newbyteorder("=")
        try:  # a copy where the memory is read-only, or runs backwards, which torch has not
            return torch.from_numpy(np.require(images, native, ["C", "W"]))
        except TypeError:
            raise InputError(
                f"images is an array of {images.dtype}: want uint8, uint16 or floats in [-1, 1]."
            ) from None
    if not hasattr(images, "__dlpack__"):
        raise InputError(
            f"images is a {type(images).__name__}: want a NumPy array, or one that follows DLPack."
        )
    taken: Tensor = from_dlpack(images.detach() if isinstance(images, Tensor) else images)
    return taken


def _four_sides(images: Tensor, channels: int) -> tuple[int, int, int, int]:
    """[n, h, w, c] of what may lack n, and c where it is one."""
    shape = list(images.shape)
    wanted = "[h, w], [n, h, w] or [n, h, w, 1]"
    if channels == 1 and len(shape) in (2, 3):
        shape.append(1)
    elif channels > 1:
        wanted = f"[h, w, {channels}] or [n, h, w, {channels}]"
    if len(shape) == 3:
        shape.insert(0, 1)
    if len(shape) != 4 or shape[3] != channels:
        raise InputError(
            f"images has shape {list(images.shape)}: want {wanted} for a refiner of {channels} channels."
        )
    return shape[0], shape[1], shape[2], shape[3]


def _refined(batch: Tensor, refiner: Refiner) -> Tensor:
    """Of [n, h, w, c] in the type and on the device that it has."""
    weight = refiner.first.weight
    images = batch.permute(0, 3, 1, 2)
    if batch.dtype in _INTEGERS:
        images = gather_normalize(images, torch.arange(len(images), device=images.device))
    elif not batch.is_floating_point():
        raise InputError(f"images is {batch.dtype}: want uint8, uint16 or floats in [-1, 1].")
    elif not bool((images.abs() <= 1).all()):
        raise InputError("images holds a number outside [-1, 1], or NaN: scale them to [-1, 1].")
    refined = refiner(images.to(weight.device, weight.dtype)).to(batch.device)
    whole = _INTEGERS.get(batch.dtype)
    return (whole(refined) if whole else refined.to(batch.dtype)).permute(0, 2, 3, 1)
