"""Finished sets on their way out: the same names, labels and pixels, whole or not at all."""

from __future__ import annotations

import csv
import errno
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from simgan_fast.data import open_images, open_packed
from simgan_fast.data.export import open_writer
from simgan_fast.data.packed import PackedSet
from simgan_fast.data.writers.codecs import PNG
from simgan_fast.data.writers.image_folder import PngWriter
from simgan_fast.errors import InputError

AWKWARD = [0.1, -0.0, 1 / 3, 1e-38, 3.4e38, np.pi, 1e-45, 123456789.0, -2.5e-7, 7.0]


def content(count: int, channels: int = 1, dtype: str = "uint8"):
    rng = np.random.default_rng(count)
    images = rng.integers(0, np.iinfo(dtype).max + 1, (count, channels, 5, 8)).astype(dtype)
    gaze = np.resize(np.float32(AWKWARD), (count, 3))
    return images, {"gaze": gaze, "pitch": rng.standard_normal((count, 1)).astype(np.float32)}


def write(out: Path, format: str, names: list[str], channels: int = 1, dtype: str = "uint8"):
    images, labels = content(len(names), channels, dtype)
    shape = (channels, 5, 8)
    with open_writer(
        out, format, shape=shape, labels={"gaze": 3, "pitch": 1}, dtype=dtype
    ) as writer:
        for part in (slice(0, 4), slice(4, None)):  # the last batch is smaller
            writer.add(images[part], names[part], {k: v[part] for k, v in labels.items()}, "here")
    return images, labels


def same(result: PackedSet, names: list[str], images: np.ndarray, labels: dict) -> None:
    assert result.names == names
    np.testing.assert_array_equal(result.images(), images)
    for name, values in labels.items():
        assert result.labels[name].tobytes() == values.tobytes()  # to the bit, -0.0 too


NAMES = ["a/1.png", "a/2.png", "a/10.PNG", "b, c/d/x-0.0_0.5.png", "b, c/ä.png", "z.png"]


@pytest.mark.parametrize(
    ("channels", "dtype"), [(1, "uint8"), (3, "uint8"), (1, "uint16")], ids=str
)
@pytest.mark.parametrize("decoder", ["auto", "pillow"])
def test_png_round_trip(tmp_path, channels, dtype, decoder):
    images, labels = write(tmp_path / "out", "png", NAMES, channels, dtype)
    result = open_images(tmp_path / "out", decoder=decoder)
    assert (result.dtype, result.shape, result.rejects) == (dtype, (channels, 5, 8), [])
    same(result, NAMES, images, labels)


@pytest.mark.parametrize(("channels", "dtype"), [(1, "uint8"), (4, "uint16")], ids=str)
def test_arrow_round_trip(tmp_path, channels, dtype):
    names = ["a/1.jpg", "no suffix", "x.0"]
    images, labels = write(tmp_path / "out", "arrow", names, channels, dtype)
    same(open_packed(tmp_path / "out"), names, images, labels)


def test_packed_to_png_to_packed(tmp_path):
    images, labels = write(tmp_path / "one", "arrow", NAMES)
    one = open_packed(tmp_path / "one")
    with open_writer(tmp_path / "png", shape=one.shape, labels=one.info["labels"]) as writer:
        writer.add(one.images(), one.names, one.labels, one.sources)
    same(open_images(tmp_path / "png", cache=tmp_path / "two"), NAMES, images, labels)


def test_names_become_png_names():
    expected = {"a/b.jpg": "a/b.png", "a/b.JPEG": "a/b.png", "b.png": "b.png", "B.PNG": "B.PNG"}
    expected |= {"b": "b.png", "f_-0.3": "f_-0.3.png"}
    assert {name: PNG.file_name(name) for name in expected} == expected


