"""Training runs in a folder: checkpoints, stops, resuming bit for bit, warnings, damaged run folders."""

from __future__ import annotations

import csv
import os
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from cases import TINY_RUN
from safetensors.torch import load_file

from simgan_fast import Refiner, preset, refine, refine_shared, resume, train
from simgan_fast.config import load_config, save_config
from simgan_fast.data.feed import ResidentFeed, StreamFeed
from simgan_fast.data.packed_writer import PackedWriter
from simgan_fast.errors import InputError, TrainingDiverged
from simgan_fast.training.diagnostics import Diagnostics

SETTINGS = TINY_RUN


def write_set(
    folder: Path,
    seed: int,
    count: int = 40,
    shape: tuple[int, int, int] = (1, 12, 16),
    shards: int = 1,
) -> Path:
    images = np.random.default_rng(seed).integers(0, 256, (count, *shape)).astype(np.uint8)
    with PackedWriter(folder, shape, shard_size=count // shards) as writer:
        writer.add(images, [f"{index}.png" for index in range(count)])
    return folder


@pytest.fixture
def sets(tmp_path: Path) -> tuple[Path, Path]:
    return write_set(tmp_path / "synthetic", 1), write_set(tmp_path / "real", 2)


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "simgan_fast", *map(str, arguments)]


def train_command(sets: tuple[Path, Path], out: Path, **changes: object) -> list[str]:
    settings = SETTINGS | changes
    options = [
        text
        for name, value in settings.items()
        for text in (f"--{name.replace('_', '-')}", str(value))
    ]
    return command("train", "--synthetic", sets[0], "--real", sets[1], "--out", out, *options)


def last_state(run: Path) -> dict[str, torch.Tensor]:
    return load_file(sorted((run / "checkpoints").iterdir())[-1])


def assert_same_run(first: Path, second: Path) -> None:
    one, two = last_state(first), last_state(second)
    assert one.keys() == two.keys()
    different = [name for name in one if not torch.equal(one[name], two[name])]
    assert not different, f"{different[:3]} differ"
    assert metrics(first) == metrics(second)


def metrics(run: Path) -> list[dict[str, str]]:
    with (run / "metrics.csv").open() as file:
        return [{k: v for k, v in row.items() if "second" not in k} for row in csv.DictReader(file)]


def kill_when(
    arguments: list[str], ready: Path, pattern: str, number: int
) -> subprocess.CompletedProcess[str]:
    """Run a command and send it signal `number` as soon as a file below `ready` matches `pattern`."""
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not list(ready.glob(pattern)) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    process.send_signal(number)
    out, error = process.communicate(timeout=60)
    return subprocess.CompletedProcess(arguments, process.returncode, out, error)


def test_a_run_leaves_what_people_look_for(sets: tuple[Path, Path], tmp_path: Path) -> None:
    run = tmp_path / "run"
    refiner = train(*sets, run, preset("eyes", **SETTINGS))
    assert len(metrics(run)) == 30, "6 + 4 pretraining updates and 20 steps, each logged"
    assert {path.name for path in run.iterdir()} == {
        "config.toml", "checkpoints", "refiner", "metrics.csv", "tensorboard", "samples", ".lock",
    }  # fmt: skip
    assert (
        list((run / "tensorboard").glob("events*"))
        and len(list((run / "samples").glob("*.png"))) == 2
    )
    assert len(list((run / "checkpoints").iterdir())) == 3, "older checkpoints are dropped"
    loaded = Refiner.from_pretrained(run)
    images = torch.rand(2, 1, 20, 31) * 2 - 1
    torch.testing.assert_close(loaded(images), refiner(images))  # not bitwise: one is channels-last


def test_same_seed_same_run_other_seed_other_run(sets: tuple[Path, Path], tmp_path: Path) -> None:
    for name, seed in (("one", 3), ("two", 3), ("three", 4)):
        train(*sets, tmp_path / name, preset("eyes", **{**SETTINGS, "steps": 5, "seed": seed}))
    assert_same_run(tmp_path / "one", tmp_path / "two")
    with pytest.raises(AssertionError):
        assert_same_run(tmp_path / "one", tmp_path / "three")


def test_the_feed_changes_nothing_but_the_order(sets: tuple[Path, Path], tmp_path: Path) -> None:
    """Sets of one window: the same run from memory and from the disk, to the bit."""
    config = preset("eyes", **{**SETTINGS, "steps": 5, "flip": "on"})
    for feed in ("resident", "stream"):
        train(*sets, tmp_path / feed, config, feed=feed)
    assert_same_run(tmp_path / "resident", tmp_path / "stream")
    train(*sets, tmp_path / "unflipped", preset("eyes", **{**SETTINGS, "steps": 5}))
    with pytest.raises(AssertionError):
        assert_same_run(tmp_path / "resident", tmp_path / "unflipped")


