"""Reads that hang: a pipe, a process that is stopped, a disk that answers no more. One sentence, and nothing lost."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from cases import TINY_RUN
from faults import noise_set
from image_folders import save, smooth
from killing import ended_with, require_no_process, started

from simgan_fast.cli import main
from simgan_fast.data import decode, packed, packed_writer
from simgan_fast.data.packed import open_packed
from simgan_fast.data.windows import Windows
from simgan_fast.jobs.prepare import prepare
from simgan_fast.stalls import ended_when_stalled, moved, reading
from simgan_fast.training.state import latest_checkpoint, latest_update

TIMEOUT = "0.5"
SHORT = TINY_RUN | {"steps": 6, "checkpoint_every": 2, "sample_every": 6}


@pytest.fixture
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """100 files, of which a shard takes 20."""
    monkeypatch.setattr(packed_writer, "SHARD_BYTES", 20 * 12 * 16)
    for i in range(100):
        save(tmp_path / "images" / f"{i:03d}.png", smooth(12, 16, seed=i))
    return tmp_path / "images"


def test_labels_that_are_a_pipe(images: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "labels.csv")
    command = ["prepare", "folder", str(images), str(tmp_path / "out"), "--timeout", TIMEOUT]
    labels = ["--labels", str(tmp_path / "labels.csv")]
    assert ended_with([*command, *labels], tmp_path / "log") == 2
    said = (tmp_path / "log").read_text()
    assert said.count("\n") == 1 and f"nothing came of {images} for 0.5 seconds" in said
    assert "the same command goes on there. --timeout SECONDS waits longer" in said


@pytest.mark.parametrize("processes", ["1", "2"])
def test_prepare_goes_on_where_a_disk_hung(
    processes: str, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What decodes stops at an image, as a process does in the system when a mount is dead."""
    os.mkfifo(tmp_path / "pipe")
    read_stamped = decode.read_stamped

    def read_or_hang(path: str) -> tuple[bytes, str]:
        if path.endswith("070.png"):
            if processes == "1":
                (tmp_path / "pipe").read_bytes()
            os.kill(os.getpid(), signal.SIGSTOP)
        return read_stamped(path)

    monkeypatch.setattr("simgan_fast.data.parallel.FIRST", 10)
    monkeypatch.setattr("simgan_fast.data.ingest.CHUNK", 10)
    out = tmp_path / "out"
    command = ["prepare", "folder", str(images), str(out), "--processes", processes]
    with monkeypatch.context() as patch:
        patch.setattr(decode, "read_stamped", read_or_hang)
        child = started([*command, "--timeout", TIMEOUT], tmp_path / "log")
        _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 2
    require_no_process(child)
    said = (tmp_path / "log").read_text()
    assert "nothing came of 070.png or one of the 9 images after it for 0.5 seconds" in said
    assert len(list((tmp_path / ".out.part").glob("shard-*.arrow"))) == 3
    with monkeypatch.context() as patch:  # and when what was seen before is looked at
        hang = lambda _: (tmp_path / "pipe").read_text()  # noqa: E731
        patch.setattr("simgan_fast.data.ingest.stamp_of", hang)
        assert ended_with([*command, "--timeout", TIMEOUT], tmp_path / "again") == 2
    said = (tmp_path / "again").read_text()
    assert f"nothing came of what was seen of {images} before for 0.5 seconds" in said
    assert ended_with(command, tmp_path / "log") == 0
    prepare("folder", images, tmp_path / "undisturbed")
    one, other = (open_packed(path).info["digest"] for path in (out, tmp_path / "undisturbed"))
    assert one == other


def test_training_goes_on_where_a_disk_hung(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shards of 8 images, each a window; the disk hangs when half of the updates are done."""
    monkeypatch.setattr(packed_writer, "SHARD_BYTES", 8 * 12 * 16)
    sets = [noise_set(tmp_path / name, seed) for seed, name in enumerate(("raw", "real"))]
    windows, read_images = Windows.__init__, packed._read_images
    monkeypatch.setattr(
        Windows, "__init__", lambda *arguments: windows(*arguments[:4], 1, *arguments[5:])
    )
    os.mkfifo(tmp_path / "pipe")
    reads = iter(range(1000))

    def read_or_hang(file: Path, out: np.ndarray) -> None:
        if next(reads) == 15:
            (tmp_path / "pipe").read_bytes()
        read_images(file, out)

    def command(run: str) -> list[str]:
        names = ["--synthetic", str(sets[0]), "--real", str(sets[1]), "--out", str(tmp_path / run)]
        settings = [f"--{name.replace('_', '-')}={value}" for name, value in SHORT.items()]
        return ["train", *names, *settings, "--feed", "stream"]

    log = tmp_path / "log"
    with monkeypatch.context() as patch:
        patch.setattr(packed, "_read_images", read_or_hang)
        assert ended_with([*command("run"), "--timeout", TIMEOUT], log) == 2
    said = log.read_text()
    assert "nothing came of" in said and ".arrow or the shards read with it for 0.5" in said
    assert f"--resume {tmp_path / 'run'} goes on from the newest" in said
    assert 0 < latest_update(tmp_path / "run" / "checkpoints") < 16
    assert ended_with(["train", "--resume", str(tmp_path / "run")], log) == 0
    assert ended_with(command("alone"), log) == 0
    one, other = (
        latest_checkpoint(tmp_path / run / "checkpoints").read_bytes() for run in ("run", "alone")
    )
    assert one == other


@pytest.mark.parametrize("text", ["-1", "nan", "inf", "soon"])
def test_times_that_are_none(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["prepare", "folder", "images", "out", f"--timeout={text}"])
    assert f"'{text}' is no time: write seconds, 0 or more" in capsys.readouterr().err


def test_a_program_that_was_stopped_itself_has_not_stalled(tmp_path: Path) -> None:
    child = os.fork()
    if not child:
        with ended_when_stalled(0.5, ""), reading("a slow disk"):
            for _ in range(4):
                time.sleep(0.2)
                moved()
        os._exit(0)
    time.sleep(0.1)
    os.kill(child, signal.SIGSTOP)
    time.sleep(1)
    os.kill(child, signal.SIGCONT)
    assert os.waitpid(child, 0)[1] == 0
