"""Parquet and Arrow files: what they mean, and whatever can be wrong with them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from image_folders import save
from table_files import GAZE, KINDS, LISTS, encoded, images, table, write

from simgan_fast import prepare
from simgan_fast.cli import main
from simgan_fast.data import open_packed
from simgan_fast.data.export import open_writer
from simgan_fast.data.ingest import ingest
from simgan_fast.data.packed import PackedSet
from simgan_fast.data.readers import image_column, tables
from simgan_fast.data.readers.parquet import ParquetReader
from simgan_fast.errors import InputError

BOTH = pytest.mark.parametrize("name", ["x.parquet", "x.arrow"])


def packed(file: Path, **options: Any) -> PackedSet:
    return prepare("parquet", file, file.parent / "packed", **options)


# What the files mean


@pytest.mark.parametrize(("name", "kind", "options"), KINDS, ids=str)
def test_every_kind_of_file(tmp_path, name, kind, options):
    result = packed(write(tmp_path / name, table(), kind, **options))
    assert result.names == ["a/0.png", "a/1.png", "a/2.png"] and result.rejects == []
    assert result.images()[:, 0, 2, 3].tolist() == [0, 1, 2]
    assert {name: values.tolist() for name, values in result.labels.items()} == {
        "gaze": [[0, 0.5, -1], [1, 0.5, -1], [2, 0.5, -1]],
        "pitch": [[0], [0.25], [0.5]],
    }


def test_columns_that_are_passed_over_are_named(tmp_path, caplog):
    ParquetReader(write(tmp_path / "x.parquet", table(**{"v.1": [1, 2, 3], "__i__": [1, 2, 3]})))
    assert "passed over, as no labels: text, flag, v.1, __i__." in caplog.text


def test_a_file_whose_schema_stands_in_its_footer_alone(tmp_path):
    """Polars writes such files: what stands at their start is no message."""
    file = write(tmp_path / "x.arrow", table())
    size = table().schema.serialize().size
    data = file.read_bytes()
    file.write_bytes(data[:8] + bytes(size) + data[8 + size :])
    assert packed(file).names == ["a/0.png", "a/1.png", "a/2.png"]


@pytest.mark.parametrize(("name", "kind", "options"), KINDS, ids=str)
def test_columns_of_every_other_type_are_passed_over(tmp_path, name, kind, options):
    others = pa.table(
        {
            "category": pa.array(["a", "b", "a"]).dictionary_encode(),
            "day": pa.array([1, 2, 3], pa.date32()),
            "none": pa.nulls(3),
            "map": pa.array([[("a", 1)]] * 3, pa.map_(pa.string(), pa.int64())),
            "file": [1, 2, 3],
            "boxes": [[{"x": 1.0}], [], None],
        }
    )
    content = others.append_column("image", images("a", "b", "c")).append_column("x", [[1, 2, 3]])
    reader = ParquetReader(write(tmp_path / name, content, kind, **options))
    assert reader.labels == {"x": 1} and [sample.name for sample in reader] == ["a", "b", "c"]


def test_a_folder_of_files_in_natural_order(tmp_path):
    for i in (10, 9):
        write(tmp_path / "in" / f"part-{i}.parquet", pa.table({"image": images(f"{i}.png")}))
    (tmp_path / "in" / ".cache").mkdir()
    (tmp_path / "in" / ".cache" / "x.parquet").write_bytes(b"")
    (tmp_path / "in" / "README.md").write_text("words")
    result = packed(tmp_path / "in")
    assert result.names == ["9.png", "10.png"] and result.sources[0].endswith("part-9.parquet")


@BOTH
def test_one_row_without_labels(tmp_path, name):
    result = packed(write(tmp_path / name, pa.table({"image": images("a.png")})))
    assert (result.names, result.labels) == (["a.png"], {})


def test_more_rows_than_are_in_memory_at_a_time(tmp_path):
    count = 3 * tables.ROWS + 5
    for file in ("x.parquet", "x.feather"):
        options = {"row_group_size": tables.ROWS + 3} if file == "x.parquet" else {}
        result = ParquetReader(write(tmp_path / file, table(count), **options))
        samples = list(result)
        assert [sample.name for sample in samples] == [f"a/{i}.png" for i in range(count)]
        assert [sample.labels["gaze"][0] for sample in samples] == list(range(count))
        assert [sample.image for sample in samples] == [encoded(i) for i in range(count)]
        assert [sample.name for sample in result] == [sample.name for sample in samples]


@pytest.mark.parametrize("column", ["name", "file_name", "filename", "file", "path"])
def test_a_column_of_names(tmp_path, column):
    content = table(**{column: pa.array(["b.png", "c/a.png", "1"], pa.large_string())})
    result = packed(write(tmp_path / "x.parquet", content))
    assert result.names == ["b.png", "c/a.png", "1"] and list(result.labels) == ["gaze", "pitch"]


@pytest.mark.parametrize(
    "paths",
    [
        ["same.png"] * 3,
        [None, "b.png", "c.png"],
        ["/home/me/a.png", "b.png", "c.png"],
        ["../a.png", "b.png", "c.png"],
        ["x" * 2000, "b.png", "c.png"],
    ],
    ids=["same", "missing", "absolute", "outside", "endless"],
)
@BOTH
def test_paths_that_are_no_names(tmp_path, paths, name, caplog):
    cells = images(*({"bytes": encoded(), "path": path} for path in paths))
    result = packed(write(tmp_path / name, table(image=cells)))
    assert result.names == ["000000.png", "000001.png", "000002.png"]
    content = table(name=pa.array(paths, pa.string()))
    assert ParquetReader(write(tmp_path / name, content))._name == "image"
    assert "name does not name the images" in caplog.text


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary(), pa.binary_view()])
@BOTH
def test_plain_binary(tmp_path, kind, name):
    cells = pa.array([encoded(i) for i in range(2)], kind)
    file = write(tmp_path / name, pa.table({"picture": cells, "x": [1, 2]}))
    result = packed(file)
    assert result.images()[:, 0, 0, 0].tolist() == [0, 1] and list(result.labels) == ["x"]


PIXELS = np.random.default_rng(0).integers(0, 255, (3, 4, 5)).astype(np.uint8)
HWC = np.random.default_rng(0).integers(0, 255, (2, 4, 5, 3)).astype(np.uint8)


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (pa.array(PIXELS.tolist(), LISTS), PIXELS[:, None]),
        (pa.array(PIXELS.tolist(), pa.large_list(pa.list_(pa.uint16(), 5))), PIXELS[:, None]),
        (pa.array(HWC.tolist(), pa.list_(LISTS)), HWC.transpose(0, 3, 1, 2)),
        (pa.array(HWC.transpose(0, 3, 1, 2).tolist(), pa.list_(LISTS)), HWC.transpose(0, 3, 1, 2)),
    ],
    ids=["h w", "uint16", "h w c", "c h w"],
)
@BOTH
def test_pixels_in_lists(tmp_path, cells, expected, name):
    """As Hugging Face keeps Array2D and Array3D."""
    result = packed(write(tmp_path / name, pa.table({"image": cells})))
    np.testing.assert_array_equal(result.images(), expected)


class Array2D(pa.ExtensionType):
    """As Hugging Face's library declares it, where it is imported."""

    def __init__(self) -> None:
        super().__init__(LISTS, "test.Array2D")

    def __arrow_ext_serialize__(self) -> bytes:
        return b""

    @classmethod
    def __arrow_ext_deserialize__(cls, storage_type: Any, serialized: bytes) -> Array2D:
        return cls()


