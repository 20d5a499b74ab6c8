"""Image folders and their labels: names, order, every mistake in labels.csv, and open_images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from image_folders import needs_dali, packed, save, smooth

from simgan_fast.data import open_images
from simgan_fast.data.readers.folder import FolderReader
from simgan_fast.errors import InputError

REAL_EYES = Path(__file__).parents[2] / "shared" / "data" / "mpiigaze_many_subjects"


@pytest.fixture
def folder(tmp_path) -> Path:
    path = tmp_path / "images"
    path.mkdir()
    return path


# Names, order, labels


def test_names_are_relative_paths_in_natural_order(folder):
    expected = ["a/2.png", "a/10.PNG", "b/c/x.jpeg", "b/c.jpg", "img9.png", "img10.png"]
    for name in reversed(expected):
        save(folder / name, smooth(4, 5))
    (folder / "notes.txt").write_text("not an image")
    save(folder / "._img9.png", smooth(4, 5))
    save(folder / ".hidden" / "1.png", smooth(4, 5))
    assert sorted(FolderReader(folder).names) == sorted(expected)
    assert FolderReader(folder).names == [
        "a/2.png", "a/10.PNG", "b/c/x.jpeg", "b/c.jpg", "img9.png", "img10.png",
    ]  # fmt: skip


def test_labels_follow_their_images(folder):
    for i in (1, 2, 10):
        save(folder / f"{i}.png", np.full((4, 5), i, np.uint8))
    (folder / "labels.csv").write_text(
        "File,gaze.0,gaze.1,pitch\n10.png,10,-10,1e-3\n1.png,1,-1,.5\n2.png,2,-2,3\n"
    )
    result = packed(folder)
    assert result.names == ["1.png", "2.png", "10.png"]
    np.testing.assert_array_equal(result.images()[:, 0, 0, 0], [1, 2, 10])
    np.testing.assert_array_equal(result.labels["gaze"], [[1, -1], [2, -2], [10, -10]])
    np.testing.assert_array_equal(result.labels["pitch"], np.float32([[0.5], [3], [1e-3]]))


def test_labels_from_another_file_with_a_byte_order_mark(folder, tmp_path):
    save(folder / "ä, ö.png", smooth(4, 5))
    (tmp_path / "mine.csv").write_text('filename,yaw\n"ä, ö.png",0.25\n', encoding="utf-8-sig")
    result = open_images(folder, labels=tmp_path / "mine.csv")
    assert result.names == ["ä, ö.png"]
    assert result.labels["yaw"].tolist() == [[0.25]]


def test_a_rejected_image_takes_its_labels_along(folder):
    for i in range(3):
        save(folder / f"{i}.png", np.full((4, 5), i, np.uint8))
    (folder / "1.png").write_bytes(b"")
    (folder / "labels.csv").write_text("name,x\n0.png,0\n1.png,1\n2.png,2\n")
    result = packed(folder)
    assert result.labels["x"].tolist() == [[0], [2]]
    assert result.rejects == [("1.png", "the file is empty")]


BAD_LABELS = {
    "a row missing": ("name,x\na.png,1\n", r"no row for 'b\.png' \(1 of 2"),
    "a row too many": ("name,x\na.png,1\nb.png,1\nc.png,1\n", r"row for 'c\.png'.*\(1 such rows\)"),
    "a row twice": ("name,x\na.png,1\na.png,1\nb.png,1\n", "line 3: a second row for 'a.png'"),
    "no number": ("name,x\na.png,1\nb.png,left\n", r"line 3: the cell 'left' of 'b\.png'"),
    "an empty cell": ("name,x\na.png,1\nb.png,\n", r"line 3: the cell '' of 'b\.png'"),
    "NaN": ("name,x\na.png,nan\nb.png,1\n", r"line 2: the cell 'nan' of 'a\.png'"),
    "infinite": ("name,x\na.png,1\nb.png,-inf\n", "not a finite number"),
    "beyond float32": ("name,x\na.png,1\nb.png,1e39\n", "not a finite number"),
    "a short row": ("name,x,y\na.png,1,2\nb.png,1\n", "line 3: 2 cells came, and the header has 3"),
    "another first column": ("x,name\n1,a.png\n1,b.png\n", r"begins with the column \['x'\]"),
    "nothing": ("", "want 'name'"),
    "no label": ("name\na.png\nb.png\n", "no label column"),
    "a gap in the columns": ("name,x.0,x.2\na.png,1,2\nb.png,1,2\n", "'x.2' is not in its place"),
    "not from 0": ("name,x.1\na.png,1\nb.png,1\n", "'x.1' is not in its place"),
    "torn apart": ("name,x.0,y,x.1\na.png,1,2,3\nb.png,1,2,3\n", "'x.1' is not in its place"),
    "a column twice": ("name,x,x\na.png,1,2\nb.png,1,2\n", "'x' is not in its place"),
    "no UTF-8": (b"name,x\n\xff.png,1\n", "cannot be read"),
}


@pytest.mark.parametrize(("text", "message"), BAD_LABELS.values(), ids=BAD_LABELS)
def test_bad_labels_are_one_sentence(folder, text, message):
    for name in ("a.png", "b.png"):
        save(folder / name, smooth(4, 5))
    (folder / "labels.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError, match=message) as caught:
        FolderReader(folder)
    assert "labels.csv" in str(caught.value)


def test_bad_folders(folder, tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        FolderReader(tmp_path / "absent")
    with pytest.raises(InputError, match="holds no image"):
        FolderReader(folder)
    (folder / "notes.txt").write_text("words")
    with pytest.raises(InputError, match="holds no image"):
        FolderReader(folder)
    with pytest.raises(InputError, match="is a file"):
        FolderReader(folder / "notes.txt")
    save(folder / "a.png", smooth(4, 5))
    with pytest.raises(InputError, match=r"absent\.csv cannot be read"):
        FolderReader(folder, tmp_path / "absent.csv")


# open_images


def test_open_images_takes_a_folder_or_a_packed_set(folder, tmp_path):
    save(folder / "a.png", smooth(4, 5))
    from_folder = open_images(folder, cache=tmp_path / "packed")
    from_set = open_images(tmp_path / "packed", size=(4, 5), channels=1)
    np.testing.assert_array_equal(from_folder.images(), from_set.images())
    with pytest.raises(InputError, match=r"4x5 .* 5x4 was asked"):
        open_images(tmp_path / "packed", size=(5, 4))
    with pytest.raises(InputError, match="1 channels and 3"):
        open_images(tmp_path / "packed", channels=3)
    with pytest.raises(InputError, match="holds its labels"):
        open_images(tmp_path / "packed", labels=tmp_path / "labels.csv")


def test_a_temporary_copy_goes_with_its_set(folder):
    save(folder / "a.png", smooth(4, 5))
    result = open_images(folder)
    place, images = result.path, result.images()
    assert place.is_dir()
    del result
    assert not place.exists()
    np.testing.assert_array_equal(images[0, 0], smooth(4, 5))  # still mapped


def test_a_temporary_copy_goes_with_an_error(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    (folder / "a.png").write_bytes(b"")
    with pytest.raises(InputError, match="none of the 1 images of"):
        open_images(folder)
    assert list((tmp_path / "tmp").iterdir()) == []


def test_a_cache_is_used_again_for_the_same_images_only(folder, tmp_path, monkeypatch):
    save(folder / "a.png", smooth(4, 5))
    cache = tmp_path / "cache"
    open_images(folder, cache=cache, size=(8, 9))
    with monkeypatch.context() as patch:
        patch.setattr("simgan_fast.data.ingest", None)
        assert open_images(folder, cache=cache, size=(8, 9)).shape == (1, 8, 9)
    with pytest.raises(InputError, match="made from other images or with other arguments"):
        open_images(folder, cache=cache, size=(9, 8))
    save(folder / "b.png", smooth(4, 5))
    with pytest.raises(InputError, match="made from other images or with other arguments"):
        open_images(folder, cache=cache, size=(8, 9))


@needs_dali
def test_real_eyes():
    if not REAL_EYES.is_dir():
        pytest.skip(f"the real eyes {REAL_EYES} are not here")
    result = open_images(REAL_EYES, size=(35, 55), channels=1)
    assert (len(result), result.rejects) == (164, [])
    assert 60 < result.images().mean() < 180
