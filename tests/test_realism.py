"""Realism: each measure against a closed form, and on sets of which it is known how they differ."""

from __future__ import annotations

import functools
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from simgan_fast import cli, simulate
from simgan_fast.errors import InputError
from simgan_fast.evaluation.feature_distances import (
    frechet_distance,
    frechet_distance_unbiased,
    kernel_distance,
    kernel_distance_of_subsets,
    precision_recall,
)
from simgan_fast.evaluation.pixel_distances import intensity_distance, octave_levels, octaves
from simgan_fast.evaluation.random_features import RandomFeatures, feature_scale, random_features
from simgan_fast.evaluation.realism import LEAST, evaluate_realism, realism_table
from simgan_fast.evaluation.side_by_side import side_by_side
from simgan_fast.evaluation.two_sample import (
    ClassifierTraining,
    accuracy_of,
    fold_numbers,
    two_sample_folds,
)
from simgan_fast.progress import Progress
from simgan_fast.simulators import simulate_eyes

SHARED = Path(__file__).parents[2] / "shared" / "data"
SHORT = ClassifierTraining(folds=2, updates=100, batch_size=32)
SIZE = (18, 28)
GOLDEN = [0.247145, 0.667338, 0.136342, 0.157690, 0.0156898]  # features 1, 7, 20, 40, 63


class MemorySet:
    """A set that is in memory."""

    def __init__(self, pixels: NDArray[Any]) -> None:
        self.pixels = pixels

    @property
    def shape(self) -> tuple[int, int, int]:
        c, h, w = self.pixels.shape[1:]
        return c, h, w

    @property
    def dtype(self) -> str:
        return str(self.pixels.dtype)

    def __len__(self) -> int:
        return len(self.pixels)

    def images(self, start: int, stop: int) -> NDArray[Any]:
        return self.pixels[start:stop]


@functools.cache
def eyes(count: int, seed: int) -> NDArray[np.uint8]:
    """Small eyes of the domain `camera`."""
    batches = simulate_eyes(count, seed=seed, size=SIZE, domain="camera")
    return np.concatenate([batch.images for batch in batches])


def rounded(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    return np.clip(np.rint(pixels), 0, 255).astype(np.uint8)


def changed(pixels: NDArray[np.uint8], how: str) -> NDArray[np.uint8]:
    """The same images with noise, blurred, brighter, or as they are."""
    floats = pixels.astype(np.float64)
    if how == "noise":
        return rounded(floats + np.random.default_rng(5).normal(0, 12, floats.shape))
    if how == "blur":
        around = [np.roll(floats, (y, x), (2, 3)) for y in (-1, 0, 1) for x in (-1, 0, 1)]
        return rounded(np.mean(around, axis=0))
    return rounded(floats + 12) if how == "brighter" else pixels


@functools.cache
def features(how: str, seed: int) -> NDArray[np.float64]:
    """Standardised features of 400 images."""
    found = random_features(torch.from_numpy(changed(eyes(400, seed), how)))
    return standardised(found)


def standardised(found: NDArray[np.float64]) -> NDArray[np.float64]:
    middle, scale = feature_scale(random_features(torch.from_numpy(eyes(400, 0))))
    return (found - middle) / scale


# Closed forms


def test_kernel_distance_is_the_sum_over_pairs() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(5, 3)), rng.normal(1, 1, size=(4, 3))

    def k(a: NDArray[Any], b: NDArray[Any]) -> float:
        return float((a @ b / 3 + 1) ** 3)

    within_x = np.mean([k(x[i], x[j]) for i in range(5) for j in range(5) if i != j])
    within_y = np.mean([k(y[i], y[j]) for i in range(4) for j in range(4) if i != j])
    between = np.mean([k(a, b) for a in x for b in y])
    assert kernel_distance(x, y) == pytest.approx(within_x + within_y - 2 * between)


def test_kernel_distance_is_unbiased() -> None:
    """Samples of 6: a biased estimate would lie 0.5 above 0."""
    rng = np.random.default_rng(1)
    values = [kernel_distance(*rng.normal(size=(2, 6, 4))) for _ in range(2000)]
    assert abs(np.mean(values)) < 4 * np.std(values) / math.sqrt(2000)


