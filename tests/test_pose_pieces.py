"""Heat maps and back, turned hands, labels of hands, and the scores of pose."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hand_sets import BOX_SIDE, MemorySet, toy_hands

from simgan_fast import depth
from simgan_fast.errors import InputError
from simgan_fast.evaluation.pose_augmentation import random_views, view_images, view_joints
from simgan_fast.evaluation.pose_heat_maps import (
    decode_heat_maps,
    from_heat_map,
    heat_map_targets,
    to_heat_map,
)
from simgan_fast.evaluation.pose_labels import hands_of, joint_names
from simgan_fast.evaluation.pose_metrics import pck_curve, pixel_errors, pose_scores


def spread_places(count: int, size: int) -> torch.Tensor:
    """[1, count, 2] between pixels, at least 3 pixels from the border."""
    return torch.rand(1, count, 2, generator=torch.Generator().manual_seed(0)) * (size - 7) + 3


def quarter(heat_maps: torch.Tensor) -> torch.Tensor:
    """Newell's decoding: the highest pixel, and a quarter of one toward its higher neighbour."""
    width = heat_maps.shape[3]
    peak = heat_maps.flatten(2).argmax(2)
    x, y = peak % width, peak // width
    rows = torch.arange(heat_maps.shape[1])
    at = heat_maps[0]
    right = at[rows, y[0], x[0] + 1] - at[rows, y[0], x[0] - 1]
    below = at[rows, y[0] + 1, x[0]] - at[rows, y[0] - 1, x[0]]
    return torch.stack([x[0] + right.sign() / 4, y[0] + below.sign() / 4], dim=-1)[None]


@pytest.mark.parametrize(
    ("noise", "most"), [(0.0, 0.035), (0.02, 0.05), (0.05, 0.085), (0.1, 0.16)]
)
def test_decoding_finds_places_between_pixels(noise: float, most: float) -> None:
    places = spread_places(2000, 24)
    heat_maps = heat_map_targets(places, 24, 24)
    heat_maps = heat_maps + noise * torch.randn(heat_maps.shape)
    errors = (decode_heat_maps(heat_maps) - places).norm(dim=-1).mean()
    assert errors < most
    assert errors < (quarter(heat_maps) - places).norm(dim=-1).mean() * 0.65


def test_a_target_is_a_gaussian_of_one_pixel() -> None:
    heat_map = heat_map_targets(torch.tensor([[[3.0, 2.0]]]), 6, 8)[0, 0]
    assert heat_map.shape == (6, 8) and heat_map[2, 3] == 1
    assert heat_map[2, 4].item() == pytest.approx(math.exp(-0.5))
    assert heat_map[4, 4].item() == pytest.approx(math.exp(-2.5))


def test_peaks_at_the_border_and_none_at_all() -> None:
    places = torch.tensor([[[0.0, 0.0], [7.0, 5.0], [3.2, 0.0]]])
    found = decode_heat_maps(heat_map_targets(places, 6, 8))
    assert (found - places).abs().max() < 0.7  # half of the Gaussian is missing
    assert found[0, 2, 0].item() == pytest.approx(3.2, abs=0.05)
    assert decode_heat_maps(torch.full((1, 1, 4, 4), -1.0)).isfinite().all()


def test_heat_map_pixels_stand_for_four_by_four() -> None:
    pixels = torch.tensor([-0.5, 1.5, 3.5, 255.5])
    assert to_heat_map(pixels).tolist() == [-0.5, 0.0, 0.5, 63.5]
    torch.testing.assert_close(from_heat_map(to_heat_map(pixels)), pixels)


def views_of(count: int, **amounts: float) -> torch.Tensor:
    chosen = {"rotation": 0.0, "scale": 0.0, "shift": 0.0, **amounts}
    return random_views(count, 64, 64, torch.Generator().manual_seed(1), **chosen)


