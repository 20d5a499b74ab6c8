"""NYU's first test frame, where shared/data is there, all the way: prepare, train, refine, evaluate pose, picture."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from cases import TINY_RUN
from PIL import Image

from simgan_fast import cli, depth, prepare, preset, refine, report, simulate, train
from simgan_fast.data import open_packed

savemat = pytest.importorskip("scipy.io").savemat
SHARED = Path(__file__).parents[2] / "shared" / "data" / "nyu_hands"
WRIST, ARM_DEPTH = 340, 860  # row and mm that the hand ends at


@pytest.fixture(scope="module")
def joints() -> np.ndarray:
    """u, v and depth in mm of the frame's 14 joints [14, 3]."""
    if not SHARED.is_dir():
        pytest.skip("shared/data is not there")
    text = (SHARED / "test_labels_first_200.txt").read_text().split("\n")[0]
    return np.array(text.split(), float).reshape(14, 3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, joints: np.ndarray) -> Path:
    """The frame as the data set has it, with the hand's own pixels for the rendered image, which is not at hand."""
    place = tmp_path_factory.mktemp("nyu") / "test"
    place.mkdir()
    shutil.copy(SHARED / "depth_1_0000001.png", place)
    measured = depth.decode_nyu(np.asarray(Image.open(SHARED / "depth_1_0000001.png")))
    hand = np.where(measured < ARM_DEPTH, measured, 0)
    hand[WRIST:] = 0
    Image.fromarray(depth.encode_nyu(hand)).save(place / "synthdepth_1_0000001.png")
    uvd = np.zeros((3, 1, 36, 3))
    uvd[:, :, depth.JOINTS] = joints
    savemat(place / "joint_data.mat", {"joint_uvd": uvd, "joint_xyz": depth.uvd_to_xyz(uvd)})
    return place.parent


def test_the_joints_lie_on_the_hand(folder: Path, tmp_path: Path) -> None:
    whole = prepare("nyu-hands", folder, tmp_path / "whole", crop="none")
    cropped = prepare("nyu-hands", folder, tmp_path / "cropped", size=(224, 224))
    for result in (whole, cropped):
        columns, rows = np.rint(result.labels["joints"][0].reshape(14, 2)).astype(int).T
        measured = result.images(0, 1)[0, 0][rows, columns].astype(int)
        joints_z = result.labels["joints_xyz"][0].reshape(14, 3)[:, 2]
        # Joints are inside of the hand, so behind what is seen of it, by at most its thickness.
        assert (measured > 0).all() and (np.abs(measured - joints_z) < 40).all(), (
            measured - joints_z
        )


def test_the_whole_path(folder: Path, joints: np.ndarray, tmp_path: Path) -> None:
    frames, plain, run = (tmp_path / name for name in ("frames", "plain", "run"))
    prepared = ["prepare", "nyu-hands", str(folder), str(frames), "--values=paper", "--size=64x64"]
    assert cli.main(prepared) == 0
    simulate("hands", plain, count=16, size=(64, 64), values="paper", poses="open")
    tiny = TINY_RUN | {"batch_size": 2, "history": 2, "width": 8}
    train(plain, frames, run, preset("demo-hands", **tiny))
    refine(run, plain, tmp_path / "refined", format="arrow")
    refined = open_packed(tmp_path / "refined")
    np.testing.assert_array_equal(refined.labels["joints"], open_packed(plain).labels["joints"])

    numbers, picture = tmp_path / "pose.json", tmp_path / "joints.png"
    command = ["evaluate", "pose", f"--train=refined={tmp_path / 'refined'}", f"--test={frames}"]
    small = ["--seeds=1", "--updates=2", "--batch-size=2", "--width=8", "--depth=1"]
    assert cli.main([*command, *small, f"--json={numbers}", f"--picture={picture}"]) == 0
    results = json.loads(numbers.read_text())
    assert (results["test_images"], results["joints_outside"]) == (1, 0)
    box = open_packed(frames).labels["box"][0]
    places = depth.crop_to_whole(results["true_joints"][0], box, (64, 64))
    np.testing.assert_allclose(places, joints[:, :2], atol=0.05)
    arm = results["arms"]["refined"]
    assert arm["images"] == 16 and 0 < arm["mean_error_mm"]["mean"] < 400
    with Image.open(picture) as drawn:
        assert len(np.unique(np.asarray(drawn).reshape(-1, 3), axis=0)) > 20, "depth and joints"
    page = report(run, measures={"pose": numbers}).read_text()
    assert "<td>thumb tip</td>" in page and "64x64" in page and "uint16" in page