def test_frechet_distance_of_known_gaussians() -> None:
    """Commuting covariances: |offset|^2 + the sum of (sigma_x - sigma_y)^2."""
    square = np.array([[1, 1], [1, -1], [-1, 1], [-1, -1]]) * math.sqrt(3) / 2  # covariance 1
    turn = np.array([[0.6, -0.8], [0.8, 0.6]])
    x, y = square * [1, 2] @ turn, square * [4, 3] @ turn + [5, 0]
    assert frechet_distance(x, y) == pytest.approx(25 + 9 + 1)


def test_frechet_distance_agrees_with_the_matrix_root() -> None:
    linalg = pytest.importorskip("scipy.linalg")
    rng = np.random.default_rng(2)
    x = rng.normal(size=(50, 6)) @ rng.normal(size=(6, 6))
    y = rng.normal(size=(40, 6)) @ rng.normal(size=(6, 6)) + 1
    cov_x, cov_y = np.cov(x.T), np.cov(y.T)
    root = linalg.sqrtm(cov_x @ cov_y).real
    offset = x.mean(axis=0) - y.mean(axis=0)
    assert frechet_distance(x, y) == pytest.approx(
        offset @ offset + np.trace(cov_x + cov_y - 2 * root)
    )


def test_extrapolation_takes_the_bias_off() -> None:
    """Two samples of one Gaussian in 16 dimensions, and of two that are 1 apart."""
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(2, 600, 16))
    apart = y + np.eye(16)[0]
    assert frechet_distance(x, y) > 0.1
    assert abs(frechet_distance_unbiased(x, y, rng)) < 0.05
    assert frechet_distance_unbiased(x, apart, rng) == pytest.approx(1, abs=0.25)


def test_precision_and_recall_of_known_points() -> None:
    """`other` lies in one of the two clusters of `real`, and in one far away."""
    rng = np.random.default_rng(4)
    left, right = rng.normal(size=(50, 2)) * 0.1, rng.normal(size=(50, 2)) * 0.1 + 10
    real = np.concatenate([left, right])
    near = left[rng.integers(0, 50, 60)] + 1e-6
    other = np.concatenate([near, rng.normal(size=(20, 2)) * 0.1 + 500])
    precision, recall = precision_recall(real, other)
    assert precision == 60 / 80
    assert 0.3 < recall <= 0.5


def test_a_set_covers_itself() -> None:
    x = np.random.default_rng(0).normal(size=(1100, 3))  # more than two blocks of rows
    assert precision_recall(x, x) == (1.0, 1.0)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_intensity_distance_is_the_shift(dtype: type[np.generic]) -> None:
    pixels = np.random.default_rng(0).integers(0, 200, (3, 1, 9, 9)).astype(dtype)
    x, y = torch.from_numpy(pixels), torch.from_numpy(pixels + np.array(11, dtype))
    assert intensity_distance(x, x) == 0
    assert intensity_distance(x, y) == pytest.approx(11)
    assert intensity_distance(y, x) == pytest.approx(11)


def test_a_wave_raises_its_own_octave() -> None:
    """Period 6 lies between 4 and 8 pixels."""
    wave = 100 + 40 * np.sin(2 * np.pi * np.arange(64) / 6)
    images = np.broadcast_to(np.rint(wave), (2, 1, 64, 64)).astype(np.uint8)
    levels = dict(zip(octaves(64, 64), octave_levels(torch.from_numpy(images)), strict=True))
    assert list(levels) == ["under 4 px", "4 to 8 px", "8 to 16 px", "16 to 32 px", "32 to 64 px"]
    assert max(levels, key=lambda name: levels[name]) == "4 to 8 px"
    assert levels["4 to 8 px"] > levels["8 to 16 px"] + 20


def test_white_noise_has_its_variance_in_every_octave() -> None:
    noise = np.random.default_rng(0).normal(128, 10, (64, 1, 64, 64))
    levels = octave_levels(torch.from_numpy(rounded(noise)))
    assert levels[:3] == pytest.approx([20] * 3, abs=0.5)  # 10 log10(10^2)