def test_joints_turn_with_the_image() -> None:
    hands = hands_of(toy_hands(8, 0))
    images = torch.full((8, 1, 64, 64), -1.0)
    x, y = hands.joints[:, 13].round().long().unbind(-1)
    for dx in (-1, 0, 1):
        for dy in (-1, 0, 1):
            images[torch.arange(8), 0, y + dy, x + dx] = 1.0
    views = views_of(8, rotation=20, scale=0.1, shift=0.05)
    seen = view_images(images, views, -1.0)
    joints = view_joints(hands.joints[:, 13:].round(), views)
    for image, joint in zip(seen[:, 0], joints[:, 0], strict=True):
        row, column = (image > 0).nonzero().double().mean(dim=0).tolist()
        assert (column, row) == pytest.approx(joint.tolist(), abs=0.5)


def test_turning_makes_no_depth_that_was_not_there() -> None:
    hands = hands_of(toy_hands(4, 0))
    images = hands.images.float() / depth.HALF - 1
    images[:, 0, 30, 20:40] = 0.5  # a row of a value of its own, as a gap in the depth would be
    seen = view_images(images, views_of(4, rotation=20, scale=0.1, shift=0.05), hands.background)
    allowed = {*images.unique().tolist(), float(np.float32(hands.background))}
    assert set(seen.unique().tolist()) <= allowed
    assert ((seen == 0.5).sum(dim=(1, 2, 3)) > 10).all()
    for amounts in ({"rotation": 20.0}, {"scale": 0.1}, {"shift": 0.2}):
        assert not torch.equal(view_images(images, views_of(4, **amounts), 0.0), images)
    assert torch.equal(view_images(images, views_of(4), 0.0), images)


def test_views_keep_to_their_bounds() -> None:
    views = views_of(500, rotation=20, scale=0.1, shift=0.05)
    angle = torch.atan2(views[:, 1, 0], views[:, 0, 0]).rad2deg()
    size = views[:, :, 0].norm(dim=1)
    assert 18 < angle.abs().max() <= 20.0001
    assert (0.9 <= size.min() < 0.91) and (1.09 < size.max() <= 1.1001)
    middle = view_joints(torch.full((500, 1, 2), 31.5), views)[:, 0] - 31.5
    assert 3 < middle.abs().max() <= 3.2001
    still = views_of(3, rotation=20)
    torch.testing.assert_close(
        view_joints(torch.full((3, 1, 2), 31.5), still), torch.full((3, 1, 2), 31.5)
    )


def test_joints_in_millimetres_and_in_the_whole_image() -> None:
    toy = toy_hands(3, 0)
    hands = hands_of(toy)
    points = hands.millimetres(hands.joints.numpy())
    assert points is not None
    np.testing.assert_allclose(points.reshape(3, -1), toy.labels["joints_xyz"], atol=1e-3)
    one = hands.millimetres(hands.joints.numpy() + (1, 0))
    assert one is not None
    across = (one - points)[..., 0]  # a pixel of the crop: so many of the camera's, at that depth
    expected = BOX_SIDE / 64 / depth.FX * toy.labels["joints_xyz"][:, 2::3]
    np.testing.assert_allclose(across, expected, rtol=1e-5)
    without = {name: toy.labels[name] for name in ("joints",)}
    assert hands_of(MemorySet(toy.images, without)).millimetres(hands.joints.numpy()) is None


def test_images_without_depth_are_left_out_and_counted() -> None:
    toy = toy_hands(5, 0)
    images = toy.images.clone()
    images[2] = torch.full((1, 64, 64), depth.BACKGROUND, dtype=torch.uint16)
    hands = hands_of(MemorySet(images, toy.labels))
    assert (len(hands.images), len(hands.joints), hands.left_out) == (4, 4, 1)
    assert hands.depths is not None and len(hands.depths) == 4
    torch.testing.assert_close(hands.joints[2].flatten(), torch.from_numpy(toy.labels["joints"][3]))


