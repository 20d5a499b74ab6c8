"""Plugs pulled: the quick part of `make faults`, full disks, two at the same work, damage, too little of anything."""

from __future__ import annotations

import errno
import fcntl
import os
import resource
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from unittest.mock import Mock

import pytest
from cases import TINY_RUN
from faults import noise_set, prepare_job, refine_job, train_job
from image_folders import save, smooth
from killing import Job, ended_with, survived

from simgan_fast import Refiner, preset, resume, train
from simgan_fast.data import packed_writer
from simgan_fast.data.packed_writer import PackedWriter
from simgan_fast.errors import InputError
from simgan_fast.files import folder_locked, folder_written_whole
from simgan_fast.training.logging import RunLog
from simgan_fast.training.state import latest_checkpoint

TESTS = Path(__file__).parent


@pytest.mark.parametrize("job", [prepare_job, train_job, refine_job])
def test_a_killed_command_loses_nothing(
    job: Callable[[Path], Job], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packed_writer, "SHARD_BYTES", 20 * 35 * 55)
    assert survived(job(tmp_path), 3) == 3


def own_mounts() -> bool:
    """Whether this user may mount a disk that nobody else sees."""
    command = ["unshare", "--map-root-user", "--mount", "true"]
    return (
        shutil.which("unshare") is not None and not subprocess.run(command, check=False).returncode
    )


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.skipif(not own_mounts(), reason="unshare cannot make a mount namespace here")
def test_a_full_disk_is_one_sentence_and_nothing_half_made(tmp_path: Path) -> None:
    """Disks from 8 KB up to the first that is large enough, and one that cannot be written, for each command."""
    disk, inputs = tmp_path / "disk", tmp_path / "inputs"
    disk.mkdir()
    for i in range(60):
        save(inputs / "images" / f"{i}.png", smooth(12, 16, seed=i))
    command = ["unshare", "--map-root-user", "--mount", sys.executable, TESTS / "full_disks.py"]
    done = subprocess.run(
        [*command, inputs, disk], capture_output=True, text=True, timeout=280, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(" ok\n") == 9


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A finished run."""
    raw = noise_set(tmp_path / "raw", 1)
    train(raw, raw, tmp_path / "run", preset("eyes", **TINY_RUN))
    return tmp_path / "run"


def test_a_changed_byte_of_a_checkpoint_is_found(run: Path) -> None:
    newest = latest_checkpoint(run / "checkpoints")
    content = bytearray(newest.read_bytes())
    content[-5] ^= 1  # of a weight: still a number
    newest.write_bytes(content)
    with pytest.raises(InputError, match=r"damaged: its SHA-256 is another; delete it and resume"):
        resume(run)
    newest.unlink()
    resume(run)
    assert latest_checkpoint(run / "checkpoints") == newest


def test_only_tensorboards_threads_are_quiet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And what somebody had put in place for other threads is called, and back there afterwards."""
    told: list[str] = []

    def hook(args: threading.ExceptHookArgs) -> None:
        told.append(str(args.exc_value))

    def fail() -> None:
        raise OSError("mine")

    monkeypatch.setattr(threading, "excepthook", hook)
    with RunLog(tmp_path):
        thread = threading.Thread(target=fail)
        thread.start()
        thread.join()
    assert told == ["mine"] and threading.excepthook is hook


def test_one_process_trains_in_a_run_at_a_time(run: Path) -> None:
    with folder_locked(run, ""), pytest.raises(InputError, match="is being trained by another"):
        resume(run)


def test_what_killed_writers_left_in_a_run_is_removed(run: Path) -> None:
    left = [
        run / "checkpoints" / ".update-1.safetensors.abc.part",
        run / ".metrics.csv.abc.part",
    ]
    for file in left:
        file.write_bytes(b"half")
    resume(run)
    assert not any(file.exists() for file in left)


def test_a_folder_is_made_by_one_at_a_time_and_begins_empty(tmp_path: Path) -> None:
    part = tmp_path / ".out.part"
    (part / "sub").mkdir(parents=True)
    (part / "sub" / "half.png").write_bytes(b"half")
    with folder_written_whole(tmp_path / "out") as folder:
        (folder / "whole").touch()
        with (
            pytest.raises(InputError, match="is being made by another process"),
            folder_written_whole(tmp_path / "out"),
        ):
            pass
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["whole"]


def test_what_nfs_keeps_for_an_open_lock_goes_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """NFS keeps a file that is open, under another name, when it is removed: its folder stays until it is closed."""
    rmtree = shutil.rmtree

    def remove_all_but_the_folder(folder: Path, *, ignore_errors: bool) -> None:
        assert ignore_errors
        rmtree(folder)
        folder.mkdir()

    monkeypatch.setattr("shutil.rmtree", remove_all_but_the_folder)
    with (
        pytest.raises(InputError, match="no image was added"),
        PackedWriter(tmp_path / "out", (1, 2, 3), resume="job"),
    ):
        pass
    with pytest.raises(InputError, match="a bad image"), PackedWriter(tmp_path / "out", (1, 2, 3)):
        raise InputError("a bad image")
    assert not list(tmp_path.iterdir())
    assert "are kept" not in caplog.text


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_no_other_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, number: int
) -> None:
    monkeypatch.setattr(fcntl, "lockf", Mock(side_effect=OSError(number, os.strerror(number))))
    with folder_written_whole(tmp_path / "out") as folder:
        (folder / "whole").touch()
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["whole"]
    assert f"cannot be locked ([Errno {number}]" in caplog.text


@pytest.mark.parametrize("more", [3, 4, 6])
def test_too_few_file_descriptors_are_one_sentence(tmp_path: Path, more: int) -> None:
    files = len(os.listdir("/proc/self/fd")) + more
    raw, log = noise_set(tmp_path / "raw", 1), tmp_path / "log"
    Refiner(in_channels=1, width=4, blocks=1).save_pretrained(tmp_path / "refiner")
    settings = [f"--{key.replace('_', '-')}={value}" for key, value in TINY_RUN.items()]
    sets = ["--synthetic", str(raw), "--real", str(raw)]
    for command in (
        ["train", *sets, "--out", str(tmp_path / "run"), *settings],
        ["refine", str(tmp_path / "refiner"), str(raw), str(tmp_path / "refined")],
    ):
        code = ended_with(command, log, {resource.RLIMIT_NOFILE: files})
        said = log.read_text()
        assert (code == 0 or "Too many open files" in said) and "Traceback" not in said, said
        assert code in (0, 2)


def test_too_little_memory_is_one_sentence(tmp_path: Path) -> None:
    raw, log = noise_set(tmp_path / "raw", 1), tmp_path / "log"
    command = ["train", "--synthetic", str(raw), "--real", str(raw), "--out", str(tmp_path / "run")]
    code = ended_with([*command, "--history", "200000000"], log, {resource.RLIMIT_AS: 16 << 30})
    said = log.read_text()
    assert code == 1 and "there is not enough memory" in said and "Traceback" not in said, said
