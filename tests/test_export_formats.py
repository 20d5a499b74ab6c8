"""Every way out for a set: what comes back through the readers, and what cannot be written."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import h5py
import numpy as np
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from simgan_fast import cli, export, prepare
from simgan_fast.data import open_images, open_packed
from simgan_fast.data.export import FORMATS, open_writer
from simgan_fast.data.packed import PackedSet
from simgan_fast.data.packed_writer import PackedWriter
from simgan_fast.data.writers import parquet, webdataset
from simgan_fast.data.writers.codecs import PNG
from simgan_fast.data.writers.webdataset import WebDatasetWriter
from simgan_fast.errors import InputError

LOSSLESS = [format for format in FORMATS if format != "jpeg"]
FOLDERS = [format for format in FORMATS if format != "hdf5"]
NAMES = ["a/1.png", "a/2.jpg", "b c/d.e/x-0.0_0.5", "b c/ä.PNG", "f01_36_0.1963_-0.7854.png"]


def pixels(count: int, channels: int = 1, dtype: str = "uint8") -> np.ndarray:
    rng = np.random.default_rng(count)
    return rng.integers(0, np.iinfo(dtype).max, (count, channels, 5, 8), dtype, endpoint=True)


def write(out: Path, format: str, names: list[str], labels: dict | None = None, images=None):
    """Write in batches of 3, with one reject."""
    images = pixels(len(names)) if images is None else images
    labels = labels or {}
    widths = {label: values.shape[1] for label, values in labels.items()}
    with open_writer(
        out, format, shape=images.shape[1:], labels=widths, dtype=images.dtype.name
    ) as writer:
        for i in range(0, len(names), 3):
            part = slice(i, i + 3)
            writer.add(images[part], names[part], {k: v[part] for k, v in labels.items()}, "here")
        writer.reject("b, c.png", 'cut "off"')
    return images


def read(out: Path, format: str) -> PackedSet:
    if format == "parquet":
        return read_parquet(out)
    if format in ("webdataset", "hdf5"):
        return prepare(format, out, out.parent / "read")
    return open_packed(out) if format == "arrow" else open_images(out)


def read_parquet(out: Path) -> PackedSet:
    """With pyarrow alone, as another program would."""
    table = pyarrow.parquet.read_table(sorted(out.glob("*.parquet")))
    pictures = [
        np.asarray(Image.open(io.BytesIO(image["bytes"]))) for image in table["image"].to_pylist()
    ]
    images = np.stack(pictures)
    images = images[:, None] if images.ndim == 3 else images.transpose(0, 3, 1, 2)
    labels = {
        name: np.float32(table[name].to_pylist()).reshape(len(images), -1)
        for name in table.column_names[1:]
    }
    names = table["image"].combine_chunks().field("path").to_pylist()
    widths = {name: values.shape[1] for name, values in labels.items()}
    with PackedWriter(out.parent / "read", images.shape[1:], widths, images.dtype.name) as writer:
        writer.add(images, names, labels)
    return open_packed(out.parent / "read")


def same(result: PackedSet, names: list[str], images: np.ndarray, labels: dict) -> None:
    """In whatever order, to the bit."""
    order = [result.names.index(name) for name in names]
    assert len(result) == len(names) and set(result.labels) == set(labels)
    assert result.dtype == images.dtype
    np.testing.assert_array_equal(result.images()[order], images)
    for label, values in labels.items():
        assert result.labels[label][order].tobytes() == values.tobytes(), label


# Round trips

part = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="/\\\0"), max_size=9)
visible = part.filter(lambda text: text not in ("", ".", "..") and not text.startswith("."))
image_names = st.lists(visible, min_size=1, max_size=3).map("/".join)
floats = st.floats(width=32, allow_nan=False, allow_infinity=False)


@st.composite
def sets(draw, every_name=True):
    """Names, pixels and labels."""
    names = draw(st.lists(image_names, min_size=1, max_size=7, unique=True))
    if not every_name:  # of a folder: a place of its own for each
        names = [f"{i}/{name}.png".replace("\r", "_") for i, name in enumerate(names)]
    channels, dtype = draw(st.sampled_from([(1, "uint8"), (3, "uint8"), (1, "uint16")]))
    widths = draw(st.dictionaries(st.sampled_from(["gaze", "a b", "ä.x"]), st.integers(1, 4)))
    labels = {
        label: np.float32(
            [[draw(floats) for _ in range(width)] for _ in range(len(names))]
        ).reshape(len(names), width)
        for label, width in widths.items()
    }
    return names, pixels(len(names), channels, dtype), labels


@pytest.mark.parametrize("format", LOSSLESS)
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_round_trips_are_exact(tmp_path_factory, format, data):
    names, images, labels = data.draw(sets(every_name=format != "png"))
    out = tmp_path_factory.mktemp("set") / "out"
    write(out, format, names, labels, images)
    same(read(out, format), names, images, labels)


@pytest.mark.parametrize("format", ["arrow", "hdf5"])
def test_any_number_of_channels(tmp_path, format):
    images = pixels(5, 4, "uint16")
    write(tmp_path / "out", format, NAMES, images=images)
    same(read(tmp_path / "out", format), NAMES, images, {})


def test_the_largest_numbers_come_back_from_csv(tmp_path):
    largest = np.float32([[np.finfo(np.float32).max], [np.finfo(np.float32).tiny], [-0.0]])
    names = ["1.png", "2.png", "3.png"]
    images = write(tmp_path / "out", "png", names, {"x": largest})
    same(open_images(tmp_path / "out"), names, images, {"x": largest})


def test_jpeg_is_close_and_keeps_names_and_labels(tmp_path):
    y, x = np.mgrid[:40, :60]
    images = np.stack([[2 * x + 3 * y, 250 - 4 * x, 5 * y]] * 3).astype(np.uint8)
    labels = {"gaze": np.float32([[0.1, 2], [3, 4], [5, 6]])}
    write(tmp_path / "out", "jpeg", ["a/1.jpg", "2.JPEG", "3.0.png"], labels, images)
    result = open_images(tmp_path / "out")
    assert result.names == ["2.JPEG", "3.0.jpg", "a/1.jpg"]
    assert np.abs(result.images().astype(int) - images).max() <= 4
    assert result.labels["gaze"].tolist() == labels["gaze"][[1, 2, 0]].tolist()
    with Image.open(tmp_path / "out" / "a" / "1.jpg") as image:
        assert (image.format, image.mode) == ("JPEG", "RGB")
        assert all(layer[1:3] == (1, 1) for layer in image.layer)  # 4:4:4


def test_large_images_are_encoded_by_threads_in_order(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (9, 1, 130, 140), np.uint8)
    assert images[0].size > PNG.threads_from
    names = [f"{i}.png" for i in range(9)]
    write(tmp_path / "out", "png", names, images=images)
    same(open_images(tmp_path / "out"), names, images, {})


def test_parquet_comes_back_by_its_reader(tmp_path):
    images, names = (
        np.arange(24, dtype=np.uint8).reshape(4, 1, 2, 3),
        ["a/0.png", "1", "b.c.png", "2.jpg"],
    )
    gaze = np.array([[0.1, -0.2, 1e-30]] * 4, np.float32)
    with open_writer(tmp_path / "out", "parquet", shape=(1, 2, 3), labels={"gaze": 3}) as writer:
        writer.add(images, names, {"gaze": gaze})
    back = prepare("parquet", tmp_path / "out", tmp_path / "packed")
    assert back.names == names
    np.testing.assert_array_equal(back.images(), images)
    np.testing.assert_array_equal(back.labels["gaze"], gaze)


# What others see


def members(shard: Path) -> dict[str, bytes]:
    with tarfile.open(shard) as tar:
        return {info.name: tar.extractfile(info).read() for info in tar}


def test_webdataset_members(tmp_path):
    labels = {"gaze": np.float32([[0.1, 2]] * 5), "pitch": np.float32([[0.5]] * 5)}
    write(tmp_path / "out", "webdataset", NAMES, labels)
    assert {x.name for x in (tmp_path / "out").iterdir()} == {"shard-00000.tar", "rejects.csv"}
    found = members(tmp_path / "out" / "shard-00000.tar")
    keys = ["a/1", "a/2", "b c/d.e/x-0_0_0_5", "b c/ä", "f01_36_0_1963_-0_7854"]
    assert list(found) == [f"{key}.{end}" for key in keys for end in ("png", "json")]
    content = json.loads(found["a/2.json"])
    assert content == {"__name__": "a/2.jpg", "gaze": [float(np.float32(0.1)), 2], "pitch": 0.5}


def test_webdataset_keys_never_meet(tmp_path):
    names = ["a.png", "a.jpg", "a", "a_2", "b.c", "b_c", "é" * 300, "é" * 301, "/".join("x" * 150)]
    images = write(tmp_path / "out", "webdataset", names)
    same(read(tmp_path / "out", "webdataset"), names, images, {})
    keys = [name.rpartition(".")[0] for name in members(tmp_path / "out" / "shard-00000.tar")]
    assert len(set(keys)) == len(names) and max(map(len, keys)) < 210


def test_webdataset_bytes_are_the_same_each_time(tmp_path):
    for out in (tmp_path / "1", tmp_path / "2"):
        write(out, "webdataset", NAMES)
    one, two = ((tmp_path / x / "shard-00000.tar").read_bytes() for x in "12")
    assert one == two
    with tarfile.open(tmp_path / "1" / "shard-00000.tar") as tar:
        assert {(info.mtime, info.uid, info.gid, info.uname) for info in tar} == {(0, 0, 0, "")}


def test_webdataset_shards(tmp_path, monkeypatch):
    images, names = pixels(7), [f"{i}.png" for i in range(7)]
    with WebDatasetWriter(tmp_path / "out", (1, 5, 8), shard_size=3) as writer:
        writer.add(images, names)
    shards = sorted((tmp_path / "out").iterdir())
    assert [len(members(shard)) for shard in shards] == [6, 6, 2]
    same(read(tmp_path / "out", "webdataset"), names, images, {})
    monkeypatch.setattr(webdataset, "SHARD_BYTES", 2000)
    write(tmp_path / "small", "webdataset", names)
    assert len(list((tmp_path / "small").glob("*.tar"))) == 7


def test_hdf5_content(tmp_path):
    labels = {"pitch": np.float32([[0.5]] * 5), "gaze": np.float32([[0.1, 2]] * 5)}
    images = write(tmp_path / "out.h5", "hdf5", NAMES, labels)
    assert [x.name for x in tmp_path.iterdir()] == ["out.h5"]
    with h5py.File(tmp_path / "out.h5") as file:
        np.testing.assert_array_equal(file["images"][:], images)
        assert list(file["names"].asstr()) == NAMES
        assert list(file["labels"]) == ["pitch", "gaze"]
        assert (file["labels/gaze"].dtype, file["labels/gaze"].shape) == (np.float32, (5, 2))
        assert file.attrs["shape"].tolist() == [1, 5, 8]
        assert file.attrs["value_range"].tolist() == [0, 255]


def test_parquet_columns(tmp_path, monkeypatch):
    labels = {"gaze": np.float32([[0.1, 2]] * 5), "pitch": np.float32([[0.5]] * 5)}
    monkeypatch.setattr(parquet, "SHARD_BYTES", 1)
    monkeypatch.setattr(parquet, "ROWS", 2)
    write(tmp_path / "out", "parquet", NAMES, labels)
    files = sorted(x.name for x in (tmp_path / "out").glob("*.parquet"))
    assert files == [f"train-0000{i}.parquet" for i in range(3)]  # 2 + 1 rows of 3, then 2
    schema = pyarrow.parquet.read_schema(tmp_path / "out" / files[0])
    assert schema.names == ["image", "gaze", "pitch"]
    number = {"dtype": "float32", "_type": "Value"}
    assert json.loads(schema.metadata[b"huggingface"])["info"]["features"] == {
        "image": {"_type": "Image"},
        "gaze": {"feature": number, "length": 2, "_type": "Sequence"},
        "pitch": number,
    }


def test_rejects_go_along(tmp_path):
    for format in FOLDERS:
        write(tmp_path / format, format, ["a.png"])
        text = (tmp_path / format / "rejects.csv").read_text()
        assert text == 'file,reason\n"b, c.png","cut ""off"""\n'
    write(tmp_path / "out.h5", "hdf5", ["a.png"])
    assert read(tmp_path / "out.h5", "hdf5").rejects == [("b, c.png", 'cut "off"')]