def test_labels_csv_names_the_files(tmp_path):
    write(tmp_path / "out", "png", ["a/1.jpg", "2"])
    with open(tmp_path / "out" / "labels.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["name", "gaze.0", "gaze.1", "gaze.2", "pitch"]
    assert [row[0] for row in rows[1:]] == ["a/1.png", "2.png"]
    assert rows[1][1:3] == ["0.1", "-0.0"]
    assert all((tmp_path / "out" / row[0]).is_file() for row in rows[1:])


def test_without_labels_there_is_no_labels_csv(tmp_path):
    with open_writer(tmp_path / "out", shape=(1, 5, 8)) as writer:
        writer.add(content(1)[0], ["a.png"])
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["a.png"]


def test_rejects_are_listed(tmp_path):
    for format, read in (("png", open_images), ("arrow", open_packed)):
        with open_writer(tmp_path / format, format, shape=(1, 5, 8)) as writer:
            writer.add(content(1)[0], ["a.png"])
            writer.reject("b, c.png", "cut off")
        text = (tmp_path / format / "rejects.csv").read_text()
        assert text == 'file,reason\n"b, c.png",cut off\n'
        assert read(tmp_path / format).names == ["a.png"]


def test_pixels_are_plain_png(tmp_path):
    images, _ = write(tmp_path / "out", "png", ["a.png", "b.png"], 3)
    with Image.open(tmp_path / "out" / "b.png") as image:
        assert (image.mode, image.size) == ("RGB", (8, 5))
        np.testing.assert_array_equal(np.asarray(image), images[1].transpose(1, 2, 0))


WRONG = {
    "a name twice": ({"names": ["a.png", "a.png"]}, "both become|comes twice"),
    "a name outside": ({"names": ["a.png", "../../b.png"]}, r"\.\./\.\./b\.png"),
    "height and width swapped": ({"images": np.zeros((2, 1, 8, 5), np.uint8)}, "want|takes"),
    "labels missing": ({"labels": {}}, "this set takes"),
    "NaN": ({"labels": {"x": np.array([1, np.nan])}}, "'x' of 'b'"),
}


@pytest.mark.parametrize("format", ["png", "arrow"])
@pytest.mark.parametrize(("changes", "message"), WRONG.values(), ids=WRONG)
def test_wrong_content_leaves_nothing(tmp_path, format, changes, message):
    arguments = {"images": np.zeros((2, 1, 5, 8), np.uint8), "names": ["a", "b"]}
    arguments |= {"labels": {"x": np.zeros(2)}} | changes

    def attempt() -> None:
        with open_writer(tmp_path / "out", format, shape=(1, 5, 8), labels={"x": 1}) as writer:
            writer.add(**arguments)

    with pytest.raises(InputError, match=message):
        attempt()
    assert list(tmp_path.iterdir()) == []


def test_two_names_for_one_png_file(tmp_path):
    with pytest.raises(InputError, match=r"'a/b\.jpg' and 'a/b\.png' both become"):
        write(tmp_path / "out", "png", ["a/b.jpg", "a/b.png"])
    assert list(tmp_path.iterdir()) == []
    write(tmp_path / "out", "arrow", ["a/b.jpg", "a/b.png"])


@pytest.mark.parametrize("format", ["png", "arrow"])
def test_an_interrupt_leaves_nothing(tmp_path, format):
    def interrupted() -> None:
        with open_writer(tmp_path / "out", format, shape=(1, 5, 8), labels={"x": 1}) as writer:
            writer.add(content(1)[0], ["a.png"], {"x": np.zeros(1)})
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(tmp_path.iterdir()) == []


def test_no_space_left_leaves_nothing(tmp_path, monkeypatch):
    def full(self, *arguments, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(OSError, match="No space left"):
        write(tmp_path / "out", "png", NAMES)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_no_space_left_for_the_labels(tmp_path, monkeypatch):
    """The labels are buffered, so it may be the closing of the file that fails."""
    monkeypatch.setattr("simgan_fast.data.writers.image_folder.LABELS_FILE", "/dev/full")
    with pytest.raises(OSError, match="No space left"):
        write(tmp_path / "out", "png", NAMES)
    assert list(tmp_path.iterdir()) == []


def test_bad_arguments(tmp_path):
    with pytest.raises(InputError, match="2 channels of uint8"):
        PngWriter(tmp_path / "out", (2, 5, 8))
    with pytest.raises(InputError, match="3 channels of uint16"):
        open_writer(tmp_path / "out", "png", shape=(3, 5, 8), dtype="uint16")
    with pytest.raises(InputError, match="format is 'gif'"):
        open_writer(tmp_path / "out", "gif", shape=(1, 5, 8))
    with pytest.raises(InputError, match="no image"), PngWriter(tmp_path / "out", (1, 5, 8)):
        pass
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").touch()
    with pytest.raises(InputError, match="not empty"), PngWriter(tmp_path / "out", (1, 5, 8)):
        pass
