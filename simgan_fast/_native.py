"""Loads the native part once: `simgan_fast._C`, for the CPU, and `simgan_fast._cuda`.

Importing simgan_fast never fails for lack of it, nor of a GPU or its driver: every op has a twin in plain PyTorch.
Only asking for native work without it raises, and says what to do.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any, NoReturn

REMEDY = (
    "reinstall with a C++17 compiler at hand (`pip install .` in the checkout), "
    "or use impl='reference'"
)
CUDA_REMEDY = (
    "reinstall with nvcc at hand (`pip install . -C cmake.define.SIMGAN_FAST_CUDA=ON`), "
    "or use impl='reference'"
)


class _Missing:
    """Stands where a module should be; any use of it raises."""

    def __init__(self, what: str, reason: str, remedy: str) -> None:
        self.what, self.reason, self.remedy = what, reason, remedy

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):
            raise AttributeError(name)
        message = f"{self.what} of simgan_fast is missing ({self.reason}): {self.remedy}."
        raise ImportError(message)


def _load(name: str, what: str, remedy: str) -> tuple[Any, str | None]:
    try:
        return import_module(f"simgan_fast.{name}"), None
    except ImportError as error:
        return _Missing(what, str(error), remedy), str(error)


C, MISSING = _load("_C", "The native part", REMEDY)
"""`C` is the module; `MISSING` says why it could not be loaded, or is None."""

CUDA, CUDA_MISSING = _load("_cuda", "The CUDA part", CUDA_REMEDY)
"""The same for the CUDA kernels."""

AVAILABLE = MISSING is None


def cpu_level() -> str:
    """The CPU level in use: "baseline", "avx2" or "avx512"; "none" without the native part.

    It is the highest that this machine runs; the environment variable SIMGAN_FAST_CPU lowers it.
    """
    return str(C.cpu_level()) if AVAILABLE else "none"


def cpu_levels() -> list[str]:
    """The CPU levels that can run here, lowest first."""
    return list(C.cpu_levels()) if AVAILABLE else []


def has_cuda() -> bool:
    """Whether the CUDA kernels were built; not whether there is a GPU to run them."""
    return CUDA_MISSING is None


def cuda_obstacle(device: int = 0) -> str | None:
    """Why the CUDA kernels cannot run on that device, for the end of a sentence; None: they can."""
    if device not in _obstacles:
        if has_cuda():
            _obstacles[device] = CUDA.obstacle(device) or None
        else:
            _obstacles[device] = f"the CUDA part is missing ({CUDA_MISSING}): {CUDA_REMEDY}"
    return _obstacles[device]


# What torch.compiler.assume_constant_result does, which would import torch._dynamo: a second, for everybody.
cuda_obstacle._dynamo_marked_constant = True  # type: ignore[attr-defined]
_obstacles: dict[int, str | None] = {}
