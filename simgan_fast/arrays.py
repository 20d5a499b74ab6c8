"""One function for people with an array of images: `refine_array`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.utils.dlpack
from torch import Tensor

from simgan_fast.errors import InputError
from simgan_fast.models.refiner import Refiner, read_refiner
from simgan_fast.ops.gather_normalize import gather_normalize, to_uint8, to_uint16


@torch.inference_mode()
def refine_array(images: Any, refiner: Refiner | str | Path, *, batch_size: int = 64) -> Any:
    """Refine an array of images, and give one of the same shape and type.

    Args:
        images: a NumPy array, or anything with `__dlpack__` (of torch, JAX, CuPy ...), uint8, uint16, or float32 in
            [-1, 1]: [n, h, w, c], n may be 0; for colour refiners [h, w, c] too, for grey ones [n, h, w] and [h, w].
        refiner: a Refiner, on whose device the work is done, or what `Refiner.from_pretrained` takes.
        batch_size: images at a time.

    Returns:
        A NumPy array for a NumPy array, for others a torch tensor on the device of `images`, which every DLPack library
        takes without a copy.

    Raises:
        InputError: another shape or type, floats outside of [-1, 1] or NaN, or a refiner of other channels.

    >>> refine_array(np.zeros((2, 35, 55), np.uint8), Refiner(width=8, blocks=1)).shape
    (2, 35, 55)
    """
    if batch_size < 1:
        raise InputError(f"batch_size is {batch_size}: it must be at least 1.")
    refiner = read_refiner(refiner)
    given = _tensor(images)
    batch = _batch(given, refiner.config.in_channels)  # [n, c, h, w]
    refined = torch.empty_like(batch)
    device = refiner.first.weight.device
    for start in range(0, len(batch), batch_size):
        part = batch[start : start + batch_size]
        refined[start : start + batch_size] = _refined(refiner, part.to(device)).to(batch.device)
    back = refined.permute(0, 2, 3, 1).reshape(given.shape)
    return back.numpy() if isinstance(images, np.ndarray) else back


def _tensor(images: Any) -> Tensor:
    if isinstance(images, np.ndarray):
        images = np.ascontiguousarray(images)
        if images.dtype not in (np.uint8, np.uint16, np.float32):
            raise _bad_type(images.dtype)
        return torch.from_numpy(images.astype(images.dtype.newbyteorder("="), copy=False))
    if not hasattr(images, "__dlpack__"):
        raise InputError(
            f"images is a {type(images).__name__}: want an array, NumPy's or DLPack's."
        )
    tensor = (
        images.detach() if isinstance(images, Tensor) else torch.utils.dlpack.from_dlpack(images)
    )
    if tensor.is_meta:
        raise InputError("images are on torch's device meta, which holds no numbers.")
    if tensor.dtype not in (torch.uint8, torch.uint16, torch.float32):
        raise _bad_type(tensor.dtype)
    return tensor


def _bad_type(dtype: object) -> InputError:
    return InputError(f"images are {dtype}: want uint8, uint16, or float32 in [-1, 1].")


def _batch(images: Tensor, channels: int) -> Tensor:
    """[n, c, h, w] of any of the shapes that are taken."""
    grey = channels == 1
    if images.dim() == 4 or (images.dim() == 3 and not grey):
        if images.shape[-1] == channels:
            count = images.shape[:-3].numel()  # not -1, which an empty image leaves open
            return images.reshape(count, *images.shape[-3:]).permute(0, 3, 1, 2)
    elif grey and images.dim() in (2, 3):
        return images.reshape(images.shape[:-2].numel(), 1, *images.shape[-2:])
    colour = f"[n, h, w, {channels}] or [h, w, {channels}]"
    shapes = "[n, h, w, 1], [n, h, w] or [h, w]" if grey else colour
    raise InputError(f"images have the shape {list(images.shape)}: want {shapes}.")


def _refined(refiner: Refiner, images: Tensor) -> Tensor:
    if not images.is_floating_point():
        rows = torch.arange(len(images), device=images.device)
        refined = refiner(gather_normalize(images.contiguous(), rows))
        return to_uint16(refined) if images.dtype == torch.uint16 else to_uint8(refined)
    if not bool((images.abs() <= 1).all()):  # NaN neither
        raise InputError("images hold numbers outside of [-1, 1]: scale them, or give uint8.")
    result: Tensor = refiner(images)
    return result
