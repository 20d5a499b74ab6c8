"""gather_normalize and to_uint8: the exact values, and back."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from simgan_fast.errors import InputError
from simgan_fast.ops import gather_normalize, to_uint8, to_uint16


@pytest.mark.parametrize(("dtype", "levels"), [(torch.uint8, 256), (torch.uint16, 65536)])
def test_every_value(dtype: torch.dtype, levels: int) -> None:
    images = torch.arange(levels).to(dtype).view(-1, 1, 2, 4)
    indices = torch.randperm(len(images))
    half = np.float32((levels - 1) / 2)
    # The formula of the file format, in numpy: no torch rounding in the way.
    values = np.arange(levels, dtype=np.float32) / half - np.float32(1)
    expected = torch.from_numpy(values).view(-1, 1, 2, 4)[indices]
    floats = gather_normalize(images, indices)
    assert floats.dtype == torch.float32 and torch.equal(floats, expected)
    assert floats.min() == -1 and floats.max() == 1


def test_uint8_round_trip_is_exact() -> None:
    images = torch.arange(256).to(torch.uint8).view(1, 1, 16, 16)
    assert torch.equal(to_uint8(gather_normalize(images, torch.tensor([0]))), images)


def test_every_16_bit_value_survives() -> None:
    images = torch.arange(65536).to(torch.uint16).view(1, 1, 256, 256)
    back = to_uint16(gather_normalize(images, torch.tensor([0])))
    assert torch.equal(back.to(torch.int32), images.to(torch.int32))


def test_to_uint8_rounds_and_clamps() -> None:
    x = torch.tensor([-2.0, -1.0, -0.999, 0.0, 0.9979, 0.9985, 1.0, 7.0, float("inf")])
    assert to_uint8(x).tolist() == [0, 0, 0, 128, 255, 255, 255, 255, 255]
    assert to_uint8(x.bfloat16())[1] == 0


def test_repeated_and_no_indices() -> None:
    images = torch.arange(6).to(torch.uint8).view(3, 1, 1, 2)
    assert torch.equal(
        to_uint8(gather_normalize(images, torch.tensor([2, 2, 0])))[:, 0, 0, 0],
        torch.tensor([4, 4, 0]).to(torch.uint8),
    )
    assert gather_normalize(images, torch.empty(0).long()).shape == (0, 1, 1, 2)


def test_compiles_whole() -> None:
    torch.compiler.reset()
    run = torch.compile(gather_normalize, fullgraph=True, dynamic=True, backend="aot_eager")
    for dtype in (torch.uint8, torch.uint16):
        images = torch.arange(24).to(dtype).view(4, 1, 2, 3)
        indices = torch.tensor([3, 1, 1])
        assert torch.equal(run(images, indices), gather_normalize(images, indices))


def test_bad_input() -> None:
    images = torch.zeros(3, 1, 2, 2, dtype=torch.uint8)
    for message, arguments, options in (
        ("images is torch.float32", (images.float(), torch.tensor([0])), {}),
        (r"images is torch.uint8 \[1, 2, 2\]", (images[0], torch.tensor([0])), {}),
        ("indices is torch.int32", (images, torch.tensor([0]).int()), {}),
        (r"indices go from 0 to 3; they must lie in \[0, 3\)", (images, torch.tensor([0, 3])), {}),
        ("indices go from -1", (images, torch.tensor([-1, 2])), {}),
        ("no kernels for it", (images, torch.tensor([0])), {"impl": "native"}),
    ):
        with pytest.raises(InputError, match=message):
            gather_normalize(*arguments, **options)
    with pytest.raises(InputError, match=r"x is torch\.uint8"):
        to_uint8(images)
    with pytest.raises(InputError, match="NaN"):
        to_uint8(torch.tensor([0.0, float("nan")]))
