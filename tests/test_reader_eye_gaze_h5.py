"""Kaggle's gaze.h5 and real_gaze.h5: files made here in their layout, as the set itself is not to be had."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simgan_fast import cli, prepare
from simgan_fast.data.packed import PackedSet
from simgan_fast.data.readers.eye_gaze_h5 import EyeGazeH5Reader
from simgan_fast.errors import InputError

h5py = pytest.importorskip("h5py")
NAMES = [str(i) for i in range(1, 13)]  # "10" comes before "2" in HDF5's order


def image_of(name: str) -> np.ndarray:
    return np.full((35, 55), int(name) if name.isdecimal() else 200, np.uint8)


def gaze_h5(file: Path, names: list[str] = NAMES, **arrays: Any) -> Path:
    with h5py.File(file, "w") as content:
        content.create_group("image")
        for name in names:
            content[f"image/{name}"] = image_of(name)
        for name, values in arrays.items():
            content[name] = values
    return file


def look_vec(count: int = 12) -> np.ndarray:
    """Row i looks 0.01 i to the right and 0.02 i up."""
    rows = np.arange(1, count + 1)[:, None] * [0.01, 0.02, 0, 0] + [0, 0, -1, 0]
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def packed(file: Path) -> PackedSet:
    return prepare("eye-gaze-h5", file, file.parent / "packed")


PATHS = {
    "whole": "{}",
    "a path": "../input/imgs/{}.jpg",
    "a Windows path": "C:\\UnityEyes\\imgs\\{}.jpg",
    "a folder": "imgs/{}",
}


@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
def test_rows_are_found_by_the_names_in_their_paths(tmp_path: Path, path: str) -> None:
    order = np.random.default_rng(0).permutation(12)  # the file's rows are in an order of their own
    paths = [path.format(NAMES[i]) for i in order]
    result = packed(gaze_h5(tmp_path / "gaze.h5", look_vec=look_vec()[order], path=paths))
    assert result.names == [f"{name}.png" for name in NAMES]
    np.testing.assert_array_equal(result.images(0, 12)[:, 0, 3, 3], range(1, 13))
    expected = look_vec()[:, :3] * [1, -1, 1]
    np.testing.assert_allclose(result.labels["gaze"], expected, atol=1e-6)


def test_names_with_a_suffix(tmp_path: Path) -> None:
    names = [f"{i}.jpg" for i in range(3)]
    file = gaze_h5(
        tmp_path / "gaze.h5", names, look_vec=look_vec(3), path=[f"a/{n}" for n in names]
    )
    assert packed(file).names == names


def test_names_that_are_numbers_of_rows(tmp_path: Path) -> None:
    names = [str(i) for i in range(12)]
    paths = [f"imgs/{i + 100}.jpg" for i in range(12)]
    result = packed(gaze_h5(tmp_path / "gaze.h5", names, look_vec=look_vec(), path=paths))
    np.testing.assert_allclose(result.labels["gaze"], look_vec()[:, :3] * [1, -1, 1], atol=1e-6)


def test_real_gaze_has_no_labels(tmp_path: Path) -> None:
    result = packed(gaze_h5(tmp_path / "real_gaze.h5"))
    assert len(result) == 12 and not result.labels and result.shape == (1, 35, 55)


def test_what_is_no_image_or_has_no_row_is_left_out(tmp_path: Path) -> None:
    vectors = look_vec()
    vectors[0], vectors[1] = np.nan, 0
    paths = [f"{name}.jpg" for name in NAMES]
    paths[2], paths[4] = "77.jpg", "4.jpg"  # so 3 has none, and 4 has two
    file = gaze_h5(tmp_path / "gaze.h5", look_vec=vectors, path=paths)
    with h5py.File(file, "a") as content:
        images = content["image"]
        for name, values in (("6", np.zeros((35, 55))), ("7", np.zeros((2, 3, 4), np.uint8))):
            del images[name]
            images[name] = values
        del images["8"]
        images.create_group("8")
        del images["9"]
        images.create_dataset(
            "9", (1 << 20, 1 << 20), np.uint8, chunks=(64, 64)
        )  # a terabyte, said
        del images["10"]
        images["10"] = h5py.SoftLink("/nowhere")
    result = packed(file)
    assert result.names == ["11.png", "12.png"]
    reasons = {
        "1": "look_vec is [nan",
        "2": "look_vec is [0",
        "3": "no path in /path has its name",
        "4": "no path in /path has its name",
        "5": "no path in /path has its name",
        "6": "no data set of uint8",
        "7": "its shape is [2, 3, 4]",
        "8": "no data set of uint8",
        "9": "its shape is [1048576, 1048576]",
        "10": "damaged",
    }
    for name, reason in reasons.items():
        assert reason in dict(result.rejects)[f"{name}.png"]


BROKEN = {
    "other names": ({"look_vec": look_vec(), "path": ["x"] * 12}, "does not tell which row"),
    "no path": ({"look_vec": look_vec()}, "does not tell which row"),
    "rows too few": ({"look_vec": look_vec(3), "path": NAMES}, "12 rows in path and 3 in look_vec"),
    "two numbers": ({"look_vec": look_vec()[:, :2], "path": NAMES}, r"want \[n, 3\]"),
    "one row": ({"look_vec": look_vec()[0], "path": NAMES}, r"look_vec is \[4\]"),
    "words": ({"look_vec": [["a", "b", "c"]] * 12, "path": NAMES}, r"want \[n, 3\]"),
    "a group": ({"look_vec/x": look_vec(), "path": NAMES}, "is no gaze.h5"),
}


@pytest.mark.parametrize(("arrays", "message"), BROKEN.values(), ids=BROKEN)
def test_rows_that_are_none(tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        packed(gaze_h5(tmp_path / "gaze.h5", **arrays))
    assert not (tmp_path / "packed").exists()


def test_files_that_are_none(tmp_path: Path) -> None:
    whole = gaze_h5(tmp_path / "gaze.h5").read_bytes()
    for data in (b"", b"words", whole[: len(whole) // 3], bytes(len(whole))):
        (tmp_path / "bad.h5").write_bytes(data)
        with pytest.raises(InputError, match=r"bad\.h5 is no gaze\.h5"):
            packed(tmp_path / "bad.h5")
    with pytest.raises(InputError, match=r"is no gaze\.h5"):
        packed(tmp_path / "nowhere.h5")
    with pytest.raises(InputError, match="holds no image"):
        packed(gaze_h5(tmp_path / "empty.h5", []))
    assert len(packed(gaze_h5(tmp_path / "one.h5", ["5"]))) == 1


def test_a_huge_look_vec_is_not_read(tmp_path: Path) -> None:
    file = gaze_h5(tmp_path / "gaze.h5", path=NAMES)
    with h5py.File(file, "a") as content:
        content.create_dataset("look_vec", (1 << 40, 3), np.float64, chunks=(64, 3))
    with pytest.raises(InputError, match="look_vec is"):
        packed(file)


def test_a_file_that_vanishes_after_it_was_listed(tmp_path: Path) -> None:
    reader = EyeGazeH5Reader(gaze_h5(tmp_path / "gaze.h5"))
    (tmp_path / "gaze.h5").unlink()
    with pytest.raises(InputError, match="can no longer be read"):
        list(reader)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    gaze_h5(tmp_path / "gaze.h5").chmod(0)
    with pytest.raises(InputError, match="ermission denied"):
        EyeGazeH5Reader(tmp_path / "gaze.h5")


@given(st.binary(max_size=40), st.floats(0, 1))
@settings(max_examples=100, deadline=None, derandomize=True)
def test_no_damage_breaks_the_reading(damage: bytes, place: float) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = gaze_h5(Path(folder) / "gaze.h5", NAMES[:3], look_vec=look_vec(3), path=NAMES[:3])
        data = bytearray(file.read_bytes())
        start = int(place * len(data))
        data[start : start + len(damage)] = damage
        file.write_bytes(data)
        try:
            samples = list(EyeGazeH5Reader(file))
        except InputError:
            return
        assert all(np.isfinite(values).all() for s in samples for values in s.labels.values())


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = str(gaze_h5(tmp_path / "real_gaze.h5"))
    assert cli.main(["prepare", "eye-gaze-h5", source, str(tmp_path / "packed")]) == 0
    assert "12 images of 35x55, 1 channel" in capsys.readouterr().out
