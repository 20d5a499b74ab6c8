"""Nearest neighbours and ridge regression beside the gaze estimator, and the cumulative error curve."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import pytest
import torch

from simgan_fast import cli
from simgan_fast.errors import InputError
from simgan_fast.evaluation import gaze_baselines
from simgan_fast.evaluation.gaze import (
    GazeTraining,
    angular_error,
    evaluate_gaze,
    gaze_table,
    write_curve,
)
from simgan_fast.evaluation.gaze_baselines import (
    NEIGHBOURS,
    STRENGTHS,
    Pixels,
    nearest_neighbours,
    predict_baselines,
    ridge_regression,
)
from simgan_fast.gaze import pitch_yaw_to_vector
from simgan_fast.reporting.measures import measure_html

SIZE = (10, 16)
SHORT = GazeTraining(width_factor=0.1, fc_width_factor=0.01, updates=3, batch_size=4, warm_up=0)


class MemorySet:
    """A labelled set that is in memory: white dots that move with the gaze, as a pupil does."""

    def __init__(self, count: int, seed: int) -> None:
        angles = np.random.default_rng(seed).uniform(-0.4, 0.4, (count, 2))
        rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
        x = SIZE[1] / 2 - angles[:, 1, None, None] * 12
        y = SIZE[0] / 2 - angles[:, 0, None, None] * 10
        dots = 255 * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / 12)
        self.images = torch.from_numpy(dots.astype(np.uint8)[:, None])
        self.labels = {"gaze": pitch_yaw_to_vector(angles)}

    @property
    def gaze(self) -> torch.Tensor:
        return torch.from_numpy(self.labels["gaze"]).float()

    def load(self) -> torch.Tensor:
        return self.images


def noise(count: int, seed: int, dtype: Any = np.uint8) -> np.ndarray:
    top = np.iinfo(dtype).max
    return (
        np.random.default_rng(seed).integers(0, top, (count, 1, *SIZE), endpoint=True).astype(dtype)
    )


def flat(images: np.ndarray) -> np.ndarray:
    """Rows of float64 in [-1, 1]."""
    return images.reshape(len(images), -1) / (np.iinfo(images.dtype).max / 2) - 1


@pytest.fixture(params=[3, 2048])
def block(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Blocks that do and that do not divide the sets."""
    monkeypatch.setattr(gaze_baselines, "BLOCK", request.param)
    return int(request.param)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_nearest_neighbours_are_those_of_all_distances(block: int, dtype: Any) -> None:
    known, asked = noise(20, 0, dtype), noise(7, 1, dtype)
    gaze = np.random.default_rng(2).normal(size=(20, 3))
    found = nearest_neighbours(Pixels(known), gaze, Pixels(asked), [1, 4, 20, 21])
    apart = np.linalg.norm(flat(asked)[:, None] - flat(known)[None], axis=2)
    order = apart.argsort(axis=1)
    assert list(found) == [1, 4, 20], "there are no 21"
    for count, predicted in found.items():
        expected = gaze[order[:, : int(count)]].mean(axis=1)
        np.testing.assert_allclose(predicted, expected, rtol=1e-12)


def test_an_image_is_its_own_nearest(block: int) -> None:
    data = MemorySet(30, 0)
    pixels = Pixels(data.images.numpy())
    found = nearest_neighbours(pixels, data.labels["gaze"], pixels, [1])
    np.testing.assert_array_equal(found[1], data.labels["gaze"])


def test_ridge_regression_solves_its_normal_equations(block: int) -> None:
    """The textbook's, with a column of ones that is not penalised."""
    known, asked = noise(50, 0), noise(7, 1)
    gaze = np.random.default_rng(2).normal(size=(50, 3))
    x = np.hstack([flat(known), np.ones((50, 1))])
    unit = flat(known).var(axis=0).mean()
    for strength, predicted in ridge_regression(
        Pixels(known), gaze, Pixels(asked), [0.1, 10.0]
    ).items():
        penalty = 50 * strength * unit * np.diag([*np.ones(x.shape[1] - 1), 0])
        weights = np.linalg.solve(x.T @ x + penalty, x.T @ gaze)
        np.testing.assert_allclose(predicted, flat(asked) @ weights[:-1] + weights[-1], atol=1e-9)


def test_they_learn_and_choose() -> None:
    train, test = MemorySet(400, 0), MemorySet(100, 1)
    constant = angular_error([[0.0, 0.0, -1.0]] * 100, test.labels["gaze"]).mean()
    found = predict_baselines(train.images, train.gaze, test.images)
    for baseline, candidates in zip(found.values(), (NEIGHBOURS, STRENGTHS), strict=True):
        error = angular_error(baseline.predicted, test.labels["gaze"]).mean()
        assert error < constant / 3
        assert list(baseline.validation_error_deg) == list(candidates)
        best = min(baseline.validation_error_deg.values())
        assert baseline.validation_error_deg[baseline.chosen] == best


