"""Ingest in several processes: the same set as by one."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
from pathlib import Path

import numpy as np
import pytest
from image_folders import assert_equal, damaged_in_part, packed, save, smooth

from simgan_fast.data import packed_writer
from simgan_fast.data.ingest import ingest
from simgan_fast.data.parallel import loaded
from simgan_fast.data.readers import Sample
from simgan_fast.data.readers.folder import FolderReader
from simgan_fast.errors import InputError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return damaged_in_part(tmp_path / "images")


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed_writer, "SHARD_BYTES", 40 * 6 * 8)
    monkeypatch.setattr("simgan_fast.data.ingest.CHUNK_BYTES", 9 * 6 * 8)


def test_any_number_of_processes_gives_the_same_set(folder: Path) -> None:
    one, two, three = (
        ingest(FolderReader(folder), folder.parent / f"p{n}", processes=n) for n in (1, 2, 3)
    )
    assert len(one) == 93 and len(one.rejects) == 7
    assert one.info["digest"] == two.info["digest"] == three.info["digest"]
    assert_equal(one, two)


def test_a_sentence_comes_from_whichever_process(folder: Path) -> None:
    save(folder / "99.jpg", smooth(7, 8))
    with pytest.raises(InputError, match=r"different sizes \(1\.jpg 6x8, 99\.jpg 7x8\)"):
        packed(folder, processes=2)
    assert [path.name for path in folder.parent.iterdir()] == ["images"]


def killed(items, target, usual, fast):
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_process_is_one_sentence(folder: Path, monkeypatch) -> None:
    monkeypatch.setattr("simgan_fast.data.ingest.load_chunk", killed)
    with pytest.raises(InputError, match="was killed, perhaps for want of memory"):
        packed(folder, processes=2)
    assert [path.name for path in folder.parent.iterdir()] == ["images"]


def test_samples_that_bring_their_bytes_come_in_smaller_chunks(monkeypatch) -> None:
    monkeypatch.setattr("simgan_fast.data.parallel.HELD_BYTES", 100)
    images = [b"x" * 40, b"x" * 70, b"x" * 300, np.zeros((5, 10), np.uint8), "path", "path", "path"]
    samples = [Sample(str(i), image) for i, image in enumerate(images)]
    chunks = loaded(samples, lambda items: [len(items)], 3, 1, 1)
    assert [count for _, (count,) in chunks] == [2, 1, 3, 1]


def test_bad_number_of_processes(folder: Path) -> None:
    with pytest.raises(InputError, match="processes is 0"):
        packed(folder, processes=0)


def test_a_pipe_does_not_hang(folder: Path) -> None:
    os.mkfifo(folder / "pipe.png")
    (folder / "folder.png").mkdir()
    (folder / "endless.png").symlink_to("/dev/zero")
    rejects = packed(folder).rejects
    for name in ("pipe.png", "endless.png"):
        assert (name, "no file, but a folder, a pipe or a device") in rejects


def test_nothing_of_it_stays_in_the_process(folder: Path, caplog) -> None:
    """No process is left, and torch's random numbers are those that would have come anyhow."""
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    with caplog.at_level(logging.WARNING):
        packed(folder, processes=2)
    assert torch.equal(torch.rand(3), expected)
    assert caplog.text == ""
    with contextlib.suppress(ChildProcessError):
        pid, _ = os.waitpid(-1, os.WNOHANG)
        assert pid == 0, "a process was left over"
