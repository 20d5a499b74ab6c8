"""Packed sets: what is written comes back, and every kind of damage is one clear sentence."""

from __future__ import annotations

import errno
import json
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from simgan_fast import cli
from simgan_fast.data import packed_writer
from simgan_fast.data.checks import checked_names
from simgan_fast.data.packed import open_packed
from simgan_fast.data.packed_writer import PackedWriter
from simgan_fast.errors import InputError
from simgan_fast.files import write_json
from simgan_fast.jobs.verify import VerifiedSet, verify

SHAPE = (1, 5, 7)  # (c, h, w), all different so that a swap shows


def content(count: int, dtype: str = "uint8", shape: tuple[int, int, int] = SHAPE):
    rng = np.random.default_rng(count)
    images = rng.integers(0, np.iinfo(dtype).max + 1, (count, *shape)).astype(dtype)
    names = [f"part/{i}.png" for i in range(count)]
    labels = {
        "gaze": rng.standard_normal((count, 3)).astype(np.float32),
        "pitch": rng.standard_normal((count, 1)).astype(np.float32),
    }
    return images, names, labels


def write(path: Path, count: int = 10, **options) -> Path:
    images, names, labels = content(count)
    with PackedWriter(path, SHAPE, {"gaze": 3, "pitch": 1}, **options) as writer:
        writer.add(images, names, labels, "somewhere")
    return path


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("shape", [(1, 5, 7), (3, 7, 5), (2, 1, 1)])
def test_round_trip(tmp_path, dtype, shape):
    images, names, labels = content(23, dtype, shape)
    with PackedWriter(
        tmp_path / "set", shape, {"gaze": 3, "pitch": 1}, dtype, shard_size=8
    ) as writer:
        for part in (slice(0, 3), slice(3, 20), slice(20, 20), slice(20, 23)):
            writer.add(
                images[part], names[part], {k: v[part] for k, v in labels.items()}, f"s{part.start}"
            )
        writer.reject("bad.png", 'why, "oh" why')
    packed = open_packed(tmp_path / "set")
    assert (len(packed), packed.shape, packed.dtype) == (23, shape, dtype)
    assert [shard["count"] for shard in packed.info["shards"]] == [8, 8, 7]
    assert packed.names == names
    assert packed.sources == ["s0"] * 3 + ["s3"] * 17 + ["s20"] * 3
    assert packed.rejects == [("bad.png", 'why, "oh" why')]
    loaded = packed.load()
    assert loaded.dtype == getattr(torch, dtype)
    np.testing.assert_array_equal(loaded.numpy(), images)
    for name, values in labels.items():
        np.testing.assert_array_equal(packed.labels[name], values)
        assert packed.labels[name].dtype == np.float32
    packed.verify()


@pytest.mark.parametrize(
    ("start", "stop"), [(0, 23), (0, 8), (7, 9), (8, 16), (3, 22), (5, 5), (20, 99)]
)
def test_images_across_shards(tmp_path, start, stop):
    packed = open_packed(write(tmp_path / "set", 23, shard_size=8))
    np.testing.assert_array_equal(packed.images(start, stop), content(23)[0][start:stop])


def test_images_of_one_shard_are_a_view_of_the_file(tmp_path):
    images = open_packed(write(tmp_path / "set", 23, shard_size=8)).images(9, 15)
    assert not images.flags.owndata
    assert not images.flags.writeable


def test_the_caller_may_reuse_its_array(tmp_path):
    images, names, labels = content(4)
    with PackedWriter(tmp_path / "set", SHAPE, {"gaze": 3, "pitch": 1}) as writer:
        writer.add(images, names, labels)
        images[:] = labels["gaze"][:] = 0
    packed = open_packed(tmp_path / "set")
    np.testing.assert_array_equal(packed.images(), content(4)[0])
    np.testing.assert_array_equal(packed.labels["gaze"], content(4)[2]["gaze"])


