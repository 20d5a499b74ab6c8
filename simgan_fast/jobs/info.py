"""What this installation is and can do."""

from __future__ import annotations

import platform
from importlib import metadata

import torch

from simgan_fast import _native
from simgan_fast.ops import _winograd


def info() -> dict[str, str]:
    """Versions, the CPU level in use, CUDA and why not, DALI; name to text."""
    return {
        "simgan_fast": _version("simgan-fast"),
        "python": f"{platform.python_version()} on {platform.system()} {platform.machine()}",
        "torch": f"{torch.__version__}, {torch.get_num_threads()} threads",
        "native part": _native_part(),
        "convolution": _winograd.algorithm() if _native.AVAILABLE else "plain PyTorch",
        "CUDA kernels": _cuda(),
        "DALI": _dali(),
        "numpy": _version("numpy"),
        "pyarrow": _version("pyarrow"),
    }


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "not installed"


def _native_part() -> str:
    if not _native.AVAILABLE:
        return f"missing ({_native.MISSING}); {_native.REMEDY}"
    return f"CPU level {_native.C.cpu_level()} of {', '.join(_native.C.cpu_levels())}"


def _cuda() -> str:
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "torch sees no GPU"
    if not _native.has_cuda():
        return f"not built, plain PyTorch instead; {device}"
    obstacle = _native.cuda_obstacle()
    return f"built; {device}" if obstacle is None else f"built, but {obstacle}; {device}"


def _dali() -> str:
    names = sorted(
        f"{name} {found.version}"
        for found in metadata.distributions()
        if (name := found.name).startswith("nvidia-dali")
    )
    return ", ".join(names) or "not installed; images are decoded with simplejpeg and Pillow"
