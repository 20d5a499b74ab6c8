"""The example scripts run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


def run(script: str, *arguments: object) -> str:
    command = [sys.executable, str(EXAMPLES / script), *map(str, arguments)]
    found = subprocess.run(command, check=False, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    return found.stdout


def test_own_training_loop() -> None:
    assert run("own_training_loop.py").count("loss_refiner") == 4


def test_refine_in_a_pipeline(tmp_path: Path) -> None:
    from simgan_fast import Refiner, simulate

    simulate("eyes", tmp_path / "images", count=40)
    Refiner(width=8, blocks=1).save_pretrained(tmp_path / "refiner")
    out = run("refine_in_a_pipeline.py", tmp_path / "refiner", tmp_path / "images")
    assert out.count("32 images, mean change 0.") == 3


def test_data_parallel() -> None:
    assert run("data_parallel.py").count("the gradients of the whole batch") == 2


def test_lightning_simgan() -> None:
    pytest.importorskip("lightning", reason="lightning is not installed: pip install lightning")
    first, second = run("lightning_simgan.py").splitlines()
    assert first.startswith("8 steps, 32 images in the history: {'refiner': ")
    assert second.startswith("20 steps, 64 images in the history: ")


def test_export_a_refiner(tmp_path: Path) -> None:
    from simgan_fast import Refiner

    Refiner(width=8, blocks=1).save_pretrained(tmp_path / "refiner")
    out = run("export_a_refiner.py", tmp_path / "refiner", tmp_path / "out")
    assert out.splitlines()[-1] == "refiner.onnx refiner.pt2"
