"""`evaluate all`: the three measures in one go, gaze only where there are labels for it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from simgan_fast import cli
from simgan_fast.data import PackedWriter


def write_set(folder: Path, seed: int, count: int, labelled: bool) -> Path:
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (count, 1, 16, 20)).astype(np.uint8)
    gaze = rng.normal(size=(count, 3)) - [0, 0, 5]
    with PackedWriter(folder, (1, 16, 20), {"gaze": 3} if labelled else {}) as writer:
        names = [f"{index}.png" for index in range(count)]
        writer.add(images, names, {"gaze": gaze} if labelled else {})
    return folder


@pytest.mark.parametrize("labelled", [False, True])
def test_measures_in_one_go(tmp_path: Path, monkeypatch, capsys, labelled: bool) -> None:
    """Each measure is tested where it is; here that each gets the right sets, and that its numbers come out."""
    calls = {}

    def noted(name: str):
        def measure(*sets, **options):
            calls[name] = sets
            return {"measure": name}

        return measure

    for name in ("realism", "labels", "gaze"):
        monkeypatch.setattr(f"simgan_fast.jobs.evaluate_all.evaluate_{name}", noted(name))
    monkeypatch.setattr("simgan_fast.evaluation.label_pairs.LEAST", 4)
    monkeypatch.setattr("simgan_fast.evaluation.realism.realism_table", str)
    monkeypatch.setattr("simgan_fast.evaluation.label_measures.labels_table", str)
    monkeypatch.setattr("simgan_fast.evaluation.gaze.gaze_table", str)
    synthetic = write_set(tmp_path / "synthetic", 1, 4, labelled=True)
    refined = write_set(tmp_path / "refined", 2, 4, labelled=True)
    real = write_set(tmp_path / "real", 3, 5, labelled)
    out = tmp_path / "all.json"
    arguments = [str(path) for path in (synthetic, refined, real)]
    assert cli.main(["evaluate", "all", *arguments, "--json", str(out)]) == 0
    found = json.loads(out.read_text())
    assert found["realism"] == {"measure": "realism"} and found["labels"] == {"measure": "labels"}
    assert found["gaze"] == ({"measure": "gaze"} if labelled else None)
    assert set(found["seconds"]) == {"realism", "labels"} | ({"gaze"} if labelled else set())
    photographs, sets = calls["realism"]
    assert photographs.path == real and list(sets) == ["synthetic", "refined"]
    assert [images.path for images in calls["labels"]] == [synthetic, refined]
    assert not labelled or calls["gaze"][1].path == real
    assert ("gaze was not measured" in capsys.readouterr().out) is not labelled


def test_too_few_pairs_are_told_before_anything_is_measured(
    tmp_path: Path, monkeypatch, capsys
) -> None:
    # Calling it would end with a traceback.
    monkeypatch.setattr("simgan_fast.jobs.evaluate_all.evaluate_realism", None)
    sets = [write_set(tmp_path / str(seed), seed, 150, labelled=True) for seed in range(3)]
    assert cli.main(["evaluate", "all", *map(str, sets)]) == 2
    assert "150 of the 150 raw and 150 refined images" in capsys.readouterr().err
