"""SynthesEyes: folders made here in the data set's layout, and 52 genuine images if shared/data is there."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from image_folders import save, smooth

from simgan_fast import cli, prepare
from simgan_fast.data.image_files import Rejected
from simgan_fast.data.readers.syntheseyes import SynthesEyesReader, gaze_of
from simgan_fast.errors import InputError
from simgan_fast.gaze import vector_to_pitch_yaw

SHARED = Path(__file__).parents[2] / "shared" / "data" / "syntheseyes"


def syntheseyes(folder: Path, names: list[str]) -> Path:
    """RGBA images of 80x120, each with its pickle, which would fail the test if it were run."""
    for i, name in enumerate(names):
        pixels = np.dstack([smooth(80, 120, 3, seed=i), np.full((80, 120), 90 + i, np.uint8)])
        save(folder / name, pixels)
        (folder / name).with_suffix(".pkl").write_bytes(b"cbuiltins\nexit\n(S'unpickled'\ntR.")
    return folder


def test_names_tell_the_gaze(tmp_path: Path) -> None:
    names = [f"f01/f01_{name}.png" for name in ("2_0.1963_-0.7854", "10_-0.0000_0.3927")]
    packed = prepare("syntheseyes", syntheseyes(tmp_path / "set", names), tmp_path / "packed")
    assert packed.names == names and packed.shape == (3, 80, 120)
    angles = vector_to_pitch_yaw(packed.labels["gaze"])
    np.testing.assert_allclose(angles, [[0.1963, -0.7854], [0, 0.3927]], atol=1e-6)
    np.testing.assert_array_equal(
        packed.images(1, 2)[0], smooth(80, 120, 3, seed=1).transpose(2, 0, 1)
    )


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("holiday.png", "tells no pitch and yaw"),
        ("f01_1_0.1.png", "tells no pitch and yaw"),
        ("f01_1_nan_0.1.png", "tells no pitch and yaw"),
        ("f01_1_0.1_0.2.jpg", "tells no pitch and yaw"),
        ("f01_1_20.0_0.1.png", "want radians"),
        ("f01_1_0.1_-3.2.png", "want radians"),
    ],
)
def test_other_names_are_left_out(tmp_path: Path, name: str, reason: str) -> None:
    folder = syntheseyes(tmp_path / "set", ["f01_3_0.1_0.2.png"])
    save(folder / name, smooth(80, 120, 3))
    packed = prepare("syntheseyes", folder, tmp_path / "packed")
    assert packed.names == ["f01_3_0.1_0.2.png"]
    assert reason in dict(packed.rejects)[name]


def test_damaged_images_are_left_out(tmp_path: Path) -> None:
    names = [f"f01_{i}_0.1_0.2.png" for i in range(6)]
    folder = syntheseyes(tmp_path / "set", names)
    whole = (folder / names[0]).read_bytes()
    for name, data in zip(
        names, (whole[:900], b"", b"words", whole[:200] + bytes(900)), strict=False
    ):
        (folder / name).write_bytes(data)
    (folder / names[4]).unlink()
    (folder / names[4]).symlink_to(folder / "nowhere")
    packed = prepare("syntheseyes", folder, tmp_path / "packed")
    assert packed.names == names[5:] and len(packed.rejects) == 5


def test_an_image_that_vanishes_after_it_was_listed(tmp_path: Path) -> None:
    folder = syntheseyes(tmp_path / "set", ["f01_1_0.1_0.2.png", "f01_2_0.1_0.2.png"])
    reader = SynthesEyesReader(folder)
    (folder / "f01_1_0.1_0.2.png").unlink()
    assert len(reader) == 2 and [sample.name for sample in reader] == reader.names


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_image_that_may_not_be_read(tmp_path: Path) -> None:
    folder = syntheseyes(tmp_path / "set", ["f01_1_0.1_0.2.png", "f01_2_0.1_0.2.png"])
    (folder / "f01_1_0.1_0.2.png").chmod(0)
    packed = prepare("syntheseyes", folder, tmp_path / "packed")
    assert len(packed) == 1 and "ermission denied" in packed.rejects[0][1]


def test_folders_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        SynthesEyesReader(tmp_path / "nowhere")
    with pytest.raises(InputError, match="holds no image"):
        SynthesEyesReader(tmp_path)
    save(tmp_path / "other.png", smooth(4, 5))
    with pytest.raises(InputError, match="holds no image of SynthesEyes"):
        SynthesEyesReader(tmp_path)


@given(st.text() | st.from_regex(r"f01_\d+_-?\d+\.\d+_-?\d+\.\d+\.png", fullmatch=True))
def test_no_name_breaks_the_reading(name: str) -> None:
    with contextlib.suppress(Rejected):
        assert np.linalg.norm(gaze_of(name)) == pytest.approx(1)


def test_genuine_images_have_the_iris_where_the_gaze_goes(tmp_path: Path) -> None:
    if not SHARED.is_dir():
        pytest.skip("shared/data is not there")
    packed = prepare("syntheseyes", SHARED, tmp_path / "packed", channels=1)
    assert packed.shape == (1, 80, 120) and len(packed) == 52 and not packed.rejects
    eyes = packed.images(0, 52)[:, 0, 25:70, 25:100]
    dark = [np.argwhere(eye <= np.percentile(eye, 12)).mean(0) for eye in eyes]  # row, column
    rows, columns = np.array(dark).T
    gaze = packed.labels["gaze"]
    assert np.corrcoef(rows, gaze[:, 1])[0, 1] > 0.6, "y of the gaze is down, as rows are"
    assert np.corrcoef(columns, gaze[:, 0])[0, 1] > 0.6, "x of the gaze is right, as columns are"


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = str(syntheseyes(tmp_path / "set", ["m05_1_0.1_0.2.png"]))
    out = str(tmp_path / "packed")
    assert (
        cli.main(["prepare", "syntheseyes", source, out, "--size", "35x55", "--channels", "1"]) == 0
    )
    assert "1 images of 35x55, 1 channel" in capsys.readouterr().out
    with pytest.raises(InputError, match="the format syntheseyes takes no crop"):
        prepare("syntheseyes", source, tmp_path / "again", crop="fixed")
