"""HDF5 files from elsewhere, and damaged ones: what `prepare hdf5` makes of them."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from test_export_formats import NAMES, pixels, same, write

from simgan_fast import prepare
from simgan_fast.data.readers.hdf5 import Hdf5Reader
from simgan_fast.errors import InputError


def hdf5(path: Path, **tables) -> Path:
    with h5py.File(path, "w") as file:
        for name, values in tables.items():
            file.create_dataset(name.replace("__", "/"), data=values)
    return path


def test_hdf5_with_images_alone(tmp_path):
    images = pixels(3, 3)
    result = prepare("hdf5", hdf5(tmp_path / "x.h5", images=images), tmp_path / "packed")
    same(result, ["000000.png", "000001.png", "000002.png"], images, {})


def test_hdf5_labels_of_one_number_and_of_whole_numbers(tmp_path):
    file = hdf5(tmp_path / "x.h5", images=pixels(2), labels__a=[1, 2], labels__b=[[1.5], [2.5]])
    result = prepare("hdf5", file, tmp_path / "packed")
    assert {name: values.tolist() for name, values in result.labels.items()} == {
        "a": [[1], [2]],
        "b": [[1.5], [2.5]],
    }


def test_hdf5_positions_move_with_the_pixels(tmp_path):
    file = hdf5(tmp_path / "x.h5", images=pixels(1), labels__pupil=[[0.0, 0.0]])
    result = prepare("hdf5", file, tmp_path / "packed", size=(10, 16))
    assert result.labels["pupil"].tolist() == [[0.5, 0.5]]


def test_hdf5_names_that_lead_outside_are_left_out(tmp_path):
    file = hdf5(tmp_path / "x.h5", images=pixels(2), names=["../a.png", "b.png"])
    result = prepare("hdf5", file, tmp_path / "packed")
    assert result.names == ["b.png"]
    assert result.rejects == [("'../a.png'", "its name is no relative path")]


BAD_TABLES = {
    "no images": ({"pictures": pixels(2)}, "images"),
    "float images": ({"images": np.zeros((2, 1, 5, 8))}, "images is float64"),
    "images without channels": ({"images": pixels(2)[:, 0]}, r"\[2, 5, 8\]"),
    "no image": ({"images": pixels(2)[:0]}, r"\[0, 1, 5, 8\]"),
    "a name too few": ({"images": pixels(2), "names": ["a"]}, "names is"),
    "names that are numbers": ({"images": pixels(2), "names": [1, 2]}, "names is int64"),
    "a label too few": ({"images": pixels(2), "labels__x": [1.0]}, "labels/x is"),
    "a label of texts": ({"images": pixels(2), "labels__x": ["a", "b"]}, "labels/x is"),
    "a label of labels": ({"images": pixels(2), "labels__x__y": [1, 2]}, "no data set"),
    "labels that are none": ({"images": pixels(2), "labels": [1, 2]}, "cannot be read"),
    "rejects without reason": ({"images": pixels(2), "rejects__file": ["a"]}, "reason"),
}


@pytest.mark.parametrize(("tables", "message"), BAD_TABLES.values(), ids=BAD_TABLES)
def test_hdf5_that_is_something_else(tmp_path, tables, message):
    file = hdf5(tmp_path / "x.h5", **tables)
    with pytest.raises(InputError, match=message) as caught:
        prepare("hdf5", file, tmp_path / "packed")
    assert str(file) in str(caught.value) and not (tmp_path / "packed").exists()


def test_hdf5_of_another_version(tmp_path):
    write(tmp_path / "x.h5", "hdf5", ["a.png"])
    with h5py.File(tmp_path / "x.h5", "r+") as file:
        file.attrs["version"] = 2
    with pytest.raises(InputError, match="version 2"):
        prepare("hdf5", tmp_path / "x.h5", tmp_path / "packed")


def test_hdf5_that_says_it_is_huge(tmp_path):
    for name, shape, chunks in (
        ("images", (1 << 40, 1, 8, 8), (1, 1, 8, 8)),
        ("images", (1, 1, 1 << 20, 1 << 20), (1, 1, 1, 8)),
        ("labels/x", (2, 1 << 40), (1, 8)),
        ("names", (1 << 40,), (8,)),
    ):
        with h5py.File(tmp_path / "x.h5", "w") as file:
            kind = h5py.string_dtype() if name == "names" else np.uint8
            if name != "images":
                file["images"] = pixels(2)
            file.create_dataset(name, shape, kind, chunks=chunks)
        with pytest.raises(InputError, match="too large"):
            prepare("hdf5", tmp_path / "x.h5", tmp_path / "packed")


def test_hdf5_with_data_in_other_files(tmp_path):
    (tmp_path / "secret").write_bytes(bytes(80))
    other = hdf5(tmp_path / "other.h5", images=pixels(2))
    file = tmp_path / "x.h5"
    layout = h5py.VirtualLayout((2, 1, 5, 8), np.uint8)
    layout[:] = h5py.VirtualSource(other, "images", (2, 1, 5, 8))
    for kind in ("link", "raw", "virtual"):
        with h5py.File(file, "w") as content:
            if kind == "link":
                content["images"] = h5py.ExternalLink(str(other), "images")
            elif kind == "raw":
                place = [(str(tmp_path / "secret"), 0, 80)]
                content.create_dataset("images", (2, 1, 5, 8), np.uint8, external=place)
            else:
                content.create_virtual_dataset("images", layout)
        with pytest.raises(InputError, match=r"no data set of this file|another file"):
            prepare("hdf5", file, tmp_path / "packed")


def test_hdf5_that_is_damaged(tmp_path):
    """Cut off, or no HDF5. (The library itself can hang on some files with bytes changed inside.)"""
    write(tmp_path / "x.h5", "hdf5", NAMES)
    good = (tmp_path / "x.h5").read_bytes()
    for content in (b"", b"words" * 99, good[:300], good[:3000], good[:-1]):
        (tmp_path / "x.h5").write_bytes(content)
        with pytest.raises(InputError, match="cannot be read"):
            Hdf5Reader(tmp_path / "x.h5")
    with pytest.raises(InputError, match="cannot be read"):
        Hdf5Reader(tmp_path / "absent.h5")
