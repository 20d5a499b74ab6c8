"""Damaged data sets of every format that `prepare` takes: a set, or one sentence, whatever the bytes."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from random import Random

import numpy as np
import pytest
from fuzz.driver import Case, Make, checked_sentence
from fuzz.mutations import damaged
from image_folders import save, smooth
from table_files import table, write
from test_reader_eye_gaze_h5 import NAMES, gaze_h5, look_vec
from test_reader_hf import saved
from test_reader_nyu_hands import nyu
from test_reader_syntheseyes import syntheseyes
from test_reader_unityeyes2 import renders
from test_reader_webdataset import encoded, tar
from test_readers import mpiigaze, unityeyes

from simgan_fast import prepare
from simgan_fast.data.export import open_writer
from simgan_fast.errors import InputError


def images(folder: Path) -> Path:
    for i in range(3):
        save(folder / f"{i}.{('png', 'jpg', 'png')[i]}", smooth(12, 16, seed=i))
    (folder / "labels.csv").write_text("name,gaze.0,gaze.1\n0.png,1,2\n1.jpg,3,4\n2.png,5,6\n")
    return folder


def npz(folder: Path) -> Path:
    folder.mkdir()
    np.savez_compressed(
        folder / "x.npz", images=np.zeros((4, 6, 8), np.uint8), gaze=np.ones((4, 3))
    )
    return folder / "x.npz"


def h5(folder: Path) -> Path:
    folder.mkdir()
    h5py = pytest.importorskip("h5py")
    with h5py.File(folder / "MPIIGaze.h5", "w") as file:
        file["p00/image"] = np.zeros((3, 36, 60), np.uint8)
        file["p00/gaze"] = np.zeros((3, 2), np.float32)
    return folder / "MPIIGaze.h5"


def kaggle(folder: Path) -> Path:
    folder.mkdir()
    return gaze_h5(folder / "gaze.h5", look_vec=look_vec(), path=[f"{name}.jpg" for name in NAMES])


def shards(folder: Path) -> Path:
    members = {f"{i}.png": encoded(i) for i in range(3)}
    labels = {f"{i}.json": {"gaze": [0, 0, -1]} for i in range(3)}
    return tar(folder / "0.tar", members | labels).parent


def hdf5(folder: Path) -> Path:
    folder.mkdir()
    pytest.importorskip("h5py")
    with open_writer(folder / "x.h5", "hdf5", shape=(1, 6, 8), labels={"gaze": 3}) as writer:
        names = [f"{i}.png" for i in range(4)]
        writer.add(np.zeros((4, 1, 6, 8), np.uint8), names, {"gaze": np.ones((4, 3), np.float32)})
    return folder / "x.h5"


def hands(folder: Path) -> Path:
    folder.mkdir()
    nyu(folder)
    return folder


def depth(folder: Path) -> Path:
    pixels = np.zeros((12, 16), np.uint16)
    pixels[3:9, 4:11] = 700 + np.arange(42, dtype=np.uint16).reshape(6, 7)
    for i in range(3):
        save(folder / f"{i}.png", pixels + i * (pixels > 0).astype(np.uint16))
    return folder


SOURCES: dict[str, Callable[[Path], Path]] = {
    "folder": images,
    "npz": npz,
    "hdf5": hdf5,
    "webdataset": shards,
    "parquet": lambda folder: write(folder / "x.parquet", table()).parent,
    "hf": saved,
    "unityeyes": unityeyes,
    "unityeyes2": renders,
    "syntheseyes": lambda folder: syntheseyes(
        folder, [f"f01/f01_{i}_0.1_-0.2.png" for i in range(3)]
    ),
    "mpiigaze": lambda folder: mpiigaze(folder, {"day01": 2, "day02": 1})[0],
    "mpiigaze-h5": h5,
    "eye-gaze-h5": kaggle,
    "nyu-hands": hands,
    "depth": depth,
}


def spoil(folder: Path, random: Random) -> None:
    """Change, remove or replace one of the files below `folder`."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    if not files:
        return
    file = random.choice(files)
    how = random.random()
    if how < 0.2:
        file.unlink()
        if how < 0.1:
            file.mkdir()
        return
    file.write_bytes(damaged(file.read_bytes(), random))


def make(name: str, folder: Path) -> Case:
    """Cases of the format `name`."""
    (folder / "whole").mkdir()
    whole = SOURCES[name](folder / "whole" / "source")
    prepare(name, whole, folder / "first", size=(6, 8), channels=1)

    def case(random: Random) -> None:
        last, out = folder / "last", folder / "packed"
        for old in (last, out, folder / ".packed.part"):
            shutil.rmtree(old, ignore_errors=True)
        shutil.copytree(whole.parent, last)
        for _ in range(random.randint(1, 4)):
            spoil(last, random)
        try:
            found = prepare(name, last / whole.name, out, size=(6, 8), channels=1)
        except InputError as error:
            checked_sentence(error)
            return
        assert len(found) > 0
        assert all(np.isfinite(values).all() for values in found.labels.values())
        assert all(reason for _, reason in found.rejects)

    return case


TARGETS: dict[str, Make] = {f"prepare-{name}": partial(make, name) for name in SOURCES}
