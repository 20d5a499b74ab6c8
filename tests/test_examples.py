"""The example scripts run."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from simgan_fast import Refiner, simulate

EXAMPLES = Path(__file__).parents[1] / "examples"


def run(script: str, *arguments: object) -> str:
    command = [sys.executable, str(EXAMPLES / script), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.fixture(scope="module")
def refiner(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("refiner")
    Refiner(width=8, blocks=1).save_pretrained(folder)
    return folder


def test_own_training_loop() -> None:
    assert run("own_training_loop.py").count("loss_refiner") == 4


def test_refine_in_a_pipeline(refiner: Path, tmp_path: Path) -> None:
    simulate("eyes", tmp_path / "images", count=40)
    out = run("refine_in_a_pipeline.py", refiner, tmp_path / "images")
    assert out.count("32 images, mean change 0.") == 3


def test_arrays_and_workers(refiner: Path) -> None:
    assert run("arrays_and_workers.py", refiner).count("same images") == 4


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch's compiler needs one for C++")
def test_compile_and_export(refiner: Path) -> None:
    assert run("compile_and_export.py", refiner).count("equal") == 3


def test_onnx_model(refiner: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    assert run("onnx_model.py", tmp_path / "refiner.onnx", refiner).count("equal to 1e-5") == 2
    assert [path.name for path in tmp_path.iterdir()] == ["refiner.onnx"]


def test_data_parallel() -> None:
    assert run("data_parallel.py").count("the gradients of the whole batch") == 2
