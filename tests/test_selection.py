"""Choosing the best refiner: images held out, what is kept, and that a resumed run ends the same."""

from __future__ import annotations

import csv
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from cases import TINY_RUN
from safetensors.torch import load_file

from simgan_fast import Refiner, preset, report, resume, train
from simgan_fast.data import PackedSet, PackedWriter, open_packed
from simgan_fast.data.hold_out import hold_out
from simgan_fast.errors import InputError
from simgan_fast.evaluation.gaze_training import GazeTraining
from simgan_fast.training.run import Run
from simgan_fast.training.selection import Selection, best_of

SETTINGS = {**TINY_RUN, "steps": 6, "select_every": 2}
SHAPE = (1, 12, 16)


def write_set(folder: Path, seed: int, count: int = 256, copies: int = 1) -> Path:
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (count // copies, *SHAPE)).astype(np.uint8).repeat(copies, axis=0)
    gaze = rng.normal(size=(count, 3)) - [0, 0, 5]
    with PackedWriter(folder, SHAPE, {"gaze": 3}) as writer:
        writer.add(images, [f"{index}.png" for index in range(count)], {"gaze": gaze})
    return folder


def pixels(images: PackedSet) -> set[bytes]:
    return {image.tobytes() for image in images.images()}


@pytest.fixture
def sets(tmp_path: Path) -> tuple[Path, Path]:
    return write_set(tmp_path / "synthetic", 1), write_set(tmp_path / "real", 2)


def measured(run: Path) -> list[tuple[int, float]]:
    with (run / "selection.csv").open() as file:
        return [(int(row["update"]), float(row["value"])) for row in csv.DictReader(file)]


def test_every_image_is_on_one_side(tmp_path: Path) -> None:
    images = open_packed(write_set(tmp_path / "set", 1, count=600, copies=2))
    training, validation = hold_out(images, tmp_path / "split", seed=3)
    assert len(training) + len(validation) == 600 and len(validation) in (128, 129)
    assert sorted(training.names + validation.names) == sorted(images.names)
    assert not pixels(training) & pixels(validation), "copies of an image stay together"
    row = images.names.index(validation.names[5])
    assert np.array_equal(validation.images(5, 6), images.images(row, row + 1))
    assert np.array_equal(validation.labels["gaze"][5], images.labels["gaze"][row])
    again = hold_out(images, tmp_path / "again", seed=3)[1]
    assert again.names == validation.names
    assert hold_out(images, tmp_path / "other", seed=4)[1].names != validation.names


def test_the_best_is_kept(tmp_path: Path) -> None:
    values = iter([3.0, math.nan, 1.0, 1.0, 2.0])
    selection = Selection(tmp_path, 1, lambda _: next(values))
    selection.resume(0)
    refiners = [Refiner(width=2, blocks=1) for _ in range(5)]
    for update, refiner in enumerate(refiners, 1):
        selection.consider(update, refiner)
    assert best_of(tmp_path) == (3, 1.0), "of equal ones the first"
    kept, third = Refiner.from_pretrained(tmp_path).state_dict(), refiners[2].state_dict()
    assert all(torch.equal(kept[name], third[name]) for name in third)
    selection.resume(2)
    assert [update for update, _ in measured(tmp_path)] == [1, 2]


def test_a_run_keeps_its_best(sets: tuple[Path, Path], tmp_path: Path) -> None:
    run = tmp_path / "run"
    refiner = train(*sets, run, preset("eyes", **SETTINGS, select_by="realism"))
    values = measured(run)
    assert [update for update, _ in values] == [12, 14, 16]
    assert best_of(run) == pytest.approx(min(values, key=lambda row: row[1]))
    best = load_file(run / "best" / "model.safetensors")
    assert all(torch.equal(best[name], value) for name, value in refiner.state_dict().items())
    for side, path in zip(("synthetic", "real"), sets, strict=True):
        parts = run / "data" / "held-out" / side
        both = [pixels(open_packed(parts / part)) for part in ("training", "validation")]
        assert not both[0] & both[1] and both[0] | both[1] == pixels(open_packed(path))
        assert f"held-out/{side}/training" in (run / "config.toml").read_text()
    page = report(run).read_text()
    assert "Selection by realism" in page and "selected by realism is that of update" in page


def test_a_stopped_run_resumes_to_the_same_choice(
    sets: tuple[Path, Path], tmp_path: Path, monkeypatch
) -> None:
    """Stopped when update 14 was measured and not yet in a checkpoint."""
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    config = preset("eyes", **{**SETTINGS, "checkpoint_every": 2}, select_by="realism")
    train(*sets, whole, config)
    checkpoint = Run._checkpoint

    def stop(run: Run) -> None:
        if run.update == 14:
            raise KeyboardInterrupt
        checkpoint(run)

    with monkeypatch.context() as patch:
        patch.setattr(Run, "_checkpoint", stop)
        with pytest.raises(KeyboardInterrupt):
            train(*sets, stopped, config)
    assert [update for update, _ in measured(stopped)] == [12, 14]
    resume(stopped)
    for file in ("selection.csv", "best/model.safetensors", "refiner/model.safetensors"):
        assert (stopped / file).read_bytes() == (whole / file).read_bytes(), file


def test_by_gaze(sets: tuple[Path, Path], tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("simgan_fast.jobs.selection.ESTIMATOR", GazeTraining(updates=2, warm_up=1))
    labelled, run = write_set(tmp_path / "labelled", 3, count=128), tmp_path / "run"
    config = preset("eyes", **SETTINGS, select_by="gaze")
    train(*sets, run, config, labelled=labelled)
    assert len(measured(run)) == 3 and all(0 < value < 180 for _, value in measured(run))
    resume(run)
    assert len(measured(run)) == 3, "a finished run measures nothing again"
    shutil.rmtree(labelled)
    write_set(labelled, 4, count=128)
    with pytest.raises(InputError, match="have changed since it began"):
        resume(run)
    with pytest.raises(InputError, match="256 of the real images are in"):
        train(*sets, tmp_path / "none", config, labelled=sets[1])
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("count", "copies", "words"),
    [(255, 1, "has 255 images: .* it needs at least 256"), (256, 256, "one image many times")],
)
def test_sets_that_cannot_be_split(tmp_path: Path, count: int, copies: int, words: str) -> None:
    real = write_set(tmp_path / "real", 2, count, copies)
    synthetic, config = write_set(tmp_path / "synthetic", 1), preset("eyes", select_by="realism")
    with pytest.raises(InputError, match=words):
        train(synthetic, real, tmp_path / "run", config)
    assert not (tmp_path / "run").exists()


def test_a_labelled_set_belongs_to_gaze(sets: tuple[Path, Path], tmp_path: Path) -> None:
    for select_by, labelled in (("gaze", None), ("realism", sets[0]), ("none", sets[0])):
        config = preset("eyes", select_by=select_by)
        with pytest.raises(InputError, match="belongs to select_by 'gaze'"):
            train(*sets, tmp_path / "run", config, labelled=labelled)