def changed(label: str, change: Any) -> MemorySet:
    toy = toy_hands(4, 0)
    values = np.array(toy.labels[label], np.float64)
    return MemorySet(toy.images, {**toy.labels, label: change(values)})


def with_a(number: float, row: int, column: int) -> Any:
    def change(values: np.ndarray) -> np.ndarray:
        values[row, column] = number
        return values

    return change


UNUSABLE = {
    "no labels": (lambda: MemorySet(toy_hands(2, 0).images, {}), "the set has no labels"),
    "odd": (lambda: changed("joints", lambda v: v[:, :27]), r"\[4, 27\]: want \[4, 2 x joints\]"),
    "few": (lambda: changed("joints", lambda v: v[:3]), r"\[3, 28\]"),
    "nan": (lambda: changed("joints", with_a(np.nan, 1, 3)), "image 1 of the set has joints that"),
    "whole image": (lambda: changed("joints", lambda v: v + 200), "0% of the joints"),
    "behind": (lambda: changed("joints_xyz", with_a(-700, 3, 5)), "image 3 .* behind the camera"),
    "metres": (lambda: changed("joints_xyz", lambda v: v / 1000), "seems to be metres"),
    "13 points": (lambda: changed("joints_xyz", lambda v: v[:, :39]), "x, y, z of 14 joints"),
    "8 bits": (
        lambda: MemorySet(torch.zeros(2, 1, 8, 8, dtype=torch.uint8), {}),
        "want 16-bit depth",
    ),
    "millimetres": (
        lambda: MemorySet(decoded(toy_hands(2, 0).images), toy_hands(2, 0).labels),
        "plain millimetres are not for training",
    ),
    "all background": (
        lambda: MemorySet(torch.zeros(2, 1, 64, 64, dtype=torch.uint16), toy_hands(2, 0).labels),
        "no hands",
    ),
}


def decoded(images: torch.Tensor) -> torch.Tensor:
    return torch.from_numpy(depth.decode_paper(images.numpy()))


@pytest.mark.parametrize(("make", "message"), UNUSABLE.values(), ids=UNUSABLE)
def test_unusable_sets_are_refused(make: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        hands_of(make())


def test_scores_of_known_errors() -> None:
    pixels = np.array([[0.0, 4.0, 5.0], [6.0, 20.0, 5.0]])
    inside = np.array([[True, True, True], [True, True, False]])
    scores = pose_scores(pixels, pixels * 2, inside)
    assert (scores.pck_5px, scores.images_5px, scores.n) == (3 / 5, 1 / 2, 2)
    assert (scores.mean_error_px, scores.mean_error_mm) == (7.0, 14.0)
    assert scores.max_error_mm == (10 + 40) / 2
    assert scores.auc == pytest.approx((1 + 0.6 + 0.5 + 0.4 + 0) / 5)
    assert pose_scores(pixels, None, inside).mean_error_mm is None
    with pytest.raises(InputError, match="nothing to score"):
        pose_scores(pixels, None, inside & False)


def test_pixels_are_those_of_the_papers_images() -> None:
    moved = np.zeros((1, 1, 2)) + (3, 4)
    assert pixel_errors(moved, np.zeros((1, 1, 2)), 224)[0, 0] == 5
    assert pixel_errors(moved, np.zeros((1, 1, 2)), 56)[0, 0] == 20
    with pytest.raises(InputError, match="not finite"):
        pixel_errors(moved * np.nan, moved, 224)


def test_curve_and_names() -> None:
    curve = pck_curve(np.array([0.0, 1.0, 1.5, 50.0]))
    assert len(curve) == 11 and curve[:3] == [0.25, 0.5, 0.75] and curve[10] == 0.75
    with pytest.raises(InputError, match="no errors"):
        pck_curve(np.empty(0))
    assert joint_names(14)[8:] == (
        "thumb tip",
        "thumb middle",
        "thumb root",
        "wrist, little's side",
        "wrist, thumb's side",
        "palm",
    )
