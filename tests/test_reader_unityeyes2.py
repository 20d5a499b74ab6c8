"""UnityEyes 2: folders made here in the program's layout, and ten genuine pairs if shared/data is there."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from simgan_fast import cli, prepare
from simgan_fast.data.decode import content_of, load_image
from simgan_fast.data.image_files import Rejected
from simgan_fast.data.packed import PackedSet, open_packed
from simgan_fast.data.parallel import item_of
from simgan_fast.data.readers.unityeyes import UnityEyesReader
from simgan_fast.data.readers.unityeyes2 import UnityEyes2Reader, gaze_of
from simgan_fast.errors import InputError

SHARED = Path(__file__).parents[2] / "shared" / "data" / "unityeyes2"
SIZE = (120, 160)
OLD = {"iris_center": "(0.0000, 0.6135, 9.9723)", "gaze_vec": "(0.3000, 0.4000, -0.8660, 0.0000)"}
# What the program wrote for two cameras of one frame.
GENUINE = {
    "iris_center": "(0.002111, 0.003099, 0.051376)",
    "gaze_vector": "(-0.000735, 0.006090, -0.007358)",
    "eye_center": "(0.002924, -0.003482, 0.059840)",
}
GENUINE_ROLLED = {
    "iris_center": "(0.004453, 0.000961, 0.050027)",
    "gaze_vector": "(0.001783, 0.005188, -0.007864)",
    "eye_center": "(0.002584, -0.004628, 0.059020)",
}


def camera(**changes: Any) -> dict[str, Any]:
    """An eye of 40 pixels in the middle of 120x160, y counted from below."""
    around = np.linspace(0, 2 * np.pi, 16, endpoint=False)
    lids = [(80 - 20 * np.cos(a), 60 + 8 * np.sin(a)) for a in around]  # over the top first
    iris = [(84 + 4 * np.cos(a), 64 + 4 * np.sin(a)) for a in np.linspace(0, 6.28, 33)[:-1]]
    return {
        "head_pose": "(355.0000, 190.0000, 350.0000)",
        "camera_pose": {"position": "(0, 0, 10)", "rotation": "(0, 180, 0)"},
        "interior_margin_2d": [f"({x:.4f}, {y:.4f}, 9.0)" for x, y in lids],
        "caruncle_2d": [f"(60.0000, {57 + i}.0000, 9.0)" for i in range(7)],
        "iris_2d": [f"({x:.4f}, {y:.4f}, 9.0)" for x, y in iris],
        "ground_truth": GENUINE,
        **changes,
    }


def save_jpeg(path: Path, seed: int = 0) -> None:
    ramp = np.broadcast_to(np.arange(SIZE[1], dtype=np.uint8), SIZE)
    Image.fromarray(ramp + np.uint8(seed)).save(path, quality=95)


def renders(folder: Path, frames: int = 2, cameras: tuple[str, ...] = ("cam0", "left eye")) -> Path:
    folder.mkdir()
    for frame in range(1, frames + 1):
        for name in cameras:
            save_jpeg(folder / f"{frame}_{name}.jpg", frame)
        content = {"eye_details": {}, "cameras": {name: camera() for name in cameras}}
        (folder / f"{frame}.json").write_text(json.dumps(content))
    return folder


def older(folder: Path, frames: int = 2) -> Path:
    folder.mkdir()
    for frame in range(1, frames + 1):
        save_jpeg(folder / f"{frame}.jpg", frame)
        (folder / f"{frame}.json").write_text(json.dumps({"ground_truth": OLD}))
    return folder


def packed(folder: Path, **options: Any) -> PackedSet:
    return prepare("unityeyes2", folder, folder.parent / "packed", **options)


def test_every_camera_of_every_frame(tmp_path: Path) -> None:
    result = packed(renders(tmp_path / "EER_eye_data"))
    assert result.names == ["1_cam0.jpg", "1_left eye.jpg", "2_cam0.jpg", "2_left eye.jpg"]
    assert result.shape == (1, 36, 60) and not result.rejects  # 1.5 x 40, and 36/60 of it
    # The middle of the lids is the middle of the crop; the iris is 4 to the right and 4 up.
    np.testing.assert_allclose(
        result.labels["pupil"], [[30 + 4 - 0.5, 18 - 4 - 0.5]] * 4, atol=0.02
    )
    np.testing.assert_allclose(result.labels["head_pose"][0], [-5, 10, -10], atol=1e-4)
    lids = result.labels["eyelids"][0].reshape(2, 8, 2)
    assert lids[0, 1:, 1].max() < lids[1, 1:, 1].min(), "the upper lid is above"
    brightness = result.images(0, 4)[:, 0, 18, [0, -1]].astype(int)
    np.testing.assert_allclose(brightness, [[51, 110], [51, 110], [52, 111], [52, 111]], atol=2)


@pytest.mark.parametrize("truth", [GENUINE, GENUINE_ROLLED], ids=["upright", "rolled"])
def test_the_gaze_of_later_versions_is_from_eye_to_iris(truth: dict[str, str]) -> None:
    gaze = gaze_of(truth)
    # As the program computes gaze_vector: 0.01 (iris + gaze), its y turned, of a gaze with y up.
    x, y, z = (float(part) for part in truth["gaze_vector"][1:-1].split(","))
    ix, iy, iz = (float(part) for part in truth["iris_center"][1:-1].split(","))
    np.testing.assert_allclose(gaze, [100 * x - ix, 100 * y + iy, 100 * z - iz], atol=3e-4)
    assert np.linalg.norm(gaze) == pytest.approx(1) and gaze[2] < 0


def test_the_gaze_of_older_versions_has_y_up() -> None:
    np.testing.assert_allclose(gaze_of(OLD), [0.3, -0.4, -0.866], atol=1e-4)


def test_annotations_without_landmarks_are_read_whole(tmp_path: Path) -> None:
    folder = older(tmp_path / "imgs")
    result = packed(tmp_path)  # the folder that holds imgs
    assert result.names == ["1.jpg", "2.jpg"] and result.shape == (1, *SIZE)
    assert list(result.labels) == ["gaze"]
    with pytest.raises(InputError, match="no landmarks to crop around"):
        packed(folder, crop="fixed")


def test_an_image_without_a_camera_in_its_name_is_of_the_only_one(tmp_path: Path) -> None:
    folder = older(tmp_path / "imgs", frames=3)
    for frame, cameras in enumerate((["a"], ["a", "b"], ["b"]), 1):
        content = {"cameras": {name: camera() for name in cameras}}
        (folder / f"{frame}.json").write_text(json.dumps(content))
    result = packed(folder)
    assert result.names == ["1.jpg", "3.jpg"] and "pupil" in result.labels
    assert "has no camera ''" in dict(result.rejects)["2.jpg"]


def test_the_width_of_a_rolled_eye_is_measured_along_it(tmp_path: Path) -> None:
    folder = renders(tmp_path / "imgs", frames=1, cameras=("cam",))
    turned = camera()
    for key in ("interior_margin_2d", "caruncle_2d", "iris_2d"):  # by a quarter, about the middle
        places = [[float(part) for part in text[1:-1].split(",")] for text in turned[key]]
        turned[key] = [f"({80 - (y - 60)}, {60 + (x - 80)}, 9.0)" for x, y, _ in places]
    (folder / "1.json").write_text(json.dumps({"cameras": {"cam": turned}}))
    assert packed(folder).shape == (1, 36, 60)


@pytest.mark.parametrize("crop", ["fixed", "none"])
def test_other_crops(tmp_path: Path, crop: str) -> None:
    shape = packed(renders(tmp_path / "imgs"), crop=crop).shape
    assert shape == ((1, 84, 140) if crop == "fixed" else (1, *SIZE))


def spoil(folder: Path) -> dict[str, str]:
    """Break ten of the frames, each in its way; name -> what the reason must say."""
    bad = {
        "2_cam.jpg": ("{", "damaged (JSONDecodeError"),
        "3_cam.jpg": ("[" * 100_000, "damaged (RecursionError"),
        "4_cam.jpg": ("[]", "damaged (TypeError"),
        "5_cam.jpg": ('{"cameras": []}', "damaged (TypeError: cameras is no table"),
        "6_cam.jpg": ('{"cameras": {"other": {}}}', "has no camera 'cam'"),
        "7_cam.jpg": (
            {"ground_truth": {"gaze_vec": "(0.0, nan, 0.0)"}},
            "'(0.0, nan, 0.0)' is no vector",
        ),
        "8_cam.jpg": ({"ground_truth": {"gaze_vec": "(0, 0, 0)"}}, "must be finite and not zero"),
        "9_cam.jpg": ({"iris_2d": []}, "a list of points is missing"),
        "10_cam.jpg": ({"interior_margin_2d": ["(1, 2, 3)"]}, "1 points in interior_margin_2d"),
        "11_cam.jpg": ({"iris_2d": ["(1e300, 0, 0)"]}, "is no vector"),
    }
    for name, (content, _) in bad.items():
        whole = {"cameras": {"cam": camera(**content)}} if isinstance(content, dict) else None
        text = json.dumps(whole) if whole else str(content)
        (folder / name.replace("_cam.jpg", ".json")).write_text(text)
    return {name: reason for name, (_, reason) in bad.items()}


def test_what_is_not_whole_is_left_out(tmp_path: Path) -> None:
    folder = renders(tmp_path / "imgs", frames=16, cameras=("cam",))
    reasons = spoil(folder)
    (folder / "12.json").unlink()
    (folder / "13_cam.jpg").unlink()
    (folder / "14_cam.jpg").write_bytes((folder / "14_cam.jpg").read_bytes()[:700])
    (folder / "15_cam.jpg").write_bytes(b"no picture")
    (folder / "16.json").write_bytes(b" " * (5 << 20))
    result = packed(folder)
    assert result.names == ["1_cam.jpg"]
    found = dict(result.rejects)
    reasons |= {
        "12_cam.jpg": "12.json is missing",
        "13_cam.jpg": "the image is missing",
        "14_cam.jpg": "damaged or cut off",
        "15_cam.jpg": "not a JPEG",
        "16_cam.jpg": "is larger than",
    }
    assert found.keys() == reasons.keys()
    for name, reason in reasons.items():
        assert reason in found[name], (name, found[name])


def test_an_image_of_one_frame_alone_that_another_camera_has(tmp_path: Path) -> None:
    folder = renders(tmp_path / "imgs")
    (folder / "2_left eye.jpg").unlink()
    result = packed(folder)
    assert len(result) == 3 and dict(result.rejects) == {"2_left eye.jpg": "the image is missing"}


def test_files_that_vanish_after_they_were_listed(tmp_path: Path) -> None:
    folder = renders(tmp_path / "imgs")
    reader = UnityEyes2Reader(folder)
    samples = list(reader)
    (folder / "1_cam0.jpg").unlink()
    (folder / "2.json").unlink()
    with pytest.raises(Rejected, match="the image is missing"):
        content_of(item_of(samples[0]))
    again = list(reader)
    for number, reason in ((0, "the image is missing"), (2, r"2\.json is missing")):
        with pytest.raises(Rejected, match=reason):
            content_of(item_of(again[number]))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_files_that_may_not_be_read(tmp_path: Path) -> None:
    folder = renders(tmp_path / "imgs", frames=3, cameras=("cam",))
    (folder / "1.json").chmod(0)
    (folder / "2_cam.jpg").chmod(0)
    result = packed(folder)
    assert result.names == ["3_cam.jpg"]
    assert all("ermission denied" in reason for _, reason in result.rejects)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([], "holds no annotation"),
        (["1_cam.jpg"], "holds no annotation"),
        (["words.json", "words.jpg"], "holds no annotation"),
        (["1.json"], "holds no image"),
        (["1.json", "1_c\\am.jpg"], "cannot be kept"),
    ],
)
def test_folders_that_are_none(tmp_path: Path, files: list[str], message: str) -> None:
    for name in files:
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(InputError, match=message):
        UnityEyes2Reader(tmp_path)


def test_bad_arguments(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        UnityEyes2Reader(tmp_path / "nowhere")
    with pytest.raises(InputError, match="crop is 'tight'"):
        UnityEyes2Reader(tmp_path, crop="tight")


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=8) | st.integers(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=6,
)
VECTORS = st.tuples(st.floats(), st.floats(), st.floats()).map(str) | st.text(
    "(),.e-1n ", max_size=12
)
PARTS = st.dictionaries(
    st.sampled_from(sorted(camera())), JSON | VECTORS | st.lists(VECTORS, min_size=15, max_size=17)
)


@given(JSON | PARTS.map(lambda parts: {"cameras": {"cam": camera(**parts)}}))
@settings(max_examples=150, deadline=None)
def test_no_annotation_breaks_the_reading(content: Any) -> None:
    with tempfile.TemporaryDirectory() as place:
        folder = renders(Path(place) / "imgs", frames=1, cameras=("cam",))
        (folder / "1.json").write_text(json.dumps(content))
        for reader in (UnityEyes2Reader(folder), UnityEyesReader(folder)):
            for sample in reader:
                try:
                    content, labels, box, _ = content_of(item_of(sample))
                    pixels, _ = load_image(content, box, None)
                except Rejected as reason:
                    str(reason).encode()  # rejects.csv is UTF-8
                    continue
                assert pixels.nbytes < 10_000_000
                assert all(np.isfinite(values).all() for values in labels.values())


def test_ten_genuine_pairs(tmp_path: Path) -> None:
    if not SHARED.is_dir():
        pytest.skip("shared/data is not there")
    result = prepare("unityeyes2", SHARED, tmp_path / "packed", size=(48, 64))
    assert len(result) == 10 and result.shape == (3, 48, 64)
    gaze = result.labels["gaze"]
    np.testing.assert_allclose(np.linalg.norm(gaze, axis=1), 1, atol=1e-3)
    assert (gaze[:, 2] < 0).all() and gaze[7, 1] > 0.9, "37.jpg looks down, its lid is almost shut"
    assert gaze[1, 0] < -0.4, "31.jpg looks to the image's left"


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, out = str(renders(tmp_path / "imgs")), str(tmp_path / "packed")
    assert cli.main(["prepare", "unityeyes2", source, out, "--crop", "fixed"]) == 0
    assert open_packed(out).shape == (1, 84, 140)
    assert cli.main(["prepare", "unityeyes2", source, f"{out}2", "--crop", "tight"]) == 2
    assert "want one of fixed, eye-width, none" in capsys.readouterr().err