def test_the_test_images_choose_nothing() -> None:
    train = MemorySet(60, 0)
    one, other = (
        predict_baselines(train.images, train.gaze, test)
        for test in (MemorySet(9, 1).images, torch.from_numpy(noise(5, 3)))
    )
    for method in one:
        assert one[method].chosen == other[method].chosen
        assert one[method].validation_error_deg == other[method].validation_error_deg


def test_what_chooses_is_not_fitted() -> None:
    """Were it, the nearest neighbour of each validation image would be itself, and 1 without an error."""
    train = MemorySet(100, 0)
    found = predict_baselines(train.images, train.gaze, train.images)["nearest"]
    assert found.validation_error_deg[1] > 0.1


def test_small_and_large_and_constant_sets() -> None:
    two = MemorySet(2, 0)
    found = predict_baselines(two.images, two.gaze, two.images)
    assert found["nearest"].chosen == 1
    assert all(np.isfinite(baseline.predicted).all() for baseline in found.values())
    grey = torch.full((9, 1, *SIZE), 7, dtype=torch.uint8)
    found = predict_baselines(grey, MemorySet(9, 0).gaze, grey)
    np.testing.assert_allclose(
        found["ridge"].predicted, [MemorySet(9, 0).gaze.mean(0).tolist()] * 9, atol=1e-6
    )
    with pytest.raises(InputError, match="'raw' has 1 image"):
        predict_baselines(two.images[:1], two.gaze[:1], two.images, "the training set 'raw'")


def test_large_images_are_averaged() -> None:
    image = np.arange(2 * 3 * 101 * 100).reshape(2, 3, 101, 100) % 256
    ((_, rows),) = Pixels(image.astype(np.uint8)).blocks()
    assert rows.shape == (2, 3 * 33 * 33), "squares of 3: 3 x 50 x 50 are above 4096"
    first = image[0, 0, :3, :3].mean() / 127.5 - 1
    assert rows[0, 0] == pytest.approx(first)


def results(baselines: bool = True) -> dict[str, Any]:
    sets = {"raw": MemorySet(30, 0), "<refined>": MemorySet(40, 1)}
    return evaluate_gaze(sets, MemorySet(20, 2), seeds=(0, 1), training=SHORT, baselines=baselines)


def test_evaluation_holds_the_baselines() -> None:
    found = results()
    assert json.loads(json.dumps(found)) == found
    assert list(found["baselines"]) == list(found["arms"])
    ridge = found["baselines"]["raw"]["ridge"]
    assert 0 < ridge["mean_error_deg"] < found["constant_error_deg"]
    assert len(ridge["cumulative_curve"]) == 26 and ridge["n"] == 20
    lines = gaze_table(found).splitlines()
    assert lines[2].split()[1] == "nearest"
    assert lines[3].startswith("  ridge ") and f"{ridge['mean_error_deg']:.2f}" in lines[3]
    assert "baselines" not in results(baselines=False)
    assert results(baselines=False)["arms"] == found["arms"]


def test_the_curve_as_a_table_and_as_a_chart(tmp_path: Path) -> None:
    found = results()
    write_curve(found, tmp_path / "curve.csv")
    write_curve(found, tmp_path / "curve.svg")
    with (tmp_path / "curve.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["degrees"] for row in rows] == [str(degree) for degree in range(26)]
    assert [float(row["<refined>"]) for row in rows] == found["arms"]["<refined>"][
        "cumulative_curve"
    ]
    assert len(rows[0]) == 1 + 2 * 3, "each set, and two baselines of it"
    text = "".join(ET.parse(tmp_path / "curve.svg").getroot().itertext())
    assert all(name in text for name in rows[0] if name != "degrees")


def test_baselines_are_in_a_report() -> None:
    html = measure_html(json.loads(json.dumps(results())))
    assert html.count("raw, ridge") == 2, "in the table and in the chart"
    assert "<refined>" not in html


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    eyes, curve = tmp_path / "eyes", tmp_path / "curve"
    assert cli.main(["simulate", "eyes", str(eyes), "--count", "12"]) == 0
    arguments = ["evaluate", "gaze", "--train", f"raw={eyes}", "--test", str(eyes), "--seeds", "1"]
    arguments += ["--updates", "2", "--baselines"]
    assert cli.main([*arguments, "--curve", f"{curve}.svg", "--curve", f"{curve}.csv"]) == 0
    printed = capsys.readouterr().out
    assert "nearest" in printed and "ridge" in printed
    assert {path.name for path in tmp_path.glob("curve*")} == {"curve.svg", "curve.csv"}
    assert cli.main([*arguments, "--curve", f"{curve}.txt"]) == 2
    assert "ends in .svg, .png or .csv" in capsys.readouterr().err
