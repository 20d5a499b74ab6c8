"""Readers of published formats, and `prepare`: small files made here, and a genuine one if shared/data is there."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from image_folders import annotation
from PIL import Image

from simgan_fast import cli, prepare
from simgan_fast.data.packed import open_packed
from simgan_fast.data.readers.arrays import ArrayReader
from simgan_fast.data.readers.unityeyes import labels_of
from simgan_fast.errors import InputError
from simgan_fast.gaze import pitch_yaw_to_vector, vector_to_pitch_yaw

SHARED = Path(__file__).parents[2] / "shared" / "data"
SIZE = (480, 640)


def render() -> np.ndarray:
    """Grey that tells where a pixel was: x in steps of 4, brighter to the right."""
    return np.broadcast_to((np.arange(SIZE[1]) // 4).astype(np.uint8), SIZE).copy()


def unityeyes(folder: Path, count: int = 3, **changes: Any) -> Path:
    """A folder of pairs."""
    folder.mkdir()
    for number in range(1, count + 1):
        Image.fromarray(render()).save(folder / f"{number}.jpg", quality=95)
        (folder / f"{number}.json").write_text(json.dumps(annotation(**changes)))
    return folder


def test_unityeyes_gaze_is_in_the_camera_axes_of_mpiigaze(tmp_path: Path) -> None:
    packed = prepare("unityeyes", unityeyes(tmp_path / "imgs"), tmp_path / "packed")
    assert packed.shape == (1, 84, 140) and len(packed) == 3
    np.testing.assert_allclose(packed.labels["gaze"][0], [0.3, -0.4, -0.866], atol=1e-3)
    pitch, yaw = vector_to_pitch_yaw(packed.labels["gaze"])[0]
    assert pitch == pytest.approx(np.arcsin(0.4), abs=1e-3)  # up
    assert yaw == pytest.approx(np.arctan2(-0.3, 0.866), abs=1e-3)  # to the image's right
    np.testing.assert_allclose(packed.labels["head_pose"][0], [-5, 10, 0], atol=1e-4)


@pytest.mark.parametrize("size", [None, (42, 70)])
def test_unityeyes_positions_move_with_crop_and_size(
    tmp_path: Path, size: tuple[int, int] | None
) -> None:
    packed = prepare("unityeyes", unityeyes(tmp_path / "imgs"), tmp_path / "packed", size=size)
    scale = 1.0 if size is None else 0.5
    # The middle of the lids, (320, 480 - 240), is the middle of the crop; the iris is 10 right and 10 up.
    middle = np.array([70, 42]) * scale
    expected = middle + np.array([10, -10]) * scale - 0.5
    np.testing.assert_allclose(packed.labels["pupil"][0], expected, atol=0.02)
    lids = packed.labels["eyelids"][0].reshape(2, 8, 2)
    assert (np.diff(lids[:, :, 0]) > 0).all(), "both lids go from left to right"
    assert lids[0, 1:, 1].max() < lids[1, 1:, 1].min() + 1e-3, "the upper lid is above"
    first, last = packed.images(0, 1)[0, 0, 5, [0, -1]]
    step = 0.5 / scale  # pixels of the render to the middle of an outer pixel of the crop
    assert abs(int(first) - (250 + step) / 4) < 2 and abs(int(last) - (390 - step) / 4) < 2


def test_unityeyes_crop_by_the_width_of_the_eye(tmp_path: Path) -> None:
    folder = unityeyes(tmp_path / "imgs")
    packed = prepare("unityeyes", folder, tmp_path / "packed", crop="eye-width")
    assert packed.shape == (1, 92, 153)  # 1.5 x (370 - 268), and 36/60 of it
    whole = prepare("unityeyes", folder, tmp_path / "whole", crop="none")
    assert whole.shape == (1, *SIZE)
    np.testing.assert_allclose(whole.labels["pupil"][0], [329.5, 229.5], atol=0.02)


def test_unityeyes_crop_over_the_border_repeats_the_edge(tmp_path: Path) -> None:
    lids = [f"({5 + x}.0, {240 + x}.0, 1.0)" for x in range(16)]
    folder = unityeyes(tmp_path / "imgs", interior_margin_2d=lids)
    images = prepare("unityeyes", folder, tmp_path / "packed").images(0, 1)[0, 0]
    assert (abs(images[:, :50].astype(int) - images[:, :1].astype(int)) <= 2).all()


def test_unityeyes_leaves_out_what_is_not_whole(tmp_path: Path) -> None:
    folder = unityeyes(tmp_path / "imgs", count=8)
    (folder / "1.json").unlink()
    (folder / "2.jpg").unlink()
    (folder / "3.json").write_text("{")
    (folder / "4.json").write_text(json.dumps(annotation(eye_details={"look_vec": "__import__"})))
    (folder / "5.jpg").write_bytes((folder / "5.jpg").read_bytes()[:2000])
    far = [f"(9{x:03}.0, 240.0, 1.0)" for x in range(16)]
    (folder / "6.json").write_text(json.dumps(annotation(interior_margin_2d=far)))
    packed = prepare("unityeyes", folder, tmp_path / "packed")
    assert packed.names == ["7.jpg", "8.jpg"]
    reasons = dict(packed.rejects)
    assert reasons["1.jpg"] == "its annotation 1.json is missing"
    assert reasons["2.jpg"] == "the image is missing"
    assert "3.json is damaged" in reasons["3.jpg"] and "is no vector" in reasons["4.jpg"]
    assert "damaged or cut off" in reasons["5.jpg"] and "outside" in reasons["6.jpg"]


def test_unityeyes_eye_of_absurd_size_is_left_out(tmp_path: Path) -> None:
    folder = unityeyes(tmp_path / "imgs", count=2)
    far = [f"(-{10**9}.0, 240.0, 1.0)" for _ in range(5)]
    (folder / "1.json").write_text(json.dumps(annotation(caruncle_2d=far)))
    packed = prepare("unityeyes", folder, tmp_path / "packed", crop="eye-width")
    assert packed.names == ["2.jpg"] and "many times as large" in dict(packed.rejects)["1.jpg"]


def test_a_genuine_annotation_of_unityeyes() -> None:
    file = SHARED / "unityeyes_original_annotation.json"
    if not file.is_file():
        pytest.skip("shared/data is not there")
    labels = labels_of(json.loads(file.read_text()), 600)
    lids = labels["eyelids"].reshape(2, 8, 2)
    assert np.linalg.norm(labels["gaze"]) == pytest.approx(1) and labels["gaze"][2] < 0
    assert (np.diff(lids[:, 1:, 0]) > 0).all(), "from left to right but for the inner corner's bend"
    assert lids[0, 2:, 1].mean() < labels["pupil"][1] < lids[1, 2:, 1].mean()
    assert lids[:, 0, 0].max() < labels["pupil"][0] < lids[:, -1, 0].min()


def mpiigaze(folder: Path, days: dict[str, int]) -> tuple[Path, dict[str, Any]]:
    """Data/Normalized as the data set has it: days of p00 with so many images."""
    savemat = pytest.importorskip("scipy.io").savemat
    random, held = np.random.default_rng(0), {}
    place = folder / "Data" / "Normalized" / "p00"
    place.mkdir(parents=True)
    for day, count in days.items():
        eyes = {}
        for side in ("right", "left"):
            images = random.integers(0, 255, (count, 36, 60)).astype(np.uint8)
            gaze = pitch_yaw_to_vector(random.uniform(-0.4, 0.4, (count, 2)))
            held[day, side] = images, gaze
            eyes[side] = {"gaze": gaze, "image": images, "pose": np.zeros((count, 3))}
        names = np.array([[f"{i:04d}.jpg"] for i in range(1, count + 1)], dtype=object)
        savemat(place / f"{day}.mat", {"data": eyes, "filenames": names})
    return folder, held


def test_mpiigaze_mirrors_right_eyes(tmp_path: Path) -> None:
    folder, held = mpiigaze(tmp_path / "MPIIGaze", {"day01": 3, "day02": 1})
    packed = prepare("mpiigaze", folder, tmp_path / "packed")
    assert packed.names[:3] == [
        f"p00/day01/{n}.png" for n in ("0001-left", "0001-right", "0002-left")
    ]
    assert len(packed) == 8 and packed.shape == (1, 36, 60)
    images, gaze = packed.images(0, 8)[:, 0], packed.labels["gaze"]
    np.testing.assert_array_equal(images[2], held["day01", "left"][0][1])
    np.testing.assert_array_equal(images[3], held["day01", "right"][0][1][:, ::-1])
    np.testing.assert_allclose(gaze[2], held["day01", "left"][1][1], atol=1e-6)
    np.testing.assert_allclose(gaze[3], held["day01", "right"][1][1] * [-1, 1, 1], atol=1e-6)
    np.testing.assert_array_equal(images[6], held["day02", "left"][0][0])  # a day of one image
    straight = vector_to_pitch_yaw(held["day01", "right"][1][1:2])[0]
    np.testing.assert_allclose(vector_to_pitch_yaw(gaze[3:4])[0], straight * [1, -1], atol=1e-6)


def test_mpiigaze_reads_what_the_evaluation_lists_name(tmp_path: Path) -> None:
    folder, held = mpiigaze(tmp_path / "MPIIGaze", {"day01": 3, "day02": 2})
    lists = folder / "Evaluation Subset" / "sample list for eye image"
    lists.mkdir(parents=True)
    (lists / "p00.txt").write_text("day02/0002.jpg left\nday01/0003.jpg right\n")
    packed = prepare("mpiigaze", folder, tmp_path / "packed")
    assert packed.names == ["p00/day01/0003-right.png", "p00/day02/0002-left.png"]
    np.testing.assert_array_equal(packed.images(1, 2)[0, 0], held["day02", "left"][0][1])
    (lists / "p00.txt").write_text("day02/0009.jpg left\n")
    with pytest.raises(InputError, match=r"names p00/day02/0009\.jpg"):
        prepare("mpiigaze", folder, tmp_path / "again")
    (lists / "p00.txt").write_text("day77/0001.jpg left\n")
    with pytest.raises(InputError, match="names p00/day77, which"):
        prepare("mpiigaze", folder, tmp_path / "again")
    assert len(prepare("mpiigaze", folder, tmp_path / "all", evaluation=False)) == 10
    (lists / "p00.txt").write_text("day02 0009\n")
    with pytest.raises(InputError, match="line 1, is 'day02 0009'"):
        prepare("mpiigaze", folder, tmp_path / "again")
    assert not (tmp_path / "again").exists()


@pytest.mark.parametrize("damage", ["cut", "empty", "zeros", "another"])
def test_mpiigaze_that_is_damaged(tmp_path: Path, damage: str) -> None:
    folder, _ = mpiigaze(tmp_path / "MPIIGaze", {"day01": 3})
    file = folder / "Data" / "Normalized" / "p00" / "day01.mat"
    data = file.read_bytes()
    if damage == "another":
        pytest.importorskip("scipy.io").savemat(file, {"data": 1.0, "filenames": "x"})
    else:
        spoiled = {"cut": data[: len(data) // 2], "empty": b"", "zeros": bytes(len(data))}
        file.write_bytes(spoiled[damage])
    with pytest.raises(InputError, match=r"day01\.mat is no day of MPIIGaze"):
        prepare("mpiigaze", folder, tmp_path / "packed")
    assert not (tmp_path / "packed").exists()


def test_npz_whose_packing_is_damaged(tmp_path: Path) -> None:
    file = tmp_path / "eyes.npz"
    np.savez_compressed(file, images=np.random.default_rng(0).integers(0, 9, (9, 20, 20), np.uint8))
    data = bytearray(file.read_bytes())
    data[100:600] = bytes(500)
    file.write_bytes(data)
    with pytest.raises(InputError, match="cannot be read"):
        prepare("npz", file, tmp_path / "packed")


def test_mpiigaze_h5(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    images = np.random.default_rng(0).integers(0, 255, (5, 36, 60)).astype(np.uint8)
    with h5py.File(tmp_path / "MPIIGaze.h5", "w") as file:
        for person in ("p01", "p00"):
            file[f"{person}/image"], file[f"{person}/gaze"] = images, np.full((5, 2), 0.1)
    packed = prepare("mpiigaze-h5", tmp_path / "MPIIGaze.h5", tmp_path / "packed", size=(35, 55))
    assert packed.names[4:6] == ["p00/0004.png", "p01/0000.png"] and packed.shape == (1, 35, 55)
    np.testing.assert_allclose(vector_to_pitch_yaw(packed.labels["gaze"]), 0.1, atol=1e-6)


@pytest.mark.parametrize("shape", [(4, 6, 7), (4, 6, 7, 3), (4, 1, 6, 7), (4, 3, 6, 7)], ids=str)
def test_npz_of_any_layout(tmp_path: Path, shape: tuple[int, ...]) -> None:
    images = np.random.default_rng(0).integers(0, 60000, shape).astype(np.uint16)
    file = tmp_path / "eyes.npz"
    np.savez(file, images=images, gaze=np.eye(4)[:, :3], age=np.arange(4))
    packed = prepare("npz", file, tmp_path / "packed")
    planes = images if images.ndim == 4 else images[..., None]
    expected = planes if shape[1:2] in ((1,), (3,)) else planes.transpose(0, 3, 1, 2)
    np.testing.assert_array_equal(packed.images(0, 4), expected)
    assert {name: values.shape for name, values in packed.labels.items()} == {
        "gaze": (4, 3),
        "age": (4, 1),
    }
    np.save(tmp_path / "eyes.npy", images)
    alone = prepare("npz", tmp_path / "eyes.npy", tmp_path / "alone")
    np.testing.assert_array_equal(alone.images(0, 4), expected)
    assert not alone.labels


class Planted:
    """Would run, were it unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (pytest.fail, ("unpickled",))


