"""benchmarks/gpu.sh without a GPU: its programs start with no more than torch, numpy, safetensors, tqdm and pytest.

The machines that it is for have no network, so what else simgan_fast depends on may be missing there.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPT = (ROOT / "benchmarks/gpu.sh").read_text()
BARE = """
import os, runpy, sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"pyarrow", "PIL", "simplejpeg", "tensorboard", "tomli_w", "nvidia", "scipy", "h5py"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing())
sys.argv = sys.argv[1:]
module = sys.argv[0] == "-m"
if module:
    sys.argv = sys.argv[1:]
else:  # as Python does it for a script
    sys.path.insert(0, os.path.dirname(os.path.abspath(sys.argv[0])))
(runpy.run_module if module else runpy.run_path)(sys.argv[0], run_name="__main__")
"""


def commands() -> list[list[str]]:
    """Arguments of each call of Python in gpu.sh that is a step of its own, whatever comes before "$python"."""
    lines = SCRIPT.replace("\\\n", " ").splitlines()
    calls = [
        re.sub(r'.*"\$python" ', "", line) for line in lines if line.lstrip().startswith("step ")
    ]
    return [shlex.split(call) for call in calls if not call.lstrip().startswith("step ")]


def test_all_steps_are_seen() -> None:
    assert [call[:2] for call in commands()] == [
        ["-m", "pytest"],
        ["benchmarks/time_cuda.py", "--small"],
        ["benchmarks/time_cuda.py", "--out"],
        ["benchmarks/time_cuda.py", "--training"],
    ]


@pytest.mark.parametrize("call", commands(), ids=" ".join)
def test_it_starts(
    call: list[str], run_python: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    path = {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    if call[0] == "-m":
        printed = run_python(BARE, *call, "--collect-only", **path)
        assert re.search(r"test_graphs.py::test_graphs_on_a_gpu\[bfloat16\]", printed), printed
    else:
        assert "usage:" in run_python(BARE, call[0], "--help", **path)