def test_twice_the_contrast_is_6_db() -> None:
    noise = np.random.default_rng(0).normal(0, 10, (8, 1, 32, 32))
    levels = [octave_levels(torch.from_numpy(rounded(128 + k * noise))) for k in (1, 2)]
    assert levels[1] - levels[0] == pytest.approx([6.02] * 4, abs=0.1)


def test_flat_images_have_a_level() -> None:
    flat = torch.full((2, 3, 16, 16), 77, dtype=torch.uint8)
    assert octave_levels(flat) == pytest.approx([10 * math.log10(1 / 12)] * 3)


def test_interval_is_wilsons() -> None:
    """Wilson's interval for 81 of 263, as published (Newcombe, Statistics in Medicine 1998, table I)."""
    found = accuracy_of(np.arange(263) < 81)
    assert (found.low, found.high) == (
        pytest.approx(0.2553, abs=5e-5),
        pytest.approx(0.3662, abs=5e-5),
    )
    assert accuracy_of(np.ones(10, bool)).high == pytest.approx(1)


# Features


def test_features_are_the_same_on_every_machine() -> None:
    """A golden value: a change here changes every number that was made with the features."""
    ramp = torch.linspace(-1, 1, 35 * 55).reshape(1, 1, 35, 55)
    found = RandomFeatures()(ramp)[0]
    assert found.shape == (64,)
    assert found[[1, 7, 20, 40, 63]].tolist() == pytest.approx(GOLDEN, rel=1e-4)


def test_features_take_colour_and_16_bits() -> None:
    deep = torch.from_numpy(np.full((3, 3, 8, 9), 30_000, np.uint16))
    found = random_features(deep)
    assert found.shape == (3, 64) and np.isfinite(found).all() and found.any()
    with pytest.raises(InputError, match="7x9 pixels: features need 8"):
        RandomFeatures()(torch.zeros(1, 1, 7, 9))


# Known cases


def test_the_null_of_each_distance_of_features() -> None:
    x, y, rng = features("", 0), features("", 1), np.random.default_rng(0)
    kid = kernel_distance_of_subsets(x, y, rng)
    assert abs(kid.mean) < 2 * kid.std
    assert abs(frechet_distance_unbiased(x, y, rng)) < 0.4 * frechet_distance(x, y)
    assert min(precision_recall(x, y)) > 0.7


@pytest.mark.parametrize("how", ["noise", "blur", "brighter"])
def test_each_distance_of_features_sees(how: str) -> None:
    x, y, rng = features("", 0), features(how, 1), np.random.default_rng(0)
    kid = kernel_distance_of_subsets(x, y, rng)
    assert kid.mean > 4 * kid.std
    assert frechet_distance_unbiased(x, y, rng) > 5
    assert min(precision_recall(x, y)) < 0.6


def test_more_noise_is_farther() -> None:
    x, floats = features("", 0), eyes(400, 1).astype(np.float64)
    noise = np.random.default_rng(0).normal(size=floats.shape)
    found = []
    for deviation in (4, 8, 16):
        pixels = torch.from_numpy(rounded(floats + deviation * noise))
        moved = standardised(random_features(pixels))
        found.append((kernel_distance(x, moved), frechet_distance(x, moved)))
    assert found == sorted(found)


def test_the_spectrum_tells_noise_from_blur() -> None:
    levels = {
        how: octave_levels(torch.from_numpy(changed(eyes(400, 1), how)))
        for how in ("", "noise", "blur")
    }
    real = octave_levels(torch.from_numpy(eyes(400, 0)))
    assert np.abs(levels[""] - real).max() < 0.5
    assert (levels["noise"] - real)[0] > 1.5
    assert (levels["blur"] - real)[0] < -5
    assert abs((levels["noise"] - real)[2]) < 1


# The two-sample test


def right(x: NDArray[Any], y: NDArray[Any], training: ClassifierTraining = SHORT) -> float:
    folds = two_sample_folds(torch.from_numpy(x), torch.from_numpy(y), training)
    with Progress(len(folds) * training.updates, "update", "test", quiet_for=60) as progress:
        found = side_by_side(dict(enumerate(folds)), progress)
    return float(np.concatenate(list(found.values())).mean())


def test_equal_sets_are_not_told_apart() -> None:
    assert 0.4 < right(eyes(400, 0), eyes(400, 1)) < 0.6