def test_npz_is_not_unpickled(tmp_path: Path) -> None:
    np.savez(tmp_path / "bad.npz", images=np.array([Planted()], dtype=object))
    with pytest.raises(InputError, match="file of plain numbers"):
        prepare("npz", tmp_path / "bad.npz", tmp_path / "packed")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"pixels": np.zeros((2, 4, 4), np.uint8)}, "name the array of images 'images'"),
        ({"images": np.zeros((2, 4, 4))}, "are float64"),
        ({"images": np.zeros((2, 4, 4), np.uint8), "gaze": np.zeros((3, 3))}, "a label is numbers"),
    ],
)
def test_npz_that_is_no_set(tmp_path: Path, arrays: dict[str, np.ndarray], message: str) -> None:
    np.savez(tmp_path / "bad.npz", **arrays)
    with pytest.raises(InputError, match=message):
        prepare("npz", tmp_path / "bad.npz", tmp_path / "packed")
    assert not (tmp_path / "packed").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("tarball", "x"), "format is 'tarball'"),
        (("unityeyes", "nowhere"), "nowhere does not exist"),
        (("unityeyes", "."), "holds no annotation"),
        (("mpiigaze", "."), "holds no eyes of MPIIGaze"),
        (("mpiigaze-h5", "text"), "is no MPIIGaze.h5"),
        (("npz", "nowhere.npz"), "cannot be read"),
        (("npz", "text"), "cannot be read"),
    ],
)
def test_bad_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("text").write_text("no numbers")
    with pytest.raises(InputError, match=message):
        prepare(*arguments, "packed")
    assert not Path("packed").exists()


