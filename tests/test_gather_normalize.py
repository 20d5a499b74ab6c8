"""gather_normalize and to_uint8: the exact values, and back."""

from __future__ import annotations

import sys
from collections.abc import Callable

import numpy as np
import pytest
import torch

from simgan_fast import _native
from simgan_fast.errors import InputError
from simgan_fast.ops import gather_normalize, to_uint8, to_uint16

gather_module = sys.modules["simgan_fast.ops.gather_normalize"]  # its function hides it
needs_native = pytest.mark.skipif(not _native.AVAILABLE, reason="no native part")
IMPLS = [pytest.param("native", marks=needs_native), "reference"]
SHAPES = [(5, 1, 35, 55), (3, 3, 2, 1), (4, 1, 1, 1), (2, 2, 3, 257), (1, 1, 64, 64)]


def images_of(shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    top = 256 if dtype is torch.uint8 else 65536
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randint(0, top, shape, generator=generator).to(dtype)


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize(("dtype", "levels"), [(torch.uint8, 256), (torch.uint16, 65536)])
def test_every_value(dtype: torch.dtype, levels: int, impl: str) -> None:
    images = torch.arange(levels).to(dtype).view(-1, 1, 2, 4)
    indices = torch.randperm(len(images))
    half = np.float32((levels - 1) / 2)
    # The formula of the file format, in numpy: no torch rounding in the way.
    values = np.arange(levels, dtype=np.float32) / half - np.float32(1)
    expected = torch.from_numpy(values).view(-1, 1, 2, 4)[indices]
    floats = gather_normalize(images, indices, impl=impl)
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


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16])
@pytest.mark.parametrize("shape", SHAPES)
def test_against_numpy(shape: tuple[int, ...], dtype: torch.dtype, impl: str) -> None:
    """Chosen, mirrored and scaled as numpy does it, to the bit."""
    images = images_of(shape, dtype)
    indices = torch.tensor([0, len(images) - 1, 0, 0, len(images) // 2])
    flips = torch.tensor([False, True, True, False, True])
    rows = images.numpy()[indices.numpy()]
    rows = np.where(flips.numpy().reshape(-1, 1, 1, 1), rows[..., ::-1], rows)
    half = np.float32(127.5 if dtype is torch.uint8 else 32767.5)
    expected = rows.astype(np.float32) / half - np.float32(1)
    found = gather_normalize(images, indices, flips, impl=impl)
    assert found.is_contiguous() and not found.requires_grad
    np.testing.assert_array_equal(found.numpy(), expected)


@needs_native
def test_nothing_is_written_beside_the_output(monkeypatch: pytest.MonkeyPatch) -> None:
    guarded = torch.full((16 + 3 * 35 * 55 + 16,), -7.0)
    inner = guarded[16:-16].view(3, 1, 35, 55)
    monkeypatch.setattr(gather_module, "_empty", lambda *_: inner)
    gather_normalize(images_of((9, 1, 35, 55), torch.uint8), torch.tensor([8, 0, 8]), impl="native")
    assert (guarded[:16] == -7).all() and (guarded[-16:] == -7).all()
    assert inner.abs().max() <= 1


@needs_native
def test_any_number_of_threads_gives_the_same_bits() -> None:
    images, indices = images_of((600, 1, 35, 55), torch.uint8), torch.arange(599, -1, -1)
    flips = indices % 3 == 0
    threads, results = torch.get_num_threads(), []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            results.append(gather_normalize(images, indices, flips, impl="native"))
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(result, results[0]) for result in results)
    assert torch.equal(results[0], gather_normalize(images, indices, flips, impl="reference"))


EVERY_LEVEL = """
import torch
from simgan_fast.ops import gather_normalize
for dtype, levels in ((torch.uint8, 256), (torch.uint16, 65536)):
    images, indices = torch.arange(levels).to(dtype).view(-1, 1, 4, 8), torch.arange(levels // 32)
    for flips in (None, indices % 2 == 0):
        found, twin = (gather_normalize(images, indices, flips, impl=x) for x in ("native", "reference"))
        assert torch.equal(found, twin), (dtype, flips)
"""


@needs_native
@pytest.mark.parametrize("level", _native.cpu_levels())
def test_every_level_gives_the_same_bits(level: str, run_python: Callable[..., str]) -> None:
    run_python(EVERY_LEVEL, SIMGAN_FAST_CPU=level)


@needs_native
@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16])
def test_opcheck(dtype: torch.dtype) -> None:
    op = torch.ops.simgan_fast.gather_normalize.default
    images, indices = images_of((4, 1, 3, 5), dtype), torch.tensor([3, 0, 3])
    for flips in (None, torch.tensor([True, False, False])):
        torch.library.opcheck(op, (images, indices, flips))
    torch.library.opcheck(op, (images, torch.arange(8)[::2] // 2, None))
    torch.library.opcheck(op, (images, indices[:0], None))


def test_images_that_are_not_contiguous_take_the_twin() -> None:
    images = images_of((4, 3, 5, 6), torch.uint8).to(memory_format=torch.channels_last)
    indices = torch.tensor([2, 0])
    assert torch.equal(
        gather_normalize(images, indices), gather_normalize(images.contiguous(), indices)
    )
    with pytest.raises(InputError, match="images is not contiguous"):
        gather_normalize(images, indices, impl="native")


def test_repeated_and_no_indices() -> None:
    images = torch.arange(6).to(torch.uint8).view(3, 1, 1, 2)
    assert torch.equal(
        to_uint8(gather_normalize(images, torch.tensor([2, 2, 0])))[:, 0, 0, 0],
        torch.tensor([4, 4, 0]).to(torch.uint8),
    )
    assert gather_normalize(images, torch.empty(0).long()).shape == (0, 1, 1, 2)


@needs_native
@pytest.mark.parametrize("index", [-1, 4])
def test_compiled_it_refuses_an_index_out_of_range(index: int) -> None:
    torch.compiler.reset()
    run = torch.compile(gather_normalize, fullgraph=True, backend="aot_eager")
    with pytest.raises(InputError, match="indices go from"):
        run(images_of((4, 1, 3, 3), torch.uint8), torch.tensor([0, index]))


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
        ("impl is 'fast'", (images, torch.tensor([0])), {"impl": "fast"}),
        (r"flips is torch.bool \[2\]", (images, torch.tensor([0]), torch.ones(2).bool()), {}),
        ("flips is torch.float32", (images, torch.tensor([0]), torch.ones(1)), {}),
    ):
        with pytest.raises(InputError, match=message):
            gather_normalize(*arguments, **options)
    with pytest.raises(InputError, match=r"x is torch\.uint8"):
        to_uint8(images)
    with pytest.raises(InputError, match="NaN"):
        to_uint8(torch.tensor([0.0, float("nan")]))