def test_brighter_images_are_told_apart() -> None:
    assert right(eyes(400, 0), changed(eyes(400, 1), "brighter")) > 0.9


def test_a_set_and_itself_give_exactly_one_half() -> None:
    """Images with the same pixels are in one fold: whatever the network says, it is right about one of them."""
    assert right(eyes(400, 0), eyes(400, 0)) == 0.5


def test_frames_of_other_scenes_are_told_apart() -> None:
    """Ten near duplicates of each scene, in two sets that differ in nothing but the scenes."""
    noise = np.random.default_rng(0).normal(0, 2, (2, 200, 1, *SIZE))
    scenes = np.arange(200) // 10
    x, y = (rounded(eyes(400, 0)[first + scenes] + noise[i]) for i, first in enumerate((0, 20)))
    assert right(x, y) > 0.9


def test_frames_of_the_same_scenes_fall_below_one_half() -> None:
    """A network that knows a frame by heart is wrong about the other set's frame of the same scene."""
    noise = np.random.default_rng(0).normal(0, 2, (2, 200, 1, *SIZE))
    x, y = (rounded(eyes(400, 0)[:200] + part) for part in noise)
    assert right(x, y, ClassifierTraining(folds=4, updates=150, batch_size=32)) < 0.42


def test_the_same_pixels_are_in_the_same_fold() -> None:
    images = eyes(400, 0)[[0, 1, 2, 3, 0, 1, 4, 5, 4, 4]]
    folds = fold_numbers(images, 4, 3, seed=0)
    assert folds[0] == folds[4] and folds[1] == folds[5] and folds[6] == folds[8] == folds[9]


def test_folds_are_balanced() -> None:
    folds = fold_numbers(eyes(400, 0), 200, 5, seed=1)
    for half in (folds[:200], folds[200:]):
        assert np.bincount(half).tolist() == [40] * 5
    assert not np.array_equal(folds, fold_numbers(eyes(400, 0), 200, 5, seed=2))


def test_sets_of_two_sizes_are_refused() -> None:
    with pytest.raises(InputError, match="3 and 2 images came"):
        two_sample_folds(torch.zeros(3, 1, 8, 8).byte(), torch.zeros(2, 1, 8, 8).byte(), SHORT)


# All of it


@functools.cache
def results() -> dict[str, Any]:
    other = eyes(300, 1)
    sets = {how or "same": MemorySet(changed(other, how)) for how in ("", "noise", "brighter")}
    return evaluate_realism(MemorySet(eyes(400, 0)), sets, training=SHORT)


def test_realism_of_known_sets() -> None:
    found, reference = results()["sets"], results()["reference"]
    assert results()["images"] == 200
    assert reference["classifier"]["images"] == 400
    for measure in ("fid_unbiased", "octaves_rms_db", "intensity"):
        assert abs(found["same"][measure]) < 3 * abs(reference[measure]) + 0.5
        assert (
            max(found["noise"][measure], found["brighter"][measure]) > found["same"][measure] + 0.5
        )
    assert found["noise"]["octaves_db"]["under 4 px"] > 1
    assert found["brighter"]["classifier"]["low"] > 0.6 > found["same"]["classifier"]["low"]
    assert found["brighter"]["intensity"] == pytest.approx(11.5, abs=1)


def test_realism_is_json_and_a_table() -> None:
    json.dumps(results(), allow_nan=False)
    lines = realism_table(results()).splitlines()
    assert lines[0].split() == ["real", "itself", "same", "noise", "brighter"]
    assert lines[1].startswith("told apart %") and len(lines) == 1 + 8 + 3 + 1
    assert lines[-1].startswith("200 images of each set")


def test_realism_is_the_same_on_any_number_of_threads() -> None:
    sets, found = {"same": MemorySet(eyes(400, 1))}, []
    for threads in (1, 3):
        torch.set_num_threads(threads)
        try:
            training = ClassifierTraining(folds=2, updates=3, batch_size=8)
            found.append(evaluate_realism(MemorySet(eyes(400, 0)), sets, training=training))
        finally:
            torch.set_num_threads(1)
    assert found[0]["sets"]["same"]["classifier"] == found[1]["sets"]["same"]["classifier"]


