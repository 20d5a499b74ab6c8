"""Loads the native part, `simgan_fast._C`, once.

Importing simgan_fast never fails for lack of it: every op has a twin in plain PyTorch. Only asking for native work
without it raises, and says what to do.
"""

from __future__ import annotations

from typing import Any, NoReturn

REMEDY = (
    "reinstall with a C++17 compiler at hand (`pip install .` in the checkout), "
    "or use impl='reference'"
)


class _Missing:
    """Stands where `_C` should be; any use of it raises."""

    def __init__(self, reason: str) -> None:
        self.reason = reason

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):
            raise AttributeError(name)
        message = f"The native part of simgan_fast is missing ({self.reason}): {REMEDY}."
        raise ImportError(message)


def _load() -> tuple[Any, str | None]:
    try:
        from simgan_fast import _C
    except ImportError as error:
        return _Missing(str(error)), str(error)
    return _C, None


C, MISSING = _load()
"""`C` is the module; `MISSING` says why it could not be loaded, or is None."""

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
    """Whether the native part has CUDA kernels."""
    return bool(C.has_cuda()) if AVAILABLE else False
