"""`study hands-table`: the rows that the sets have, every cell once, tables that say what the cells say."""

from __future__ import annotations

import csv
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hand_sets import MemorySet, packed, toy_hands

from simgan_fast import cli
from simgan_fast.data import open_packed
from simgan_fast.errors import InputError
from simgan_fast.studies import hands_table
from simgan_fast.studies.hands_table import PAPER_WITHIN_5, study_hands_table, table_4
from simgan_fast.studies.sets import NamedSets

ROWS = tuple(PAPER_WITHIN_5)


def viewed(count: int, seed: int, views: int) -> MemorySet:
    """Toy hands, each in so many views by its label."""
    hands = toy_hands(count, seed, 32)
    view = np.arange(count)[:, None] % views + 1
    return MemorySet(hands.images, {**hands.labels, "view": np.float32(view)})


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> NamedSets:
    folder = tmp_path_factory.mktemp("sets")
    return NamedSets(
        packed(folder / "synthetic", viewed(24, 1, 3)),
        packed(folder / "real", viewed(20, 2, 2)),
        packed(folder / "test", viewed(6, 3, 1)),
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, sets: NamedSets) -> Path:
    folder = tmp_path_factory.mktemp("studies") / "hands"
    study_hands_table(folder, sets, seeds=2, quick=True)
    return folder


def results_of(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "hands-table.json").read_text())
    return found


def test_rows_are_of_one_view_and_of_all(finished: Path) -> None:
    found = results_of(finished)
    images = {row: arm["images"] for row, arm in found["arms"].items()}
    assert images == dict(zip(ROWS, (8, 8, 10, 24, 24), strict=True))
    error = {row: arm["mean_error_px"]["per_seed"] for row, arm in found["arms"].items()}
    assert len({tuple(each) for each in error.values()}) == len(ROWS), "each row by itself"
    close = [found["arms"][row]["pck_5px"]["per_seed"] for row in ("3x refined", "3x synthetic")]
    assert found["change"]["3x refined"]["per_seed"] == pytest.approx(np.subtract(*close).tolist())
    assert {row: len(each) for row, each in found["refiners"].items()} == {
        "refined": 2,
        "3x refined": 2,
    }


def test_a_refiner_learns_from_the_views_of_its_row(finished: Path) -> None:
    """Images of other views cost it half of what it gains (docs/studies.md)."""
    for name, images in (("refiner-0", {8, 10}), ("refiner-3x-0", {24, 20})):
        config = (finished / "runs" / name / "config.toml").read_text()
        paths = re.findall(r'^(?:synthetic|real) = "(.+)"$', config, re.MULTILINE)
        assert {len(open_packed(path)) for path in paths} == images


def test_tables_and_curves_say_what_was_found(finished: Path) -> None:
    found = results_of(finished)
    with (finished / "hands-table.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["trained_on"] for row in rows] == list(ROWS)
    for row in rows:
        scores = found["arms"][row["trained_on"]]
        assert float(row["pck_5px"]) == scores["pck_5px"]["mean"]
        assert float(row["mean_error_mm_std"]) == scores["mean_error_mm"]["std"]
    shown = table_4(found)
    assert [line[-1] for line in shown[1:]] == ["69.7", "72.4", "74.5", "77.7", "83.3"]
    assert shown[2][2].startswith(f"{100 * found['arms']['refined']['pck_5px']['mean']:.1f} +-")
    document = (finished / "hands-table.md").read_text()
    assert shown[2][2] in document and "2 seeds" in document and "Not in the sets" not in document
    assert (finished / "curve.csv").read_text().startswith(f"pixels,{','.join(ROWS)}\n")
    assert (finished / "curve.svg").read_text().count("3x refined") == 1
    assert (finished / "curve.png").is_file()


def test_a_stopped_study_does_only_what_is_missing(
    finished: Path, sets: NamedSets, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(finished, tmp_path / "study")
    (tmp_path / "study" / "cells" / "estimator-3x-refined-1.json").unlink()
    trained: list[tuple[int, int]] = []
    train = hands_table.train_pose_estimator

    def counted(hands: Any, *rest: Any, **options: Any) -> Any:
        trained.append((len(hands.images), options["seed"]))
        return train(hands, *rest, **options)

    monkeypatch.setattr(hands_table, "train_pose_estimator", counted)
    monkeypatch.setattr(hands_table, "refiner_cell", None)
    again = study_hands_table(tmp_path / "study", sets, seeds=2, quick=True)
    assert again == results_of(finished) and trained == [(24, 1)]
    with pytest.raises(InputError, match="another estimator and another training"):
        study_hands_table(tmp_path / "study", sets, seeds=2)


def test_rows_that_the_sets_do_not_have(sets: NamedSets, tmp_path: Path) -> None:
    one_view, bare = toy_hands(8, 1, 32), toy_hands(8, 2, 32)
    few = NamedSets(
        packed(tmp_path / "synthetic", one_view),
        packed(tmp_path / "real", MemorySet(bare.images, {})),
        sets.test,
    )
    found = study_hands_table(tmp_path / "study", few, seeds=1, quick=True)
    assert list(found["arms"]) == ["synthetic", "refined"]
    text = (tmp_path / "study" / "hands-table.md").read_text()
    assert "not in the table: real labels, 3x synthetic, 3x refined" in text


def test_unusable_sets_are_refused_before_any_training(sets: NamedSets, tmp_path: Path) -> None:
    hands = toy_hands(4, 1, 32)
    bare = packed(tmp_path / "bare", MemorySet(hands.images, {}))
    for wrong, message in (
        (NamedSets(bare, sets.real, sets.test), "the training set 'synthetic' has no labels"),
        (NamedSets(sets.synthetic, sets.real, bare), "the test set has no labels"),
    ):
        with pytest.raises(InputError, match=message):
            study_hands_table(tmp_path / "study", wrong, quick=True)
        shutil.rmtree(tmp_path / "study")
    with pytest.raises(InputError, match="seeds is 0"):
        study_hands_table(tmp_path / "study", sets, seeds=0, quick=True)
    sized = NamedSets(sets.synthetic, sets.real, sets.test, size=(16, 16))
    with pytest.raises(InputError, match="a size is given"):
        study_hands_table(tmp_path / "study", sized, quick=True)
    assert not list(tmp_path.glob("*/runs"))


def test_the_papers_estimator_can_be_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    def study(*_: Any, **options: Any) -> Any:
        asked.append(options["training"])
        raise InputError("enough.")

    monkeypatch.setattr(hands_table, "study_hands_table", study)
    command = ["study", "hands-table", f"--out={tmp_path / 'study'}"]
    paper = ["--stacks=2", "--width=256", "--depth=4", "--augment"]
    assert cli.main([*command, *paper]) == cli.main(command) == 2
    assert [asked[0].stacks, asked[0].width, asked[0].depth] == [2, 256, 4]
    assert [each.rotation for each in asked] == [20.0, 0.0]


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["study", "hands-table", f"--out={tmp_path / 'study'}", "--quick", "--seeds=1"]
    assert cli.main([*command, f"--json={tmp_path / 'all.json'}"]) == 0, "everything simulated"
    assert json.loads((tmp_path / "all.json").read_text()) == results_of(tmp_path / "study")
    shown = capsys.readouterr().out
    assert "3x refined    48" in shown and "hands-table.md" in shown
    assert cli.main([*command, "--real=somewhere"]) == 2
    assert "name all of --synthetic, --real and --test" in capsys.readouterr().err
