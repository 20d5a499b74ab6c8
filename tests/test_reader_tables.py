"""Parquet and Arrow files that are damaged, or made to take more memory than they should."""

from __future__ import annotations

import contextlib
import resource
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from table_files import KINDS, LISTS, images, table, write

from simgan_fast.data.image_files import Rejected
from simgan_fast.data.readers import tables
from simgan_fast.data.readers.arrow_messages import message_places
from simgan_fast.data.readers.parquet import ParquetReader
from simgan_fast.errors import InputError

BOTH = pytest.mark.parametrize("name", ["x.parquet", "x.arrow"])


# Damage


@BOTH
@pytest.mark.parametrize("damage", ["empty", "words", "cut", "half", "zeros", "lfs"])
def test_damaged_files(tmp_path, name, damage):
    file = write(tmp_path / name, table(), "stream" if name == "x.arrow" else "")
    data = file.read_bytes()
    spoiled = {
        "empty": b"",
        "words": b"words" * 100,
        "cut": data[:-8],  # of a stream of Arrow between two messages
        "half": data[: len(data) // 3],
        "zeros": data[:100] + bytes(len(data) - 200) + data[-100:],
        "lfs": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n",
    }
    file.write_bytes(spoiled[damage])
    with pytest.raises(InputError, match=rf"{name} cannot be read") as caught:
        list(ParquetReader(file))
    assert "\n" not in str(caught.value)
    assert (damage == "lfs") == ("git lfs pull" in str(caught.value))


@pytest.mark.parametrize(
    ("footer", "message"),
    [
        (b"", "footer is damaged"),
        (b"\xff" * 40, "of type 15"),
        (b"\x1c" * 10_000, "recursion"),  # structs in structs
        (b"\x49\xf1\xff\xff\xff\xff\x0f", "footer is damaged"),  # a list of billions
        (b"\x48\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "footer is damaged"),  # a text as long
        (b"\x48" + b"\xff" * 11, "number without end"),
        (b"\x15\xff\xff\xff\xff\xff\xff\x01\x00", "more than 32 bits"),
        (b"\x15\x02\x05\x02\x02\x00", "a field twice"),
        (b"\x49\x1c\x36\x01\x00\x00", "missing or negative"),
        (b"\x49\x18\x01a\x00", "thrift"),  # texts where the row groups should be
        (b"\x49\x1c\x19\x18\x01a\x26\x02\x00\x00", "thrift"),  # texts where the columns should be
        (b"\x49\x1c\x19\x1c\x3c\x39\x1c\x00\x46\x02\x26\x02\x00\x00\x26\x02\x00\x00", "thrift"),  # a path of structs
    ],
    ids=str,
)  # fmt: skip
def test_footers_that_are_damaged(tmp_path, footer, message):
    file = tmp_path / "x.parquet"
    file.write_bytes(b"PAR1" + footer + len(footer).to_bytes(4, "little") + b"PAR1")
    with pytest.raises(InputError, match=rf"cannot be read \(.*{message}"):
        ParquetReader(file)


@pytest.mark.parametrize("length", [1 << 20, (1 << 32) - 1])
def test_a_footer_longer_than_the_file(tmp_path, length):
    (tmp_path / "x.parquet").write_bytes(bytes(1000) + length.to_bytes(4, "little") + b"PAR1")
    with pytest.raises(InputError, match="no Parquet footer"):
        ParquetReader(tmp_path / "x.parquet")


def test_a_footer_of_many_megabytes(tmp_path):
    """pyarrow makes a hundred bytes of each."""
    length = (16 << 20) + 1
    (tmp_path / "x.parquet").write_bytes(bytes(length + 4) + length.to_bytes(4, "little") + b"PAR1")
    with pytest.raises(InputError, match="a footer of 16 MiB"):
        ParquetReader(tmp_path / "x.parquet")


def test_a_stream_that_begins_with_its_rows(tmp_path):
    """pyarrow takes them for a schema, and ends the program."""
    file = write(tmp_path / "x.arrow", table(), "stream")
    file.write_bytes(file.read_bytes()[table().schema.serialize().size :])
    with pytest.raises(InputError, match="does not begin with a schema"):
        ParquetReader(file)


@pytest.mark.parametrize(("name", "kind", "options"), KINDS, ids=str)
@settings(
    max_examples=60, deadline=2000, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    changes=st.lists(st.tuples(st.integers(-4000, 4000), st.integers(0, 255)), max_size=6),
    cut=st.integers(200, 9000),
)
def test_spoiled_bytes_are_input_errors_or_rejects(tmp_path, name, kind, options, changes, cut):
    good = tmp_path / f"good-{name}"
    if not good.exists():
        write(good, table(), kind, **options)
    data = bytearray(good.read_bytes()[: cut if not changes else None])
    for place, value in changes:
        data[place % len(data)] = value
    file = tmp_path / name
    file.write_bytes(data)
    with contextlib.suppress(InputError):
        for sample in ParquetReader(file):
            with contextlib.suppress(Rejected):
                if callable(sample.image):
                    sample.image()


# Files that would take more memory than they should


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("x.parquet", {"use_dictionary": False}),
        ("x.parquet", {"use_dictionary": True}),
        ("x.parquet", {"compression": "zstd", "data_page_version": "2.0"}),
        ("x.feather", {}),
        ("x.feather", {"compression": "zstd"}),
    ],
    ids=str,
)
def test_parts_that_unpack_to_more_than_is_allowed(tmp_path, monkeypatch, name, options):
    monkeypatch.setattr(tables, "LARGEST", 1 << 20)
    cells = images(*({"bytes": bytes(300_000) + bytes([i])} for i in range(8)))
    file = write(tmp_path / name, pa.table({"image": cells}), **options)
    assert file.stat().st_size < 1 << 18
    with pytest.raises(InputError, match=r"unpacks from \d+ bytes to 2 MiB: write it with smaller"):
        list(ParquetReader(file))


