"""Ingest that was stopped goes on, and makes the same set."""

from __future__ import annotations

import errno
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from image_folders import assert_equal, damaged_in_part, save, smooth

from simgan_fast.data import packed_writer
from simgan_fast.data.decode import load_chunk
from simgan_fast.data.ingest import _state, ingest
from simgan_fast.data.packed import open_packed
from simgan_fast.data.packed_writer import PART_FILE, PackedWriter
from simgan_fast.data.readers.folder import FolderReader
from simgan_fast.errors import InputError
from simgan_fast.jobs.prepare import prepare

SHARD = 40  # images
PART = ".packed.part"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return damaged_in_part(tmp_path / "images")


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed_writer, "SHARD_BYTES", SHARD * 6 * 8)
    monkeypatch.setattr("simgan_fast.data.ingest.CHUNK_BYTES", 9 * 6 * 8)


class Stop(Exception):
    """In place of a signal."""


def stopped_after(count: int, monkeypatch: pytest.MonkeyPatch, failure: BaseException) -> list[int]:
    """Let loading fail once `count` images came; returns how many were asked for."""
    asked: list[int] = []

    def load(items, target, usual, fast):
        if sum(asked) + len(items) > count:
            raise failure
        asked.append(len(items))
        return load_chunk(items, target, usual)

    monkeypatch.setattr("simgan_fast.data.ingest.load_chunk", load)
    return asked


def stopped(folder: Path, monkeypatch: pytest.MonkeyPatch, count: int = 90) -> None:
    """Pack `folder` beside itself, up to `count` images."""
    with monkeypatch.context() as patch:
        stopped_after(count, patch, Stop())
        with pytest.raises(Stop):
            prepare("folder", folder, folder.parent / "packed")


def test_what_is_done_is_not_done_again(folder: Path, monkeypatch, caplog) -> None:
    whole = ingest(FolderReader(folder), folder.parent / "whole")
    out = folder.parent / "packed"
    stopped(folder, monkeypatch)
    assert f"84 images are kept in {folder.parent / PART}" in caplog.text
    assert not out.exists()
    asked = stopped_after(1000, monkeypatch, Stop())
    again = prepare("folder", folder, out)
    assert_equal(again, whole)
    assert again.info["digest"] == whole.info["digest"]
    assert sum(asked) == 100 - 84 - 6, "the 84 images and the 6 rejects among them are known"
    assert sorted(path.name for path in folder.parent.iterdir()) == ["images", "packed", "whole"]
    assert not (out / "part.json").exists() and not (out / ".lock").exists()


def test_links_that_lead_round_in_a_circle_are_not_followed(folder: Path) -> None:
    for name in ("a", "b", "c"):
        (folder / name).symlink_to(folder, target_is_directory=True)
    began = time.monotonic()
    assert len(_state([folder])) == 64
    assert time.monotonic() - began < 5


def test_the_folder_one_is_in_is_no_new_folder(tmp_path: Path, folder: Path, monkeypatch) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    for out in (".", tmp_path / "empty"):
        with pytest.raises(InputError, match="is the folder you are in: name a new folder"):
            prepare("folder", folder, out)


def write_labels(folder: Path, value: float) -> None:
    rows = [f"{path.name},{value}\n" for path in folder.glob("*.jpg")]
    (folder / "labels.csv").write_text("".join(["name,width\n", *rows]))


