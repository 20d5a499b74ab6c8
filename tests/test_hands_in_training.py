"""What `train` refuses of depth images of hands, before anything is written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from cases import TINY_RUN
from hand_sets import MemorySet, packed, toy_hands

from simgan_fast import depth, preset, train
from simgan_fast.errors import InputError

CONFIG = preset("demo-hands", **TINY_RUN | {"steps": 1})


def in_values(folder: Path, values: str, seed: int) -> Path:
    toys = toy_hands(16, seed, 32)
    millimetres = depth.decode_paper(toys.images.numpy())
    images = np.stack([depth.encoded(image, values, 760.0) for image in millimetres])
    return packed(folder, MemorySet(torch.from_numpy(images), toys.labels))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (("paper", "metric"), "encoding paper and the real ones in metric: .* same --values"),
        (("millimetres", "paper"), "synthetic images are plain millimetres"),
        (("metric", "millimetres"), "real images are plain millimetres"),
    ],
)
def test_two_encodings_and_millimetres(
    tmp_path: Path, values: tuple[str, str], message: str
) -> None:
    sets = [in_values(tmp_path / str(n), each, n) for n, each in enumerate(values)]
    with pytest.raises(InputError, match=message):
        train(*sets, tmp_path / "run", CONFIG)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("values", ["paper", "metric"])
def test_one_encoding_is_trained_on(tmp_path: Path, values: str) -> None:
    sets = [in_values(tmp_path / str(n), values, n) for n in range(2)]
    train(*sets, tmp_path / "run", CONFIG)
    assert (tmp_path / "run" / "refiner").is_dir()
    assert depth.encoding_of(np.full((2, 2), 40_000, np.uint16)) is None