def test_small_colour_images_of_16_bits_are_compared() -> None:
    noise = np.random.default_rng(0).integers(0, 60_000, (384, 3, 8, 8)).astype(np.uint16)
    brief = ClassifierTraining(folds=2, updates=2, batch_size=8)
    sets = {"same": MemorySet(noise[256:])}
    found = evaluate_realism(MemorySet(noise[:256]), sets, training=brief)
    assert found["images"] == 128
    assert list(found["reference"]["octaves_db"]) == ["under 4 px", "4 to 8 px"]
    assert abs(found["sets"]["same"]["intensity"]) < 500


def test_unusable_sets_are_refused() -> None:
    good, few = MemorySet(eyes(400, 0)), MemorySet(eyes(400, 0)[: LEAST - 1])
    small = MemorySet(eyes(400, 0)[:, :, 1:])
    deep = MemorySet(eyes(400, 0).astype(np.uint16))
    cases: list[tuple[MemorySet, dict[str, MemorySet], str]] = [
        (good, {}, "no set came"),
        (good, {"raw": few}, "'raw' has 127 images: realism needs at least 128"),
        (
            MemorySet(good.pixels[:255]),
            {"raw": good},
            "the real set has 255 images: realism needs at least 256",
        ),
        (
            good,
            {"raw": small},
            r"'raw' are uint8 \[1, 17, 28\] and the real ones uint8 \[1, 18, 28\]",
        ),
        (good, {"raw": deep}, "'raw' are uint16"),
        (MemorySet(good.pixels[..., :7]), {"raw": good}, "real images are 18x7 pixels"),
        (MemorySet(np.zeros_like(good.pixels)), {"raw": good}, "the real images are all alike"),
    ]
    for real, sets, message in cases:
        with pytest.raises(InputError, match=message):
            evaluate_realism(real, sets, training=SHORT)
    with pytest.raises(InputError, match="most is 5"):
        evaluate_realism(good, {"raw": good}, most=5)
    with pytest.raises(InputError, match="seed is -1"):
        evaluate_realism(good, {"raw": good}, seed=-1)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"folds": 1}, "folds is 1"),
        ({"updates": 0}, "updates is 0"),
        ({"learning_rate": float("nan")}, "learning_rate is nan"),
    ],
)
def test_unusable_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        ClassifierTraining(**settings)


def test_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(ClassifierTraining, "__init__", functools.partialmethod(_brief))
    simulate("eyes", tmp_path / "real", count=256, size=(16, 16), domain="camera")
    simulate("eyes", tmp_path / "raw", count=128, size=(16, 16))
    arguments = ["--real", tmp_path / "real", "--images", f"raw={tmp_path / 'raw'}"]
    arguments += ["--json", tmp_path / "found.json"]
    assert cli.main(["evaluate", "realism", *map(str, arguments)]) == 0
    assert "told apart" in capsys.readouterr().out
    written = json.loads((tmp_path / "found.json").read_text())
    assert written["images"] == 128 and written["sets"]["raw"]["fid_unbiased"] > 1


def test_the_command_wants_names(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["evaluate", "realism", "--real", "a", "--images", "b"]) == 2
    assert "--images takes NAME=SET" in capsys.readouterr().err


@pytest.mark.skipif(not SHARED.is_dir(), reason="no shared data")
def test_real_eyes_are_nearer_to_each_other_than_simulated_ones(tmp_path: Path) -> None:
    from simgan_fast.data import open_images, open_packed

    simulate("eyes", tmp_path / "raw", count=150, size=(36, 60))
    real = open_images(SHARED / "mpiigaze_p00" / "unlabelled", size=(36, 60), channels=1)
    found = evaluate_realism(real, {"raw": open_packed(tmp_path / "raw")}, training=SHORT)
    assert found["sets"]["raw"]["kid"]["mean"] > 100 * abs(found["reference"]["kid"]["mean"])
    assert found["sets"]["raw"]["classifier"]["low"] > found["reference"]["classifier"]["high"]


def _brief(self: ClassifierTraining) -> None:
    for name, value in (("folds", 2), ("updates", 2), ("batch_size", 8), ("learning_rate", 1e-3)):
        object.__setattr__(self, name, value)