@BOTH
def test_pixels_of_an_extension_type(tmp_path, name):
    cells = pa.ExtensionArray.from_storage(Array2D(), pa.array(PIXELS.tolist(), LISTS))
    pa.register_extension_type(Array2D())
    try:
        result = packed(write(tmp_path / name, pa.table({"image": cells})))
    finally:
        pa.unregister_extension_type("test.Array2D")
    np.testing.assert_array_equal(result.images()[:, 0], PIXELS)


def test_lists_of_any_length_are_labels_as_long_as_the_first(tmp_path):
    gaze = pa.array([None, [1, 2], [3, 4, 5], [], [6, 7]], pa.list_(pa.float16()))
    result = packed(write(tmp_path / "x.arrow", table(5, gaze=gaze)))
    assert result.labels["gaze"].tolist() == [[1, 2], [6, 7]]
    assert result.rejects == [
        ("a/0.png", "its label gaze is null, those of the others 2"),
        ("a/2.png", "its label gaze is 3 numbers, those of the others 2"),
        ("a/3.png", "its label gaze is 0 numbers, those of the others 2"),
    ]


def test_the_command_takes_a_column(tmp_path, capsys):
    content = table(other=images("0.png", "1.png", "2.png")).rename_columns(
        ["left", "gaze", "pitch", "text", "flag", "right"]
    )
    file = str(write(tmp_path / "x.parquet", content))
    assert main(["prepare", "parquet", file, str(tmp_path / "none")]) == 2
    assert "several columns of images (left, right): name one" in capsys.readouterr().err
    assert main(["prepare", "parquet", file, str(tmp_path / "out"), "--image", "right"]) == 0
    assert open_packed(tmp_path / "out").names == ["0.png", "1.png", "2.png"]