def test_shards_are_plain_arrow(tmp_path):
    """Another program reads them with Arrow and set.json alone."""
    folder = write(tmp_path / "set")
    info = json.loads((folder / "set.json").read_text())
    with pa.ipc.open_file(folder / info["shards"][0]["file"]) as reader:
        rows = reader.read_all().to_pylist()
    images, names, labels = content(10)
    assert [row["name"] for row in rows] == names
    assert rows[3]["image"] == images[3].tobytes()
    np.testing.assert_array_equal(np.float32(rows[3]["label:gaze"]), labels["gaze"][3])


def test_the_digest_is_of_the_content(tmp_path):
    digest = open_packed(write(tmp_path / "a")).info["digest"]
    assert open_packed(write(tmp_path / "b")).info["digest"] == digest
    images, names, labels = content(10)
    with PackedWriter(tmp_path / "c", (1, 7, 5), {"gaze": 3, "pitch": 1}) as writer:
        writer.add(images.reshape(10, 1, 7, 5), names, labels, "somewhere")
    assert open_packed(tmp_path / "c").info["digest"] != digest


@pytest.mark.parametrize("step", [1, 3, 7, 23])
def test_the_digest_does_not_depend_on_how_images_come(tmp_path, step):
    images, names, labels = content(23)
    with PackedWriter(tmp_path / "a", SHAPE, {"gaze": 3, "pitch": 1}, shard_size=5) as writer:
        for i in range(0, 23, step):
            rows = slice(i, i + step)
            some = {name: values[rows] for name, values in labels.items()}
            writer.add(images[rows], names[rows], some, [f"file {name}" for name in names[rows]])
    with PackedWriter(tmp_path / "b", SHAPE, {"gaze": 3, "pitch": 1}, shard_size=5) as writer:
        writer.add(images, names, labels, [f"file {name}" for name in names])
    one, other = (open_packed(tmp_path / name) for name in "ab")
    assert one.info["shards"] == other.info["shards"]


def test_a_shard_may_be_larger_than_usual(tmp_path, monkeypatch):
    expected = open_packed(write(tmp_path / "a", 23, shard_size=20)).info["shards"]
    monkeypatch.setattr(packed_writer, "SHARD_BYTES", 3 * 35)
    images, names, labels = content(23)
    with PackedWriter(tmp_path / "b", SHAPE, {"gaze": 3, "pitch": 1}, shard_size=20) as writer:
        for i in range(0, 23, 2):
            some = {name: values[i : i + 2] for name, values in labels.items()}
            writer.add(images[i : i + 2], names[i : i + 2], some, "somewhere")
    assert open_packed(tmp_path / "b").info["shards"] == expected


@pytest.mark.parametrize("wrong", ["", "..", "/", "a//b", "a/../b", "a\\b", "a/", "\udcff"])
def test_a_wrong_name_is_found_among_good_ones(wrong):
    assert checked_names(["a", "b/c", "..d"]) == ["a", "b/c", "..d"] and checked_names([]) == []
    with pytest.raises(InputError, match=re.escape(f"the name {wrong!r} cannot be kept")):
        checked_names(["a", wrong, "b"])


def add_wrongly(writer: PackedWriter, **changes) -> None:
    images, names, labels = content(4)
    content_now = {"images": images, "names": names, "labels": labels} | changes
    writer.add(**content_now)


BAD_GAZE = content(4)[2]["gaze"].copy()
BAD_GAZE[2, 1] = np.nan
WRONG = {
    "height and width swapped": (
        {"images": np.zeros((4, 1, 7, 5), np.uint8)},
        "channels, height, width",
    ),
    "other dtype": ({"images": np.zeros((4, *SHAPE), np.float32)}, "float32"),
    "too few names": ({"names": ["a", "b"]}, "2 names came for 4 images"),
    "a name twice": ({"names": ["a", "b", "a", "c"]}, "'a' comes twice"),
    "a name outside": ({"names": ["a", "../b", "c", "d"]}, "'../b'"),
    "an absolute name": ({"names": ["a", "/b", "c", "d"]}, "'/b'"),
    "no labels": ({"labels": None}, "this set takes"),
    "label too narrow": (
        {"labels": {"gaze": np.zeros((4, 2)), "pitch": np.zeros(4)}},
        r"want \[4, 3\]",
    ),
    "labels too few": (
        {"labels": {"gaze": np.zeros((3, 3)), "pitch": np.zeros(4)}},
        r"want \[4, 3\]",
    ),
    "NaN": ({"labels": {"gaze": BAD_GAZE, "pitch": np.zeros(4)}}, "'gaze' of 'part/2.png'"),
    "infinite": ({"labels": {"gaze": np.zeros((4, 3)), "pitch": np.full(4, np.inf)}}, "'pitch'"),
}