# What cannot be written

CLASHES = [
    (["a.jpg", "a.png"], "both become 'a.png'"),
    (["a.png/b.png", "a.png"], "both become 'a.png'"),
    (["a.png", "a.png/c/b.png"], "both become 'a.png'"),
    (["labels.csv/a.png"], "both become 'labels.csv'"),
    (["b/.a.png"], "begin with a dot"),
    ([".b/a.png"], "begin with a dot"),
    (["a\rb.png"], "carriage return"),
]


@pytest.mark.parametrize(("names", "message"), CLASHES)
def test_names_that_a_folder_cannot_hold(tmp_path, names, message):
    with pytest.raises(InputError, match=message):
        write(tmp_path / "out", "png", names)
    assert list(tmp_path.iterdir()) == []
    for format in ("webdataset", "hdf5"):
        images = write(tmp_path / "in" / format, format, names)
        same(read(tmp_path / "in" / format, format), names, images, {})
        (tmp_path / "in" / "read").rename(tmp_path / "in" / f"{format}-read")


WRONG = {
    "a name twice": ({"names": ["a.png", "a.png"]}, "comes twice"),
    "a name outside": ({"names": ["a.png", "../../b.png"]}, r"\.\./\.\./b\.png"),
    "an absolute name": ({"names": ["a.png", "/b.png"]}, "cannot be kept"),
    "height and width swapped": ({"images": np.zeros((2, 1, 8, 5), np.uint8)}, "takes"),
    "labels missing": ({"labels": {}}, "this set takes"),
    "NaN": ({"labels": {"x": np.array([1, np.nan])}}, "'x' of 'b'"),
}


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize(("changes", "message"), WRONG.values(), ids=WRONG)
def test_wrong_content_leaves_nothing(tmp_path, format, changes, message):
    arguments = {"images": np.zeros((2, 1, 5, 8), np.uint8), "names": ["a", "b"]}
    arguments |= {"labels": {"x": np.zeros(2)}} | changes

    def attempt() -> None:
        with open_writer(tmp_path / "out", format, shape=(1, 5, 8), labels={"x": 1}) as writer:
            writer.add(pixels(2), ["c", "d"], {"x": np.zeros(2)})
            writer.add(**arguments)

    with pytest.raises(InputError, match=message):
        attempt()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("format", FORMATS)
