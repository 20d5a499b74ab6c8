"""Labels kept: estimators that see a known shift, and none where there is none; pixels, names and pictures."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from simgan_fast import cli
from simgan_fast.data import PackedWriter
from simgan_fast.errors import InputError, TrainingDiverged
from simgan_fast.evaluation.altered_looks import altered_looks
from simgan_fast.evaluation.gaze import GazeTraining, pitch_yaw_to_vector
from simgan_fast.evaluation.label_measures import evaluate_labels, labels_table
from simgan_fast.evaluation.label_pairs import matched, pixel_change
from simgan_fast.evaluation.label_pictures import heat_map, save_label_pictures
from simgan_fast.evaluation.label_shifts import gaze_shift, moved_right, point_shift
from simgan_fast.evaluation.landmarks import (
    LandmarkEstimator,
    LandmarkTraining,
    predict_landmarks,
    train_landmark_estimator,
)

SIZE = (20, 32)
QUICK = LandmarkTraining(updates=200, warm_up=10)
SHORT = LandmarkTraining(updates=2, batch_size=4, warm_up=0)
QUICK_GAZE = GazeTraining(
    0.125, fc_width_factor=0.05, updates=100, batch_size=16, learning_rate=2e-3, warm_up=10
)
SHORT_GAZE = GazeTraining(0.1, fc_width_factor=0.01, updates=2, batch_size=4, warm_up=0)


@dataclass
class NamedImages:
    """A labelled set with names that is in memory."""

    pixels: NDArray[Any]
    names: Sequence[str]
    labels: Mapping[str, NDArray[Any]] = field(default_factory=dict)

    def load(self) -> torch.Tensor:
        return torch.from_numpy(self.pixels)


@functools.cache
def dots(shift: tuple[float, float] = (0, 0), count: int = 500) -> NamedImages:
    """Dark dots on grey, moved by `shift`, with labels of where they are without it."""
    angles = np.random.default_rng(0).uniform(-0.3, 0.3, (count, 2))
    pupil = np.stack([15.5 - 25 * angles[:, 1], 9.5 - 15 * angles[:, 0]], axis=1)
    x, y = (pupil + shift).T
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    squares = (columns - x[:, None, None]) ** 2 + (rows - y[:, None, None]) ** 2
    images = np.rint(180 - 150 * np.exp(-squares / 12)).astype(np.uint8)[:, None]
    lids = np.concatenate([pupil - [6, 0], pupil + [6, 0]], axis=1)
    labels = {"pupil": pupil, "eyelids": lids, "gaze": pitch_yaw_to_vector(angles)}
    names = [f"eye/{i}.png" for i in range(count)]
    return NamedImages(images, names, {k: v.astype(np.float32) for k, v in labels.items()})


def measured(refined: NamedImages) -> dict[str, Any]:
    return evaluate_labels(dots(), refined, landmark_training=QUICK, gaze_training=QUICK_GAZE)


@functools.cache
def moved_by_3() -> dict[str, Any]:
    return measured(dots((3.0, 0.0)))


# Shifts


def test_what_did_not_move_has_no_shift() -> None:
    results = evaluate_labels(dots(), dots(), landmark_training=SHORT, gaze_training=SHORT_GAZE)
    assert list(results["shifts"]) == ["pupil", "eyelids", "gaze"]
    for shift in results["shifts"].values():
        assert shift["mean"] == shift["std"] == shift["rms"] == 0
        assert shift["offset"] == (0, 0) and not shift["far"]
        assert shift["error_raw_mean"] == shift["error_refined_mean"] > 0


def test_a_shift_of_3_pixels_is_found() -> None:
    """The estimator saw unmoved images alone."""
    pupil = moved_by_3()["shifts"]["pupil"]
    assert pupil["error_raw_mean"] < 0.7
    assert pupil["mean"] == pytest.approx(3, abs=0.7)
    assert pupil["offset"] == (pytest.approx(3, abs=0.7), pytest.approx(0, abs=0.4))
    assert pupil["far"] > 0.8
    assert pupil["response"] == pytest.approx(1, abs=0.25)
    assert pupil["error_refined_mean"] == pytest.approx(3, abs=0.7)
    lids = moved_by_3()["shifts"]["eyelids"]
    assert lids["offset"] == (pytest.approx(3, abs=1), pytest.approx(0, abs=0.5))


def test_the_gaze_of_moved_pupils_drifts() -> None:
    """3 pixels are 0.12 radians of yaw: x falls by 25 pixels with each."""
    gaze = moved_by_3()["shifts"]["gaze"]
    assert gaze["offset"] == (pytest.approx(0, abs=2), pytest.approx(-np.degrees(3 / 25), abs=3))
    assert gaze["rms"] > 2 * gaze["error_raw_mean"]
    assert gaze["far"] is None


def test_noise_moves_no_pupil() -> None:
    noise = np.random.default_rng(1).normal(0, 6, dots().pixels.shape)
    noisy = np.clip(np.rint(dots().pixels + noise), 0, 255).astype(np.uint8)
    results = measured(NamedImages(noisy, dots().names))
    assert results["shifts"]["pupil"]["mean"] < 0.6
    assert results["shifts"]["pupil"]["far"] < 0.02
    assert results["change"]["mean"] == pytest.approx(6 * np.sqrt(2 / np.pi), rel=0.05)


def test_point_shift_of_known_points() -> None:
    before, after = np.zeros((2, 2, 2)), np.array([[[3.0, 4.0], [0, 0]], [[0, 1], [0, 1]]])
    shift = point_shift(before, after, after + [1.5, 0], before + [0, 1])
    assert shift.mean == pytest.approx((2.5 + 1) / 2)
    assert shift.std == pytest.approx(0.75) and shift.far == 0.5
    assert shift.rms == pytest.approx(np.sqrt((2.5**2 + 1) / 2))
    assert shift.offset == pytest.approx((0.75, 1.5)) and shift.response == 0.75
    assert (shift.error_raw_mean, shift.error_raw_std) == (1, 0)


def test_images_are_moved_right() -> None:
    images = torch.arange(10, dtype=torch.uint8).reshape(1, 1, 2, 5)
    assert moved_right(images)[0, 0].tolist() == [[0, 0, 0, 1, 2], [5, 5, 5, 6, 7]]


def test_gaze_shift_of_known_angles() -> None:
    before, after = pitch_yaw_to_vector([[0, 0], [0, 0]]), pitch_yaw_to_vector([[0.1, 0], [0.1, 0]])
    shift = gaze_shift(before, 5 * after, before)
    assert shift.mean == shift.rms == pytest.approx(np.degrees(0.1))
    assert shift.offset == pytest.approx((np.degrees(0.1), 0))
    assert shift.error_raw_mean == 0 and shift.error_refined_mean == pytest.approx(np.degrees(0.1))


# The estimator of landmarks


def test_points_are_in_pixels_and_reach_beyond_the_image() -> None:
    places = LandmarkEstimator(1, 1, (20, 33)).places
    assert places.min(dim=0).values.tolist() == [-8, -8]
    assert places.max(dim=0).values.tolist() == [4 * 8 + 8, 4 * 4 + 8]
    assert places[1].tolist() == [-4, -8]
    assert LandmarkEstimator(3, 3, (7, 9))(torch.zeros(2, 3, 7, 9)).shape == (2, 3, 2)


def test_one_seed_gives_one_estimator() -> None:
    images, points = dots().load(), dots().labels["pupil"][:, None]
    found = [
        predict_landmarks(train_landmark_estimator(images, points, SHORT, seed=seed), images[:9])
        for seed in (1, 1, 2)
    ]
    assert np.array_equal(found[0], found[1]) and not np.array_equal(found[0], found[2])


def test_divergence_is_said() -> None:
    wild = LandmarkTraining(updates=5, batch_size=4, learning_rate=1e38, warm_up=0)
    with pytest.raises(TrainingDiverged, match="lower rate"):
        train_landmark_estimator(dots().load(), dots().labels["pupil"][:, None], wild)


@pytest.mark.parametrize(
    ("settings", "message"), [({"updates": 0}, "updates is 0"), ({"learning_rate": 0.0}, "is 0.0")]
)
def test_unusable_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        LandmarkTraining(**settings)


def test_altered_looks_are_others_with_nothing_moved() -> None:
    images = dots().load()[:200]
    looks = altered_looks(images, seed=1)
    assert looks.dtype == torch.uint8 and torch.equal(looks, altered_looks(images, seed=1))
    assert not torch.equal(looks, altered_looks(images, seed=2))
    assert (looks != images).float().mean() > 0.8
    shift = torch.roll(images, 2, 3)
    like = [
        torch.corrcoef(torch.stack([looks.float().flatten(), x.float().flatten()]))[0, 1]
        for x in (images, shift)
    ]
    assert like[0] > like[1] + 0.05


def test_altered_looks_keep_16_bits() -> None:
    deep = torch.from_numpy(dots().pixels[:3].astype(np.uint16) * 200)
    assert altered_looks(deep, seed=0).dtype == torch.uint16


# Pairs and pixels


def test_pairs_are_found_by_name() -> None:
    raw = dots()
    order = np.random.default_rng(0).permutation(len(raw.names))[:300]
    names = [raw.names[row].replace(".png", ".jpg") for row in order]
    pairs = matched(raw, NamedImages(raw.pixels[order], [*names[:-1], "other.jpg"]))
    assert torch.equal(pairs.raw, pairs.refined) and len(pairs.raw) == 299
    assert pairs.alone == 500 + 300 - 2 * 299
    rows = [raw.names.index(f"{name}.png") for name in pairs.names]
    assert np.array_equal(pairs.labels["pupil"], raw.labels["pupil"][rows])


def test_pixel_change_of_known_images() -> None:
    raw = np.full((2, 1, 3, 4), 100, np.uint8)
    refined = raw.copy()
    refined[0, 0, 1, 2], refined[1, 0, 1, 2] = 124, 88
    change = pixel_change(torch.from_numpy(raw), torch.from_numpy(refined))
    assert change.mean == pytest.approx(36 / 24) and change.signed == pytest.approx(12 / 24)
    assert change.std == pytest.approx((24 - 12) / 12 / 2)
    where = np.array(change.where)
    assert where[1, 2] == 18 and where.sum() == 18


def test_16_bit_images_are_compared() -> None:
    deep = dots().pixels.astype(np.uint16) * 200
    raw = NamedImages(deep, dots().names, {"pupil": dots().labels["pupil"]})
    results = evaluate_labels(raw, NamedImages(deep + 300, raw.names), landmark_training=SHORT)
    assert results["change"]["mean"] == results["change"]["signed"] == 300


def test_without_labels_only_pixels_are_compared() -> None:
    raw = NamedImages(dots().pixels, dots().names)
    results = evaluate_labels(raw, dots((3.0, 0.0)))
    assert results["shifts"] == {} and results["change"]["mean"] > 1
    assert labels_table(results).startswith("no pupil, eyelids or gaze")


def test_unusable_sets_are_refused() -> None:
    good = dots()
    cases: list[tuple[NamedImages, str]] = [
        (
            NamedImages(good.pixels, [f"x{n}" for n in good.names]),
            "0 of the 500 raw and 500 refined",
        ),
        (NamedImages(good.pixels[:199], good.names[:199]), "labels need at least 200 pairs"),
        (
            NamedImages(good.pixels[:, :, 1:], good.names),
            r"\[1, 20, 32\] and refined ones torch.uint8 \[1, 19, 32\]",
        ),
        (NamedImages(good.pixels.astype(np.uint16), good.names), "refined ones torch.uint16"),
        (NamedImages(good.pixels[:2], ["a.png", "a.jpg"]), "by the ending of their names alone"),
    ]
    for refined, message in cases:
        with pytest.raises(InputError, match=message):
            evaluate_labels(good, refined)
    broken = {"pupil": good.labels["pupil"].copy()}
    broken["pupil"][3, 1] = np.nan
    for labels, message in (
        (broken, "'pupil' of the raw images is not finite"),
        ({"eyelids": np.zeros((500, 3), np.float32)}, r"'eyelids' of the raw images is \[500, 3\]"),
    ):
        with pytest.raises(InputError, match=message):
            evaluate_labels(NamedImages(good.pixels, good.names, labels), good)
    with pytest.raises(InputError, match="seed is -1"):
        evaluate_labels(good, good, seed=-1)


def test_the_result_is_the_same_on_any_number_of_threads() -> None:
    found = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        try:
            found.append(
                evaluate_labels(
                    dots(), dots((3.0, 0.0)), landmark_training=SHORT, gaze_training=SHORT_GAZE
                )
            )
        finally:
            torch.set_num_threads(1)
    assert found[0] == found[1]


# What comes out


def test_results_are_json_and_a_table() -> None:
    json.dumps(moved_by_3(), allow_nan=False)
    lines = labels_table(moved_by_3()).splitlines()
    assert [line.split(",")[0] for line in lines[1:4]] == ["pupil", "eyelids", "gaze"]
    assert f"{moved_by_3()['shifts']['pupil']['mean']:.2f} +- " in lines[1]
    assert "250 raw images, asked about 250 others" in lines[4]
    assert "over 500 pairs" in lines[5]


def test_the_heat_map_is_hot_where_values_are_large() -> None:
    values = np.zeros((20, 32))
    values[5, 7] = 3.0
    picture = heat_map(values)
    scale = round(220 / 32)
    at = picture[12 + 5 * scale + 3, 12 + 7 * scale + 3]
    assert at.tolist() == [255, 255, 255] and picture[12 + 3, 12 + 3].tolist() == [0, 0, 0]
    assert heat_map(np.zeros((20, 32)))[20, 20].tolist() == [0, 0, 0]


def test_pictures_are_written(tmp_path: Path) -> None:
    save_label_pictures(moved_by_3(), dots(), dots((3.0, 0.0)), tmp_path / "out")
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == [
        "change.png",
        "pupils.png",
    ]
    with Image.open(tmp_path / "out" / "pupils.png") as picture:
        assert picture.width > 600
    with pytest.raises(InputError, match="already exists"):
        save_label_pictures(moved_by_3(), dots(), dots(), tmp_path / "out")


def test_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for training, short in ((LandmarkTraining, SHORT), (GazeTraining, SHORT_GAZE)):
        monkeypatch.setattr(training, "__init__", _setting(short))
    raw, refined = dots(), dots((3.0, 0.0))
    for folder, images in (("raw", raw), ("refined", refined)):
        widths = {name: values.shape[1] for name, values in raw.labels.items()}
        with PackedWriter(tmp_path / folder, (1, *SIZE), widths) as writer:
            writer.add(images.pixels, images.names, raw.labels)
    arguments = [str(tmp_path / name) for name in ("raw", "refined")]
    arguments += ["--json", str(tmp_path / "moved.json"), "--out", str(tmp_path / "moved")]
    assert cli.main(["evaluate", "labels", *arguments]) == 0
    assert "pupil, px" in capsys.readouterr().out
    assert json.loads((tmp_path / "moved.json").read_text())["pairs"] == 500
    assert (tmp_path / "moved" / "change.png").is_file()
    assert cli.main(["evaluate", "labels", *arguments]) == 2
    assert "already exists" in capsys.readouterr().err


def _setting(settings: Any) -> Any:
    """An `__init__` that gives every new object the fields of `settings`."""

    def init(self: Any, **_: Any) -> None:
        for name, value in vars(settings).items():
            object.__setattr__(self, name, value)

    return init