@pytest.mark.parametrize(("changes", "message"), WRONG.values(), ids=WRONG)
def test_wrong_content_leaves_nothing(tmp_path, changes, message):
    with (
        pytest.raises(InputError, match=message),
        PackedWriter(tmp_path / "set", SHAPE, {"gaze": 3, "pitch": 1}) as writer,
    ):
        add_wrongly(writer, **changes)
    assert list(tmp_path.iterdir()) == []


def test_a_name_twice_in_two_batches(tmp_path):
    images, names, _ = content(4)
    with PackedWriter(tmp_path / "set", SHAPE) as writer:
        writer.add(images, names)
        with pytest.raises(InputError, match="comes twice"):
            writer.add(images[:1], names[3:])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (((5, 7),), "channels, height, width"),
        (((1, 0, 7),), "at least 1"),
        ((SHAPE, {}, "float32"), "uint8 or uint16"),
        ((SHAPE, {"gaze.0": 3}), "gaze.0"),
        ((SHAPE, {"gaze": 0}), "at least 1 number"),
    ],
)
def test_wrong_arguments(tmp_path, arguments, message):
    with pytest.raises(InputError, match=message):
        PackedWriter(tmp_path / "set", *arguments)


def test_an_empty_set_is_refused(tmp_path):
    with pytest.raises(InputError, match="no image"), PackedWriter(tmp_path / "set", SHAPE):
        pass
    assert list(tmp_path.iterdir()) == []


def test_an_output_that_holds_something_is_left_alone(tmp_path):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="not empty"):
        write(tmp_path / "set")
    assert [file.name for file in tmp_path.rglob("*")] == ["set", "mine.txt"]


@pytest.mark.parametrize("at", ["shard-00001.arrow", "rejects.csv", "set.json"])
def test_no_space_left_leaves_nothing(tmp_path, monkeypatch, at):
    whole = packed_writer.written_whole

    def full(path, mode="wb"):
        if path.name == at:
            raise OSError(errno.ENOSPC, "No space left on device")
        return whole(path, mode)

    monkeypatch.setattr(packed_writer, "written_whole", full)
    with pytest.raises(OSError, match="No space left"):
        write(tmp_path / "set", 20, shard_size=8)
    assert list(tmp_path.iterdir()) == []


def change_description(folder: Path, **changes) -> None:
    info = json.loads((folder / "set.json").read_text())
    (folder / "set.json").write_text(json.dumps(info | changes))


DAMAGE = {
    "missing shard": (lambda f: (f / "shard-00000.arrow").unlink(), "missing"),
    "shard cut off": (
        lambda f: (f / "shard-00000.arrow").write_bytes(
            (f / "shard-00000.arrow").read_bytes()[:-300]
        ),
        "damaged or cut off",
    ),
    "shard empty": (lambda f: (f / "shard-00000.arrow").write_bytes(b""), "damaged or cut off"),
    "shard of another set": (
        lambda f: (f / "shard-00001.arrow").rename(f / "shard-00000.arrow"),
        "is missing|not the",
    ),
    "set.json cut off": (lambda f: (f / "set.json").write_text('{"format": "simg'), "damaged"),
    "set.json no object": (lambda f: (f / "set.json").write_text("[]"), "damaged"),
    "set.json without a key": (
        lambda f: (f / "set.json").write_text('{"format": "simgan_fast.packed_set", "version": 1}'),
        "damaged .KeyError: 'shards'",
    ),
    "another version": (lambda f: change_description(f, version=2), "version 2"),
    "another format": (lambda f: change_description(f, format="zip"), "'zip'"),
    "another count": (lambda f: change_description(f, count=11), "do not add up"),
    "another digest": (lambda f: change_description(f, digest="0"), "digest"),
    "height and width swapped": (lambda f: change_description(f, shape=[1, 7, 5]), "does not hold"),
    "a shape of two": (lambda f: change_description(f, shape=[5, 7]), "shape"),
    "shards elsewhere": (
        lambda f: change_description(
            f, count=1, shards=[{"file": "../x.arrow", "count": 1, "sha256": ""}]
        ),
        "outside",
    ),
}


