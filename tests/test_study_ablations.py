"""`study ablations`: one thing changed per arm, each cell once, tables and pictures of what was found."""

from __future__ import annotations

import csv
import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from simgan_fast import cli
from simgan_fast.config import PRESETS, TrainingConfig
from simgan_fast.errors import InputError
from simgan_fast.jobs.simulate import simulate
from simgan_fast.pictures import GAP
from simgan_fast.studies import ablations
from simgan_fast.studies.ablation_arms import ablation_arms
from simgan_fast.studies.ablation_tables import group_table
from simgan_fast.studies.ablations import study_ablations
from simgan_fast.studies.sets import NamedSets

SIZE = (35, 55)
BASE = PRESETS["demo-eyes"]


def changed(config: TrainingConfig) -> dict[str, Any]:
    base = dataclasses.asdict(BASE)
    return {
        name: value for name, value in dataclasses.asdict(config).items() if value != base[name]
    }


def test_an_arm_differs_in_one_thing() -> None:
    arms = ablation_arms(BASE, SIZE)
    assert {arm: changed(config) for arm, config in arms.configs.items()} == {
        "base": {},
        "global": {"adversarial": "global", "self_regularization": pytest.approx(0.4 / (9 * 14))},
        "no-history": {"history": 0},
        "identity": {"feature_transform": "identity"},
        "lambda-0.1": {"self_regularization": 0.1},
        "lambda-0.2": {"self_regularization": 0.2},
        "lambda-0.8": {"self_regularization": 0.8},
        "lambda-1.6": {"self_regularization": 1.6},
        "K_g-2": {"refiner_updates": 2, "steps": 1500},
        "K_g-50": {"refiner_updates": 50, "steps": 60},
    }
    assert arms.groups["lambda"]["lambda 0.4"] == arms.groups["kg"]["K_g 1"] == "base"


def test_arms_of_another_base() -> None:
    base = dataclasses.replace(BASE, adversarial="global", history=0, refiner_updates=2)
    arms = ablation_arms(base, SIZE, ["loss", "history", "kg"])
    assert arms.configs["local"].self_regularization == pytest.approx(0.4 * 9 * 14)
    assert arms.groups["history"] == {"history": "history", "no history": "base"}
    assert arms.configs["history"].history == 512
    assert list(arms.groups["kg"].values()) == ["base", "K_g-50"]
    assert arms.configs["K_g-50"].steps == 120


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(InputError, match="'colour' is no group of ablations: choose from loss"):
        ablation_arms(BASE, SIZE, ["colour"])
    with pytest.raises(InputError, match="no group"):
        ablation_arms(BASE, SIZE, [])
    with pytest.raises(InputError, match="self_regularization is -1"):
        ablation_arms(BASE, SIZE, lambdas=[-1])


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> NamedSets:
    folder = tmp_path_factory.mktemp("sets")
    for name, domain, count in (
        ("synthetic", "plain", 200),
        ("real", "camera", 256),
        ("test", "camera", 20),
    ):
        simulate("eyes", folder / name, count=count, domain=domain, size=(18, 24), seed=len(name))
    return NamedSets(folder / "synthetic", folder / "real", folder / "test")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, sets: NamedSets) -> Path:
    folder = tmp_path_factory.mktemp("studies") / "ablations"
    study_ablations(folder, sets, seeds=2, groups=["history"], quick=True)
    return folder


def results_of(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "ablations.json").read_text())
    return found


def test_every_arm_is_measured(finished: Path) -> None:
    found = results_of(finished)
    arms = found["arms"]
    assert list(arms) == ["raw", "base", "no-history"]
    assert found["settings"] == {"base": {}, "no-history": {"history": 0}}
    for arm in arms.values():
        assert all(len(one["per_seed"]) == 2 for one in arm.values())
    assert arms["base"]["error_against_base_deg"]["per_seed"] == [0, 0]
    pairs = zip(
        *(arms[arm]["mean_error_deg"]["per_seed"] for arm in ("no-history", "base")), strict=True
    )
    assert arms["no-history"]["error_against_base_deg"]["per_seed"] == pytest.approx(
        [a - b for a, b in pairs]
    )
    assert arms["base"]["mean_abs_change"] != arms["no-history"]["mean_abs_change"]
    assert "pupil_shift_px" in arms["base"] and "mean_abs_change" not in arms["raw"]


def test_tables_and_pictures(finished: Path) -> None:
    found = results_of(finished)
    with (finished / "ablations.csv").open(newline="") as file:
        rows = {row["arm"]: row for row in csv.DictReader(file)}
    assert float(rows["base"]["kid"]) == found["arms"]["base"]["kid"]["mean"]
    assert rows["raw"]["mean_abs_change"] == ""
    shown = group_table(found, "history")
    assert [row[0] for row in shown] == ["", "raw images", "history (base)", "no history"]
    document = (finished / "ablations.md").read_text()
    assert f"| no history | {shown[3][1]} |" in document and "](history.png)" in document
    with Image.open(finished / "history.png") as picture:
        assert picture.height == 4 * (2 * 18 + GAP), "synthetic, two arms, real"


def test_a_finished_study_takes_more(
    finished: Path, sets: NamedSets, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(finished, tmp_path / "study")
    refined: list[str] = []
    work = ablations.refiner_cell

    def counted(study: Any, name: str, *rest: Any) -> Any:
        refined.append(name)
        return work(study, name, *rest)

    monkeypatch.setattr(ablations, "refiner_cell", counted)
    more = study_ablations(
        tmp_path / "study", sets, seeds=1, groups=["history", "lambda"], lambdas=[0.3], quick=True
    )
    assert refined == ["refiner-lambda-0.3-0"]
    assert more["groups"]["lambda"] == {"lambda 0.3": "lambda-0.3"}


def test_too_few_images_are_refused_before_any_training(sets: NamedSets, tmp_path: Path) -> None:
    few = NamedSets(sets.test, sets.real, sets.test)
    with pytest.raises(InputError, match="has 20 images: ablations need at least 200"):
        study_ablations(tmp_path / "one", few, quick=True)
    few = NamedSets(sets.synthetic, sets.test, sets.test)
    with pytest.raises(InputError, match="realism needs at least 256"):
        study_ablations(tmp_path / "two", few, quick=True)
    assert not list(tmp_path.glob("*/runs"))


def test_the_command(
    finished: Path, sets: NamedSets, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["study", "ablations", f"--out={finished}", "--quick", "--seeds=2", "--only=history"]
    command += [f"--synthetic={sets.synthetic}", f"--real={sets.real}", f"--test={sets.test}"]
    assert cli.main([*command, f"--json={tmp_path / 'all.json'}"]) == 0
    assert json.loads((tmp_path / "all.json").read_text()) == results_of(finished)
    assert "history (base)" in capsys.readouterr().out
    assert cli.main([*command, "--only=colour"]) == 2
    assert "is no group of ablations" in capsys.readouterr().err
