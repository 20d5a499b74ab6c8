"""WebDataset's tar files, and labels in JSON: what they mean, and whatever can be wrong with them."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import re
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from image_folders import save, smooth
from PIL import Image

from simgan_fast import prepare
from simgan_fast.data.image_files import Rejected
from simgan_fast.data.ingest import ingest
from simgan_fast.data.packed import PackedSet
from simgan_fast.data.readers import webdataset
from simgan_fast.data.readers.webdataset import WebDatasetReader
from simgan_fast.errors import InputError

SHARED = Path(__file__).parents[2] / "shared" / "data"


def encoded(value: int = 0, suffix: str = "PNG") -> bytes:
    """A grey picture of 4x5."""
    file = io.BytesIO()
    Image.fromarray(np.full((4, 5), value, np.uint8)).save(file, suffix)
    return file.getvalue()


def tar(path: Path, members: dict[str, Any], **options: Any) -> Path:
    """A tar of names with bytes, or things that json writes, or a TarInfo as it is."""
    path.parent.mkdir(exist_ok=True)
    with tarfile.open(path, "w", **options) as file:
        for name, content in members.items():
            info, data = tarfile.TarInfo(name), content
            if isinstance(content, tarfile.TarInfo):
                info, info.name, data = content, name, b""
            elif not isinstance(content, bytes):
                data = json.dumps(content).encode()
            info.size = len(data)
            file.addfile(info, io.BytesIO(data))
    return path


def special(kind: bytes, target: str = "0.png") -> tarfile.TarInfo:
    info = tarfile.TarInfo()
    info.type, info.linkname = kind, target
    return info


def packed(tmp_path: Path, members: dict[str, Any], **options: Any) -> PackedSet:
    return prepare("webdataset", tar(tmp_path / "x.tar", members, **options), tmp_path / "packed")


def rejected(tmp_path: Path, members: dict[str, Any]) -> dict[str, str]:
    """Reasons by name, of a tar that holds one good image beside them, with the same labels."""
    result = packed(tmp_path, {"good.png": encoded(), "good.json": {"x": 1}, **members})
    assert result.names == ["good.png"]
    return dict(result.rejects)


# What the files mean


def test_images_and_labels_by_their_key(tmp_path):
    members = {
        "a/10.json": {"gaze": [1, 2.5, -3], "pitch": 0.25, "text": "x", "flag": True, "more": {}},
        "a/10.PNG": encoded(10),
        "a/10.cls": b"7\n",
        "a/10.left.png": encoded(99),
        "./b.jpg": encoded(20, "JPEG"),
        "b.json": {"pitch": -1, "gaze": [0, 0, 1]},
        "b.cls": b"8",
        "notes.txt": b"words",
        "._b.png": b"of macOS",
    }
    result = packed(tmp_path, members)
    assert result.names == ["a/10.PNG", "b.jpg"] and result.rejects == []
    assert abs(result.images()[:, 0].astype(int).mean((1, 2)) - [10, 20]).max() <= 1
    assert {name: values.tolist() for name, values in result.labels.items()} == {
        "gaze": [[1, 2.5, -3], [0, 0, 1]],
        "pitch": [[0.25], [-1]],
        "cls": [[7], [8]],
    }


def test_a_folder_of_tars_in_natural_order(tmp_path):
    for i in (10, 2, 1):
        tar(tmp_path / "in" / f"s-{i}.tar", {f"{i}/z.png": encoded(i), f"{i}/a.png": encoded(i)})
    (tmp_path / "in" / "README.md").write_text("words")
    reader = WebDatasetReader(tmp_path / "in")
    names = ["1/z.png", "1/a.png", "2/z.png", "2/a.png", "10/z.png", "10/a.png"]
    assert [sample.name for sample in reader] == names and len(reader) == 6
    assert [sample.source[-6:] for sample in reader][::2] == ["-1.tar", "-2.tar", "10.tar"]


@pytest.mark.parametrize("kind", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_names_in_every_kind_of_tar(tmp_path, kind):
    names = [f"{'long/' * 20}{i}.png" for i in range(3)]
    result = packed(tmp_path, {name: encoded(i) for i, name in enumerate(names)}, format=kind)
    assert result.names == names
    assert result.images()[:, 0, 0, 0].tolist() == [0, 1, 2]


def test_members_are_read_on_any_thread_in_any_order(tmp_path):
    file = tar(tmp_path / "x.tar", {f"{i}.png": encoded(i) for i in range(50)})
    reads = [sample.image for sample in WebDatasetReader(file)]
    with ThreadPoolExecutor(8) as pool:
        assert (
            list(pool.map(lambda read: read(), reads[::-1]))
            == [encoded(i) for i in range(50)][::-1]
        )


def test_the_name_may_be_in_the_json(tmp_path):
    result = packed(tmp_path, {"a_b.png": encoded(), "a_b.json": {"__name__": "a.b.png", "x": 1}})
    assert result.names == ["a.b.png"] and list(result.labels) == ["x"]


def test_one_image_without_labels(tmp_path):
    result = packed(tmp_path, {"a.png": encoded(3)})
    assert (result.names, result.labels) == (["a.png"], {})


# What is left out


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "damaged .JSONDecodeError"),
        (b"[1]", "it is no object"),
        (b"[" * 100_000, "RecursionError"),
        (b"\xff\xfe{", "damaged"),
        (b'{"x": NaN}', "not finite"),
        (b'{"x": 1e39}', "not finite"),
        (b'{"x": 1' + b"0" * 5000 + b"}", "damaged"),
        ({"x": [1, 2]}, r"its labels are {'x': 2}, those of the others {'x': 1}"),
        ({"y": 1}, "its labels are {'y': 1}"),
        ({"x": "left"}, "its labels are {}"),
        ({"x": 1, "__name__": "../up.png"}, "damaged"),
        (b" " * (1 << 20) + b"{}", "labels of 1 MiB"),
    ],
)
def test_labels_that_are_none(tmp_path, content, reason):
    reasons = rejected(tmp_path, {"a.png": encoded(), "a.json": content})
    assert re.search(reason, reasons["a.png"]), reasons


def test_a_first_image_with_damaged_labels_is_no_measure(tmp_path):
    result = packed(
        tmp_path, {"0.png": encoded(), "0.json": b"{", "1.png": encoded(), "1.json": {"x": 1}}
    )
    assert result.names == ["1.png"] and [name for name, _ in result.rejects] == ["0.png"]


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE]
)
def test_links_and_devices_are_left_out(tmp_path, kind):
    reasons = rejected(tmp_path, {"a.png": special(kind, "/etc/passwd")})
    assert reasons == {"a.png": "a link, a device or a sparse file"}


def test_a_label_file_that_is_a_link(tmp_path):
    reasons = rejected(tmp_path, {"a.png": encoded(), "a.json": special(tarfile.SYMTYPE)})
    assert reasons == {"a.png": "a link, a device or a sparse file"}


def test_a_folder_called_like_an_image_is_passed_over(tmp_path):
    assert rejected(tmp_path, {"a.png": special(tarfile.DIRTYPE)}) == {}


@pytest.mark.parametrize(
    "name", ["/etc/a.png", "../a.png", "b/../../a.png", "b\\a.png", "b//a.png"]
)
def test_names_that_lead_outside(tmp_path, name):
    members = {name: encoded(), name.replace(".png", ".json"): {"x": 1}}
    reasons = rejected(tmp_path, members)
    assert len(reasons) == 1 and "no relative path" in next(iter(reasons.values()))


def test_a_name_in_another_encoding(tmp_path):
    file = tar(
        tmp_path / "x.tar",
        {"ä.png": encoded(), "b.png": encoded()},
        format=tarfile.USTAR_FORMAT,
        encoding="latin1",
    )
    result = prepare("webdataset", file, tmp_path / "packed")
    assert result.names == ["b.png"] and "UTF-8" in result.rejects[0][1]


def test_members_that_are_no_images(tmp_path):
    members = {
        "e.png": b"",
        "t.png": b"text",
        "c.png": encoded()[:-20],
        "j.jpg": encoded(1, "JPEG")[:200],
    }
    for name in list(members):
        members[name[0] + ".json"] = {"x": 1}
    reasons = rejected(tmp_path, members)
    assert reasons["e.png"] == "the file is empty" and "not a PNG" in reasons["t.png"]
    assert set(reasons) == {"e.png", "t.png", "c.png", "j.jpg"}


def test_a_member_larger_than_any_image(tmp_path, monkeypatch):
    monkeypatch.setattr(webdataset, "LARGEST_IMAGE", 1000)
    assert rejected(tmp_path, {"a.png": b"x" * 1001}) == {"a.png": "a file of 0 MiB"}


def test_a_sparse_member(tmp_path):
    """As GNU tar -S writes it: a file that says it is a terabyte of holes."""
    info = tarfile.TarInfo("a.png")
    info.pax_headers = {
        "GNU.sparse.map": "0,1",
        "GNU.sparse.size": str(1 << 40),
        "GNU.sparse.numblocks": "1",
    }
    with tarfile.open(tmp_path / "x.tar", "w", format=tarfile.PAX_FORMAT) as file:
        info.size = 1
        file.addfile(info, io.BytesIO(b"x"))
    with pytest.raises(InputError, match=r"damaged|none of"):
        prepare("webdataset", tmp_path / "x.tar", tmp_path / "packed")


# What is no tar


def test_a_name_twice(tmp_path):
    a, b = (tar(tmp_path / "in" / f"{i}.tar", {"k.png": encoded()}) for i in range(2))
    with pytest.raises(InputError, match=rf"'k\.png' comes twice, in {a} and {b}"):
        WebDatasetReader(tmp_path / "in")
    with tarfile.open(tmp_path / "y.tar", "w") as file:
        for _ in range(2):
            file.addfile(tarfile.TarInfo("k.json"))
    with pytest.raises(InputError, match=r"'k\.json' comes twice"):
        WebDatasetReader(tmp_path / "y.tar")


def damaged(data: bytes) -> dict[str, tuple[bytes, str]]:
    header = bytearray(data[:512])
    header[124:136] = b"\x80" + (1 << 50).to_bytes(11, "big")
    huge = checked(bytes(header))
    header[124:136] = b"\xff" * 10 + b"\xfe\x00"  # minus 512
    negative = checked(bytes(header))
    long = tarfile.TarInfo("././@LongLink")
    long.type, long.size = tarfile.GNUTYPE_LONGNAME, 1 << 40
    loop = tarfile.TarInfo("././@PaxHeader")
    loop.type, loop.size = tarfile.XHDTYPE, -1024
    flipped = bytearray(data)
    flipped[1024 + 5] ^= 1  # in the second header
    return {
        "empty": (b"", "empty file"),
        "words": (b"words" * 1000, "no tar file"),
        "cut in a header": (data[:1300], "no header at byte 1024"),
        "cut in a member": (data[: 1024 + 512 + 30], "unexpected end"),
        "a header spoiled": (bytes(flipped), "no header at byte 1024"),
        "a petabyte": (huge + data[512:], "unexpected end"),
        "a negative size": (negative + data[512:], "bytes|negative|no header"),
        "a name of a terabyte": (long.tobuf(tarfile.GNU_FORMAT) + data, "a header of 10995"),
        "a header before itself": (loop.tobuf(tarfile.GNU_FORMAT) + data, "damaged"),
        "a thousand headers of headers": (pax_header() * 2000 + data, "damaged"),
    }


def checked(header: bytes) -> bytes:
    """With the sum that the header must have."""
    total = sum(header[:148]) + sum(header[156:]) + 8 * 32
    return header[:148] + b"%06o\0 " % total + header[156:]


def pax_header() -> bytes:
    info = tarfile.TarInfo("././@PaxHeader")
    info.type, info.size = tarfile.XHDTYPE, 512
    return info.tobuf(tarfile.GNU_FORMAT) + b"12 path=abc\n".ljust(512, b"\0")


@pytest.mark.parametrize("kind", damaged(bytes(2048)))
def test_damaged_tars(tmp_path, kind):
    data = tar(tmp_path / "x.tar", {"a.png": encoded(), "b.png": encoded()}).read_bytes()
    content, message = damaged(data)[kind]
    (tmp_path / "x.tar").write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        WebDatasetReader(tmp_path / "x.tar")
    assert str(tmp_path / "x.tar") in str(caught.value)


def test_sources_that_hold_nothing(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        WebDatasetReader(tmp_path / "absent")
    with pytest.raises(InputError, match=r"ends in \.tar"):
        WebDatasetReader(tmp_path)
    with pytest.raises(InputError, match="holds no image"):
        WebDatasetReader(tar(tmp_path / "x.tar", {}))
    with pytest.raises(InputError, match="holds no image"):
        WebDatasetReader(tar(tmp_path / "x.tar", {"a.txt": b"words"}))
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "y.tar.gz").write_bytes(gzip.compress((tmp_path / "x.tar").read_bytes()))
    for source in (tmp_path / "in", tmp_path / "in" / "y.tar.gz"):
        with pytest.raises(InputError, match="unpack it to a"):
            WebDatasetReader(source)
    (tmp_path / "in" / "y.tar.gz").rename(tmp_path / "in" / "y.tar")
    with pytest.raises(InputError, match="no tar file"):
        WebDatasetReader(tmp_path / "in")
    (tmp_path / "in" / "y.tar").unlink()
    (tmp_path / "in" / "y.tar").symlink_to(tmp_path / "absent")
    with pytest.raises(InputError, match="No such file"):
        WebDatasetReader(tmp_path / "in")


def test_a_tar_that_goes_away_after_it_was_listed(tmp_path):
    file = tar(tmp_path / "x.tar", {"a.png": encoded(), "a.json": {"x": 1}})
    reader = WebDatasetReader(file)
    with open(file, "r+b") as stream:
        stream.truncate(700)
    with pytest.raises(InputError, match=r"none of the 1 images .*become shorter"):
        ingest(reader, tmp_path / "packed")
    file.unlink()
    with pytest.raises(InputError, match="No such file"):
        ingest(reader, tmp_path / "packed")
    assert not (tmp_path / "packed").exists()


SMALL = [
    ("a.png", encoded(1)),
    ("a.json", b'{"x": [1, 2]}'),
    ("b.png", encoded(2)),
    ("b.json", b'{"x": [3, 4]}'),
]


@pytest.mark.parametrize("kind", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@settings(
    max_examples=150, deadline=1000, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    changes=st.lists(st.tuples(st.integers(0, 7000), st.integers(0, 255)), min_size=1, max_size=9),
    cut=st.integers(100, 9000),
)
def test_spoiled_bytes_are_input_errors_or_rejects(tmp_path, kind, changes, cut):
    members = {
        ("dir/" * 30 if kind == tarfile.PAX_FORMAT else "") + name: data for name, data in SMALL
    }
    data = bytearray(tar(tmp_path / "x.tar", members, format=kind).read_bytes()[:cut])
    for place, value in changes:
        data[place % len(data)] = value
    for header in range(0, len(data) - 511, 512):  # sums that fit let more of the damage through
        if data[header + 257 : header + 262] == b"ustar":
            data[header : header + 512] = checked(bytes(data[header : header + 512]))
    (tmp_path / "x.tar").write_bytes(data)
    try:
        for sample in WebDatasetReader(tmp_path / "x.tar"):
            with contextlib.suppress(Rejected):
                sample.image()
    except InputError:
        pass


# Labels of a folder in JSON


def labelled(folder: Path, content: Any, suffix: str = ".json") -> Path:
    for i, name in enumerate(("a.png", "b/c.png")):
        save(folder / name, smooth(4, 5, seed=i))
    file = folder.parent / f"labels{suffix}"
    file.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return file


@pytest.mark.parametrize(
    "content",
    [
        {"b/c.png": {"gaze": [4, 5], "pitch": 6}, "a.png": {"pitch": 3, "gaze": [1, 2]}},
        [
            {"filename": "b/c.png", "gaze": [4, 5], "pitch": 6},
            {"name": "a.png", "gaze": [1, 2], "pitch": [3]},
        ],
    ],
)
def test_folder_labels_in_json(tmp_path, content):
    file = labelled(tmp_path / "in", content)
    result = prepare("folder", tmp_path / "in", tmp_path / "packed", labels=file)
    assert {name: values.tolist() for name, values in result.labels.items()} == {
        "gaze": [[1, 2], [4, 5]],
        "pitch": [[3], [6]],
    }


GOOD = {"gaze": [1, 2]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "cannot be read"),
        ("[" * 100_000, "cannot be read"),
        ('{"a.png": {"x": 1}, "a.png": {"x": 2}, "b/c.png": {"x": 1}}', "'a.png' comes twice"),
        (7, "no table of labels"),
        ({"a.png": [1, 2], "b/c.png": [1, 2]}, "no table of labels"),
        ([GOOD], "entry 0, has no name"),
        ([{"name": 3, **GOOD}], "entry 0, has no name"),
        ([{"name": "a.png", **GOOD}] * 2, "a second entry for 'a.png'"),
        ({"a.png": GOOD}, r"no row for 'b/c\.png'"),
        ({"a.png": GOOD, "b/c.png": GOOD, "d.png": GOOD}, r"a row for 'd\.png'"),
        (
            {"a.png": GOOD, "b/c.png": {"gaze": [1, 2, 3]}},
            r"labels of 'b/c\.png' are not those of 'a\.png'",
        ),
        ({"a.png": GOOD, "b/c.png": {**GOOD, "pitch": 1}}, "are not those of"),
        ({"a.png": {}, "b/c.png": {}}, "has no label for"),
        ({"a.png": {"x": "left"}, "b/c.png": {"x": 1}}, "'x' of 'a.png' is 'left'"),
        ({"a.png": {"x": [[1]]}, "b/c.png": {"x": 1}}, "'x' of 'a.png'"),
        ({"a.png": {"x": []}, "b/c.png": {"x": []}}, "'x' of 'a.png'"),
        ({"a.png": {"x": True}, "b/c.png": {"x": 1}}, "'x' of 'a.png' is 'True'"),
        ({"a.png": {"x": float("nan")}, "b/c.png": {"x": 1}}, "finite number"),
        ({"a.png": {"x": 10**40}, "b/c.png": {"x": 1}}, "finite number"),
    ],
)
def test_folder_labels_that_are_wrong(tmp_path, content, message):
    file = labelled(tmp_path / "in", content)
    with pytest.raises(InputError, match=message) as caught:
        prepare("folder", tmp_path / "in", tmp_path / "packed", labels=file)
    assert str(file) in str(caught.value)


def test_genuine_labels_in_json(tmp_path):
    folder = SHARED / "unityeyes_labelled"
    if not folder.is_dir():
        pytest.skip("shared/data is not there")
    result = prepare("folder", folder, tmp_path / "packed", labels=folder / "labels.json")
    assert len(result) == 50 and result.labels["look_vec"].shape == (50, 3)
    np.testing.assert_allclose(np.linalg.norm(result.labels["look_vec"], axis=1), 1, atol=1e-3)