@pytest.mark.parametrize(("free", "feed"), [(10_000_000, "resident"), (20_000, "stream")])
def test_auto_takes_the_feed_that_fits_and_says_so(
    sets: tuple[Path, Path], tmp_path: Path, monkeypatch, capsys, free: int, feed: str
) -> None:
    monkeypatch.setattr("simgan_fast.jobs.train.free_memory", lambda: free)
    train(*sets, tmp_path / "run", preset("eyes", **{**SETTINGS, "steps": 1}))
    said = capsys.readouterr().err
    assert f"feed: {feed}, as the images take 0 MiB and" in said and "feed=" in said
    assert f'feed = "{feed}"' in (tmp_path / "run" / "config.toml").read_text()


def test_a_streamed_run_resumes_to_the_bit(tmp_path: Path, monkeypatch) -> None:
    """From the first of three checkpoints, in the midst of sets of five windows each."""
    sets = (
        write_set(tmp_path / "synthetic", 1, shards=5),
        write_set(tmp_path / "real", 2, shards=5),
    )
    small = partial(StreamFeed, window_bytes=1)
    monkeypatch.setattr("simgan_fast.jobs.train.FEEDS", {"resident": ResidentFeed, "stream": small})
    whole, again = tmp_path / "whole", tmp_path / "again"
    train(*sets, whole, preset("eyes", **SETTINGS), feed="stream")
    shutil.copytree(whole, again)
    for newer in sorted((again / "checkpoints").iterdir())[1:]:
        newer.unlink()
    resume(again)
    assert_same_run(whole, again)
    train(*sets, tmp_path / "resident", preset("eyes", **SETTINGS), feed="resident")
    with pytest.raises(AssertionError):
        assert_same_run(whole, tmp_path / "resident")


def test_bad_feeds(sets: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="feed is 'dali': want one of auto, resident, stream"):
        train(*sets, tmp_path / "run", feed="dali")
    assert not (tmp_path / "run").exists()
    finished_run(sets, tmp_path / "run")
    config = tmp_path / "run" / "config.toml"
    config.write_text(config.read_text().replace('feed = "resident"', 'feed = "x"'))
    with pytest.raises(InputError, match="has the feed 'x'"):
        resume(tmp_path / "run")


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_defect_8_resume_after_sigkill_is_bit_equal(
    sets: tuple[Path, Path], tmp_path: Path, optimizer: str
) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    rates = (
        {"learning_rate": 1e-4, "discriminator_learning_rate": 1e-4} if optimizer == "sgd" else {}
    )
    changes = {"optimizer": optimizer, **rates}
    subprocess.run(train_command(sets, whole, **changes), check=True, capture_output=True)
    result = kill_when(
        train_command(sets, killed, **changes),
        killed / "checkpoints",
        "update-00000015*",
        signal.SIGKILL,
    )
    assert result.returncode == -signal.SIGKILL, (
        f"the run ended before it was killed: {result.stderr}"
    )
    assert not (killed / "refiner").exists()
    subprocess.run(command("train", "--resume", killed), check=True, capture_output=True)
    assert_same_run(whole, killed)
    assert (killed / "refiner" / "model.safetensors").read_bytes() == (
        whole / "refiner" / "model.safetensors"
    ).read_bytes()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_and_exits(
    sets: tuple[Path, Path], tmp_path: Path, number: int, code: int
) -> None:
    run = tmp_path / "run"
    arguments = train_command(sets, run, steps=100_000, checkpoint_every=100_000)
    # metrics.csv appears when the loop begins, so the signal comes where it must be handled.
    result = kill_when(arguments, run, "metrics.csv", number)
    assert result.returncode == code, result.stderr
    assert "--resume" in result.stderr and "Traceback" not in result.stderr
    assert list((run / "checkpoints").glob("update-*.safetensors"))


def test_resume_of_a_finished_run_changes_nothing(sets: tuple[Path, Path], tmp_path: Path) -> None:
    run = tmp_path / "run"
    train(*sets, run, preset("eyes", **{**SETTINGS, "steps": 3}))
    before, rows = last_state(run), metrics(run)
    resume(run)
    assert all(torch.equal(before[name], tensor) for name, tensor in last_state(run).items())
    assert metrics(run) == rows


def finished_run(sets: tuple[Path, Path], run: Path) -> Path:
    train(*sets, run, preset("eyes", **{**SETTINGS, "steps": 2}))
    return sorted((run / "checkpoints").iterdir())[-1]


def test_bfloat16_without_a_gpu_is_refused(sets: tuple[Path, Path], tmp_path: Path) -> None:
    """Before anything is written, by training and by refining."""
    with pytest.raises(InputError, match="name a GPU with --device cuda"):
        train(*sets, tmp_path / "run", preset("eyes", **SETTINGS, precision="bfloat16"))
    with pytest.raises(InputError, match="name a GPU with --device cuda"):
        refine(Refiner(1, 8, 1), sets[0], tmp_path / "refined", precision="bfloat16")
    with pytest.raises(InputError, match="name a GPU with --device cuda"):
        refine_shared(Refiner(1, 8, 1), sets[0], tmp_path / "refined", precision="bfloat16")
    assert {path.name for path in tmp_path.iterdir()} == {"synthetic", "real"}


