"""Coverage-guided random input (atheris) for what reads bytes from outside within our own process.

    python tests/fuzz_guided.py --runs 100000 [target ...]

`make fuzz-guided`. Needs the extra `fuzz`. Each target has a process of its own, at most --runs cases and --seconds,
2 GiB, and 10 seconds a case; at the end it says how many cases ran of each. Libraries that damage can crash are called
in processes of their own and are the business of fuzz/readers.py.
"""

from __future__ import annotations

import argparse
import json
import mmap
import os
import re
import struct
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from types import FunctionType

import atheris
import numpy as np
from image_folders import smooth
from PIL import Image
from turing_sets import joined, write_sets

from simgan_fast.config import load_config
from simgan_fast.data.checks import checked_name
from simgan_fast.data.decode import header_of
from simgan_fast.data.image_files import Rejected, inspect_file
from simgan_fast.data.labels_csv import read_labels
from simgan_fast.data.labels_json import read_labels_json
from simgan_fast.data.readers.arrays import ArrayReader
from simgan_fast.data.readers.unityeyes import _Annotations as UnityEyes
from simgan_fast.data.readers.unityeyes2 import _Annotations as UnityEyes2
from simgan_fast.data.readers.webdataset import WebDatasetReader
from simgan_fast.errors import InputError
from simgan_fast.evaluation.turing.app import create_app
from simgan_fast.evaluation.turing.study import begin_study
from simgan_fast.models.hub import hub_name

Read = Callable[[bytes], object]
Make = Callable[[Path], tuple[Read, list[bytes]]]  # of an empty folder: what reads, and examples
INSTRUMENTED = re.compile(
    r"simgan_fast\.(config|data|models\.hub|evaluation\.turing)\b|tarfile$|tomllib|json\.decoder$"
)
MEMORY_MB, SECONDS_OF_A_CASE = 2048, 10
NAMES = ["0.png", "1.jpg"]


def by_file(file: Path, read: Callable[[Path], object]) -> Read:
    def read_bytes(data: bytes) -> object:
        file.write_bytes(data)
        return read(file)

    return read_bytes


def labels_csv(folder: Path) -> tuple[Read, list[bytes]]:
    read = by_file(folder / "labels.csv", lambda file: read_labels(file, NAMES))
    return read, [b"name,gaze.0,gaze.1\n0.png,1,2\n1.jpg,3,4e-3\n"]


def labels_json(folder: Path) -> tuple[Read, list[bytes]]:
    read = by_file(folder / "labels.json", lambda file: read_labels_json(file, NAMES))
    return read, [json.dumps({name: {"gaze": [0.1, -2]} for name in NAMES}).encode()]


def run_settings(folder: Path) -> tuple[Read, list[bytes]]:
    return by_file(folder / "config.toml", load_config), [
        b'format = 1\n[data]\nreal = "a"\n[training]\nwidth = 8\nseed = 3\n'
    ]


def unityeyes(folder: Path) -> tuple[Read, list[bytes]]:
    lids = [f"({i}.5, {i * i % 7}.0, 3.0)" for i in range(16)]
    whole = {
        "eye_details": {"look_vec": "(0.1, -0.2, -0.9, 0.0)"},
        "interior_margin_2d": lids,
        "iris_2d": lids,
        "caruncle_2d": lids[:7],
        "head_pose": "(1.0, 2.0, 0.0)",
    }
    reader = UnityEyes("eye-width")
    read = by_file(folder / "1.json", lambda file: reader.labels_and_box(file, (60, 80)))
    return read, [json.dumps(whole).encode()]


def unityeyes2(folder: Path) -> tuple[Read, list[bytes]]:
    truth = {"iris_center": "(0.1, 0.2, 0.3)", "eye_center": "(0.0, 0.0, 1.0)"}
    reader = UnityEyes2("none", False)
    read = by_file(folder / "1.json", lambda file: reader.labels_and_box((file, ""), (60, 80)))
    return read, [
        json.dumps({"ground_truth": truth}).encode(),
        b'{"ground_truth": {"gaze_vec": "(0, 0, 1)"}}',
    ]


def webdataset(folder: Path) -> tuple[Read, list[bytes]]:
    def read(file: Path) -> None:
        for sample in WebDatasetReader(file):
            assert sample.name

    stream = BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for name, data in (("0.png", b"png"), ("0.json", b'{"gaze": [0, 1]}'), ("0.cls", b"3")):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, BytesIO(data))
    return by_file(folder / "0.tar", read), [stream.getvalue()[:4096]]


def numpy_files(folder: Path) -> tuple[Read, list[bytes]]:
    stream = BytesIO()
    np.save(stream, np.zeros((2, 3, 4), np.uint8))

    def read(file: Path) -> None:
        for sample in ArrayReader(file):
            assert sample.name
            break

    return by_file(folder / "x.npy", read), [stream.getvalue()]


def image_headers(folder: Path) -> tuple[Read, list[bytes]]:
    examples = []
    for kind in ("PNG", "JPEG"):
        stream = BytesIO()
        Image.fromarray(smooth(6, 8, 3)).save(stream, kind)
        examples.append(stream.getvalue())

    def read(data: bytes) -> None:
        info = header_of(data)
        assert info.height > 0 and info.width > 0 and info.channels in (1, 3)
        inspect_file(data)

    return read, examples


