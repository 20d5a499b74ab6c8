"""Clocks that are set, back or forward, by hours: nothing lost, nothing taken for stale, bars that go on."""

from __future__ import annotations

import csv
import io
import itertools
import os
import sys
import time
from pathlib import Path

import pytest
import tqdm.std
from cases import TINY_RUN
from faults import noise_set
from image_folders import save, smooth
from turing_sets import answer_due, joined, write_sets

from simgan_fast import Refiner, preset, resume, train
from simgan_fast.claims import Claims
from simgan_fast.data import packed_writer
from simgan_fast.data.packed import open_packed
from simgan_fast.data.packed_format import file_sha256
from simgan_fast.evaluation.turing import study as turing
from simgan_fast.jobs.prepare import prepare
from simgan_fast.jobs.refine_shared import refine_shared
from simgan_fast.progress import Progress
from simgan_fast.training.state import latest_checkpoint

HOUR = 3600.0


class Clock:
    """The wall clock as Python's functions give it, `offset` seconds off; `jumps` says where it goes at each look."""

    def __init__(self) -> None:
        self.offset, self.jumps = 0.0, itertools.repeat(0.0)
        self._now = time.time

    def time(self) -> float:
        self.offset += next(self.jumps)
        return self._now() + self.offset

    def time_ns(self) -> int:
        return int(self.time() * 1e9)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Of all that asks Python for the time, and of os.utime."""
    clock, utime = Clock(), os.utime
    monkeypatch.setattr(time, "time", clock.time)
    monkeypatch.setattr(time, "time_ns", clock.time_ns)
    monkeypatch.setattr(tqdm.std, "time", clock.time)  # imported by name
    monkeypatch.setattr(os, "utime", lambda file: utime(file, (clock.time(),) * 2))
    return clock


@pytest.fixture
def jumping(clock: Clock) -> Clock:
    """It is set at each look: two hours on, a day back, and to where it was."""
    clock.jumps = itertools.cycle([2 * HOUR, -26 * HOUR, 24 * HOUR])
    return clock


class Stop(Exception):
    """In place of a signal."""


@pytest.fixture
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """60 files; a shard takes 20."""
    monkeypatch.setattr(packed_writer, "SHARD_BYTES", 20 * 12 * 16)
    for i in range(60):
        save(tmp_path / "images" / f"{i:02d}.png", smooth(12, 16, seed=i))
    return tmp_path / "images"


def stop_prepare(images: Path) -> Path:
    """Gives the second of the shards that it leaves."""

    def stop(_: packed_writer.PackedWriter) -> None:
        raise Stop

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packed_writer.PackedWriter, "_finish", stop)
        with pytest.raises(Stop):
            prepare("folder", images, images.with_name("out"))
    return images.with_name(".out.part") / "shard-00001.arrow"


@pytest.mark.parametrize("offset", [-24 * HOUR, 24 * HOUR])
def test_a_stopped_prepare_goes_on_whatever_the_clock_says(
    offset: float, images: Path, clock: Clock
) -> None:
    clock.offset = offset
    kept = stop_prepare(images).stat().st_ino
    clock.offset = 0.0
    out = prepare("folder", images, images.with_name("out")).path
    assert (out / "shard-00001.arrow").stat().st_ino == kept


def test_a_clock_that_was_ahead_hides_no_change(images: Path, clock: Clock) -> None:
    clock.offset = 24 * HOUR
    stop_prepare(images)
    clock.offset = 0.0
    time.sleep(0.02)  # the clock of files is some milliseconds coarse
    save(images / "05.png", smooth(12, 16, seed=1))
    changed = prepare("folder", images, images.with_name("out"))
    anew = prepare("folder", images, images.with_name("anew"))
    assert changed.info["digest"] == anew.info["digest"]


def test_training(tmp_path: Path, clock: Clock) -> None:
    """As without: a run that is stopped and goes on, and the times in its log are times."""
    raw = noise_set(tmp_path / "raw", 1)
    config = preset("eyes", **TINY_RUN, select_by="none")
    train(raw, raw, tmp_path / "alone", config)
    clock.jumps = itertools.cycle([2 * HOUR, -26 * HOUR, 24 * HOUR])
    train(raw, raw, tmp_path / "run", config)
    newest = latest_checkpoint(tmp_path / "run" / "checkpoints")
    newest.unlink()
    resume(tmp_path / "run")
    assert file_sha256(newest) == file_sha256(tmp_path / "alone" / "checkpoints" / newest.name)
    with open(tmp_path / "run" / "metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["update"]) for row in rows] == list(range(1, 31))
    assert all(0 <= float(row["seconds"]) < HOUR / 2 for row in rows)
    events = {path.name.rpartition(".")[2] for path in (tmp_path / "run" / "tensorboard").iterdir()}
    assert events == {"0", "25"}


def test_a_claim_that_is_renewed_is_nobody_elses(tmp_path: Path, jumping: Clock) -> None:
    first, second = Claims(tmp_path, 0.2), Claims(tmp_path, 0.2)
    with first.held("shard") as ours:
        assert ours
        for _ in range(6):
            with second.held("shard") as theirs:
                assert not theirs
            time.sleep(0.1)


def test_refining_by_many(tmp_path: Path, jumping: Clock) -> None:
    refiner, raw = Refiner(width=4, blocks=1), noise_set(tmp_path / "raw", 1)
    for name in ("one", "other"):
        refine_shared(refiner, raw, tmp_path / name)
    one, other = (open_packed(tmp_path / name).info["digest"] for name in ("one", "other"))
    assert one == other and not list(tmp_path.glob(".*"))


def test_a_bar_goes_on_when_the_clock_is_set_back(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    with Progress(100, "image", "refine") as progress:
        clock.offset = -24 * HOUR
        for _ in range(4):
            time.sleep(0.12)  # a bar is drawn anew every 0.1 s
            progress.update(10)
        drawn = terminal.getvalue()
    assert "40/100" in drawn and "-1 day" not in drawn


def test_a_turing_test_counts_and_orders_by_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sets = write_sets(tmp_path)
    hours = itertools.cycle(["2026-01-02T12:00:00+00:00", "2026-01-01T09:00:00+00:00"])
    monkeypatch.setattr(turing, "_now", lambda: next(hours))
    study = turing.begin_study(tmp_path / "study", sets["real"], sets["refined"])
    people = [joined(study) for _ in range(3)]
    for code in people:
        for _ in range(4):
            answer_due(study, code)
    answers = [(answer.participant, answer.place) for answer in study.answers()]
    assert answers == [(number, place) for number in (1, 2, 3) for place in (1, 2, 3, 4)]