@pytest.mark.parametrize("name", ["x.parquet", "x.feather"])
def test_images_that_take_as_much_in_the_file(tmp_path, monkeypatch, name):
    monkeypatch.setattr(tables, "LARGEST", 1 << 20)
    monkeypatch.setattr(tables, "BATCH", 1 << 20)
    data = [np.random.default_rng(i).bytes(300_000) for i in range(8)]
    cells = images(*({"bytes": x} for x in data))
    reader = ParquetReader(write(tmp_path / name, pa.table({"image": cells})))
    assert [sample.image for sample in reader] == data


def varint(number: int) -> bytes:
    """As Thrift writes it."""
    number *= 2
    data = bytearray()
    while number > 127:
        data.append(number & 127 | 128)
        number >>= 7
    return bytes([*data, number])


@pytest.fixture
def small_memory() -> Iterator[None]:
    """No more than 1 GiB beside what is taken already."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, ((1 << 30) + pages * 4096, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


def test_a_footer_that_lies(tmp_path, small_memory, monkeypatch):
    """pyarrow sets aside what the page's header says, and the footer says 100 bytes."""
    monkeypatch.setattr(tables, "LARGEST", 100 << 20)
    cells = images({"bytes": bytes(120 << 20)}, {"bytes": b"x"})
    file = write(
        tmp_path / "x.parquet", pa.table({"image": cells}), compression="zstd",
        use_dictionary=False, write_statistics=False,
    )  # fmt: skip
    size = pq.ParquetFile(file).metadata.row_group(0).column(0).total_uncompressed_size
    true = varint(size)
    lie = bytes([*(byte | 128 for byte in varint(100)), *[128] * (len(true) - 3), 0])
    data = file.read_bytes()
    at = data.index(true, len(data) - 1000)
    file.write_bytes(data[:at] + lie + data[at + len(true) :].replace(true, lie))
    assert pq.ParquetFile(file).metadata.row_group(0).column(0).total_uncompressed_size == 100
    assert file.stat().st_size < 20_000
    with pytest.raises(InputError, match="bytes to 120 MiB"):
        list(ParquetReader(file))


