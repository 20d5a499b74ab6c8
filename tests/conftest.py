"""What every test gets: seeded generators, and both ways of running an op."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from emulated import build_module, load_module

from simgan_fast import _native
from simgan_fast.ops import _blocks_cuda, _network_cuda

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002  (what a test draws without a generator of its own)


@pytest.fixture(scope="session", autouse=True)
def outside_the_checkout(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Leave the checkout: a new interpreter puts its folder first, and the sources there hide the installed package."""
    os.chdir(tmp_path_factory.mktemp("elsewhere"))


@pytest.fixture(scope="session")
def emulated_kernels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The CUDA kernels compiled for the emulator, for `load_module` in tests/emulated.py."""
    return build_module(tmp_path_factory.mktemp("emulated"), "-O1")


@pytest.fixture
def emulator(emulated_kernels: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Convolutions by the CUDA kernels, which run on the emulator."""
    monkeypatch.setattr(_native, "CUDA", load_module(emulated_kernels, "_cuda"))
    for module in (_blocks_cuda, _network_cuda):
        monkeypatch.setattr(module, "place", lambda _: (0, 0))
    emulator = load_module(emulated_kernels, "_emulator")
    emulator.reset_counters()
    yield emulator
    emulator.set_schedule(0, False, 0)


@pytest.fixture(
    params=[
        "reference",
        pytest.param(
            "native",
            marks=pytest.mark.skipif(not _native.AVAILABLE, reason=f"no _C: {_native.MISSING}"),
        ),
    ]
)
def impl(request: pytest.FixtureRequest) -> str:
    """Both ways of running an op."""
    return str(request.param)


@pytest.fixture
def run_python() -> Callable[..., str]:
    """Run a script in a new interpreter with extra environment variables; gives what it printed."""

    def run(script: str, *arguments: str, **environment: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", script, *arguments],
            env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run
