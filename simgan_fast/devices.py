"""The torch device that a user named, or one sentence why it cannot be used."""

from __future__ import annotations

import torch

from simgan_fast.errors import InputError


def usable_device(name: str) -> torch.device:
    """The device `name`, tried with one small tensor; InputError where torch cannot use it."""
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise InputError(
            f"device {name!r} cannot be used ({reason}): name another, cpu always works."
        ) from None
    return device
