"""`study gaze-table`: every cell once, tables that say what the cells say, files that can be opened."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from simgan_fast import cli
from simgan_fast.charts import COLOURS
from simgan_fast.data.packed_writer import PackedWriter
from simgan_fast.errors import InputError
from simgan_fast.gaze import pitch_yaw_to_vector
from simgan_fast.studies import estimators, gaze_table
from simgan_fast.studies.gaze_table import ROWS, study_gaze_table, table_2, table_3
from simgan_fast.studies.sets import NamedSets

SIZE = (12, 16)


def write_set(folder: Path, seed: int, count: int, labels: bool = True) -> Path:
    """Dots that move with the gaze."""
    angles = np.random.default_rng(seed).uniform(-0.4, 0.4, (count, 2))
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    x, y = 8 - angles[:, 1, None, None] * 12, 6 - angles[:, 0, None, None] * 10
    dots = 255 * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / 6)
    named = {"gaze": pitch_yaw_to_vector(angles).astype(np.float32)} if labels else {}
    with PackedWriter(folder, (1, *SIZE), labels=dict.fromkeys(named, 3)) as writer:
        names = [f"{index}.png" for index in range(count)]
        writer.add(dots.astype(np.uint8)[:, None], names, named)
    return folder


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> NamedSets:
    folder = tmp_path_factory.mktemp("sets")
    return NamedSets(
        write_set(folder / "synthetic", 1, 80),
        write_set(folder / "real", 2, 40, labels=False),
        write_set(folder / "test", 3, 20),
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, sets: NamedSets) -> Path:
    folder = tmp_path_factory.mktemp("studies") / "gaze"
    study_gaze_table(folder, sets, seeds=2, quick=True)
    return folder


def results_of(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "gaze-table.json").read_text())
    return found


def test_rows_are_a_quarter_and_all_raw_and_refined(finished: Path) -> None:
    found = results_of(finished)
    assert {row: arm["images"] for row, arm in found["arms"].items()} == {
        "synthetic": 20,
        "4x synthetic": 80,
        "refined": 20,
        "4x refined": 80,
    }
    error = {row: arm["mean_error_deg"] for row, arm in found["arms"].items()}
    assert all(len(set(one["per_seed"])) == 2 for one in error.values())
    assert error["refined"]["per_seed"] != error["synthetic"]["per_seed"]
    change = [b / a - 1 for a, b in zip(*(error[r]["per_seed"] for r in ROWS[1::2]), strict=True)]
    assert found["change"]["4x refined"]["per_seed"] == pytest.approx(change)
    assert len(found["baselines"]["synthetic"]["ridge"]["chosen"]) == 1
    assert len(found["baselines"]["refined"]["ridge"]["chosen"]) == 2


def test_tables_say_what_was_found(finished: Path) -> None:
    found = results_of(finished)
    with (finished / "gaze-table.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["trained_on"] for row in rows] == [row for row in ROWS for _ in range(3)]
    for row in rows:
        scores = (
            found["arms"][row["trained_on"]]
            if row["method"] == "CNN"
            else found["baselines"][row["trained_on"]][row["method"]]
        )
        assert float(row["within_7_deg"]) == scores["within_7_deg"]["mean"]
        assert float(row["mean_error_deg_std"]) == scores["mean_error_deg"]["std"]
    shown = table_2(found)
    assert [line[-1] for line in shown[1::3]] == ["62.3", "64.9", "69.4", "87.2"]
    assert shown[1][3].startswith(f"{found['arms']['synthetic']['mean_error_deg']['mean']:.2f} +-")
    assert [line[-1] for line in table_3(found)[1:]] == ["9.9", "", "11.2", "7.8"]
    document = (finished / "gaze-table.md").read_text()
    assert shown[1][3] in document and "| paper: mean error deg |" in document


def test_the_curve_is_drawn(finished: Path) -> None:
    with Image.open(finished / "curve.png") as picture:
        pixels = np.asarray(picture)
    colours = set(np.unique(pixels.astype(int) @ [1 << 16, 1 << 8, 1]).tolist())
    assert {int(colour[1:], 16) for colour in COLOURS[:4]} <= colours, "a line each"
    assert (finished / "curve.svg").read_text().count("4x refined") == 1
    assert (finished / "curve.csv").read_text().startswith(f"degrees,{','.join(ROWS)}\n")


def test_a_stopped_study_does_only_what_is_missing(
    finished: Path, sets: NamedSets, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(finished, tmp_path / "study")
    before = results_of(finished)
    (tmp_path / "study" / "cells" / "estimator-4x-refined-1.json").unlink()
    trained: list[int] = []
    train = estimators.train_gaze_estimator

    def counted(images: Any, *rest: Any, **options: Any) -> Any:
        trained.append(len(images))
        return train(images, *rest, **options)

    monkeypatch.setattr(estimators, "train_gaze_estimator", counted)
    monkeypatch.setattr(gaze_table, "refiner_cell", None)
    assert study_gaze_table(tmp_path / "study", sets, seeds=2, quick=True) == before
    assert trained == [80]


def test_another_question_is_refused(finished: Path, sets: NamedSets, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="another estimator and another training"):
        study_gaze_table(finished, sets, seeds=2)
    with pytest.raises(InputError, match="another sets"):
        study_gaze_table(finished, seeds=2, quick=True)
    shutil.copytree(finished, tmp_path / "study")
    (tmp_path / "study" / "images.json").write_text('{"synthetic": "", "real": "", "test": ""}')
    with pytest.raises(InputError, match="another real and another synthetic and another test"):
        study_gaze_table(tmp_path / "study", sets, seeds=2, quick=True)


def test_unusable_sets_are_refused_before_any_training(sets: NamedSets, tmp_path: Path) -> None:
    unlabelled = NamedSets(sets.real, sets.real, sets.test)
    with pytest.raises(InputError, match="the synthetic set has no labels"):
        study_gaze_table(tmp_path / "one", unlabelled, quick=True)
    with pytest.raises(InputError, match="the test set has no labels"):
        study_gaze_table(
            tmp_path / "two", NamedSets(sets.synthetic, sets.real, sets.real), quick=True
        )
    with pytest.raises(InputError, match="seeds is 0"):
        study_gaze_table(tmp_path / "three", sets, seeds=0, quick=True)
    assert not list(tmp_path.glob("*/runs"))


def test_the_command(
    finished: Path, sets: NamedSets, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    named = [f"--synthetic={sets.synthetic}", f"--real={sets.real}", f"--test={sets.test}"]
    command = ["study", "gaze-table", f"--out={finished}", "--quick", "--seeds=2"]
    assert cli.main([*command, *named, f"--json={tmp_path / 'all.json'}"]) == 0
    assert json.loads((tmp_path / "all.json").read_text()) == results_of(finished)
    assert "4x refined    80      CNN" in capsys.readouterr().out
    assert cli.main([*command, *named[:2]]) == 2
    assert "name all of --synthetic, --real and --test" in capsys.readouterr().err
    assert cli.main([*command, "--size=12x16"]) == 2
    assert "are for sets" in capsys.readouterr().err
