"""Damaged data sets of every format: a set, or one sentence, whatever the bytes. `make fuzz`, a minute or two.

Not part of `make test`. FUZZ_EXAMPLES is how many for each format (default 200). The source that was read last is kept
in the folder that is printed first: where a library ends the whole program, it is the culprit.
"""

from __future__ import annotations

import os
import resource
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
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
from simgan_fast.data import PackedSet
from simgan_fast.data.export import open_writer
from simgan_fast.errors import InputError

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "200"))
MEMORY = 2 << 30  # bytes that reading may take, beyond what the process has before
LAST = Path(tempfile.gettempdir()) / "simgan_fast-fuzz"


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

Damage = tuple[str, float, float, bytes]
DAMAGES = st.lists(
    st.tuples(
        st.sampled_from(
            ["write", "insert", "cut", "delete", "zeros", "number", "remove", "folder"]
        ),
        st.floats(0, 1, exclude_max=True),  # which file
        st.floats(0, 1, exclude_max=True),  # where in it
        st.binary(min_size=1, max_size=16),
    ),
    min_size=1,
    max_size=4,
)


def spoil(folder: Path, damage: Damage) -> None:
    kind, which, where, content = damage
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    if not files:
        return
    file = files[int(which * len(files))]
    data = file.read_bytes()
    at = int(where * len(data))
    if kind in ("remove", "folder"):
        file.unlink()
        if kind == "folder":
            file.mkdir()
        return
    number = int.from_bytes(content[:1], "little")
    changed = {
        "write": lambda: data[:at] + content + data[at + len(content) :],
        "insert": lambda: data[:at] + content + data[at:],
        "cut": lambda: data[:at],
        "delete": lambda: data[:at] + data[at + len(content) :],
        "zeros": lambda: data[:at] + bytes(64) + data[at + 64 :],
        # A size or an offset, where there are such: 4 bytes, often huge or negative.
        "number": lambda: (
            data[:at] + (b"\xff\xff\xff\x7f", b"\xff" * 4)[number % 2] + data[at + 4 :]
        ),
    }
    file.write_bytes(changed[kind]())


@pytest.fixture(scope="module", autouse=True)
def bounded_memory() -> None:
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, resource.RLIM_INFINITY))
    print(f"\nthe source that was read last: {LAST}")


@pytest.mark.timeout(max(300, EXAMPLES))
@pytest.mark.parametrize("name", SOURCES)
@settings(max_examples=EXAMPLES, deadline=20_000, suppress_health_check=list(HealthCheck))
@given(damages=DAMAGES)
def test_damage_is_a_set_or_one_sentence(
    name: str, damages: list[Damage], tmp_path_factory: pytest.TempPathFactory
) -> None:
    whole = _whole(name, tmp_path_factory)
    shutil.rmtree(LAST, ignore_errors=True)
    shutil.copytree(whole.parent, LAST)
    source = LAST / whole.name
    for damage in damages:
        spoil(LAST, damage)
    with tempfile.TemporaryDirectory() as out:
        found = _prepared(name, source, Path(out) / "packed")
        if isinstance(found, str):
            assert len(found) < 2000 and "\n" not in found
        else:
            assert len(found) > 0
            assert all(np.isfinite(values).all() for values in found.labels.values())
            assert all(reason for _, reason in found.rejects)


def _prepared(name: str, source: Path, out: Path) -> PackedSet | str:
    try:
        return prepare(name, source, out, size=(6, 8), channels=1)
    except InputError as error:
        return str(error)


_made: dict[str, Path] = {}


def _whole(name: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    if name not in _made:
        _made[name] = SOURCES[name](tmp_path_factory.mktemp(name) / "source")
        prepare(
            name, _made[name], tmp_path_factory.mktemp(name) / "packed", size=(6, 8), channels=1
        )
    return _made[name]
