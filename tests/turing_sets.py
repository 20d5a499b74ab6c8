"""Sets and answers made up for the tests of the visual Turing test, and what they share."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from image_folders import smooth

from simgan_fast.data import PackedWriter
from simgan_fast.evaluation.turing.study import Study, new_code

HEIGHT, WIDTH, COUNT = 12, 20, 90


def write_set(
    folder: Path, kind: str, *, count: int = COUNT, dtype: str = "uint8", channels: int = 1
) -> Path:
    """A packed set of "real" images, which are noise, or of other ones, which are smooth and compress well."""
    rng = np.random.default_rng(0)
    shape = (count, channels, HEIGHT, WIDTH)
    if kind == "real":
        images = rng.integers(0, 256, shape)
    else:
        pictures = [smooth(HEIGHT, WIDTH, 3, seed) for seed in range(count)]
        images = np.stack(pictures).transpose(0, 3, 1, 2)[:, :channels]
    if dtype == "uint16":
        images = images.astype(np.uint16) * 100
    with PackedWriter(folder, shape[1:], {}, dtype) as writer:
        writer.add(images.astype(dtype), [f"{kind}-{i}.png" for i in range(count)], {})
    return folder


def write_sets(folder: Path, *kinds: str, **options: object) -> dict[str, Path]:
    return {
        kind: write_set(folder / kind, kind, **options) for kind in kinds or ("real", "refined")
    }


def joined(study: Study) -> str:
    code = new_code()
    study.join(code)
    return code


def judge(study: Study, code: str, count: int = 100, said: str = "real") -> None:
    """Have the first `count` images answered, in one transaction: a hundred would wait for the disk a hundred times."""
    with study.database.writing() as connection:
        connection.execute(
            "UPDATE images SET said = ?, answered = 'now' WHERE place <= ? AND participant = "
            "(SELECT number FROM participants WHERE code = ?)",
            (said, count, code),
        )


def answer_due(study: Study, code: str, said: str = "real") -> None:
    due = study.due(code)
    assert due is not None and due.image is not None
    assert study.answer(code, due.image, said)[0]


def chunks(file: bytes) -> list[str]:
    """The types of a PNG's chunks."""
    found, at = [], 8
    while at < len(file):
        found.append(file[at + 4 : at + 8].decode())
        at += 12 + int.from_bytes(file[at : at + 4], "big")
    return found
