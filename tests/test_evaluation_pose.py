"""Training estimators of pose and testing them: what is learned, what is reported, and the command."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hand_sets import MemorySet, packed, toy_hands
from PIL import Image

from simgan_fast import cli, depth
from simgan_fast.errors import InputError
from simgan_fast.evaluation.pose import (
    PoseTraining,
    evaluate_pose,
    hands_of,
    pose_table,
    predict_joints,
    save_pose_picture,
    train_pose_estimator,
    write_pose_curve,
)
from simgan_fast.evaluation.pose_metrics import pixel_errors

TINY = PoseTraining(width=8, depth=1, updates=3, batch_size=4, warm_up=0)


@pytest.fixture(scope="module")
def results() -> dict[str, Any]:
    sets = {"raw": toy_hands(12, 0, 32), "noisy": toy_hands(12, 0, 32, noise=8.0)}
    return evaluate_pose(sets, toy_hands(6, 1, 32), seeds=(0, 1), training=TINY)


def test_an_estimator_learns_the_hands_it_is_shown() -> None:
    still = {"rotation": 0.0, "scale": 0.0, "shift": 0.0}
    training = PoseTraining(width=16, depth=1, updates=150, batch_size=4, warm_up=10, **still)  # type: ignore[arg-type]
    hands = hands_of(toy_hands(4, 0, 32))
    true = hands.joints.double().numpy()
    found = predict_joints(train_pose_estimator(hands, training), hands)
    middle = np.broadcast_to(true.mean(axis=0), true.shape)
    errors = [float(pixel_errors(each, true, 32).mean()) for each in (found, middle)]
    assert errors[0] < 0.7 * errors[1], errors


def test_one_seed_gives_one_estimator() -> None:
    hands = toy_hands(8, 0, 32)
    first, second, other = (
        train_pose_estimator(hands, TINY, seed=s).state_dict() for s in (1, 1, 2)
    )
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_what_is_reported(results: dict[str, Any]) -> None:
    assert json.loads(json.dumps(results)) == results
    assert set(results["arms"]) == {"raw", "noisy"}
    assert (results["test_images"], results["image_size"], results["seeds"]) == (
        6,
        [32, 32],
        [0, 1],
    )
    for arm in results["arms"].values():
        assert len(arm["pck_5px"]["per_seed"]) == 2 and arm["images"] == 12
        assert arm["pck_curve"][5] == pytest.approx(arm["pck_5px"]["mean"])
        assert len(arm["pck_curve"]) == len(results["curve_px"]) == 11
        assert arm["mean_error_mm"]["mean"] < arm["max_error_mm"]["mean"]
        per_joint = [joint["mean_error_px"] for joint in arm["per_joint"].values()]
        assert len(per_joint) == 14
        assert np.mean(per_joint) == pytest.approx(arm["mean_error_px"]["mean"])
        predicted = np.array(arm["predicted_joints"])
        assert predicted.shape == (2, 6, 14, 2)
        errors = pixel_errors(predicted[0], np.array(results["true_joints"]), 32)
        assert errors.mean() == pytest.approx(arm["mean_error_px"]["per_seed"][0], abs=0.05)
    # a pixel of the heat map is 28 of the paper's input in images of 32: 4 of the image, each 7
    assert results["arms"]["raw"]["pck_curve_heat_map"][10] == 1.0


def test_the_table_curve_and_picture(results: dict[str, Any], tmp_path: Path) -> None:
    table = pose_table(results)
    assert table.splitlines()[1].startswith("raw") and "little tip" in table
    for name in ("curve.svg", "curve.csv"):
        write_pose_curve(results, tmp_path / name)
    lines = (tmp_path / "curve.csv").read_text().splitlines()
    assert len(lines) == 12 and float(lines[6].split(",")[0]) == 5
    test = toy_hands(6, 1, 32)
    save_pose_picture(results, test, tmp_path / "some.png", count=2)
    with Image.open(tmp_path / "some.png") as picture:
        assert picture.width > 6 * 200
    with pytest.raises(InputError, match="of 6 test images and 5 came"):
        save_pose_picture(results, toy_hands(5, 1, 32), tmp_path / "other.png")


def test_sets_that_do_not_go_together_are_refused() -> None:
    test, other = toy_hands(3, 1, 32), toy_hands(3, 1, 64)
    with pytest.raises(InputError, match="make them alike"):
        evaluate_pose({"large": other}, test, training=TINY)
    centred = [depth.encode_metric(i, 760.0) for i in depth.decode_paper(test.images.numpy())]
    metric = MemorySet(torch.from_numpy(np.stack(centred)), test.labels)
    with pytest.raises(InputError, match="encoded differently"):
        evaluate_pose({"metric": metric}, test, training=TINY)
    for sets, seeds in (({}, (0,)), ({"a": test}, ())):
        with pytest.raises(InputError, match="at least one of each"):
            evaluate_pose(sets, test, seeds=seeds, training=TINY)
    for wrong in ({"batch_size": 1}, {"rotation": -1.0}, {"scale": 1.0}, {"shift": math.nan}):
        with pytest.raises(InputError, match=f"{next(iter(wrong))} is"):
            PoseTraining(**wrong)  # type: ignore[arg-type]


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train, test = (str(packed(tmp_path / str(n), toy_hands(6, n, 32))) for n in (0, 1))
    command = ["evaluate", "pose", "--train", f"raw={train}", "--test", test, "--seeds", "1"]
    small = ["--updates", "2", "--batch-size", "2", "--width", "8", "--depth", "1"]
    files = [tmp_path / name for name in ("c.svg", "p.png", "r.json")]
    where = ["--curve", str(files[0]), "--picture", str(files[1]), "--json", str(files[2])]
    assert cli.main([*command, *small, *where]) == 0
    assert "within 5 px" in capsys.readouterr().out
    assert all(file.is_file() for file in files)
    assert json.loads(files[2].read_text())["training"]["width"] == 8
    for wrong in (["--seeds", "0"], ["--curve", "c.txt"], ["--width", "6"]):
        assert cli.main([*command, *small, *wrong]) == 2