@pytest.mark.parametrize("version", ["1.0", "2.0"])
def test_lists_that_repeat_a_number(tmp_path, monkeypatch, version):
    """A single row may hold all of them, and takes some bytes in the file."""
    many = pa.array([[[0] * 1000] * 1000], LISTS)
    content = pa.table({"image": many, "x": pa.array([[0.5] * 1000])})
    file = write(tmp_path / "x.parquet", content, data_page_version=version, compression="zstd")
    assert file.stat().st_size < 10_000
    monkeypatch.setattr(tables, "LONGEST", 1_001_000)
    assert len(list(ParquetReader(file))) == 1
    monkeypatch.setattr(tables, "LONGEST", 1_000_999)
    with pytest.raises(InputError, match=r"has lists of 1001000 numbers in \d+ bytes: write it"):
        list(ParquetReader(file))


def test_row_groups_that_share_their_bytes(tmp_path):
    """A footer of twenty row groups, all of which lie at one place."""
    cells = images({"bytes": np.random.default_rng(0).bytes(100_000)})
    file = write(tmp_path / "x.parquet", pa.table({"image": cells}))
    metadata, data = pq.read_metadata(file), file.read_bytes()
    for _ in range(19):
        metadata.append_row_groups(pq.read_metadata(file))
    metadata.write_metadata_file(tmp_path / "footer")
    columns = data[: len(data) - 8 - int.from_bytes(data[-8:-4], "little")]
    file.write_bytes(columns + (tmp_path / "footer").read_bytes()[4:])
    assert pq.ParquetFile(file).read_row_group(19)["image"][0]["bytes"].is_valid
    with pytest.raises(InputError, match="its columns take more than the file"):
        ParquetReader(file)


def test_batches_that_share_their_bytes(tmp_path):
    """A footer in which all of them lie where the first does."""
    content = pa.table({"image": images({"bytes": bytes(10_000)}, *["a"] * 18)})
    file = write(tmp_path / "x.arrow", content)
    with pa.memory_map(str(file)) as source:
        first, *others = message_places(source)
    data, after = file.read_bytes(), file.read_bytes()
    footer = len(data) - 10 - int.from_bytes(data[-10:-6], "little")
    block = data.index(struct.pack("<q", first), footer)
    for place in others:
        at = data.index(struct.pack("<q", place), footer)
        after = after[:at] + data[block : block + 24] + after[at + 24 :]
    file.write_bytes(after)
    assert pa.ipc.open_file(str(file)).get_batch(9)["image"][0]["bytes"].as_py() == bytes(10_000)
    with pytest.raises(InputError, match="its parts take more than the file"):
        ParquetReader(file)


def test_a_value_that_repeats_does_not_unfold(tmp_path, small_memory):
    """20 MB in the file, 20 GB were every row to have its own."""
    value = np.random.default_rng(0).bytes(20 << 20)
    cells = pa.DictionaryArray.from_arrays(np.zeros(1000, np.int32), pa.array([value]))
    file = write(tmp_path / "x.parquet", pa.table({"image": cells}), store_schema=False)
    assert file.stat().st_size < 30 << 20
    for i, sample in enumerate(ParquetReader(file)):
        assert len(sample.image) == len(value)
        if i == 130:
            break


def test_more_rows_than_bytes(tmp_path):
    cells = pa.DictionaryArray.from_arrays(np.zeros(10**6, np.int32), pa.array([b"x"]))
    file = write(tmp_path / "x.parquet", pa.table({"image": cells}), store_schema=False)
    with pytest.raises(InputError, match="1000000 rows in"):
        ParquetReader(file)