# Images beside the file


def beside(tmp_path: Path, *paths: str) -> PackedSet:
    """A set whose first image has bytes, and the others paths alone."""
    cells = images("good.png", *({"bytes": None, "path": path} for path in paths))
    return packed(write(tmp_path / "in" / "x.parquet", pa.table({"image": cells})))


def test_images_that_lie_beside_the_file(tmp_path):
    inside = save(tmp_path / "in" / "sub" / "a.png", PIXELS[0])
    assert beside(tmp_path, "sub/a.png").images()[1, 0].tolist() == PIXELS[0].tolist()
    (tmp_path / "in" / "packed").rename(tmp_path / "first")
    assert beside(tmp_path, str(inside)).images()[1, 0].tolist() == PIXELS[0].tolist()


@pytest.mark.parametrize("path", ["/outside/a.png", "../a.png", "sub/../../a.png", "link.png"])
def test_images_that_lie_outside_are_not_opened(tmp_path, path):
    outside = save(tmp_path / "a.png", PIXELS[0])
    (tmp_path / "in" / "sub").mkdir(parents=True)
    (tmp_path / "in" / "link.png").symlink_to(outside)
    path = str(outside) if path.startswith("/") else path
    result = beside(tmp_path, path)
    assert len(result) == 1 and "leads out of the folder" in result.rejects[0][1]


@pytest.mark.parametrize("path", ["absent.png", "sub", "pipe", "x" * 5000, "hf://a/b.png"])
def test_paths_that_are_no_files(tmp_path, path):
    (tmp_path / "in" / "sub").mkdir(parents=True)
    os.mkfifo(tmp_path / "in" / "pipe")
    assert "is no file in the folder" in beside(tmp_path, path).rejects[0][1]


@pytest.mark.parametrize("path", ["", "a\0b"])
def test_paths_that_are_none(tmp_path, path):
    assert beside(tmp_path, path).rejects[0][1] == "it is null"


# What is left out


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"pitch": pa.array([0, float("nan"), 1])}, "is not finite"),
        ({"pitch": pa.array([0, float("inf"), 1])}, "is not finite"),
        ({"pitch": pa.array([0, 1e39, 1])}, "is not finite"),
        ({"pitch": pa.array([0, None, 1], pa.int32())}, "is null"),
        ({"gaze": pa.array([[1, 2, 3], None, [1, 2, 3]], GAZE)}, "is null"),
        ({"gaze": pa.array([[1, 2, 3], [1, None, 3], [1, 2, 3]], GAZE)}, "is null in part"),
        ({"image": images("a/0.png", None, "a/2.png")}, "it is null"),
        ({"image": images("a/0.png", {"bytes": None}, "a/2.png")}, "it is null"),
        ({"image": images("a/0.png", {"bytes": b"x"}, "a/2.png")}, "not a PNG"),
        ({"image": images("a/0.png", {"bytes": b""}, "a/2.png")}, "is empty"),
        ({"image": pa.array([encoded(0), None, encoded(2)])}, "it is null"),
        ({"image": pa.array([[[0]], None, [[2]]], LISTS)}, "it is null"),
        ({"image": pa.array([[[0]], [], [[2]]], LISTS)}, "not of one length"),
        ({"image": pa.array([[[0]], [[]], [[2]]], LISTS)}, "pixels are uint8 [1, 0]"),
        ({"image": pa.array([[[0]], [[1], [1, 2]], [[2]]], LISTS)}, "not of one length"),
        ({"image": pa.array([[[0]], [[1], None], [[2]]], LISTS)}, "not of one length"),
        ({"image": pa.array([[[0]], [[None]], [[2]]], LISTS)}, "pixels are null"),
    ],
)
@BOTH
def test_single_rows_that_are_left_out(tmp_path, changes, reason, name):
    result = packed(write(tmp_path / name, table(**changes)))
    assert result.images()[:, 0, 0, 0].tolist() == [0, 2]
    assert len(result.rejects) == 1 and reason in result.rejects[0][1]