def test_an_interrupt_leaves_nothing(tmp_path, format):
    def interrupted() -> None:
        with open_writer(tmp_path / "out", format, shape=(1, 5, 8)) as writer:
            writer.add(pixels(1), ["a.png"])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("format", FORMATS)
def test_an_out_that_holds_something(tmp_path, format):
    (tmp_path / "folder" / "sub").mkdir(parents=True)
    (tmp_path / "file").write_text("mine")
    for out in (tmp_path / "folder", tmp_path / "file"):
        with pytest.raises(InputError, match="already exists"):
            write(out, format, ["a.png"])
    assert (tmp_path / "file").read_text() == "mine" and len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("format", FORMATS)
def test_a_set_without_images(tmp_path, format):
    with (
        pytest.raises(InputError, match="no image"),
        open_writer(tmp_path / "out", format, shape=(1, 5, 8)),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("format", "shape", "dtype"),
    [
        ("jpeg", (1, 5, 8), "uint16"),
        ("jpeg", (2, 5, 8), "uint8"),
        ("png", (4, 5, 8), "uint8"),
        ("webdataset", (3, 5, 8), "uint16"),
    ],
)
def test_pixels_that_a_format_cannot_hold(tmp_path, format, shape, dtype):
    with pytest.raises(InputError, match=f"cannot hold {shape[0]} channels of {dtype}"):
        open_writer(tmp_path / "out", format, shape=shape, dtype=dtype)


