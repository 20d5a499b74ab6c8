"""Folders of depth: millimetres kept as they are, 8 bits between two depths, and what cannot be depth left out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from simgan_fast import cli, depth, prepare
from simgan_fast.errors import InputError

SHARED = Path(__file__).parents[2] / "shared" / "data" / "senz3d_hands"


def frame(hand: int = 700, wall: int = 2500) -> np.ndarray:
    """uint16 [60, 80] in mm: a hand of 20x10 pixels before a wall, one pixel not measured."""
    image = np.full((60, 80), wall, np.uint16)
    image[20:40, 30:40] = hand
    image[30, 35] = 0
    return image


def save(file: Path, pixels: np.ndarray) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(file)


def test_the_hand_is_cropped_and_millimetres_are_kept(tmp_path: Path) -> None:
    save(tmp_path / "in" / "a" / "1.png", frame())
    result = prepare("depth", tmp_path / "in", tmp_path / "out", near=200, far=900)
    assert (result.names[0], result.dtype, result.shape) == ("a/1.png", "uint16", (1, 40, 40))
    assert result.labels["box"][0].tolist() == [15, 10, 55, 50]
    assert result.labels["centre"][0] == 700
    image = result.images(0, 1)[0, 0]
    assert set(np.unique(image)) == {0, 700}
    assert image[20, 20] == 0 and (image == 700).sum() == 199, "what was not measured stays so"


def test_a_hand_cut_by_the_border_keeps_its_place(tmp_path: Path) -> None:
    image = np.roll(frame(), -35, axis=1)  # half of the hand is beyond the left border
    image[:, 40:] = 2500
    save(tmp_path / "in" / "1.png", image)
    result = prepare("depth", tmp_path / "in", tmp_path / "out", near=200, far=900)
    left, _, right, _ = result.labels["box"][0].astype(int)
    assert left < 0 and right - left == 40
    crop = result.images(0, 1)[0, 0]
    assert not crop[:, :-left].any(), "beyond the border there is no depth"
    assert (crop > 0).sum() == (image == 700).sum()


def test_whole_images_and_other_values(tmp_path: Path) -> None:
    save(tmp_path / "in" / "1.png", frame(701))
    whole = prepare("depth", tmp_path / "in", tmp_path / "whole", crop="none")
    np.testing.assert_array_equal(whole.images(0, 1)[0, 0], frame(701))
    options = {"near": 200, "far": 900}
    paper = prepare("depth", tmp_path / "in", tmp_path / "paper", values="paper", **options)
    assert set(np.unique(depth.decode_paper(paper.images(0, 1)))) == {0, 701}
    metric = prepare("depth", tmp_path / "in", tmp_path / "metric", values="metric", **options)
    assert set(np.unique(depth.decode_metric(metric.images(0, 1), 701))) == {0, 701}


def test_eight_bits_lie_between_near_and_far(tmp_path: Path) -> None:
    pixels = np.zeros((40, 40), np.uint8)
    pixels[10:20, 10:20], pixels[20:30, 10:20], pixels[10, 10] = 55, 255, 54
    save(tmp_path / "in" / "1.png", pixels)
    options = {"near": 200, "far": 400, "crop": "none"}
    result = prepare("depth", tmp_path / "in", tmp_path / "out", lowest=55, **options)
    assert set(np.unique(result.images(0, 1))) == {0, 200, 400}
    result = prepare("depth", tmp_path / "in", tmp_path / "other", **options)
    assert np.unique(result.images(0, 1)).tolist() == [0, 242, 243, 400]


BAD = {
    "metres": (np.where(frame() == 700, 1, 2).astype(np.uint16), {}, "seems to be metres"),
    "8 bits": (np.full((9, 9), 7, np.uint8), {}, "8 bits, which hold no millimetres"),
    "colours": (np.zeros((9, 9, 3), np.uint8), {}, "has colours"),
    "background": (frame(), {"near": 900, "far": 2000}, "all background"),
    "nothing": (np.zeros((9, 9), np.uint16), {}, "all background"),
}


@pytest.mark.parametrize(("pixels", "options", "reason"), BAD.values(), ids=BAD)
def test_what_is_no_depth_is_left_out(
    tmp_path: Path, pixels: np.ndarray, options: dict[str, float], reason: str
) -> None:
    save(tmp_path / "in" / "bad.png", pixels)
    good = frame()
    good[20:40, 30:40][good[20:40, 30:40] == 700] = 950  # seen by every room of these tests
    save(tmp_path / "in" / "good.png", good)
    result = prepare("depth", tmp_path / "in", tmp_path / "out", size=(32, 32), **options)
    assert list(result.names) == ["good.png"]
    assert [file for file, _ in result.rejects] == ["bad.png"] and reason in result.rejects[0][1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"near": 900, "far": 200}, "want 0 < near < far"),
        ({"near": -1}, "want 0 < near < far"),
        ({"far": 1e6}, "far at most 65535"),
        ({"lowest": 0}, "lowest is 0"),
        ({"crop": "mask"}, "crop is 'mask'"),
        ({"values": "metres"}, "values is 'metres'"),
    ],
)
def test_options_that_cannot_be(tmp_path: Path, options: dict[str, object], message: str) -> None:
    save(tmp_path / "in" / "1.png", frame())
    with pytest.raises(InputError, match=message):
        prepare("depth", tmp_path / "in", tmp_path / "out", **options)  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()


def test_genuine_crops_of_a_time_of_flight_camera(tmp_path: Path) -> None:
    if not SHARED.is_dir():
        pytest.skip("shared/data is not there")
    room = {"near": 200, "far": 900, "lowest": 40}
    result = prepare("depth", SHARED, tmp_path / "out", size=(64, 64), values="paper", **room)
    assert len(result) > 300 and result.dtype == "uint16"
    millimetres = depth.decode_paper(result.images(0, 50))
    assert set(np.unique(millimetres[millimetres < 200])) == {0}
    share = (millimetres > 0).mean(axis=(1, 2, 3))
    assert (share > 0.1).all() and (share < 0.95).all()


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save(tmp_path / "in" / "1.png", frame())
    options = ["--near", "200", "--far", "900", "--values", "paper", "--size", "32x32"]
    assert (
        cli.main(["prepare", "depth", str(tmp_path / "in"), str(tmp_path / "out"), *options]) == 0
    )
    assert "1 images of 32x32, 1 channel" in capsys.readouterr().out