CHANGES = {
    "another size": lambda _: {"size": (5, 5)},
    "a file's content": lambda folder: save(folder / "50.jpg", smooth(6, 8, seed=50)) and {},
    "a file more": lambda folder: save(folder / "50a.jpg", smooth(6, 8)) and {},
    "a file less": lambda folder: (folder / "50.jpg").unlink() or {},
    "a file that was bad": lambda folder: save(folder / "16.jpg", smooth(6, 8)) and {},
    "labels": lambda folder: write_labels(folder, 1) or {},
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_what_changed_begins_anew(folder: Path, monkeypatch, change) -> None:
    if change is CHANGES["labels"]:
        write_labels(folder, 0)
    stopped(folder, monkeypatch)
    time.sleep(0.02)  # the clock of files is some milliseconds coarse
    options = change(folder)
    asked = stopped_after(1000, monkeypatch, Stop())
    again = prepare("folder", folder, folder.parent / "packed", **options)
    assert sum(asked) == len(list(folder.glob("*.jpg")))
    assert_equal(again, ingest(FolderReader(folder), folder.parent / "whole", **options))


def test_what_changes_before_it_is_read_is_no_reason_to_begin_anew(
    folder: Path, monkeypatch
) -> None:
    stopped(folder, monkeypatch)
    time.sleep(0.02)
    for name in ("97.jpg", "1000.jpg"):
        save(folder / name, smooth(6, 8, seed=7))
    asked = stopped_after(1000, monkeypatch, Stop())
    again = prepare("folder", folder, folder.parent / "packed")
    assert sum(asked) == 101 - 84 - 6
    assert_equal(again, ingest(FolderReader(folder), folder.parent / "whole"))


def test_going_on_twice(folder: Path, monkeypatch) -> None:
    for count in (50, 45):  # of what is left
        stopped(folder, monkeypatch, count)
    asked = stopped_after(1000, monkeypatch, Stop())
    again = prepare("folder", folder, folder.parent / "packed")
    assert sum(asked) == 100 - 84 - 6
    assert_equal(again, ingest(FolderReader(folder), folder.parent / "whole"))


def test_a_damaged_shard_is_done_again(folder: Path, monkeypatch) -> None:
    stopped(folder, monkeypatch)
    shard = folder.parent / PART / "shard-00001.arrow"
    shard.write_bytes(shard.read_bytes()[:-1] + b"x")
    (folder.parent / PART / ".shard-00002.arrow.abc.part").write_bytes(b"half a shard")
    again = prepare("folder", folder, folder.parent / "packed")
    assert_equal(again, ingest(FolderReader(folder), folder.parent / "whole"))
    assert len(list(again.path.iterdir())) == 3 + 2


def test_rows_of_a_shard_that_is_not_full_are_saved(folder: Path, monkeypatch) -> None:
    monkeypatch.setattr(packed_writer, "SAVE_EVERY", 0.0)
    with monkeypatch.context() as patch:
        patch.setattr(packed_writer, "SHARD_BYTES", 16 << 20)  # one shard for all
        stopped_after(90, patch, Stop())
        patch.setattr(packed_writer.PackedWriter, "__exit__", lambda *_: None)  # SIGKILL
        with pytest.raises(Stop):
            prepare("folder", folder, folder.parent / "packed")
    part = folder.parent / PART
    (part / ".lock").unlink()
    files = sorted(path.name for path in part.iterdir())
    assert files == ["part.json", "unfinished-84.arrow"], "the ones before are removed"


@pytest.mark.parametrize("hurt", [lambda path: path.unlink(), lambda path: path.write_bytes(b"x")])
def test_a_damaged_file_of_rows_is_done_again(folder: Path, monkeypatch, hurt) -> None:
    stopped(folder, monkeypatch)
    hurt(folder.parent / PART / "unfinished-84.arrow")
    asked = stopped_after(1000, monkeypatch, Stop())
    again = prepare("folder", folder, folder.parent / "packed")
    assert sum(asked) == 100 - 80 - 6
    assert_equal(again, ingest(FolderReader(folder), folder.parent / "whole"))


def test_what_an_older_version_left_is_gone_on_with(folder: Path, monkeypatch) -> None:
    stopped(folder, monkeypatch)
    notes = folder.parent / PART / PART_FILE
    older = json.loads(notes.read_text())
    del older["unfinished"]
    notes.write_text(json.dumps(older))
    asked = stopped_after(1000, monkeypatch, Stop())
    prepare("folder", folder, folder.parent / "packed")
    assert sum(asked) == 100 - 80 - 6


@pytest.mark.parametrize("line", ["_images", "_names", "_sources", "_labels"])
def test_interrupted_while_rows_are_added(tmp_path: Path, line: str) -> None:
    """What came before is kept, whichever of a row's parts had been taken in."""

    class Interrupted:
        """In place of what is assigned to or read next when Ctrl-C comes."""

        def _stop(self, *_: object) -> int:
            raise KeyboardInterrupt

        __len__ = __setitem__ = __getitem__ = __iadd__ = _stop

    def write(writer: PackedWriter, numbers: range) -> None:
        images = np.array([[[[i]]] for i in numbers], np.uint8)
        labels = {"twice": np.array([[2 * i] for i in numbers], np.float32)}
        writer.add(images, [str(i) for i in numbers], labels)

    def made() -> PackedWriter:
        return PackedWriter(tmp_path / "out", (1, 1, 1), {"twice": 1}, resume="x")

    def interrupted() -> None:
        with made() as writer:
            write(writer, range(5))
            kept = getattr(writer._pending, line)
            setattr(writer._pending, line, Interrupted())
            try:
                write(writer, range(5, 9))
            finally:
                setattr(writer._pending, line, kept)

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    with made() as writer:
        assert writer.names == list("01234")
        write(writer, range(5, 9))
    out = open_packed(tmp_path / "out")
    assert out.images(0, 9).ravel().tolist() == list(range(9))
    assert out.labels["twice"].ravel().tolist() == [2 * i for i in range(9)]


def test_no_space_left_keeps_what_is_finished(folder: Path, monkeypatch) -> None:
    whole = packed_writer.written_whole

    def full(path, mode="wb"):
        if path.name == "shard-00001.arrow" or path.name.startswith("unfinished"):
            raise OSError(errno.ENOSPC, "No space left on device")
        return whole(path, mode)

    with monkeypatch.context() as patch:
        patch.setattr(packed_writer, "written_whole", full)
        with pytest.raises(OSError, match="No space left"):
            prepare("folder", folder, folder.parent / "packed")
    asked = stopped_after(1000, monkeypatch, Stop())
    prepare("folder", folder, folder.parent / "packed")
    assert 50 < sum(asked) < 60


def test_two_at_once(tmp_path: Path) -> None:
    with PackedWriter(tmp_path / "packed", (1, 2, 2), resume="x") as writer:
        script = (
            "import sys; from simgan_fast.data import PackedWriter\n"
            "with PackedWriter(sys.argv[1], (1, 2, 2), resume='x'): pass"
        )
        done = subprocess.run(
            [sys.executable, "-c", script, tmp_path / "packed"],
            capture_output=True,
            text=True,
            check=False,
        )
        assert "is being made by another process" in done.stderr
        writer.add(np.zeros((1, 1, 2, 2), np.uint8), ["a"])
    assert len(open_packed(tmp_path / "packed")) == 1


SLOWLY = """
import signal, sys, time
from simgan_fast.data import ingest, packed_writer
from simgan_fast.jobs.prepare import prepare

signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where a shell has started us behind it
calls = []

def slow(items, target, usual, fast):
    calls.append(1)  # in each process its own
    time.sleep(0.1 if len(calls) <= 3 else 3)
    return load(items, target, usual)

load, ingest.load_chunk = ingest.load_chunk, slow
packed_writer.SHARD_BYTES = ingest.CHUNK_BYTES = 10 * 6 * 8
prepare("folder", sys.argv[1], sys.argv[2], processes=2)
"""


def noted(part: Path) -> list[dict[str, object]]:
    """The shards that count as finished."""
    shards: list[dict[str, object]] = json.loads((part / PART_FILE).read_text())["shards"]
    return shards


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_ingest_goes_on(folder: Path, monkeypatch, number) -> None:
    monkeypatch.setattr(packed_writer, "SHARD_BYTES", 10 * 6 * 8)  # as SLOWLY has it
    out, part = folder.parent / "packed", folder.parent / PART
    with subprocess.Popen(
        [sys.executable, "-c", SLOWLY, folder, out], stderr=subprocess.DEVNULL
    ) as job:
        while not (part / PART_FILE).exists() or len(noted(part)) < 3:
            time.sleep(0.01)
            assert job.poll() is None
        job.send_signal(number)
    assert not out.exists()
    asked = stopped_after(1000, monkeypatch, Stop())
    again = prepare("folder", folder, out)
    assert sum(asked) <= 70, "at least three shards of ten were finished"
    assert_equal(again, ingest(FolderReader(folder), folder.parent / "whole"))


def test_stopped_while_a_full_shard_is_noted(tmp_path: Path, monkeypatch) -> None:
    """The shard is written and its rows forgotten, part.json not yet there."""

    def made() -> PackedWriter:
        return PackedWriter(tmp_path / "out", (1, 1, 1), shard_size=2, resume="x")

    def stop() -> None:
        monkeypatch.undo()
        raise Stop

    def full() -> None:
        with made() as writer:
            monkeypatch.setattr(writer, "_save", stop)
            writer.add(np.zeros((2, 1, 1, 1), np.uint8), ["a", "b"])

    with pytest.raises(Stop):
        full()
    with made() as writer:
        assert writer.names == ["a", "b"]
