"""refine_array: the shapes, types and memory orders that arrays of images come in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from simgan_fast import InputError, Refiner, refine_array

GREY, COLOUR = Refiner(1, 8, 1), Refiner(3, 8, 1)
PIXELS = np.random.default_rng(0).integers(0, 256, (7, 12, 10, 3), np.uint8)


def expected(images: np.ndarray, refiner: Refiner) -> np.ndarray:
    """[n, h, w, c] uint8 by the formulas of the docs."""
    x = torch.from_numpy(images.astype(np.float32) / np.float32(127.5) - 1).permute(0, 3, 1, 2)
    with torch.no_grad():
        y = refiner(x.contiguous()).permute(0, 2, 3, 1)
    return ((y + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).numpy()


@pytest.mark.parametrize(
    ("refiner", "images"),
    [
        (GREY, PIXELS[0, ..., 0]),
        (GREY, PIXELS[..., 0]),
        (GREY, PIXELS[..., :1]),
        (COLOUR, PIXELS[0]),
        (COLOUR, PIXELS),
    ],
    ids=["hw", "nhw", "nhw1", "hw3", "nhw3"],
)
@pytest.mark.parametrize("order", ["C", "F", "backwards", "read-only"])
def test_shapes_and_memory_orders(refiner: Refiner, images: np.ndarray, order: str) -> None:
    four = images.reshape(-1, 12, 10, refiner.config.in_channels)
    wanted = expected(four, refiner).reshape(images.shape)
    if order == "backwards":
        images = images[::-1].copy()[::-1]
    elif order == "read-only":
        images = np.frombuffer(images.tobytes(), np.uint8).reshape(images.shape)
    else:
        images = np.array(images, order=order)  # type: ignore[call-overload]
    before = images.copy()
    refined = refine_array(images, refiner, batch_size=3)
    assert refined.dtype == np.uint8 and refined.shape == images.shape
    assert np.abs(refined.astype(int) - wanted).max() <= 1, "rounding of other batches"
    assert np.array_equal(images, before)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, ">f4", np.uint16])
def test_types(dtype: object) -> None:
    images = PIXELS[..., 0].astype(np.float64) / 127.5 - 1
    given = (
        PIXELS[..., 0].astype(np.uint16) * 257 if dtype is np.uint16 else images.astype(dtype)  # type: ignore[call-overload]
    )
    refined = refine_array(given, GREY)
    assert refined.dtype == np.dtype(dtype).newbyteorder("=")  # type: ignore[call-overload]
    scaled = refined / 32767.5 - 1 if dtype is np.uint16 else refined
    eight = expected(PIXELS[..., :1], GREY)[..., 0] / 127.5 - 1
    np.testing.assert_allclose(scaled, eight, atol=0.006)


class Foreign:
    """An array of a library that only speaks DLPack."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor = tensor

    def __dlpack__(self, **options: object) -> object:
        return self.tensor.__dlpack__(**options)  # type: ignore[arg-type]

    def __dlpack_device__(self) -> object:
        return self.tensor.__dlpack_device__()


def test_dlpack_in_and_out() -> None:
    numpy_out = refine_array(PIXELS, COLOUR)
    for images in (torch.from_numpy(PIXELS), Foreign(torch.from_numpy(PIXELS))):
        refined = refine_array(images, COLOUR)
        assert isinstance(refined, torch.Tensor)
        assert np.array_equal(np.from_dlpack(refined), numpy_out)
    halves = torch.rand(2, 8, 8, 3, dtype=torch.bfloat16, requires_grad=True)
    assert refine_array(halves, COLOUR).dtype is torch.bfloat16


def test_no_images_and_a_folder(tmp_path: Path) -> None:
    COLOUR.save_pretrained(tmp_path)
    assert refine_array(PIXELS[:0], tmp_path).shape == (0, 12, 10, 3)
    assert np.array_equal(refine_array(PIXELS, tmp_path), refine_array(PIXELS, COLOUR))


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (PIXELS, r"\[7, 12, 10, 3\]: want \[h, w\], \[n, h, w\] or"),
        (PIXELS[0, 0, 0], "want"),
        (PIXELS[..., 0].astype(np.float32), "outside"),
        (np.full((4, 4), np.nan, np.float32), "NaN"),
        (PIXELS[..., 0].astype(np.int32), "int32: want uint8"),
        (np.array([["a"]]), "array of <U1"),
        ([[1, 2]], "is a list: want a NumPy array"),
    ],
)
def test_bad_input(images: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        refine_array(images, GREY)  # type: ignore[call-overload]
    with pytest.raises(InputError, match="batch_size is 0"):
        refine_array(images, GREY, batch_size=0)  # type: ignore[call-overload]