def test_options_are_those_of_the_format(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the format npz takes no crop"):
        prepare("npz", tmp_path / "x.npz", tmp_path / "packed", crop="none")


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["prepare", "--list"]) == 0
    listed = capsys.readouterr().out
    assert all(name in listed for name in ("unityeyes", "mpiigaze-h5", "npz", "folder"))
    source, out = str(unityeyes(tmp_path / "imgs")), str(tmp_path / "packed")
    assert cli.main(["prepare", "unityeyes", source, out, "--size", "35x55"]) == 0
    assert "3 images of 35x55, 1 channel" in capsys.readouterr().out
    assert open_packed(out).shape == (1, 35, 55)
    assert cli.main(["prepare", "unityeyes", source, out]) == 2
    assert cli.main(["prepare", "unityeyes"]) == 2
    assert "source and out missing" in capsys.readouterr().err


def test_a_npz_that_unpacks_to_more_than_memory(tmp_path: Path, monkeypatch) -> None:
    """A bomb: 40 MB of zeros in 40 KB; and a header that speaks of more than there is."""
    bomb = tmp_path / "bomb.npz"
    np.savez_compressed(bomb, images=np.zeros((1000, 200, 200), np.uint8))
    assert bomb.stat().st_size < 100_000
    monkeypatch.setattr("simgan_fast.data.readers.arrays.free_memory", lambda: 60 << 20)
    with pytest.raises(InputError, match="takes 38 MiB of memory once it is unpacked"):
        ArrayReader(bomb)
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        stream, {"shape": (1 << 50, 2, 2), "fortran_order": False, "descr": "|u1"}
    )
    with zipfile.ZipFile(tmp_path / "header.npz", "w") as file:
        file.writestr("images.npy", stream.getvalue())
    (tmp_path / "header.npy").write_bytes(stream.getvalue())
    for name in ("header.npz", "header.npy"):
        with pytest.raises(InputError, match=f"{name} cannot be read"):
            ArrayReader(tmp_path / name)


@pytest.mark.parametrize("header", [b"{'descr': (\n", b"{'descr': 1}\n  a\n b\n"])
def test_numpy_header_that_python_cannot_split_is_one_sentence(
    tmp_path: Path, header: bytes
) -> None:
    file = tmp_path / "x.npy"
    file.write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
    with pytest.raises(InputError, match="cannot be read"):
        ArrayReader(file)
