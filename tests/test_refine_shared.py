"""Refining by several processes: the set of one process, byte for byte, whoever was killed."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest

from simgan_fast.claims import Claims
from simgan_fast.cli import main
from simgan_fast.data import packed_writer
from simgan_fast.data.packed_writer import PackedWriter
from simgan_fast.errors import InputError
from simgan_fast.jobs import refine_shared as job
from simgan_fast.jobs.refine import refine
from simgan_fast.jobs.refine_shared import JOB_FILE, refine_shared
from simgan_fast.models.refiner import Refiner

IMAGES, SHARD = 230, 23  # 10 shards; no multiples of the batch
SHAPE = (1, 9, 11)
# Forks three workers, kills one in the middle of a shard and starts another, three times.
WORKERS = f"""
import os, signal, sys, time, torch
torch.set_num_threads(1)
from simgan_fast.data import packed_writer
from simgan_fast.jobs.refine_shared import refine_shared
packed_writer.SHARD_BYTES = {SHARD * 99}

def start():
    beginnings, begin = os.pipe()
    worker = os.fork()
    if worker:
        os.close(begin)
        return worker, beginnings
    add = packed_writer.PackedWriter.add
    def slow_add(*arguments):
        os.write(begin, b".")
        time.sleep(0.03)
        add(*arguments)
    packed_writer.PackedWriter.add = slow_add
    try:
        refine_shared(*sys.argv[1:], batch_size=8, lease=0.4)
        os._exit(0)
    finally:
        os._exit(1)

workers = [start() for _ in range(3)]
for _ in range(3):
    worker, beginnings = workers.pop(0)
    assert os.read(beginnings, 1)
    os.kill(worker, signal.SIGKILL)
    assert os.waitpid(worker, 0)[1] == signal.SIGKILL
    workers.append(start())
