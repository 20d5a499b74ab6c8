"""SIGKILL at random moments of prepare, train and refine: nothing lost, doubled or left half made. `make faults`.

FAULT_KILLS (100): how many of each. `make test` runs a few, from test_faults.py.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from cases import TINY_RUN
from image_folders import save, smooth
from killing import Facts, Job, survived
from safetensors.torch import load_file

from simgan_fast.data import packed_writer
from simgan_fast.data.packed import open_packed
from simgan_fast.data.packed_format import file_sha256
from simgan_fast.data.packed_writer import PART_FILE, PackedWriter
from simgan_fast.jobs.verify import verify
from simgan_fast.models.refiner import Refiner
from simgan_fast.training.logging import COLUMNS
from simgan_fast.training.state import latest_checkpoint

KILLS = int(os.environ.get("FAULT_KILLS", "100"))
TIMES = ("seconds", "images_per_second", "feed_seconds")  # columns that no two runs share


def prepare_job(tmp_path: Path) -> Job:
    """A folder of 600 images, some of them broken, in two processes and shards of 20."""
    source = tmp_path / "images"
    for i in range(600):
        file = save(source / f"{i:03d}.png", smooth(35, 55, seed=i))
        if i % 50 == 0:
            file.write_bytes(file.read_bytes()[:100])
    folder = tmp_path / "work"
    folder.mkdir()
    kept = [0]

    def check() -> None:
        part = folder / ".packed.part" / PART_FILE
        if (folder / "packed").exists():
            verify(folder / "packed")
        elif part.exists():
            notes = json.loads(part.read_text())
            noted = notes["shards"] + ([notes["unfinished"]] if notes["unfinished"] else [])
            count = sum(each["count"] for each in noted)
            assert count >= kept[0], "images that were saved were lost"
            assert all(file_sha256(part.parent / each["file"]) == each["sha256"] for each in noted)
            kept[0] = count

    def result() -> Facts:
        kept[0] = 0
        assert [path.name for path in folder.iterdir()] == ["packed"]
        packed = open_packed(folder / "packed")
        return [*sorted(path.name for path in packed.path.iterdir()), packed.info, packed.rejects]

    arguments = ["prepare", "folder", str(source), str(folder / "packed"), "--processes", "2"]
    return Job(folder, lambda: arguments, (folder / "packed").exists, check, result)


def train_job(tmp_path: Path) -> Job:
    """A run with a checkpoint, a log line and now and then a picture at each update."""
    sets = [str(noise_set(tmp_path / name, seed)) for seed, name in enumerate(("raw", "real"))]
    folder = tmp_path / "work"
    folder.mkdir()
    run = folder / "run"
    settings = TINY_RUN | {"steps": 60, "checkpoint_every": 1, "log_every": 1, "sample_every": 7}
    begin = ["train", "--synthetic", sets[0], "--real", sets[1], "--out", str(run)]
    for name, value in settings.items():
        begin += [f"--{name.replace('_', '-')}", str(value)]
    kept = [""]

    def arguments() -> list[str]:
        if not list((run / "checkpoints").glob("update-*.safetensors")):
            if run.exists():
                rename_away(run)  # it stopped before its first checkpoint: start anew, as it says
            return begin
        return ["train", "--resume", str(run)]

    def check() -> None:
        if list((run / "checkpoints").glob("update-*.safetensors")):
            newest = latest_checkpoint(run / "checkpoints")
            assert newest.name >= kept[0], "a checkpoint was lost"
            assert load_file(newest)
            kept[0] = newest.name
        else:
            assert kept[0] == "", "all checkpoints were lost"

    def result() -> Facts:
        kept[0] = ""
        for gone in folder.glob("stopped-*"):
            rename_away(gone)
        untimed = [i for i, name in enumerate(COLUMNS) if name not in TIMES]
        rows = [line.split(",") for line in (run / "metrics.csv").read_text().splitlines()]
        kept_files = [*run.glob("checkpoints/*"), *run.glob("refiner/*"), *run.glob("samples/*")]
        hidden = [str(path) for path in run.rglob(".*") if path.name != ".lock"]
        assert hidden == [], "half-written files were left"
        digests = sorted((str(path.relative_to(run)), file_sha256(path)) for path in kept_files)
        return [*([row[i] for i in untimed] for row in rows), *digests]

    return Job(folder, arguments, (run / "refiner" / "config.json").exists, check, result)


def refine_job(tmp_path: Path) -> Job:
    """300 images in small batches, into a folder of files that is there whole or not at all."""
    Refiner(in_channels=1, width=4, blocks=1).save_pretrained(tmp_path / "refiner")
    source = noise_set(tmp_path / "raw", 5, count=300)
    folder = tmp_path / "work"
    folder.mkdir()
    out = folder / "refined"

    def check() -> None:
        if out.exists():
            assert len(list(out.glob("*.png"))) == 300

    def result() -> Facts:
        assert [path.name for path in folder.iterdir()] == ["refined"]
        return sorted((path.name, file_sha256(path)) for path in out.iterdir())

    arguments = ["refine", str(tmp_path / "refiner"), str(source), str(out), "--batch-size", "4"]
    return Job(folder, lambda: arguments, out.exists, check, result)


def noise_set(path: Path, seed: int, count: int = 40) -> Path:
    images = np.random.default_rng(seed).integers(0, 256, (count, 1, 12, 16)).astype(np.uint8)
    with PackedWriter(path, (1, 12, 16)) as writer:
        writer.add(images, [f"{index}.png" for index in range(count)])
    return path


def rename_away(path: Path) -> None:
    """Out of the job's folder."""
    path.rename(path.parent.parent / f"stopped-{len(list(path.parent.parent.iterdir()))}")


@pytest.mark.timeout(3600)
def test_kills(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Closes with the line `N kills, N survived`."""
    monkeypatch.setattr(packed_writer, "SHARD_BYTES", 20 * 35 * 55)
    monkeypatch.setattr(packed_writer, "SAVE_EVERY", 0.0)
    monkeypatch.setattr("simgan_fast.data.ingest.CHUNK", 7)  # so that shards are half full at times
    total = 0
    for job in (prepare_job, train_job, refine_job):
        folder = tmp_path / job.__name__
        folder.mkdir()
        count = survived(job(folder), KILLS)
        print(f"{job.__name__.partition('_')[0]}: {count} kills survived", flush=True)
        total += count
    print(f"{3 * KILLS} kills, {total} survived")
