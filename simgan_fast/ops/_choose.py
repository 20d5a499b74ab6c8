"""Native or reference: the one decision that every op makes."""

from __future__ import annotations

import logging

import torch

from simgan_fast._native import AVAILABLE, MISSING, REMEDY
from simgan_fast.errors import InputError

_log = logging.getLogger("simgan_fast.ops")
_said: set[str] = set()


def use_native(op: str, impl: str, obstacle: str | None) -> bool:
    """Whether `op` takes its native kernel; `obstacle` says why it cannot, None that it can.

    "auto" logs the first reason for taking the reference; "native" raises it.
    """
    if impl not in ("auto", "native", "reference"):
        message = f"{op}: impl is {impl!r}; it must be 'auto', 'native' or 'reference'."
        raise InputError(message)
    if impl == "reference":
        return False
    if obstacle is None and not AVAILABLE:
        obstacle = f"the native part is missing ({MISSING}): {REMEDY}"
    if obstacle is None:
        return True
    if impl == "native":
        message = f"{op}: impl='native' cannot run here: {obstacle}."
        raise InputError(message)
    _say_once(f"{op}: plain PyTorch, as {obstacle}")
    return False


def _say_once(text: str) -> None:
    # A traced function must not log: it would break the graph.
    if torch.compiler.is_compiling() or text in _said:
        return
    _said.add(text)
    _log.info(text)