@pytest.mark.parametrize("format", FORMATS)
def test_shapes_that_no_set_has(tmp_path, format):
    with pytest.raises(InputError, match=r"dtype is 'float32'"):
        open_writer(tmp_path / "out", format, shape=(1, 5, 8), dtype="float32")
    with pytest.raises(InputError, match="shape is"):
        open_writer(tmp_path / "out", format, shape=(5, 8))


def test_labels_that_a_format_cannot_name(tmp_path):
    for format, label in (
        ("webdataset", "__name__"),
        ("hdf5", "a/b"),
        ("hdf5", "."),
        ("parquet", "image"),
    ):
        with pytest.raises(InputError, match="rename it"):
            open_writer(tmp_path / "out", format, shape=(1, 5, 8), labels={label: 1})


def test_hdf5_without_h5py(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "h5py", None)
    with pytest.raises(InputError, match=r"simgan-fast\[formats\]"):
        open_writer(tmp_path / "out", "hdf5", shape=(1, 5, 8))


FULL = """
import os, resource, signal, sys
from pathlib import Path
import numpy as np
from simgan_fast import cli
from simgan_fast.data.packed_writer import PackedWriter

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
folder = Path(sys.argv[1])
with PackedWriter(folder / "in", (1, 90, 100)) as writer:
    writer.add(np.random.default_rng(0).integers(0, 256, (300, 1, 90, 100), np.uint8), [f"{i}.png" for i in range(300)])
for format, limit in zip(sys.argv[2].split(), sys.argv[3].split()):
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), -1))
    code = cli.main(["export", str(folder / "in"), str(folder / "out"), "--format", format])
    resource.setrlimit(resource.RLIMIT_FSIZE, (-1, -1))
    print(format, limit, code, os.listdir(folder))
"""


