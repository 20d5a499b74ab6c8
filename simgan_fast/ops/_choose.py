"""Native or reference, and by which way: the decisions that every op makes."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.utils import _python_dispatch

from simgan_fast import _native
from simgan_fast._native import AVAILABLE, MISSING, REMEDY
from simgan_fast.errors import InputError

_log = logging.getLogger("simgan_fast.ops")
_said: set[str] = set()
_CPU = torch.device("cpu")
_PLAIN = frozenset((Tensor, Parameter))  # types, without subclasses
_is_neg = Tensor.is_neg


def use_native(op: str, impl: str, obstacle: str | None, device: torch.device = _CPU) -> bool:
    """Whether `op` takes its native kernel on `device`; `obstacle` says why it cannot, None that it can if it is built.

    "auto" logs the first reason for taking the reference; "native" raises it.
    """
    if impl not in ("auto", "native", "reference"):
        message = f"{op}: impl is {impl!r}; it must be 'auto', 'native' or 'reference'."
        raise InputError(message)
    if impl == "reference":
        return False
    if obstacle is None:
        obstacle = _device_obstacle(device)
    if obstacle is None:
        return True
    if impl == "native":
        message = f"{op}: impl='native' cannot run here: {obstacle}."
        raise InputError(message)
    _say_once(f"{op}: plain PyTorch, as {obstacle}")
    return False


def _device_obstacle(device: torch.device) -> str | None:
    if device.type == "cpu":
        return None if AVAILABLE else f"the native part is missing ({MISSING}): {REMEDY}"
    if device.type == "cuda":
        obstacle: str | None = _native.cuda_obstacle(device.index or 0)
        return obstacle
    return f"there is no kernel for {device.type}"


def place(x: Tensor) -> tuple[int, int]:
    """Where a CUDA kernel is to run: the number of x's device, and the stream that is current there."""
    index = x.get_device()
    return index, torch.cuda.current_stream(index).cuda_stream


def past_dispatcher(x: Tensor, weights: Sequence[Tensor] = ()) -> bool:
    """Whether a native kernel may be called without torch's dispatcher: nobody traces, fakes, maps or watches.

    Nor is one of them a view that is to be read with its sign turned. It saves about 2 us a call, which counts where
    the kernel takes 3 us, and 10 us and more where there is a list of weights.
    """
    if torch.compiler.is_compiling() or _watched() or type(x) not in _PLAIN or x.is_neg():
        return False
    return _PLAIN.issuperset(map(type, weights)) and not any(map(_is_neg, weights))


def _watched() -> bool:
    """Whether the dispatcher has something to do: for a mode, torch.func, torch.jit.trace or torch's profiler."""
    return bool(_mode() or _transform() or _trace() or _profiler())


try:
    _mode = _python_dispatch.is_in_torch_dispatch_mode
    _transform = torch._C._functorch.peek_interpreter_stack  # the innermost vmap or grad, or None
    _trace, _profiler = torch._C._get_tracing_state, torch._C._autograd._profiler_enabled
except AttributeError:  # not promised by torch: without one of them every call takes the dispatcher

    def _watched() -> bool:
        return True


def _say_once(text: str) -> None:
    # A traced function must not log: it would break the graph.
    if torch.compiler.is_compiling() or text in _said:
        return
    _said.add(text)
    _log.info(text)