assert [os.waitpid(worker, 0)[1] for worker, _ in workers] == [0, 0, 0]
"""


@pytest.fixture
def inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """A refiner and a set, in folders."""
    monkeypatch.setattr(packed_writer, "SHARD_BYTES", SHARD * 99)
    Refiner(width=8, blocks=1).save_pretrained(tmp_path / "refiner")
    random = np.random.default_rng(0)
    with PackedWriter(tmp_path / "source", SHAPE, {"gaze": 3}) as writer:
        writer.add(
            random.integers(0, 256, (IMAGES, *SHAPE), dtype=np.uint8),
            [f"{i:04d}" for i in range(IMAGES)],
            {"gaze": random.normal(size=(IMAGES, 3)).astype(np.float32)},
        )
        writer.reject("broken.png", "cut off")
    return tmp_path / "refiner", tmp_path / "source"


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.name != JOB_FILE}


def test_one_worker_writes_what_refine_writes(inputs: tuple[Path, Path], tmp_path: Path) -> None:
    refine(*inputs, tmp_path / "alone", format="arrow", batch_size=8)
    result = refine_shared(*inputs, tmp_path / "out", batch_size=8)
    assert result.images == IMAGES
    assert contents(tmp_path / "out") == contents(tmp_path / "alone")
    assert refine_shared(*inputs, tmp_path / "out", batch_size=8).images == 0
    assert not list(tmp_path.glob(".*"))


def test_what_another_refiner_made_is_not_taken_for_done(
    inputs: tuple[Path, Path], tmp_path: Path
) -> None:
    refine_shared(*inputs, tmp_path / "out", batch_size=8)
    with pytest.raises(InputError, match="made from other images"):
        refine_shared(Refiner(width=8, blocks=1), inputs[1], tmp_path / "out", batch_size=8)


def test_three_workers_and_three_kills(
    inputs: tuple[Path, Path], tmp_path: Path, run_python: Callable[..., str]
) -> None:
    refine(*inputs, tmp_path / "alone", format="arrow", batch_size=8)
    run_python(WORKERS, *map(str, inputs), str(tmp_path / "out"))
    assert contents(tmp_path / "out") == contents(tmp_path / "alone")
    assert not list(tmp_path.glob(".*"))


def test_what_is_finished_is_not_made_again(
    inputs: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, make = [], job._Share.make

    def make_three(share: job._Share, shard: int) -> None:
        if len(made) == 3:
            raise KeyboardInterrupt
        made.append(shard)
        make(share, shard)

    monkeypatch.setattr(job._Share, "make", make_three)
    with pytest.raises(KeyboardInterrupt):
        refine_shared(*inputs, tmp_path / "out", batch_size=8)
    assert not (tmp_path / "out").exists()
    monkeypatch.undo()
    monkeypatch.setattr(packed_writer, "SHARD_BYTES", SHARD * 99)
    assert refine_shared(*inputs, tmp_path / "out", batch_size=8).images == IMAGES - 3 * SHARD


def test_a_worker_that_was_stalled_finds_its_shard_done(
    inputs: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = job._Share.make

    def make_twice(share: job._Share, shard: int) -> None:
        make(share, shard)
        make(share, shard)  # the folder is there: as if another had made it meanwhile

    monkeypatch.setattr(job._Share, "make", make_twice)
    refine(*inputs, tmp_path / "alone", format="arrow", batch_size=8)
    refine_shared(*inputs, tmp_path / "out", batch_size=8)
    assert contents(tmp_path / "out") == contents(tmp_path / "alone")


def test_a_worker_that_stops_while_it_seals_is_replaced(
    inputs: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refine(*inputs, tmp_path / "alone", format="arrow", batch_size=8)
    for step in ("_link", "move_folder"):
        with monkeypatch.context() as patch:
            patch.setattr(job, step, Mock(side_effect=KeyboardInterrupt))
            with pytest.raises(KeyboardInterrupt):
                refine_shared(*inputs, tmp_path / "out", batch_size=8)
        assert not (tmp_path / "out").exists()
    assert refine_shared(*inputs, tmp_path / "out", batch_size=8).images == 0
    assert contents(tmp_path / "out") == contents(tmp_path / "alone")


def test_the_command(
    inputs: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["refine", *map(str, inputs), str(tmp_path / "out"), "--shared"]
    assert main(command) == 2
    assert "give --format arrow" in capsys.readouterr().err
    assert main([*command, "--format", "arrow"]) == 0
    assert f"{IMAGES} images of it by this process" in capsys.readouterr().out


def test_a_claim_is_taken_over_only_when_it_is_not_renewed(tmp_path: Path) -> None:
    first, second = Claims(tmp_path, 0.2), Claims(tmp_path, 0.2)

    def taken() -> bool:
        with second.held("shard") as ours:
            return ours

    with first.held("shard") as ours:
        assert ours
        for _ in range(8):
            assert not taken()
            time.sleep(0.1)
    (tmp_path / "shard.claim").touch()  # of a dead worker, whose clock was a day ahead
    os.utime(tmp_path / "shard.claim", (time.time() + 86400,) * 2)
    assert not taken()
    time.sleep(0.3)
    assert taken()


def test_a_claim_that_is_removed_while_it_is_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NFS says that it is stale, where it goes between being opened and being asked for its time."""
    (tmp_path / "shard.claim").touch()
    stale = OSError(errno.ESTALE, "Stale file handle")
    with monkeypatch.context() as patch:  # pytest asks too
        patch.setattr("os.fstat", Mock(side_effect=stale))
        with Claims(tmp_path, 60).held("shard") as ours:
            assert not ours


def test_what_is_gone_far_away(
    inputs: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a file system of another machine a folder that somebody else has removed is stale, not absent."""
    stale = OSError(errno.ESTALE, "Stale file handle")
    monkeypatch.setattr("shutil.rmtree", Mock(side_effect=stale))
    assert refine_shared(*inputs, tmp_path / "out", batch_size=8).images == IMAGES


@pytest.mark.parametrize("number", [errno.ENOENT, errno.ESTALE])
def test_a_finished_set_that_is_seen_late(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """What all worked in is gone, and the file system still remembers that the set was not there."""
    looks = Mock(side_effect=[False, False, True])
    monkeypatch.setattr(job, "_finished", looks)
    with job._unless_finished(tmp_path / "out", 60):
        raise OSError(number, "gone")
    assert looks.call_count == 3
    looks.side_effect = None
    looks.return_value = False
    for error, patience in ((OSError(number, "gone"), 0.3), (OSError(errno.ENOSPC, "full"), 60)):
        with pytest.raises(OSError, match=r"gone|full"), job._unless_finished(tmp_path, patience):
            raise error