@pytest.mark.parametrize(("damage", "message"), DAMAGE.values(), ids=DAMAGE)
def test_damage_is_one_sentence(tmp_path, damage, message):
    folder = write(tmp_path / "set", 14, shard_size=10)
    damage(folder)
    with pytest.raises(InputError, match=message) as caught:
        open_packed(folder)
    assert "\n" not in str(caught.value)


def test_not_a_set(tmp_path):
    with pytest.raises(InputError, match="not a folder"):
        open_packed(tmp_path / "absent")
    with pytest.raises(InputError, match=r"no set\.json"):
        open_packed(tmp_path)


def test_verify_finds_one_changed_pixel(tmp_path, capsys):
    folder = write(tmp_path / "set", 20, shard_size=8)
    assert verify(folder) == VerifiedSet(20, 3, 0, open_packed(folder).info["digest"])
    assert cli.main(["verify", str(folder)]) == 0
    assert "is whole: 20 images in 3 shards" in capsys.readouterr().out
    shard = folder / "shard-00001.arrow"
    data = bytearray(shard.read_bytes())
    data[data.index(content(20)[0][12].tobytes())] ^= 1
    shard.write_bytes(data)
    with pytest.raises(InputError, match=r"^shard-00001\.arrow of .* SHA-256"):
        verify(folder)
    assert cli.main(["verify", str(folder)]) == 2


def test_json_has_null_for_what_it_cannot_hold(tmp_path):
    write_json(tmp_path / "x.json", {"a": [1.5, float("nan")], "b": (float("-inf"), "text", 2)})
    assert json.loads((tmp_path / "x.json").read_text()) == {
        "a": [1.5, None],
        "b": [None, "text", 2],
    }


def test_missing_rejects_list(tmp_path):
    folder = write(tmp_path / "set")
    (folder / "rejects.csv").unlink()
    with pytest.raises(InputError, match=r"rejects\.csv"):
        _ = open_packed(folder).rejects


def test_rejects_of_any_name_come_back(tmp_path):
    rejects = [("a\rb.png", "cut\r\noff"), ('"c",d.png', "empty"), ("e\nf.png", "\u00e9")]
    with PackedWriter(tmp_path / "set", SHAPE) as writer:
        writer.add(*content(2)[:2])
        for file, reason in rejects:
            writer.reject(file, reason)
    assert open_packed(tmp_path / "set").rejects == rejects


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_shards_are_read_without_the_memory_map(tmp_path, dtype):
    images, names, labels = content(20, dtype)
    with PackedWriter(
        tmp_path / "set", SHAPE, {"gaze": 3, "pitch": 1}, dtype, shard_size=8
    ) as writer:
        writer.add(images, names, labels)
    packed = open_packed(tmp_path / "set")
    np.testing.assert_array_equal(packed.load().numpy(), images)
    np.testing.assert_array_equal(
        packed.read_shards([2, 0]).numpy(), np.concatenate([images[16:], images[:8]])
    )
    shard = tmp_path / "set" / "shard-00001.arrow"
    shard.rename(tmp_path / "away")
    with pytest.raises(InputError, match=r"shard-00001\.arrow cannot be read any more"):
        packed.load()