def test_an_image_larger_than_any(tmp_path, monkeypatch):
    monkeypatch.setattr(image_column, "LARGEST_IMAGE", 1000)
    cells = images("a.png", {"bytes": bytes(1001)})
    result = packed(write(tmp_path / "x.parquet", pa.table({"image": cells})))
    assert result.rejects == [("000001.png", "a file of 0 MiB")]


# What is no set


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (pa.table({"x": [1]}), "has the columns x, and none 'image' of images"),
        (pa.table({}), "holds no row"),
        (pa.table({"image": [1]}), r"'image' of .* is int64: want PNG"),
        (pa.table({"image": pa.array([[1.5]])}), "is list"),
        (table().slice(0, 0), "holds no row"),
        (table(image=images(None, None, None)), "none of the 3 images"),
        (pa.table([images("a"), images("a")], names=["image", "image"]), "and none 'image'"),
    ],
)
@BOTH
def test_tables_that_are_no_set(tmp_path, content, message, name):
    with pytest.raises(InputError, match=message) as caught:
        packed(write(tmp_path / name, content))
    assert "\n" not in str(caught.value) and not (tmp_path / "packed").exists()


def test_a_packed_set_is_none(tmp_path):
    with open_writer(tmp_path / "set", "arrow", shape=(1, 4, 5), labels={}) as writer:
        writer.add(PIXELS[:, None], ["a.png", "b.png", "c.png"], {})
    for source in (tmp_path / "set", tmp_path / "set" / "shard-00000.arrow"):
        with pytest.raises(InputError, match="is a packed set already"):
            ParquetReader(source)


def test_sources_that_hold_nothing(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        ParquetReader(tmp_path / "absent.parquet")
    with pytest.raises(InputError, match="holds no file that ends in"):
        ParquetReader(tmp_path)
    os.mkfifo(tmp_path / "a.parquet")
    with pytest.raises(InputError, match=r"a\.parquet cannot be read .there is no file"):
        ParquetReader(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"gaze": [1, 2, 3]}, r"'gaze' is .* in .*a\.parquet and int64 in .*b\.parquet"),
        ({"image": [1, 2, 3]}, "'image' is struct"),
    ],
)
def test_files_with_other_columns(tmp_path, changes, message):
    write(tmp_path / "a.parquet", table())
    write(tmp_path / "b.parquet", table(**changes))
    with pytest.raises(InputError, match=message):
        ParquetReader(tmp_path)
    write(tmp_path / "b.parquet", table().drop_columns(["pitch"]))
    with pytest.raises(InputError, match=r"'pitch' is double in .* and missing in"):
        ParquetReader(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_may_not_be_read(tmp_path):
    file = write(tmp_path / "in" / "x.parquet", table())
    file.chmod(0)
    with pytest.raises(InputError, match="Permission denied"):
        ParquetReader(tmp_path / "in")
    file.parent.chmod(0)
    try:
        with pytest.raises(InputError, match="cannot be listed"):
            ParquetReader(tmp_path / "in")
    finally:
        file.parent.chmod(0o700)


@BOTH
def test_a_file_that_goes_away_after_it_was_opened(tmp_path, name):
    for i in "ab":
        write(tmp_path / "in" / f"{i}-{name}", table(image=images(*(f"{i}{j}" for j in range(3)))))
    reader = ParquetReader(tmp_path / "in")
    (tmp_path / "in" / f"b-{name}").unlink()
    with pytest.raises(InputError, match=rf"b-{name} cannot be read"):
        ingest(reader, tmp_path / "packed")
    assert not (tmp_path / "packed").exists()