def test_half_a_checkpoint_is_refused(sets: tuple[Path, Path], tmp_path: Path) -> None:
    checkpoint = finished_run(sets, tmp_path / "run")
    whole = checkpoint.read_bytes()
    for damaged in (whole[: len(whole) // 2], b"", b"\0" * len(whole)):
        checkpoint.write_bytes(damaged)
        with pytest.raises(InputError, match="not a whole checkpoint"):
            resume(tmp_path / "run")
    checkpoint.unlink()
    resume(tmp_path / "run")  # the one before is still there


def test_run_of_another_version_or_no_run_is_refused(
    sets: tuple[Path, Path], tmp_path: Path
) -> None:
    finished_run(sets, tmp_path / "run")
    config = tmp_path / "run" / "config.toml"
    config.write_text(config.read_text().replace("format = 1", "format = 99"))
    with pytest.raises(InputError, match="format 99"):
        resume(tmp_path / "run")
    config.write_text("format = [")
    with pytest.raises(InputError, match="damaged"):
        resume(tmp_path / "run")
    with pytest.raises(InputError, match="no run folder"):
        resume(tmp_path / "nothing")


def test_a_run_from_before_the_feature_transform_goes_on_with_pixels(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    save_config(path, preset("eyes"), {})
    assert load_config(path)[0].feature_transform == "derivatives"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(line for line in lines if "feature_transform" not in line))
    assert load_config(path)[0] == preset("eyes", feature_transform="identity")


def test_changed_images_are_refused(sets: tuple[Path, Path], tmp_path: Path) -> None:
    import shutil

    finished_run(sets, tmp_path / "run")
    shutil.rmtree(sets[1])
    write_set(sets[1], seed=9)
    with pytest.raises(InputError, match="have changed"):
        resume(tmp_path / "run")


def test_nan_in_saved_weights_is_refused(sets: tuple[Path, Path], tmp_path: Path) -> None:
    finished_run(sets, tmp_path / "run")
    refiner = Refiner.from_pretrained(tmp_path / "run")
    with torch.no_grad():
        refiner.first.weight[0, 0, 0, 0] = float("nan")
    refiner.save_pretrained(tmp_path / "broken")
    with pytest.raises(InputError, match=r"first\.weight holds NaN"):
        Refiner.from_pretrained(tmp_path / "broken")


def test_diverging_stops_and_keeps_the_last_good_checkpoint(
    sets: tuple[Path, Path], tmp_path: Path
) -> None:
    config = preset(
        "eyes", **{**SETTINGS, "optimizer": "sgd", "learning_rate": 1e30, "refiner_pretraining": 0}
    )
    with pytest.raises(TrainingDiverged, match="at update"):
        train(*sets, tmp_path / "run", config)
    for path in (tmp_path / "run" / "checkpoints").glob("*"):
        assert all(tensor.isfinite().all() for tensor in load_file(path).values())
    assert not (tmp_path / "run" / "refiner").exists()


def test_unlike_sets_leave_no_run_behind(sets: tuple[Path, Path], tmp_path: Path) -> None:
    other = write_set(tmp_path / "other", 3, shape=(1, 16, 12))
    with pytest.raises(InputError):
        train(sets[0], other, tmp_path / "run", preset("eyes", **SETTINGS))
    assert not (tmp_path / "run").exists()
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "mine.txt").write_text("keep")
    with pytest.raises(InputError, match="not empty"):
        train(*sets, tmp_path / "taken", preset("eyes", **SETTINGS))
    assert os.listdir(tmp_path / "taken") == ["mine.txt"]


HEALTHY = {
    "mean_abs_change": 0.1,
    "decision_spread": 0.2,
    "accuracy_real": 0.7,
    "accuracy_refined": 0.6,
    "diversity": 1.0,
}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"mean_abs_change": 0.001}, "identity"),
        ({"decision_spread": 0.001}, "constant"),
        ({"accuracy_real": 1.0, "accuracy_refined": 1.0}, "saturated"),
        ({"diversity": 0.01}, "collapsed"),
    ],
)
def test_diagnostics_warn_once_while_the_cause_lasts(change: dict[str, float], words: str) -> None:
    watch = Diagnostics()
    assert [text for _ in range(30) for text in watch.check(HEALTHY)] == []
    said = [text for _ in range(30) for text in watch.check(HEALTHY | change)]
    assert len(said) == 1 and words in said[0]
    for _ in range(30):
        assert watch.check(HEALTHY) == []
    assert any(words in text for _ in range(30) for text in watch.check(HEALTHY | change)), (
        "and again when it is back"
    )


def test_a_few_mistakes_do_not_hide_a_saturated_discriminator() -> None:
    watch = Diagnostics()
    rows = [HEALTHY | {"accuracy_real": 1.0, "accuracy_refined": share} for share in (1.0, 0.94)]
    said = [text for number in range(30) for text in watch.check(rows[number % 2])]
    assert len(said) == 1
    assert "saturated" in said[0]


def test_diagnostics_stop_on_nan() -> None:
    with pytest.raises(TrainingDiverged, match="loss_refiner is nan"):
        Diagnostics().check(HEALTHY | {"loss_refiner": float("nan")})
