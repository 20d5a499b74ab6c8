"""The folder of a study: cells are done once, kept whole, and foreign folders are left alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from simgan_fast.errors import InputError
from simgan_fast.progress import Progress
from simgan_fast.studies.cells import STUDY_FILE, Cell, Study, open_study

SETTINGS = {"seeds": 2, "images": [1, 2]}
COSTS = {"a": 1.0, "b": 3.0}


def told(folder: Path, **changes: Any) -> None:
    with open_study(folder, "table", SETTINGS | changes, COSTS):
        pass


def test_a_finished_cell_is_not_done_again(tmp_path: Path) -> None:
    calls: list[str] = []

    def both(study: Study) -> list[Cell]:
        return [
            study.cell(name, lambda: {"calls": calls.append("x") or len(calls)}) for name in "ab"
        ]

    with open_study(tmp_path, "table", SETTINGS, COSTS) as study:
        study.cell("a", lambda: {"calls": 7})
        assert study.done("a") and not study.done("b")
    for _ in range(2):
        with open_study(tmp_path, "table", SETTINGS, COSTS) as study:
            assert both(study) == [{"calls": 7}, {"calls": 1}]


def test_what_was_done_beside_a_failure_is_kept(tmp_path: Path) -> None:
    def fail(_: Progress) -> Cell:
        raise RuntimeError("stop here")

    with open_study(tmp_path, "table", SETTINGS, COSTS) as study:
        with pytest.raises(RuntimeError, match="stop here"):
            study.cells_side_by_side({"a": lambda _: {"x": 1}, "b": fail}, 1)
        assert [path.name for path in (tmp_path / "cells").iterdir()] == ["a.json"]
        again: dict[str, Any] = {"a": fail, "b": lambda _: {"x": 2}}
        assert study.cells_side_by_side(again, 1) == {"a": {"x": 1}, "b": {"x": 2}}


def test_the_time_left_counts_what_cells_cost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = [0.0]
    monkeypatch.setattr("simgan_fast.studies.cells.time.monotonic", lambda: clock[0])
    with open_study(tmp_path, "table", SETTINGS, COSTS) as study:
        clock[0] = 120.0
        study.cell("a", dict)
        study.cell("b", dict)
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["table: a done, 1 of 2 cells, about 6 min left", "table: b done, 2 of 2 cells"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seeds": 3}, "this study with another seeds"),
        ({"more": 1}, "another more"),
        ({"format": 2}, "format 1, this one has 2"),
        ({"study": "other"}, "study 'table', this one has 'other'"),
    ],
)
def test_another_study_is_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    told(tmp_path)
    before = (tmp_path / STUDY_FILE).read_text()
    with pytest.raises(InputError, match=message):
        told(tmp_path, **changes)
    assert (tmp_path / STUDY_FILE).read_text() == before


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(InputError, match="something else"):
        told(tmp_path)
    with pytest.raises(InputError, match="something else"):
        told(tmp_path / "thesis.tex")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("text", ["{", "[]", ""])
def test_damage_is_said(tmp_path: Path, text: str) -> None:
    told(tmp_path / "study")
    (tmp_path / "study" / STUDY_FILE).write_text(text)
    with pytest.raises(InputError, match=r"study.json is damaged"):
        told(tmp_path / "study")


def test_one_process_at_a_time(tmp_path: Path, run_python: Any) -> None:
    script = (
        "import sys\n"
        "from simgan_fast.errors import InputError\n"
        "from simgan_fast.studies.cells import open_study\n"
        "try:\n"
        "    with open_study(sys.argv[1], 'table', {}, {}): print('let in')\n"
        "except InputError as error: print(error)\n"
    )
    with open_study(tmp_path, "table", {}, {}):
        assert "another process" in run_python(script, str(tmp_path))
    with open_study(tmp_path, "table", {}, {}):
        assert json.loads((tmp_path / STUDY_FILE).read_text()) == {"study": "table", "format": 1}
