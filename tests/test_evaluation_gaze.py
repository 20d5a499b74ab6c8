"""Gaze conventions, scores, labels, and what an estimator learns."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from simgan_fast.errors import InputError, TrainingDiverged
from simgan_fast.evaluation import gaze as gaze_module
from simgan_fast.evaluation.gaze import (
    GazeTraining,
    angular_error,
    cumulative_curve,
    evaluate_gaze,
    gaze_of,
    gaze_scores,
    gaze_table,
    pitch_yaw_to_vector,
    predict_gaze,
    train_gaze_estimator,
    vector_to_pitch_yaw,
)
from simgan_fast.models.gaze_estimator import GazeEstimator

SIZE = (20, 30)
QUICK = GazeTraining(
    width_factor=0.125,
    fc_width_factor=0.05,
    updates=100,
    batch_size=16,
    learning_rate=2e-3,
    warm_up=10,
)
SHORT = GazeTraining(width_factor=0.1, fc_width_factor=0.01, updates=3, batch_size=4, warm_up=0)


@dataclass
class MemorySet:
    """A labelled set that is in memory."""

    images: torch.Tensor
    labels: Mapping[str, Any] = field(default_factory=dict)

    def load(self) -> torch.Tensor:
        return self.images


def toy_set(count: int, seed: int, shift: float = 0.0) -> MemorySet:
    """White dots on black that move with the gaze: x = -yaw, y = -pitch, as a pupil does."""
    angles = np.random.default_rng(seed).uniform(-0.4, 0.4, (count, 2))
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    x = SIZE[1] / 2 - angles[:, 1, None, None] * 25
    y = SIZE[0] / 2 - angles[:, 0, None, None] * 20 + shift
    dots = 255 * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / 12)
    images = torch.from_numpy(dots.astype(np.uint8)[:, None])  # [n, 1, h, w]
    return MemorySet(images, {"gaze": pitch_yaw_to_vector(angles)})


@pytest.mark.parametrize(
    ("pitch", "yaw", "vector"),
    [
        (0.0, 0.0, (0, 0, -1)),  # into the camera
        (90.0, 0.0, (0, -1, 0)),  # up: y points down
        (-90.0, 0.0, (0, 1, 0)),
        (0.0, 90.0, (-1, 0, 0)),  # to the image's left
        (0.0, -90.0, (1, 0, 0)),
        (30.0, 0.0, (0, -0.5, -np.sqrt(0.75))),
        (0.0, 30.0, (-0.5, 0, -np.sqrt(0.75))),
    ],
)
def test_mpiigaze_convention(pitch: float, yaw: float, vector: tuple[float, ...]) -> None:
    angles = np.radians([[pitch, yaw]])
    np.testing.assert_allclose(pitch_yaw_to_vector(angles), [vector], atol=1e-15)
    if abs(pitch) < 90:  # yaw means nothing straight up
        np.testing.assert_allclose(vector_to_pitch_yaw([vector]), angles, atol=1e-15)
        np.testing.assert_allclose(vector_to_pitch_yaw([7 * np.array(vector)]), angles, atol=1e-15)


@given(st.floats(-1.5, 1.5), st.floats(-3.1, 3.1))
def test_angles_survive_the_round_trip(pitch: float, yaw: float) -> None:
    vector = pitch_yaw_to_vector([[pitch, yaw]])
    assert np.linalg.norm(vector) == pytest.approx(1)
    x, y, z = vector[0]
    assert np.arcsin(-y) == pytest.approx(pitch, abs=1e-6)
    assert np.arctan2(-x, -z) == pytest.approx(yaw, abs=1e-9)
    np.testing.assert_allclose(vector_to_pitch_yaw(vector), [[pitch, yaw]], atol=1e-9)


@pytest.mark.parametrize(
    ("predicted", "true", "degrees"),
    [
        ((0, 0, -1), (0, 0, -1), 0),
        ((0, 0, -1), (0, 0, 1), 180),
        ((0, 0, -3), (0, 2, 0), 90),
        ((1, 1, 0), (1, 0, 0), 45),
        ((0, np.sin(1e-9), -np.cos(1e-9)), (0, 0, -1), np.degrees(1e-9)),
        ((1e-200, 0, 0), (0, 1e-200, 0), 90),
    ],
)
def test_angular_error_of_known_pairs(
    predicted: tuple[float, ...], true: tuple[float, ...], degrees: float
) -> None:
    assert angular_error([predicted], [true])[0] == pytest.approx(degrees, rel=1e-9)


def test_equal_vectors_are_exactly_0_apart() -> None:
    vectors = np.random.default_rng(0).normal(size=(1000, 3)).astype(np.float32)
    assert (angular_error(vectors, vectors) == 0).all()
    assert (angular_error(2 * vectors, vectors) == 0).all()


@pytest.mark.parametrize("bad", [(0.0, 0.0, 0.0), (np.nan, 0.0, -1.0), (np.inf, 0.0, -1.0)])
def test_a_vector_without_direction_is_no_good_prediction(bad: tuple[float, ...]) -> None:
    with pytest.raises(InputError, match="predicted vector 1"):
        angular_error([(0.0, 0.0, -1.0), bad], [(0.0, 0.0, -1.0)] * 2)
    with pytest.raises(InputError, match="1 predicted and 2 true"):
        angular_error([(0.0, 0.0, -1.0)], [(0.0, 0.0, -1.0)] * 2)


def test_scores_tell_a_constant_offset_from_the_rest() -> None:
    true = np.random.default_rng(1).uniform(-0.3, 0.3, (200, 2))
    offset = np.radians([5.0, -3.0])
    scores = gaze_scores(pitch_yaw_to_vector(true + offset), pitch_yaw_to_vector(true))
    assert scores.pitch_offset_deg == pytest.approx(5)
    assert scores.yaw_offset_deg == pytest.approx(-3)
    assert scores.mean_error_deg == pytest.approx(np.hypot(5, 3 * 0.97), rel=0.02)
    assert scores.mean_error_without_offset_deg == pytest.approx(0, abs=1e-6)
    assert (scores.within_7_deg, scores.n) == (1.0, 200)


def test_offset_goes_the_short_way_round() -> None:
    yaw = np.radians([[0.0, 179.0]]), np.radians([[0.0, -179.0]])
    scores = gaze_scores(pitch_yaw_to_vector(yaw[0]), pitch_yaw_to_vector(yaw[1]))
    assert scores.yaw_offset_deg == pytest.approx(-2)


def test_share_within_7_degrees_and_curve() -> None:
    degrees = np.array([0.0, 6.9, 7.1, 30.0])
    angles = np.stack([np.radians(degrees), np.zeros(4)], axis=1)
    scores = gaze_scores(pitch_yaw_to_vector(angles), [(0.0, 0.0, -1.0)] * 4)
    assert scores.within_7_deg == 0.5
    curve = cumulative_curve(degrees)
    assert len(curve) == 26
    assert (curve[0], curve[6], curve[7], curve[8], curve[25]) == (0.25, 0.25, 0.5, 0.75, 0.75)


@pytest.mark.parametrize("width", [(3,), (3, 1)])
@pytest.mark.parametrize("names", [("pitch", "yaw"), ("pitch_rad", "yaw_rad")])
def test_labels_by_any_of_their_names(width: tuple[int, ...], names: tuple[str, str]) -> None:
    pitch, yaw = np.array([0.1, 0.2, 0.3]), np.array([-0.1, 0.0, 0.4])
    labels = {names[0]: pitch.reshape(width), names[1]: yaw.reshape(width)}
    expected = pitch_yaw_to_vector(np.stack([pitch, yaw], axis=1))
    np.testing.assert_allclose(gaze_of(labels), expected, atol=1e-7)
    np.testing.assert_allclose(gaze_of({"gaze": 5 * expected}), expected, atol=1e-7)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({}, "raw has no labels"),
        ({"pupil": np.zeros((2, 2)), "pitch": np.zeros(2)}, "raw has the labels pitch, pupil"),
        ({"gaze": np.zeros((2, 2))}, r"\[2, 2\]: want \[n, 3\]"),
        ({"gaze": np.array([[0, 0, -1], [0, np.nan, -1]])}, "image 1 of raw .* not finite"),
        ({"gaze": np.array([[0, 0, -1], [0, 0, 0]])}, "image 1 of raw is the zero vector"),
        ({"pitch": np.zeros(2), "yaw": np.array([0, np.inf])}, "'yaw' of image 1"),
        ({"pitch": np.zeros(2), "yaw": np.array([0, 12.0])}, "radians"),
        ({"pitch": np.zeros((2, 2)), "yaw": np.zeros(2)}, "one angle per image"),
        ({"pitch": np.zeros(2), "yaw": np.zeros(3)}, "2 pitch and 3 yaw"),
    ],
)
def test_unusable_labels_are_refused(labels: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        gaze_of(labels, "raw")


def test_training_learns_the_gaze() -> None:
    train, test = toy_set(400, 0), toy_set(100, 1)
    estimator = train_gaze_estimator(train, training=QUICK)
    error = angular_error(predict_gaze(estimator, test.images), test.labels["gaze"]).mean()
    constant = angular_error([[0.0, 0.0, -1.0]] * 100, test.labels["gaze"]).mean()
    assert constant > 15
    assert error < 5


def test_one_seed_gives_one_estimator() -> None:
    data, state = toy_set(20, 0), torch.random.get_rng_state()
    first, again, other = (
        train_gaze_estimator(data.images, data.labels["gaze"], SHORT, seed=seed).state_dict()
        for seed in (3, 3, 4)
    )
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["conv1.weight"], other["conv1.weight"])
    assert torch.equal(torch.random.get_rng_state(), state)


def test_evaluation_compares_sets_and_is_json() -> None:
    test, offset = toy_set(60, 1), toy_set(300, 0, shift=3.0)
    results = evaluate_gaze(
        {"same": toy_set(300, 0), "moved": offset}, test, seeds=(0, 5), training=QUICK
    )
    assert json.loads(json.dumps(results)) == results
    same, moved = results["arms"]["same"], results["arms"]["moved"]
    error = same["mean_error_deg"]
    assert error["mean"] == pytest.approx(np.mean(error["per_seed"]))
    assert error["std"] == pytest.approx(np.std(error["per_seed"], ddof=1))
    assert moved["mean_error_deg"]["mean"] > error["mean"] + 2  # 3 pixels are 8.6 degrees of pitch
    assert abs(moved["pitch_offset_deg"]["mean"]) > 3
    centred = moved["mean_error_without_offset_deg"]["mean"]
    assert centred < moved["mean_error_deg"]["mean"] - 2
    assert np.shape(same["predicted_pitch_yaw_deg"]) == (2, 60, 2)
    predicted, true = (
        pitch_yaw_to_vector(np.radians(angles))
        for angles in (same["predicted_pitch_yaw_deg"][1], results["true_pitch_yaw_deg"])
    )
    assert angular_error(predicted, true).mean() == pytest.approx(error["per_seed"][1], abs=1e-3)
    assert len(same["cumulative_curve"]) == len(results["curve_degrees"]) == 26
    assert results["constant_error_deg"] > 10
    table = gaze_table(results).splitlines()
    assert table[1].split()[:2] == ["same", "300"]
    assert f"{error['mean']:.2f} +- {error['std']:.2f}" in table[1]


def test_evaluation_is_the_same_on_any_number_of_threads() -> None:
    data, results = toy_set(20, 0), []
    for threads in (1, 3):
        torch.set_num_threads(threads)
        try:
            results.append(evaluate_gaze({"a": data, "b": data}, data, training=SHORT))
            assert torch.get_num_threads() == threads
        finally:
            torch.set_num_threads(1)
    assert results[0] == results[1]
    alone = predict_gaze(train_gaze_estimator(data, training=SHORT, seed=2), data.images)
    angles = np.degrees(vector_to_pitch_yaw(alone)).round(4)
    assert results[0]["arms"]["b"]["predicted_pitch_yaw_deg"][2] == angles.tolist()


def test_a_failed_training_ends_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """The other training of this one, which comes first, would take years."""

    def fail_on_nine(images: torch.Tensor, *rest: Any, **options: Any) -> GazeEstimator:
        if len(images) == 9:
            raise RuntimeError("stop here")
        return train_gaze_estimator(images, *rest, **options)

    monkeypatch.setattr(gaze_module, "train_gaze_estimator", fail_on_nine)
    sets = {"good": toy_set(8, 0), "bad": toy_set(9, 0)}
    endless = dataclasses.replace(SHORT, updates=10**9)
    torch.set_num_threads(2)
    try:
        with pytest.raises(RuntimeError, match="stop here"):
            evaluate_gaze(sets, sets["good"], seeds=(0,), training=endless)
    finally:
        torch.set_num_threads(1)


def test_predictions_do_not_depend_on_the_batch() -> None:
    data = toy_set(300, 0)
    estimator = train_gaze_estimator(data, training=SHORT)
    whole = predict_gaze(estimator, data.images)
    assert whole.shape == (300, 3)
    np.testing.assert_allclose(predict_gaze(estimator, data.images[250:]), whole[250:], atol=1e-6)
    assert predict_gaze(estimator, data.images[:0]).shape == (0, 3)


def test_unusable_sets_are_refused() -> None:
    good, empty = toy_set(8, 0), toy_set(0, 0)
    small = MemorySet(good.images[:, :, 1:], good.labels)
    few = MemorySet(good.images, {"gaze": good.labels["gaze"][:7]})
    floats = MemorySet(good.images.float(), good.labels)
    cases: list[tuple[dict[str, MemorySet], MemorySet, str]] = [
        ({}, good, "0 training sets"),
        ({"raw": empty}, good, "the training set 'raw' has no images"),
        ({"raw": good}, empty, "the test set has no images"),
        ({"raw": good}, MemorySet(good.images), "the test set has no labels"),
        ({"raw": few}, good, "8 images and 7 gaze labels"),
        ({"raw": small}, good, r"\[1, 19, 30\] and those of the test set \[1, 20, 30\]"),
        ({"raw": floats}, good, "torch.float32"),
    ]
    for sets, test, message in cases:
        with pytest.raises(InputError, match=message):
            evaluate_gaze(sets, test, training=SHORT)
    with pytest.raises(InputError, match="0 seeds"):
        evaluate_gaze({"raw": good}, good, seeds=(), training=SHORT)
    with pytest.raises(InputError, match="without gaze"):
        train_gaze_estimator(good.images)


def test_divergence_is_said() -> None:
    wild = GazeTraining(
        0.1, fc_width_factor=0.01, updates=5, batch_size=4, learning_rate=1e30, warm_up=0
    )
    with pytest.raises(TrainingDiverged, match="lower learning rate"):
        train_gaze_estimator(toy_set(8, 0), training=wild)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"updates": 0}, "updates is 0"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"warm_up": -1}, "warm_up is -1"),
        ({"learning_rate": float("nan")}, "learning_rate is nan"),
        ({"learning_rate": 0.0}, "learning_rate is 0.0"),
    ],
)
def test_unusable_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        GazeTraining(**settings)


def test_rate_rises_and_falls() -> None:
    training = GazeTraining(updates=100, learning_rate=0.1, warm_up=9)
    rates = [training.rate(update) for update in range(100)]
    assert rates[0] == pytest.approx(0.01)
    assert max(rates) == pytest.approx(0.1, rel=0.03)
    assert rates[50] == pytest.approx(0.05)
    assert 0 < rates[99] < 1e-4
