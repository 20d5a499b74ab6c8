"""What the networks compute in: float32, or bfloat16 with weights of float32 (torch's autocast)."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch

from simgan_fast.config import PRECISIONS
from simgan_fast.errors import InputError


def chosen_precision(precision: str, device: torch.device | str, images: str) -> str:
    """ "float32" or "bfloat16"; `precision`: one of PRECISIONS, `images`: the type of a set's images.

    "auto" is bfloat16 on a GPU that has it, for images of 8 bits: what it rounds off is half of a grey level (rms, a
    trained refiner). The 16 bits of depth are more than it holds. The kernels of the CPU compute in float32.

    Raises InputError for another name, and for bfloat16 without a GPU.
    """
    if precision not in PRECISIONS:
        raise InputError(f"precision is {precision!r}: it must be one of {', '.join(PRECISIONS)}.")
    device = torch.device(device)
    if precision == "bfloat16" and device.type != "cuda":
        raise InputError(
            f"precision is 'bfloat16' and the device {device}: the kernels of a CPU compute in float32, so leave it "
            "out, or name a GPU with --device cuda."
        )
    if precision != "auto":
        return precision
    fits = device.type == "cuda" and images == "uint8"
    if fits and torch.cuda.is_bf16_supported(including_emulation=False):
        return "bfloat16"
    return "float32"


def computing_in(precision: str, device: torch.device | str) -> AbstractContextManager[object]:
    """Autocast to bfloat16 on `device`; nothing where `precision` is float32, so that a caller's own autocast stays."""
    if precision == "float32":
        return nullcontext()
    return torch.autocast(torch.device(device).type, torch.bfloat16)
