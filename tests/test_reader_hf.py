"""Hugging Face's folders, as its library `datasets` 5.2 writes them: what they mean, and what can be wrong."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from table_files import GAZE, STRUCT, encoded, images, table, write

from simgan_fast import prepare
from simgan_fast.cli import main
from simgan_fast.data import open_packed
from simgan_fast.data.readers.hugging_face import HuggingFaceReader
from simgan_fast.errors import InputError

FEATURES = {
    "image": {"_type": "Image"},
    "gaze": {"feature": {"dtype": "float32", "_type": "Value"}, "_type": "List"},
    "gaze3": {"feature": {"dtype": "float32", "_type": "Value"}, "length": 3, "_type": "List"},
    "side": {"names": ["left", "right"], "_type": "ClassLabel"},
    "pixels": {"shape": [4, 5], "dtype": "uint8", "_type": "Array2D"},
    "text": {"dtype": "string", "_type": "Value"},
}


def rows(count: int, start: int = 0) -> pa.Table:
    """Rows of FEATURES; images that were given as objects have no path."""
    numbers = range(start, start + count)
    schema = pa.schema(
        [
            ("image", STRUCT),
            ("gaze", pa.list_(pa.float32())),
            ("gaze3", GAZE),
            ("side", pa.int64()),
            pa.field("pixels", pa.list_(pa.list_(pa.uint8())), metadata=ARRAY_2D),
            ("text", pa.string()),
        ],
        {"huggingface": json.dumps({"info": {"features": FEATURES}})},
    )
    columns = {
        "image": [{"bytes": encoded(i), "path": None} for i in numbers],
        "gaze": [[i, 1, 2] for i in numbers],
        "gaze3": [[i, 1, 2] for i in numbers],
        "side": [i % 2 for i in numbers],
        "pixels": [np.full((4, 5), 100 + i).tolist() for i in numbers],
        "text": ["words"] * count,
    }
    return pa.table(columns, schema)


ARRAY_2D = {
    "ARROW:extension:name": "datasets.features.features.Array2DExtensionType",
    "ARROW:extension:metadata": '[[4, 5], "uint8"]',
}


def saved(folder: Path, parts: int = 2, split: str | None = None) -> Path:
    """As Dataset.save_to_disk writes it, two rows in each part; streams of Arrow."""
    names = [f"data-{i:05d}-of-{parts:05d}.arrow" for i in range(parts)]
    for i, name in enumerate(names):
        write(folder / name, rows(2, 2 * i), "stream")
    state = {
        "_data_files": [{"filename": name} for name in names],
        "_fingerprint": "f6900b0ff8044d81",
        "_format_columns": None,
        "_format_kwargs": {},
        "_format_type": None,
        "_output_all_columns": False,
        "_split": split,
    }
    (folder / "state.json").write_text(json.dumps(state, indent=2))
    info = {"citation": "", "description": "", "features": FEATURES, "homepage": "", "license": ""}
    (folder / "dataset_info.json").write_text(json.dumps(info, indent=2))
    return folder


def saved_splits(folder: Path) -> Path:
    """As DatasetDict.save_to_disk writes it."""
    saved(folder / "train", split="train")
    saved(folder / "test", parts=1, split="test")
    (folder / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    return folder


def repository(folder: Path, **parts: int) -> Path:
    """As push_to_hub lays the Parquet files, two rows in each."""
    for split, count in parts.items():
        for i in range(count):
            write(folder / "data" / f"{split}-{i:05d}-of-{count:05d}.parquet", rows(2, 2 * i))
    (folder / "README.md").write_text("---\nconfigs:\n- config_name: default\n---\n")
    return folder


# What the folders mean


@pytest.mark.parametrize("made", [saved, lambda folder: repository(folder, train=2)])
def test_images_and_labels(tmp_path, made, caplog):
    result = prepare("hf", made(tmp_path / "in"), tmp_path / "packed")
    assert result.names == [f"00000{i}.png" for i in range(4)]
    assert result.images()[:, 0, 0, 0].tolist() == [0, 1, 2, 3]
    assert {name: values.tolist() for name, values in result.labels.items()} == {
        "gaze": [[0, 1, 2], [1, 1, 2], [2, 1, 2], [3, 1, 2]],
        "gaze3": [[0, 1, 2], [1, 1, 2], [2, 1, 2], [3, 1, 2]],
        "side": [[0], [1], [0], [1]],
    }
    assert "passed over, as no labels: pixels, text." in caplog.text


@pytest.mark.parametrize("made", [saved, lambda folder: repository(folder, train=2)])
def test_pixels_of_an_array_feature(tmp_path, made):
    result = prepare("hf", made(tmp_path / "in"), tmp_path / "packed", image="pixels")
    assert result.images()[:, 0, 0, 0].tolist() == [100, 101, 102, 103]


def test_images_that_came_as_files_keep_their_names(tmp_path):
    folder = saved(tmp_path / "in", parts=1)
    content = table(image=images("0.png", "1.png", "2.png"))
    write(folder / "data-00000-of-00001.arrow", content, "stream")
    assert [sample.name for sample in HuggingFaceReader(folder)] == ["0.png", "1.png", "2.png"]
    content = table(image=images("0.png", "1.png", "0.png"))  # of two folders
    write(folder / "data-00000-of-00001.arrow", content, "stream")
    assert [sample.name for sample in HuggingFaceReader(folder)][2] == "000002.png"


def test_several_saved_splits(tmp_path):
    folder = saved_splits(tmp_path / "in")
    assert len(HuggingFaceReader(folder, "train")) == 4
    assert len(HuggingFaceReader(folder, "test")) == len(HuggingFaceReader(folder / "test")) == 2
    with pytest.raises(InputError, match="several splits: name one of train, test"):
        HuggingFaceReader(folder)
    with pytest.raises(InputError, match="no split valid: name one of train, test"):
        HuggingFaceReader(folder, "valid")


def test_a_single_saved_split(tmp_path):
    folder = saved(tmp_path / "in", split="train")
    assert len(HuggingFaceReader(folder, "train")) == len(HuggingFaceReader(folder)) == 4
    with pytest.raises(InputError, match="one split, train, and not test"):
        HuggingFaceReader(folder, "test")
    with pytest.raises(InputError, match="one split, without a name, and not test"):
        HuggingFaceReader(saved(tmp_path / "other"), "test")


def test_the_command_takes_a_split(tmp_path):
    folder = str(saved_splits(tmp_path / "in"))
    assert main(["prepare", "hf", folder, str(tmp_path / "out"), "--split", "test"]) == 0
    assert len(open_packed(tmp_path / "out")) == 2


@pytest.mark.parametrize(
    "names",
    [
        ["data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet"],
        ["data/train-00000-of-00002-a09b74b3ef9c3b56.parquet", "train-00001-of-00002.parquet"][:1],
        ["train.parquet"],
        ["train/0000.parquet", "train/0001.parquet"],
        ["default/train/0000.parquet"],
        ["0000.parquet", "0001.parquet"],
        ["train-0.parquet", "train-1.parquet"],
        ["data/train_1.parquet", "data/train_2.parquet"],
    ],
    ids=str,
)
def test_names_that_tell_the_split(tmp_path, names):
    for name in names:
        write(tmp_path / name, rows(2))
    assert len(HuggingFaceReader(tmp_path, "train")) == 2 * len(names)


def test_a_repository_of_several_splits(tmp_path):
    folder = repository(tmp_path / "in", train=2, test=1)
    assert len(HuggingFaceReader(folder, "train")) == 4
    with pytest.raises(InputError, match="several splits: name one of test, train"):
        HuggingFaceReader(folder)


def test_a_repository_of_several_data_sets(tmp_path):
    for name in ("one", "two"):
        write(tmp_path / name / "train-00000-of-00001.parquet", rows(3))
    with pytest.raises(InputError, match=r"several data sets .*one, .*two.: name one of these"):
        HuggingFaceReader(tmp_path)
    assert len(HuggingFaceReader(tmp_path / "one")) == 3


# What is wrong


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ("", "cannot be read"),
        ("[" * 100_000, "cannot be read"),
        ("[]", "is no object"),
        ("{}", "lists no data"),
        ({"_data_files": []}, "lists no data"),
        ({"_data_files": 7}, "lists no data"),
        ({"_data_files": [{"filename": "../other/x.arrow"}]}, r"lists '\.\./other"),
        ({"_data_files": [{"filename": "/etc/passwd"}]}, "lists '/etc/passwd'"),
        ({"_data_files": [{"filename": ".."}]}, "lists"),
        ({"_data_files": [{"filename": "a\0"}]}, "lists"),
        ({"_data_files": [{"filename": 7}]}, "lists 7"),
        ({"_data_files": [{}]}, "lists None"),
        ({"_data_files": [{"filename": "absent.arrow"}]}, r"absent\.arrow cannot be read"),
        ({"_data_files": [], "_indices_data_files": [{"filename": "i.arrow"}]}, "by an index"),
    ],
)
def test_a_state_that_is_wrong(tmp_path, state, message):
    text = state if isinstance(state, str) else json.dumps(state)
    (saved(tmp_path / "in") / "state.json").write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        HuggingFaceReader(tmp_path / "in")
    assert str(tmp_path / "in") in str(caught.value)


@pytest.mark.parametrize("splits", ["{", '{"splits": []}', '{"splits": ["../in"]}'])
def test_splits_that_are_wrong(tmp_path, splits):
    (saved_splits(tmp_path / "in") / "dataset_dict.json").write_text(splits)
    with pytest.raises(InputError, match=r"dataset_dict\.json"):
        HuggingFaceReader(tmp_path / "in")


def test_parts_that_are_missing(tmp_path):
    folder = saved_splits(tmp_path / "in")
    (folder / "train" / "data-00001-of-00002.arrow").unlink()
    with pytest.raises(InputError, match=r"data-00001-of-00002\.arrow cannot be read"):
        HuggingFaceReader(folder, "train")
    (folder / "train" / "state.json").unlink()
    with pytest.raises(InputError, match=r"state\.json cannot be read"):
        HuggingFaceReader(folder, "train")
    shutil.rmtree(folder / "test")
    with pytest.raises(InputError, match=r"state\.json cannot be read"):
        HuggingFaceReader(folder, "test")


def test_folders_that_hold_nothing(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        HuggingFaceReader(tmp_path / "absent")
    with pytest.raises(InputError, match="holds no file that ends in"):
        HuggingFaceReader(tmp_path)
    with pytest.raises(InputError, match="does not exist"):
        HuggingFaceReader(write(tmp_path / "x.parquet", rows(1)))


def test_a_packed_set_is_none(tmp_path):
    prepare("hf", saved(tmp_path / "in"), tmp_path / "packed")
    with pytest.raises(InputError, match="is a packed set already"):
        HuggingFaceReader(tmp_path / "packed")


def test_images_that_were_left_outside(tmp_path):
    """As to_parquet writes those that were loaded from files: paths alone."""
    cells: list[Any] = [{"bytes": None, "path": "/home/me/eyes/0.png"}, None]
    write(tmp_path / "in" / "train.parquet", pa.table({"image": images(*cells)}))
    with pytest.raises(InputError, match=r"no bytes, and its path '/home.* leads out"):
        prepare("hf", tmp_path / "in", tmp_path / "packed")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_may_not_be_read(tmp_path):
    saved(tmp_path / "in").chmod(0)
    try:
        with pytest.raises(InputError, match="cannot be listed"):
            HuggingFaceReader(tmp_path / "in")
    finally:
        (tmp_path / "in").chmod(0o700)