def test_a_full_disk_leaves_nothing(tmp_path, run_python):
    """No file may grow beyond a limit, which every library meets as it meets a full disk; HDF5 must not crash of it."""
    limits = {format: [4000] for format in FORMATS}
    limits["hdf5"] += [1 << 20, 2_700_000, 2_750_000]  # the last are met when the file is closed
    pairs = [(format, str(limit)) for format in FORMATS for limit in limits[format]]
    formats, sizes = (" ".join(texts) for texts in zip(*pairs, strict=True))
    text = run_python(FULL, str(tmp_path), formats, sizes)
    assert text.splitlines() == [f"{format} {limit} 2 ['in']" for format, limit in pairs]


# A whole job


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> PackedSet:
    folder = tmp_path_factory.mktemp("source") / "packed"
    labels = {"gaze": np.float32([[0.1, i] for i in range(5)])}
    write(folder, "arrow", NAMES, labels)
    return open_packed(folder)


@pytest.mark.parametrize("format", LOSSLESS)
def test_export_of_a_packed_set(tmp_path, source, format):
    assert cli.main(["export", str(source.path), str(tmp_path / "out"), "--format", format]) == 0
    names = [PNG.file_name(name) for name in NAMES] if format == "png" else NAMES
    same(read(tmp_path / "out", format), names, source.images(), source.labels)
    if format == "arrow":
        again = open_packed(tmp_path / "out")
        assert (again.sources, again.rejects) == (source.sources, source.rejects)


def test_export_of_an_image_folder(tmp_path):
    images = write(tmp_path / "in", "png", ["1.png", "2.png"], {"x": np.float32([[1], [2]])})
    (tmp_path / "in" / "3.png").write_bytes(b"cut")
    (tmp_path / "in" / "labels.csv").write_text("name,x\n1.png,1\n2.png,2\n3.png,3\n")
    result = export(tmp_path / "in", tmp_path / "out.h5", "hdf5", size=(10, 16), channels=3)
    assert result.shape == (3, 10, 16)
    back = read(tmp_path / "out.h5", "hdf5")
    assert back.names == ["1.png", "2.png"] and back.labels["x"].tolist() == [[1], [2]]
    assert back.rejects == [("3.png", "not a PNG or JPEG file")] and images.shape == (2, 1, 5, 8)


def test_export_in_several_batches(tmp_path, source, monkeypatch):
    monkeypatch.setattr("simgan_fast.jobs.export.BATCH", 2)
    export(source.path, tmp_path / "out", "webdataset")
    same(read(tmp_path / "out", "webdataset"), NAMES, source.images(), source.labels)


def test_export_complains_in_one_sentence(tmp_path, source, capsys):
    for arguments, words in (
        (("absent", "out"), "absent"),
        ((source.path, source.path.parent), "already exists"),
        ((source.path, "out", "--size", "9x9"), "9x9"),
        ((source.path, "out", "--labels", "x.csv"), "x.csv"),
    ):
        capsys.readouterr()
        assert cli.main(["export", *map(str, arguments)]) == 2
        error = capsys.readouterr().err
        assert error.startswith("simgan-fast: ") and words in error and error.count("\n") == 1


@pytest.mark.parametrize("format", FORMATS)
def test_simulate_takes_every_format(tmp_path, format):
    arguments = ["simulate", "eyes", str(tmp_path / "out"), "--count", "3", "--format", format]
    assert cli.main(arguments) == 0
    result = read(tmp_path / "out", format)
    assert len(result) == 3 and result.labels["gaze"].shape == (3, 3)
