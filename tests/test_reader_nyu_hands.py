"""The NYU hands: folders made here in the data set's layout."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from simgan_fast import cli, depth, prepare
from simgan_fast.data.decode import Target, fit_array
from simgan_fast.data.image_files import Rejected
from simgan_fast.data.packed import PackedSet
from simgan_fast.data.readers.nyu_hands import NYUHandsReader, hand_box
from simgan_fast.errors import InputError

savemat = pytest.importorskip("scipy.io").savemat
LEFT, TOP, WIDE, HIGH = 200, 100, 80, 60  # where the rendered hand is
CENTRE = np.array([239.0, 129.0, 800.0])  # u, v, depth of the palm


def hand(real: bool) -> np.ndarray:
    """Depth [480, 640] of a slanted hand; the real one before a wall, larger by an arm, and with a hole."""
    image = np.full((480, 640), 1500 if real else 0, np.uint16)
    rows, columns = np.mgrid[:HIGH, :WIDE]
    image[TOP : TOP + HIGH, LEFT : LEFT + WIDE] = 760 + columns + (rows // 4)
    if real:
        image[TOP + 20 : TOP + 40, LEFT + WIDE : LEFT + WIDE + 100] = (
            820  # beyond the rendered hand
        )
        image[TOP + 5, LEFT + 5] = 0
    return image


def joints(frames: int) -> tuple[np.ndarray, np.ndarray]:
    """uvd and xyz [3, frames, 36, 3]: the 14 around the palm, one pixel per number, the others far off."""
    uvd = np.full((3, frames, 36, 3), 9000.0)
    for i, joint in enumerate(depth.JOINTS):
        uvd[:, :, joint] = CENTRE + [i - 13, 0, 0]
    uvd[:, :, :, 1] += np.arange(3)[:, None, None]  # a row lower in each view
    return uvd, depth.uvd_to_xyz(uvd)


def save(file: Path, image: np.ndarray) -> None:
    Image.fromarray(depth.encode_nyu(image)).save(file)


def nyu(folder: Path, frames: int = 2, views: tuple[int, ...] = (1,), **arrays: Any) -> Path:
    """`folder` as dataset/test."""
    place = folder / "dataset" / "test"
    place.mkdir(parents=True)
    for frame in range(1, frames + 1):
        for view in views:
            save(place / f"depth_{view}_{frame:07d}.png", hand(real=True))
            save(place / f"synthdepth_{view}_{frame:07d}.png", hand(real=False))
    uvd, xyz = joints(frames)
    savemat(place / "joint_data.mat", {"joint_uvd": uvd, "joint_xyz": xyz, **arrays})
    return place


def packed(folder: Path, **options: Any) -> PackedSet:
    return prepare("nyu-hands", folder, folder / "packed", **options)


def test_the_first_eight_bits_are_the_high_ones() -> None:
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    np.testing.assert_array_equal(depth.decode_nyu(depth.encode_nyu(values)), values)
    assert depth.decode_nyu(np.array([[[9, 255, 1]]], np.uint8)) == 65281


def test_the_camera_and_its_inverse() -> None:
    assert depth.xyz_to_uvd([0.0, 10.0, 587.07]).tolist() == [320.0, 230.0, 587.07]  # y is up
    points = np.random.default_rng(0).uniform(100, 900, (50, 3))
    np.testing.assert_allclose(depth.uvd_to_xyz(depth.xyz_to_uvd(points)), points)


def test_the_papers_values_and_their_inverse() -> None:
    values = np.arange(4001, dtype=np.uint16)
    encoded = depth.encode_paper(values)
    trained = encoded / 32767.5 - 1
    np.testing.assert_allclose(trained[1:], (values[1:] - 2000.0) / 2000, atol=4e-5)
    assert trained[0] == pytest.approx(0, abs=2e-5)
    np.testing.assert_array_equal(depth.decode_paper(encoded), values)


def test_metric_values_and_their_inverse() -> None:
    values = np.arange(4001, dtype=np.uint16)
    encoded = depth.encode_metric(values, 812.5)
    trained = encoded / 32767.5 - 1
    inside = abs(values - 812.5) < 150
    np.testing.assert_allclose(trained[inside], (values[inside] - 812.5) / 150, atol=4e-5)
    assert (trained[values > 963] == 1).all() and trained[0] == 1 and trained[1] == -1
    decoded = depth.decode_metric(encoded, 812.5)
    np.testing.assert_array_equal(decoded[inside], values[inside])
    assert decoded[0] == 0 and (decoded[values > 963] == 0).all()
    for centre in (0.0, -5.0, float("nan")):
        with pytest.raises(InputError, match="want more than 0"):
            depth.encode_metric(values, centre)


def test_both_kinds_have_one_box(tmp_path: Path) -> None:
    nyu(tmp_path)
    real, made = (
        prepare("nyu-hands", tmp_path, tmp_path / kind, kind=kind)
        for kind in ("depth", "synthdepth")
    )
    assert real.names == ["test/depth_1_0000001.png", "test/depth_1_0000002.png"]
    assert made.names[0] == "test/synthdepth_1_0000001.png"
    assert real.shape == made.shape == (1, 100, 100)  # 80 and twice 10
    assert real.labels["box"].tolist() == made.labels["box"].tolist() == [[190, 80, 290, 180]] * 2
    np.testing.assert_array_equal(real.images(0, 1)[0, 0], hand(real=True)[80:180, 190:290])
    np.testing.assert_array_equal(made.images(0, 1)[0, 0], hand(real=False)[80:180, 190:290])


def test_the_mask_keeps_the_hand_and_what_is_missing(tmp_path: Path) -> None:
    nyu(tmp_path)
    image = packed(tmp_path, crop="mask").images(0, 1)[0, 0]
    expected = np.where(hand(real=False) > 0, hand(real=True), 0)[80:180, 190:290]
    np.testing.assert_array_equal(image, expected)
    assert image[TOP + 5 - 80, LEFT + 5 - 190] == 0, "not filled from the synthetic image"


def test_joints_move_with_crop_and_size(tmp_path: Path) -> None:
    nyu(tmp_path)
    whole = prepare("nyu-hands", tmp_path, tmp_path / "a", crop="none")
    cropped = prepare("nyu-hands", tmp_path, tmp_path / "b")
    small = prepare("nyu-hands", tmp_path, tmp_path / "c", size=(50, 25))
    palm = [packed.labels["joints"][0, -2:].tolist() for packed in (whole, cropped, small)]
    assert whole.shape == (1, 480, 640) and small.shape == (1, 50, 25)
    assert palm == [[239, 129], [49, 49], [49.5 / 4 - 0.5, 49.5 / 2 - 0.5]]
    assert whole.labels["joints"][0, ::2].tolist() == list(range(226, 240)), "the 14 in their order"
    xyz = small.labels["joints_xyz"][0].reshape(14, 3)
    np.testing.assert_allclose(depth.xyz_to_uvd(xyz)[-1], CENTRE, atol=1e-3)
    assert small.labels["centre"][0, 0] == 800


@pytest.mark.parametrize("size", [(37, 53), (224, 224)])
def test_resizing_makes_no_depth_that_was_not_there(tmp_path: Path, size: tuple[int, int]) -> None:
    nyu(tmp_path)
    image = packed(tmp_path, size=size).images(0, 1)[0, 0]
    assert image.shape == size
    assert set(np.unique(image)) <= set(np.unique(hand(real=True)))
    if size == (224, 224):
        hole = np.argwhere(image == 0).mean(0) / size  # of the pixel at 25, 15 of 100
        np.testing.assert_allclose(hole, [0.255, 0.155], atol=0.01)


def test_resizing_takes_the_pixel_in_the_middle() -> None:
    ramp = np.arange(10, dtype=np.uint16)[None]
    shrunk = fit_array(ramp, Target((1, 1, 3), "uint16", True), nearest=True)
    grown = fit_array(ramp[:, :2], Target((1, 2, 4), "uint16", True), nearest=True)
    assert shrunk.tolist() == [[[1, 5, 8]]] and grown.tolist() == [[[0, 0, 1, 1]] * 2]


@pytest.mark.parametrize("values", ["paper", "metric"])
def test_encoded_values(tmp_path: Path, values: str) -> None:
    nyu(tmp_path)
    result = packed(tmp_path, kind="synthdepth", values=values)
    image = result.images(0, 1)[0, 0]
    if values == "paper":
        decoded = depth.decode_paper(image)
    else:
        decoded = depth.decode_metric(image, float(result.labels["centre"][0, 0]))
    np.testing.assert_array_equal(decoded, hand(real=False)[80:180, 190:290])


def test_views(tmp_path: Path) -> None:
    nyu(tmp_path, frames=1, views=(1, 2, 3))
    third = prepare("nyu-hands", tmp_path, tmp_path / "third", view=3, crop="none")
    assert third.names == ["test/depth_3_0000001.png"] and third.labels["joints"][0, -1] == 131
    every = prepare("nyu-hands", tmp_path, tmp_path / "all", view="all", crop="none")
    assert every.labels["joints"][:, -1].tolist() == [129, 130, 131]


def test_train_and_test_together_and_alone(tmp_path: Path) -> None:
    place = nyu(tmp_path)
    shutil.copytree(place, place.with_name("train"))
    parts = {name.partition("/")[0] for name in packed(tmp_path).names}
    assert parts == {"train", "test"}
    assert prepare("nyu-hands", place, tmp_path / "alone").names[0] == "depth_1_0000001.png"


def test_a_crop_over_the_border_has_no_depth_there() -> None:
    image = np.zeros((480, 640), np.uint16)
    image[0:3, 600:640] = 700
    box = hand_box(image)
    assert box == (590, -29, 650, 31)
    cropped = depth.crop_depth(image, box)
    assert (
        cropped.shape == (60, 60)
        and (cropped[29:32, 10:50] == 700).all()
        and (cropped > 0).sum() == 120
    )
    outside = depth.crop_depth(image, (-50, -50, -10, -10))
    assert outside.shape == (40, 40) and not outside.any()


def test_what_is_not_whole_is_left_out(tmp_path: Path) -> None:
    place = nyu(tmp_path, frames=8)
    uvd, xyz = joints(7)  # so the eighth has none
    uvd[0, 5, depth.JOINTS[3], 0] = np.nan
    xyz[0, 6, depth.JOINTS[-1], 2] = -1
    savemat(place / "joint_data.mat", {"joint_uvd": uvd, "joint_xyz": xyz})
    first = place / "depth_1_0000001.png"
    first.write_bytes(first.read_bytes()[:500])
    (place / "synthdepth_1_0000002.png").unlink()
    save(place / "synthdepth_1_0000003.png", np.zeros((480, 640), np.uint16))
    Image.fromarray(np.zeros((480, 640), np.uint8)).save(place / "depth_1_0000004.png")
    result = packed(tmp_path)
    assert result.names == ["test/depth_1_0000005.png"]
    reasons = {
        1: "damaged or cut off",
        2: "synthdepth_1_0000002.png is missing",
        3: "synthetic image is empty",
        4: "is L 480x640",
        6: "joints are no numbers",
        7: "behind the camera",
        8: "has no such frame",
    }
    found = dict(result.rejects)
    for frame, reason in reasons.items():
        assert reason in found[f"test/depth_1_000000{frame}.png"]


def test_an_image_that_vanishes_after_it_was_listed(tmp_path: Path) -> None:
    place = nyu(tmp_path)
    reader = NYUHandsReader(tmp_path)
    (place / "depth_1_0000002.png").unlink()
    samples = list(reader)
    assert len(reader) == 2 and samples[0].image()[0].shape == (100, 100)
    with pytest.raises(Rejected, match="is missing"):
        samples[1].image()


def test_labels_come_with_the_image(tmp_path: Path) -> None:
    nyu(tmp_path)
    (sample, _) = NYUHandsReader(tmp_path)
    labels = sample.image().labels
    assert labels["joints"][-1] == 49
    assert labels.keys() == NYUHandsReader(tmp_path).labels.keys()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_files_that_may_not_be_read(tmp_path: Path) -> None:
    place = nyu(tmp_path)
    (place / "depth_1_0000001.png").chmod(0)
    assert "ermission denied" in packed(tmp_path).rejects[0][1]
    (place / "joint_data.mat").chmod(0)
    with pytest.raises(InputError, match="ermission denied"):
        NYUHandsReader(tmp_path)


BROKEN = {
    "no uvd": ({"joint_uvd": 1.0}, "joint_uvd is"),
    "words": ({"joint_uvd": "words"}, "joint_uvd is"),
    "two views": ({"joint_uvd": np.zeros((2, 2, 36, 3))}, r"\[3, n, 36, 3\] was expected"),
    "14 joints": ({"joint_xyz": np.zeros((3, 2, 14, 3))}, r"\[3, n, 36, 3\] was expected"),
    "objects": ({"joint_xyz": np.full((3, 2, 36, 3), "x", dtype=object)}, "cannot be read"),
}


@pytest.mark.parametrize(("arrays", "message"), BROKEN.values(), ids=BROKEN)
def test_joints_that_are_none(tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    nyu(tmp_path, **arrays)
    with pytest.raises(InputError, match=message):
        packed(tmp_path)
    assert not (tmp_path / "packed").exists()


def test_folders_and_options_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no part of the NYU hands"):
        NYUHandsReader(tmp_path)
    place = nyu(tmp_path)
    for option, value in (("kind", "rgb"), ("view", 4), ("crop", "fixed"), ("values", "cm")):
        with pytest.raises(InputError, match=f"{option} is '{value}': want one of"):
            packed(tmp_path, **{option: value})
    with pytest.raises(InputError, match="size is"):
        packed(tmp_path, size=(0, 5))
    with pytest.raises(InputError, match="holds no depth_2_0000001"):
        packed(tmp_path, view=2)
    data = (place / "joint_data.mat").read_bytes()
    for spoiled in (b"", data[: len(data) // 2], bytes(len(data)), b"MATLAB 7.3" + bytes(600)):
        (place / "joint_data.mat").write_bytes(spoiled)
        with pytest.raises(InputError, match=r"joint_data\.mat cannot be read"):
            packed(tmp_path)


@pytest.fixture(scope="module")
def one_frame(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes]:
    """A data set of one frame, and what its joint_data.mat holds."""
    folder = tmp_path_factory.mktemp("one_frame")
    return folder, (nyu(folder, frames=1) / "joint_data.mat").read_bytes()


@given(st.binary(min_size=1, max_size=40), st.floats(0, 1))
@settings(max_examples=80, deadline=None, derandomize=True)
def test_no_damage_of_the_joints_breaks_the_reading(
    one_frame: tuple[Path, bytes], damage: bytes, place: float
) -> None:
    folder, whole = one_frame
    data = bytearray(whole)
    start = int(place * 300) if damage[0] % 2 else int(place * len(data))  # often in the head
    data[start : start + len(damage)] = damage
    (folder / "dataset" / "test" / "joint_data.mat").write_bytes(data)
    try:
        samples = list(NYUHandsReader(folder, crop="none"))
    except InputError:
        return
    for sample in samples:
        try:
            labels = sample.image().labels
        except Rejected:
            continue
        assert all(np.isfinite(values).all() for values in labels.values())


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nyu(tmp_path)
    options = [
        "--kind",
        "depth",
        "--view",
        "1",
        "--crop",
        "mask",
        "--values",
        "paper",
        "--size",
        "64x64",
    ]
    assert cli.main(["prepare", "nyu-hands", str(tmp_path), str(tmp_path / "out"), *options]) == 0
    assert "2 images of 64x64, 1 channel" in capsys.readouterr().out


def test_depth_that_is_none_is_left_out(tmp_path: Path) -> None:
    """In metres, grey of 8 bits, all background in the crop, or its palm in metres."""
    place = nyu(tmp_path, frames=5)
    save(place / "depth_1_0000001.png", (hand(real=True) // 1000).astype(np.uint16))
    grey = np.full((480, 640, 3), 80, np.uint8)
    Image.fromarray(grey).save(place / "depth_1_0000002.png")
    away = np.full((480, 640), 1500, np.uint16)
    away[TOP - 40 : TOP + HIGH + 40, LEFT - 40 : LEFT + WIDE + 40] = 0
    save(place / "depth_1_0000003.png", away)
    uvd, xyz = joints(5)
    xyz[0, 3] /= 1000
    savemat(place / "joint_data.mat", {"joint_uvd": uvd, "joint_xyz": xyz})
    result = packed(tmp_path)
    assert result.names == ["test/depth_1_0000005.png"]
    reasons = ("metres", "grey of 8 bits", "all background", "metres")
    for (name, reason), expected in zip(sorted(result.rejects), reasons, strict=True):
        assert expected in reason, name


def test_a_view_that_a_frame_lacks_is_listed(tmp_path: Path) -> None:
    place = nyu(tmp_path, frames=2, views=(1, 2, 3))
    (place / "depth_2_0000001.png").unlink()
    result = packed(tmp_path, view="all")
    assert result.rejects == [("test/depth_2_0000001.png", "missing: its frame lacks this view")]
    found = np.concatenate([result.labels["frame"], result.labels["view"]], axis=1)
    assert sorted(found.tolist()) == [[1, 1], [1, 3], [2, 1], [2, 2], [2, 3]]


def test_a_hand_cut_by_the_border_keeps_its_place(tmp_path: Path) -> None:
    place = nyu(tmp_path, frames=1)
    shifted = np.roll(hand(real=False), -LEFT - 20, axis=1)  # 20 columns are beyond the left border
    shifted[:, WIDE:] = 0
    for kind in ("depth", "synthdepth"):
        save(place / f"{kind}_1_0000001.png", shifted)
    uvd, _ = joints(1)
    uvd[..., 0] -= LEFT + 20
    savemat(place / "joint_data.mat", {"joint_uvd": uvd, "joint_xyz": depth.uvd_to_xyz(uvd)})
    result = packed(tmp_path)
    left, top, *_ = result.labels["box"][0].astype(int)
    assert left < 0
    column, row = result.labels["joints"][0].reshape(14, 2)[-1].astype(int)
    assert (column + left, row + top) == (19, 129)
    assert not result.images(0, 1)[0, 0][:, :-left].any(), "beyond the border there is no depth"
