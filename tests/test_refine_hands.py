"""Refined hands are plausible depth: missing pixels hold the value of no depth, others are of the hand's cube."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hand_sets import MemorySet, packed, toy_hands

from simgan_fast import depth
from simgan_fast.data import open_packed
from simgan_fast.jobs.refine import refine
from simgan_fast.jobs.refine_shared import refine_shared
from simgan_fast.models.refiner import Refiner

CENTRE = 760.0
DECODERS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "paper": depth.decode_paper,
    "metric": lambda encoded: depth.decode_metric(encoded, CENTRE),
}


def hands(folder: Path, values: str) -> Path:
    toys = toy_hands(12, 3, 32)
    millimetres = depth.decode_paper(toys.images.numpy())
    images = np.stack([depth.encoded(image, values, CENTRE) for image in millimetres])
    return packed(folder, MemorySet(torch.from_numpy(images), toys.labels))


@pytest.fixture
def restless(monkeypatch: pytest.MonkeyPatch) -> Refiner:
    """A refiner that changes every pixel, each by another small amount."""

    def moved(_: Refiner, x: torch.Tensor) -> torch.Tensor:
        pixels = torch.arange(x[0].numel(), dtype=torch.float32).reshape(x.shape[1:])
        return (x + 0.02 * torch.sin(1 + pixels)).clamp(-1, 1)

    monkeypatch.setattr(Refiner, "forward", moved)
    return Refiner(1, 8, 1)


@pytest.mark.parametrize("values", ["paper", "metric"])
def test_no_depth_is_written_as_none(tmp_path: Path, restless: Refiner, values: str) -> None:
    source = hands(tmp_path / "plain", values)
    refine(restless, source, tmp_path / "refined", format="arrow")
    raw, refined = (open_packed(tmp_path / name).load().numpy() for name in ("plain", "refined"))
    hand = raw != depth.NO_DEPTH[values]
    assert (refined[~hand] == depth.NO_DEPTH[values]).all()
    assert (DECODERS[values](refined)[~hand] == 0).all()
    assert (refined[hand] != raw[hand]).mean() > 0.9  # it did refine


def test_a_shared_job_writes_the_same(tmp_path: Path, restless: Refiner) -> None:
    source = hands(tmp_path / "plain", "paper")
    refine(restless, source, tmp_path / "alone", format="arrow", batch_size=4)
    refine_shared(restless, source, tmp_path / "shared", batch_size=4)
    alone, shared = (open_packed(tmp_path / name) for name in ("alone", "shared"))
    assert torch.equal(alone.load(), shared.load())


@pytest.mark.parametrize("name", ["joints", "centre"])
def test_other_images_are_left_as_they_come_out(
    tmp_path: Path, restless: Refiner, name: str
) -> None:
    """Sixteen bits and a background of that very value, but no number as `centre`: these are not known to be hands."""
    toys = toy_hands(4, 3, 32)
    labels = {name: toys.labels["joints"]}
    source = packed(tmp_path / "plain", MemorySet(toys.images, labels))
    refine(restless, source, tmp_path / "refined", format="arrow")
    refined = open_packed(tmp_path / "refined").load().numpy()
    assert (refined != depth.BACKGROUND).mean() > 0.9


@pytest.mark.parametrize(("values", "centre"), [("paper", 700.0), ("metric", 800.0)])
def test_the_halfway_value_decides(values: str, centre: float) -> None:
    none = depth.NO_DEPTH[values]
    hand = int(depth.encoded(np.array([[[[760]]]], np.uint16), values, centre)[0, 0, 0, 0])
    halfway = (hand + none) // 2
    raw = np.array([[[[hand, hand, hand, none, none, none]]]], np.uint16)
    came = [hand + 5, halfway - 1, halfway + 1, halfway - 1, halfway + 1, none]
    behind = int(depth.encode_paper(np.uint16(850))) if values == "paper" else halfway - 1
    want = [hand + 5, behind, none, behind, none, none]
    found = depth.plausible_depth(np.array([[[came]]], np.uint16), raw, values, centre)
    assert found.dtype == np.uint16
    assert found[0, 0, 0].tolist() == want


def test_each_image_has_its_own_hand() -> None:
    """A pixel that was added beside a near hand floats where beside a far one it would be its edge."""
    none = depth.BACKGROUND
    raw = np.array([[[[10_000, none]]], [[[24_000, none]]]], np.uint16)
    came = np.array([[[[10_000, 25_000]]], [[[24_000, 25_000]]]], np.uint16)
    found = depth.plausible_depth(came, raw, "paper", np.array([[610.0], [1465.0]]))
    assert found[:, 0, 0].tolist() == [[10_000, none], [24_000, 25_000]]


def test_an_image_without_a_hand_is_background() -> None:
    raw = np.full((1, 1, 2, 2), depth.BACKGROUND, np.uint16)
    came = raw + np.array([[[[0, 3], [7, 900]]]], np.uint16)
    assert (depth.plausible_depth(came, raw, "paper", 700.0) == depth.BACKGROUND).all()


def test_hands_stay_in_their_cube() -> None:
    """Or in the range of the raw image, where that is wider."""
    millimetres = np.array([[[[600, 700, 700, 700, 950]]], [[[700, 700, 700, 700, 700]]]])
    came = np.array([[[[500, 580, 720, 870, 990]]], [[[500, 580, 720, 870, 990]]]])
    want = np.array([[[[600, 600, 720, 870, 950]]], [[[550, 580, 720, 850, 850]]]])
    raw, refined, kept = (depth.encode_paper(np.uint16(mm)) for mm in (millimetres, came, want))
    centre = np.array([[760.0], [700.0]])
    np.testing.assert_array_equal(depth.plausible_depth(refined, raw, "paper", centre), kept)
