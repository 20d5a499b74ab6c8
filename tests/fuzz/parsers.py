"""Damaged files of our own formats, and label files: read by the one function that reads them, many a second.

Beyond blind changes of bytes, values of JSON are exchanged for others, and digests and lengths mended: what is behind a
checksum is looked at too.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from random import Random

import numpy as np
import torch
from fuzz.driver import Case, Make, checked_sentence
from fuzz.mutations import damaged

from simgan_fast import Refiner
from simgan_fast.config import TrainingConfig, load_config, save_config
from simgan_fast.data.feed import ResidentFeed
from simgan_fast.data.labels_csv import read_labels
from simgan_fast.data.labels_json import read_labels_json
from simgan_fast.data.packed import open_packed
from simgan_fast.data.packed_format import REJECTS_FILE, SET_FILE, set_digest
from simgan_fast.data.packed_writer import PackedWriter
from simgan_fast.errors import InputError
from simgan_fast.training.algorithm import SimGAN
from simgan_fast.training.state import load_checkpoint, save_checkpoint

Change = Callable[[bytes, Random], bytes]
OTHER_VALUES = [
    *(None, True, -1, 0, 1, 2, 1.5, 10**9, 10**30, "", "a", "../a", [], [1], {}, {"a": 1}, [[]]),
    *(float("nan"), float("inf"), -(2**63), 2**63, "\ud800", "uint16", "float32", [0] * 4),
]


def several(data: bytes, random: Random) -> bytes:
    for _ in range(random.randint(1, 4)):
        data = damaged(data, random)
    return data


def other_values(content: object, random: Random) -> object:
    """`content` of a JSON file with one value, at any depth, exchanged, renamed, doubled or left out."""
    if not isinstance(content, (dict, list)) or not content or random.random() < 0.1:
        return random.choice(OTHER_VALUES)
    key = random.choice(list(content) if isinstance(content, dict) else range(len(content)))
    changed = content.copy()
    how = random.random()
    if how < 0.1:
        del changed[key]  # type: ignore[arg-type]
    elif how < 0.15 and isinstance(changed, dict):
        changed[random.choice(("", "a", "..", "x" * 999))] = changed.pop(key)
    elif how < 0.2 and isinstance(changed, list):
        changed.append(changed[key])  # type: ignore[call-overload]
    else:
        changed[key] = other_values(changed[key], random)  # type: ignore[call-overload,index]
    return changed


def json_or_bytes(data: bytes, random: Random) -> bytes:
    if random.random() < 0.5:
        return several(data, random)
    return json.dumps(other_values(json.loads(data), random)).encode()


def reading(file: Path, change: Change, read: Callable[[], object]) -> Case:
    """A case changes `file`, and `read` gives something or raises InputError."""
    whole = file.read_bytes()

    def case(random: Random) -> None:
        file.write_bytes(change(whole, random))
        try:
            read()
        except InputError as error:
            checked_sentence(error)

    return case


def labels_csv(folder: Path) -> Case:
    file, names = folder / "labels.csv", ["0.png", "1.jpg"]
    file.write_text('name,gaze.0,gaze.1,pitch\n0.png,1,2,-0.5\n"1.jpg",3,4e-3,7\n')

    def read() -> None:
        for values in read_labels(file, names).values():
            assert values.dtype == np.float32 and len(values) == 2 and np.isfinite(values).all()

    return reading(file, several, read)


def labels_json(folder: Path) -> Case:
    file, names = folder / "labels.json", ["0.png", "1.jpg"]
    labels = {"gaze": [0.1, -0.2], "pitch": 3}
    file.write_text(json.dumps([{"name": name, **labels} for name in names]))

    def read() -> None:
        for values in read_labels_json(file, names).values():
            assert values.dtype == np.float32 and len(values) == 2 and np.isfinite(values).all()

    return reading(file, json_or_bytes, read)


def run_settings(folder: Path) -> Case:
    file = folder / "config.toml"
    save_config(file, TrainingConfig(), {"synthetic": "a", "real": "b"})
    return reading(file, several, lambda: load_config(file))


def _packed(folder: Path) -> Path:
    path = folder / "packed"
    with PackedWriter(path, (1, 3, 4), {"gaze": 2}, shard_size=3) as writer:
        names = [f"{i}.png" for i in range(5)]
        images = np.arange(60, dtype=np.uint8).reshape(5, 1, 3, 4)
        writer.add(images, names, {"gaze": np.ones((5, 2), np.float32)})
    return path


def _read_packed(path: Path) -> None:
    found = open_packed(path)
    assert len(found.names) == len(found.sources) == len(found) == len(found.images())
    assert all(len(values) == len(found) for values in found.labels.values())
    assert found.load().shape == (len(found), *found.shape)
    assert all(len(row) == 2 for row in found.rejects)


def _set_json(data: bytes, random: Random) -> bytes:
    if random.random() < 0.3:
        return several(data, random)
    content = other_values(json.loads(data), random)
    with suppress(KeyError, TypeError, AttributeError, ValueError):
        content["digest"] = set_digest(content["shards"])  # type: ignore[call-overload,index]
    return json.dumps(content).encode()


def packed_description(folder: Path) -> Case:
    path = _packed(folder)
    return reading(path / SET_FILE, _set_json, lambda: _read_packed(path))


def packed_shard(folder: Path) -> Case:
    path = _packed(folder)
    return reading(next(path.glob("*.arrow")), several, lambda: _read_packed(path))


def packed_rejects(folder: Path) -> Case:
    path = _packed(folder)
    (path / REJECTS_FILE).write_text('file,reason\na.png,"cut, off"\n')
    return reading(path / REJECTS_FILE, several, lambda: _read_packed(path))


def _header(data: bytes, random: Random) -> bytes:
    """A safetensors file whose header holds other values and still has the length that it says."""
    if random.random() < 0.3:
        return several(data, random)
    (size,) = struct.unpack("<Q", data[:8])
    header, rest = json.loads(data[8 : 8 + size]), data[8 + size :]
    own = header.get("__metadata__", {}).get("simgan_fast")
    if own is not None and random.random() < 0.7:
        numbers = json.loads(own)
        if random.random() < 0.5:
            rest = rest[:-4] + random.randbytes(4)
            numbers["sha256"] = ""  # as older versions have it: no digest
        header["__metadata__"]["simgan_fast"] = json.dumps(other_values(numbers, random))
    else:
        header = other_values(header, random)
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + rest


def checkpoint(folder: Path) -> Case:
    images = torch.zeros(4, 1, 6, 8, dtype=torch.uint8)
    feeds = [ResidentFeed(images, 2, seed=0, stream=stream) for stream in (3, 4)]
    config = TrainingConfig(width=8, blocks=1, batch_size=4, history=4)
    simgan = SimGAN(config, (1, 6, 8), feeds[0], feeds[1])
    file = save_checkpoint(folder, simgan, {"training": 3})
    return reading(file, _header, lambda: load_checkpoint(file, simgan))


def _saved_refiner(folder: Path) -> Path:
    Refiner(width=2, blocks=1).save_pretrained(folder / "refiner")
    return folder / "refiner"


def refiner_config(folder: Path) -> Case:
    path = _saved_refiner(folder)
    return reading(path / "config.json", json_or_bytes, lambda: Refiner.from_pretrained(path))


def refiner_weights(folder: Path) -> Case:
    path = _saved_refiner(folder)
    return reading(path / "model.safetensors", _header, lambda: Refiner.from_pretrained(path))


TARGETS: dict[str, Make] = {
    "labels-csv": labels_csv,
    "labels-json": labels_json,
    "run-settings": run_settings,
    "packed-description": packed_description,
    "packed-shard": packed_shard,
    "packed-rejects": packed_rejects,
    "checkpoint": checkpoint,
    "refiner-config": refiner_config,
    "refiner-weights": refiner_weights,
}
