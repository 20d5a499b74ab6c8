"""Edge noise of depth: each of the four numbers follows what it is named after."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from simgan_fast import depth
from simgan_fast.errors import InputError
from simgan_fast.evaluation.edge_noise import EdgeNoise, edge_noise


def square(side: int = 20, mm: int = 1000) -> np.ndarray:
    """One image [1, 40, 40] in mm with a square hand."""
    image = np.zeros((1, 40, 40), np.uint16)
    image[:, 10 : 10 + side, 10 : 10 + side] = mm
    return image


def measured(*images: np.ndarray) -> EdgeNoise:
    return edge_noise(torch.from_numpy(depth.encode_paper(np.stack(images))))


def test_a_square_is_known() -> None:
    found = measured(square())
    assert found.rim_share == pytest.approx(76 / 400)
    corners = (72 * 0.5 + 4 * 0.5 * 2**0.5) / 76  # from -0.5 to 0 across one side, or two
    assert found.silhouette_gradient == pytest.approx(corners, abs=1e-4)
    assert found.dropout_rate == 0


def test_holes_are_dropouts_and_wide_gaps_are_not() -> None:
    image = square()
    image[0, 18:20, 18:20] = 0
    assert measured(image).dropout_rate == pytest.approx(4 / 400)
    assert measured(image).rim_share == pytest.approx((76 + 8) / 396)
    gap = square()
    gap[0, 10:30, 17:23] = 0  # as between two fingers
    assert measured(gap).dropout_rate == 0


def test_enclosed_holes_are_counted_and_bays_are_not() -> None:
    image = square()
    assert measured(image).hole_rate == 0
    image[0, 12:18, 15:20] = 0
    assert measured(image).hole_rate == pytest.approx(30 / 400)
    image[0, 12, 10:15] = 0  # a way out, round a corner
    image[0, 25, 10:25] = 0
    assert measured(image).hole_rate == 0
    image[0, 25, 10] = 1000
    assert measured(image).hole_rate == pytest.approx(14 / (400 - 35))


def test_soft_edges_have_a_small_gradient() -> None:
    image = depth.encode_paper(square()[None])
    soft = image.astype(float)
    for axis in (2, 3):
        soft = (np.roll(soft, 1, axis) + 2 * soft + np.roll(soft, -1, axis)) / 4
    found = edge_noise(torch.from_numpy(soft.astype(np.uint16)))
    assert found.silhouette_gradient < 0.7 * measured(square()).silhouette_gradient


def test_means_are_over_the_images_that_have_a_hand() -> None:
    both = measured(square(), square(10), np.zeros((1, 40, 40), np.uint16))
    assert both.rim_share == pytest.approx((76 / 400 + 36 / 100) / 2)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.zeros(2, 1, 8, 8, dtype=torch.uint8), "16-bit depth"),
        (torch.zeros(2, 8, 8, dtype=torch.uint16), "16-bit depth"),
        (torch.full((2, 1, 8, 8), depth.BACKGROUND, dtype=torch.uint16), "no image has a hand"),
        (torch.zeros(0, 1, 8, 8, dtype=torch.uint16), "no image has a hand"),
    ],
)
def test_unusable_images_are_refused(images: torch.Tensor, message: str) -> None:
    with pytest.raises(InputError, match=message):
        edge_noise(images)