def names(folder: Path) -> tuple[Read, list[bytes]]:
    def read(data: bytes) -> None:
        name = checked_name(data.decode("utf-8", "surrogateescape"))
        inside = Path(os.path.normpath(folder / name))
        assert inside.is_relative_to(folder) and "\0" not in name and "\\" not in name

    return read, [b"left/0001.png", b"../a", b"/etc/passwd", b"a/./b", b"a\\b", "ü.png".encode()]


def hub_names(folder: Path) -> tuple[Read, list[bytes]]:
    def read(data: bytes) -> None:
        name = hub_name("hf://" + data.decode("utf-8", "replace"))
        assert name is not None and name.count("/") == 1 and ".." not in name

    return read, [b"organisation/model", b"a/../b", b"a/b\n"]


def turing(folder: Path) -> tuple[Read, list[bytes]]:
    sets = write_sets(folder)
    study = begin_study(folder / "study", sets["real"], sets["refined"])
    client = create_app(study).test_client()
    code = joined(study)

    def read(data: bytes) -> None:
        text = data[1:].decode("utf-8", "replace")
        first, _, second = text.partition("\n")
        which = data[0] % 6 if data else 0
        if which == 0:
            answer = client.post("/start", data={"code": first})
        elif which == 1:
            answer = client.post(f"/p/{code}/answer", data={"image": first, "said": second})
        else:
            paths = {2: "/p/", 3: "/image/", 4: "/results?token=", 5: "/results.csv?token="}
            answer = client.get(paths[which] + first.replace("#", ""))
        assert answer.status_code < 500, answer.status_code
        if which >= 4:
            assert answer.status_code != 200  # nobody guesses the token

    return read, [b"\0abc", b"\1" + b"0" * 16 + b"\nreal", b"\2x", b"\3x.png", b"\4x", b"\5x"]


TARGETS: dict[str, Make] = {
    "labels-csv": labels_csv,
    "labels-json": labels_json,
    "run-settings": run_settings,
    "unityeyes": unityeyes,
    "unityeyes2": unityeyes2,
    "webdataset": webdataset,
    "numpy": numpy_files,
    "image-headers": image_headers,
    "names": names,
    "hub-names": hub_names,
    "turing": turing,
}


def instrument() -> int:
    """Have libFuzzer see the branches of the modules INSTRUMENTED; gives of how many functions.

    By function, as atheris.instrument_imports has no effect on an editable install (atheris 3.0.0).
    """
    functions = set()
    for name, module in list(sys.modules.items()):
        if INSTRUMENTED.match(name):
            for owner in (module, *(x for x in vars(module).values() if isinstance(x, type))):
                for function in vars(owner).values():
                    if isinstance(function, FunctionType) and function.__module__ == name:
                        functions.add(function)
    for function in functions:
        atheris.instrument_func(function)
    return len(functions)


def run(name: str, runs: int, seconds: int, failures: Path) -> tuple[int, bool]:
    """How many cases of a target ran, and whether all were well. libFuzzer ends its process itself, so it has one."""
    counter = mmap.mmap(-1, 8)  # shared with the child
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as top:
        child = os.fork()
        if child == 0:
            _fuzz(name, runs, seconds, Path(top), failures, counter)
        _, status = os.waitpid(child, 0)
    return struct.unpack("q", counter[:8])[0], status == 0


def _fuzz(
    name: str, runs: int, seconds: int, top: Path, failures: Path, counter: mmap.mmap
) -> None:
    (top / "own").mkdir()
    (top / "corpus").mkdir()
    read, examples = TARGETS[name](top / "own")
    for i, example in enumerate(examples):
        (top / "corpus" / str(i)).write_bytes(example)

    def case(data: bytes) -> None:
        counter[:8] = struct.pack("q", struct.unpack("q", counter[:8])[0] + 1)
        with suppress(InputError, Rejected):
            read(data)

    bounds = [f"-runs={runs}", f"-max_total_time={seconds}", f"-timeout={SECONDS_OF_A_CASE}"]
    place = [f"-artifact_prefix={failures}/{name}-", str(top / "corpus")]
    limits = [f"-rss_limit_mb={MEMORY_MB}", "-max_len=4096", "-verbosity=0", "-seed=1"]
    atheris.Setup([sys.argv[0], *bounds, *limits, *place], case)
    atheris.Fuzz()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("targets", nargs="*", help=f"of {', '.join(TARGETS)} (default: all)")
    parser.add_argument("--runs", type=int, default=10**9, help="cases of each target, at most")
    parser.add_argument("--seconds", type=int, default=10, help="for each target, at most")
    parser.add_argument("--failures", type=Path, default=Path("build/fuzz"), help="their input")
    options = parser.parse_args()
    options.failures.mkdir(parents=True, exist_ok=True)
    print(f"{instrument():,} functions instrumented")
    total, failed = 0, []
    for name in options.targets or TARGETS:
        begin = time.monotonic()
        count, well = run(name, options.runs, options.seconds, options.failures)
        total += count
        failed += [] if well else [name]
        seconds = time.monotonic() - begin
        print(f"{count:>11,}  {name}{'' if well else ': FAILED'} ({seconds:.0f} s)", flush=True)
    print(f"{total:>11,}  cases; failed: {', '.join(failed) or 'none'}")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
