"""Commands on disks that are too small or cannot be written. Runs in a mount namespace of its own: test_faults.py.

    unshare --map-root-user --mount python full_disks.py INPUTS DISK

Prints one line for each command: its name, on how many disks it said that there is no space, and `ok`.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from cases import TINY_RUN
from faults import noise_set
from killing import ended_with

from simgan_fast.data import packed_writer
from simgan_fast.models.refiner import Refiner

SMALLEST, LARGEST = 8 << 10, 64 << 20  # bytes of a disk
GROWTH = 1.5


def commands(inputs: Path, disk: Path) -> dict[str, tuple[list[str], Path]]:
    """Name -> what is run, and what it makes."""
    raw, refiner = str(noise_set(inputs / "raw", 1)), inputs / "refiner"
    Refiner(in_channels=1, width=4, blocks=1).save_pretrained(refiner)
    settings = TINY_RUN | {"steps": 4, "sample_every": 2, "checkpoint_every": 2}
    training = [f"--{name.replace('_', '-')}={value}" for name, value in settings.items()]
    out = disk / "out"
    made = {
        "simulate": ["simulate", "eyes", str(out), "--count", "40"],
        "prepare": ["prepare", "folder", str(inputs / "images"), str(out), "--processes", "1"],
        "train": ["train", "--synthetic", raw, "--real", raw, "--out", str(out), *training],
        "show": ["show", raw, "--out", str(disk / "out.png")],
    }
    for format in ("png", "arrow", "webdataset", "parquet"):
        made[f"refine {format}"] = ["refine", str(refiner), raw, str(out), "--format", format]
    hdf5 = str(disk / "out.h5")
    made["export hdf5"] = ["export", raw, hdf5, "--format", "hdf5"]
    return {
        name: (argv, next(Path(each) for each in argv if each.startswith(str(out))))
        for name, argv in made.items()
    }


def main(inputs: Path, disk: Path) -> None:
    packed_writer.SHARD_BYTES = 10 * 12 * 16
    log = inputs / "log.txt"
    for name, (argv, out) in commands(inputs, disk).items():
        size, refused, code = SMALLEST, 0, 2
        while code != 0:
            assert size < LARGEST, f"{name}: {log.read_text()}"
            mount(disk, f"size={size}")
            code = ended_with(argv, log)
            if code:
                require_clean_refusal(name, code, log, out)
                refused += 1
            subprocess.run(["umount", str(disk)], check=True)
            size = int(size * GROWTH)
        mount(disk, "ro")
        code = ended_with(argv, log)
        require_clean_refusal(name, code, log, out)
        subprocess.run(["umount", str(disk)], check=True)
        assert refused, f"{name} fits on every disk"
        print(f"{name}: {refused} ok", flush=True)


def mount(disk: Path, options: str) -> None:
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(disk)]
    subprocess.run(command, check=True)


def require_clean_refusal(name: str, code: int, log: Path, out: Path) -> None:
    """One sentence, and nothing half made: no result, or a run that can be gone on with."""
    said = log.read_text()
    assert code == 2 and "Traceback" not in said, f"{name} ended with {code}: {said}"
    reasons = ("No space left", "Read-only", "takes no files of yours")
    assert any(reason in said for reason in reasons), f"{name}: {said}"
    left = [path for path in out.parent.iterdir() if path.suffix == ".part"]
    if name == "train":
        assert not list(out.rglob(".*.part")), f"{name} left half a file: {said}"
    elif name != "prepare":  # which goes on where it was
        assert left == [], f"{name} left {left}: {said}"
    assert name == "train" or not out.exists(), f"{name} left half of {out}: {said}"


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
