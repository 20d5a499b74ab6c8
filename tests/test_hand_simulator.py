"""The bundled simulator of hands: labels agree with depth, hands are possible, images depend on their number alone."""

from __future__ import annotations

import re
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from simgan_fast import cli, depth, simulate
from simgan_fast.data.packed import open_packed
from simgan_fast.errors import InputError
from simgan_fast.simulators.depth_camera import (
    DISPARITY,
    PRIMESENSE,
    DepthCameraSpec,
    depth_camera,
)
from simgan_fast.simulators.hand_domains import CAMERA, PLAIN
from simgan_fast.simulators.hand_pose import FLEXION_LIMITS, THUMB_LIMITS, draw_pose, spread_limit
from simgan_fast.simulators.hands import HandBatch, draw_hand, simulate_hands
from simgan_fast.simulators.round_cones import cast

DOMAINS = ("plain", "camera")
TIP, DIP, PIP, MCP = 0, 1, 3, 5  # of the six joints of a finger
STILL = DepthCameraSpec(
    fattening=(0, 0),
    lateral=(0, 0),
    jitter=(0, 0),
    disparity=(0, 0),
    edge_dropout=(0, 0),
    grazing=(89.9, 89.9),
    shadows=False,
    quantise=False,
)


def batch(count: int, **options: object) -> HandBatch:
    """One batch of `count` images."""
    return next(simulate_hands(count, batch_size=count, **options))  # type: ignore[arg-type]


def skeletons(hands: HandBatch) -> np.ndarray:
    """[n, 36, 3] in mm."""
    return hands.labels["skeleton"].reshape(len(hands), 36, 3)


@pytest.fixture(scope="module")
def whole() -> HandBatch:
    """16 hands in the camera's whole images, and all joints."""
    return batch(16, seed=3, crop="none", skeleton=True)


@pytest.mark.parametrize("domain", DOMAINS)
def test_shapes_types_and_labels(domain: str) -> None:
    hands = batch(5, domain=domain)
    assert (hands.images.shape, hands.images.dtype) == ((5, 1, 224, 224), np.uint16)
    widths = {name: values.shape[1] for name, values in hands.labels.items()}
    assert widths == {
        "joints": 28,
        "joints_xyz": 42,
        "centre": 1,
        "box": 4,
        "frame": 1,
        "view": 1,
    }
    assert all(v.dtype == np.float32 and np.isfinite(v).all() for v in hands.labels.values())
    share = (hands.images > 0).mean(axis=(1, 2, 3))
    assert (share > 0.08).all() and (share < 0.7).all()


def test_every_joint_is_in_the_flesh(whole: HandBatch) -> None:
    """Exact depth before a joint is nearer than the joint; where nothing hides it, by the flesh around it only."""
    uvd = depth.xyz_to_uvd(skeletons(whole))
    column, row = np.rint(uvd[..., 0]).astype(int), np.rint(uvd[..., 1]).astype(int)
    image = whole.images[np.arange(16)[:, None], 0, row, column].astype(float)
    assert (image > 0).all()
    assert (uvd[..., 2] - image > -1).all()
    tips = (uvd[..., 2] - image)[:, [6 * finger + TIP for finger in range(5)]]
    assert 0.5 < (tips < 12).mean() < 1, "most tips are seen, and are as thick as fingers"


def test_joints_are_projected_by_nyus_camera_and_moved_with_the_crop() -> None:
    cropped, whole = (batch(6, seed=1, crop=crop) for crop in ("box", "none"))
    np.testing.assert_array_equal(cropped.labels["joints_xyz"], whole.labels["joints_xyz"])
    xyz = whole.labels["joints_xyz"].reshape(6, 14, 3)
    projected = np.stack(
        [
            588.03 * xyz[..., 0] / xyz[..., 2] + 320,
            240 - 587.07 * xyz[..., 1] / xyz[..., 2],
        ],
        axis=-1,
    )
    np.testing.assert_allclose(whole.labels["joints"].reshape(6, 14, 2), projected, atol=1e-3)
    places = cropped.labels["joints"].reshape(6, 14, 2)
    back = depth.crop_to_whole(places, cropped.labels["box"][:, None], (224, 224))
    np.testing.assert_allclose(back, projected, atol=1e-3)
    np.testing.assert_array_equal(whole.labels["centre"][:, 0], xyz[:, 13, 2])
    for image, box, full in zip(
        cropped.images[:, 0], cropped.labels["box"], whole.images[:, 0], strict=True
    ):
        left, top, right, bottom = box.astype(int)
        assert (left, top, right, bottom) == depth.hand_box(full), "as the NYU reader crops"
        centre = ((right - left) // 2, (bottom - top) // 2)
        place = [int((c + 0.5) * 224 / (right - left)) for c in centre]
        assert image[place[1], place[0]] == full[top + centre[1], left + centre[0]]


def test_one_round_cone_is_where_its_spheres_are() -> None:
    ends = np.array([[[-60.0, 10.0, 700.0], [50.0, -30.0, 760.0]]])
    radii = np.array([[30.0, 15.0]])
    (left, top, right, bottom), found = cast(ends, radii, np.zeros(1))
    x = (np.arange(left, right) - depth.U0) / depth.FX
    y = ((np.arange(top, bottom) - depth.V0) / depth.FY)[:, None]
    nearest = np.full(found.shape, np.inf)
    squared = x**2 + y**2 + 1
    for share in np.linspace(0, 1, 2001):  # the cone as many spheres
        centre = ends[0, 0] * (1 - share) + ends[0, 1] * share
        radius = radii[0, 0] * (1 - share) + radii[0, 1] * share
        along = x * centre[0] + y * centre[1] + centre[2]
        under = along**2 - squared * (centre @ centre - radius**2)
        hit = (along - np.sqrt(np.maximum(under, 0))) / squared
        nearest = np.where(under > 0, np.minimum(nearest, hit), nearest)
    seen = np.isfinite(nearest)
    assert seen.sum() > 3000
    assert np.isfinite(found)[seen].all() and (np.isfinite(found) & ~seen).mean() < 0.002
    inner = seen.copy()
    inner[1:-1, 1:-1] = seen[:-2, 1:-1] & seen[2:, 1:-1] & seen[1:-1, :-2] & seen[1:-1, 2:]
    assert np.abs(found[inner] - nearest[inner]).max() < 0.2


def test_poses_keep_to_the_anatomical_limits() -> None:
    rng = np.random.default_rng(0)
    pose = draw_pose(rng, np.full(3000, 1.6), rng.uniform(-90, 90, (3000, 2)))
    for angles, limits in ((pose.flexion, FLEXION_LIMITS), (pose.thumb, THUMB_LIMITS)):
        low, high = np.array(limits).T
        assert (angles >= low).all() and (angles <= high).all()
    assert (np.abs(pose.spread) <= spread_limit(pose.flexion)).all()
    assert pose.wrist.min() >= -60 and pose.wrist.max() <= 60
    assert pose.flexion[..., 1].std() > 30, "fists and open hands"


def test_fingers_of_the_labels_bend_no_farther_than_fingers_do(whole: HandBatch) -> None:
    fingers = skeletons(whole)[:, :24].reshape(16, 4, 6, 3)
    bones = np.diff(fingers[:, :, [MCP, PIP, DIP, TIP]], axis=2)
    unit = bones / np.linalg.norm(bones, axis=-1, keepdims=True)
    bend = np.degrees(np.arccos(np.clip((unit[:, :, 1:] * unit[:, :, :-1]).sum(-1), -1, 1)))
    assert bend[..., 0].max() < 110.1 and bend[..., 1].max() < 80.1
    middle = (fingers[:, :, MCP] + fingers[:, :, PIP]) / 2
    np.testing.assert_allclose(fingers[:, :, 4], middle, atol=1e-3)
    lengths = np.linalg.norm(bones, axis=-1)
    assert (lengths > 8).all() and (lengths < 65).all()
    assert (lengths[..., 0] > lengths[..., 1]).all(), "the first phalanx is the longest"


def test_three_views_of_one_hand() -> None:
    front = batch(8, seed=5, size=(64, 64), skeleton=True)
    views = batch(24, seed=5, size=(64, 64), views=3, skeleton=True)
    np.testing.assert_array_equal(views.images[::3], front.images)
    assert views.labels["frame"][:, 0].tolist() == [n // 3 for n in range(24)]
    assert views.labels["view"][:, 0].tolist() == [1, 2, 3] * 8
    joints = skeletons(views).reshape(8, 3, 36, 3)
    between = np.linalg.norm(joints[:, :, :, None] - joints[:, :, None], axis=-1)
    np.testing.assert_allclose(between[:, 1:], between[:, :1].repeat(2, 1), atol=0.05)
    handed = np.linalg.det((joints - joints[:, :, :1])[:, :, [6, 12, 24]])
    np.testing.assert_allclose(handed[:, 1:], handed[:, :1].repeat(2, 1), rtol=1e-2, atol=500)
    assert (np.abs(joints[:, 1] - joints[:, 0]).max(axis=(1, 2)) > 20).all()


def test_open_hands_are_open_upright_and_show_their_palm() -> None:
    bends, upright = {}, {}
    for poses in ("all", "open"):
        joints = skeletons(batch(32, seed=2, size=(32, 32), poses=poses, skeleton=True))
        bones = np.diff(joints[:, :24].reshape(32, 4, 6, 3)[:, :, [MCP, PIP, DIP]], axis=2)
        unit = bones / np.linalg.norm(bones, axis=-1, keepdims=True)
        cosine = np.clip((unit[:, :, 0] * unit[:, :, 1]).sum(-1), -1, 1)
        bends[poses] = np.degrees(np.arccos(cosine))
        along = joints[:, 32] - joints[:, 30:32].mean(axis=1)  # from the wrist to the palm
        upright[poses] = np.degrees(np.arctan2(along[:, 0], along[:, 1]))
    assert bends["open"].max() < 75 < bends["all"].max()
    assert np.abs(upright["open"]).max() < 25 < np.abs(upright["all"]).max()
    little, index = joints[:, 5], joints[:, 23]  # their MCP joints
    assert (index[:, 0] > little[:, 0]).all(), "of a right hand's palm the thumb's side is right"


@pytest.mark.parametrize("domain", DOMAINS)
def test_an_image_depends_on_its_number_alone(domain: str) -> None:
    options = {"seed": 3, "domain": domain, "size": (48, 48), "views": 3}
    whole = batch(60, **options)
    parts = list(simulate_hands(29, start=31, batch_size=12, **options))  # type: ignore[arg-type]
    assert [(part.start, len(part)) for part in parts] == [(31, 12), (43, 12), (55, 5)]
    np.testing.assert_array_equal(np.concatenate([p.images for p in parts]), whole.images[31:60])
    for name, values in whole.labels.items():
        joined = np.concatenate([part.labels[name] for part in parts])
        np.testing.assert_array_equal(joined, values[31:60])
    assert not np.array_equal(whole.images[:12], whole.images[48:])
    other = batch(3, seed=4, domain=domain, size=(48, 48))
    assert not np.array_equal(other.images, whole.images[:9:3])


def test_domains_have_other_hands() -> None:
    plain, camera = (batch(3, seed=0, size=(32, 32), domain=domain) for domain in DOMAINS)
    assert not np.array_equal(plain.labels["joints_xyz"], camera.labels["joints_xyz"])
    thick = [draw_hand(hands, np.random.default_rng(0), 200).radii for hands, _ in (PLAIN, CAMERA)]
    assert thick[1].mean() > 1.05 * thick[0].mean()


def test_encoded_values_hold_the_same_depth() -> None:
    plain, paper, metric = (
        batch(4, size=(64, 64), values=values) for values in ("millimetres", "paper", "metric")
    )
    np.testing.assert_array_equal(depth.decode_paper(paper.images), plain.images)
    for n in range(4):
        expected = depth.encode_metric(plain.images[n, 0], float(plain.labels["centre"][n, 0]))
        np.testing.assert_array_equal(metric.images[n, 0], expected)


def test_the_camera_loses_pixels_where_hands_end() -> None:
    clean = batch(16, seed=1).images[:, 0]  # of about as many pixels as the camera has of a hand
    noisy = depth_camera(clean, 7, replace(PRIMESENSE, fattening=(0, 0)))
    hand, lost = clean > 0, (noisy == 0) & (clean > 0)
    inner = hand.copy()
    for _ in range(4):
        inner[:, 1:-1, 1:-1] &= (
            inner[:, :-2, 1:-1] & inner[:, 2:, 1:-1] & inner[:, 1:-1, :-2] & inner[:, 1:-1, 2:]
        )
    rim = hand & ~inner
    assert 0.1 < lost[rim].mean() < 0.5
    assert lost[inner].mean() < 0.2 * lost[rim].mean()
    both = inner & (noisy > 0)
    assert np.median(np.abs(noisy[both].astype(int) - clean[both])) <= 4


def test_what_is_nearer_grows() -> None:
    image = np.zeros((2, 40, 60), np.float32)
    image[:, 10:30, 20:40], image[:, 15:25, 38:50] = 900, 700
    found = depth_camera(image, 0, replace(STILL, fattening=(2, 2)))
    assert (found[:, 20, 18] == 900).all() and not found[:, 20, :18].any(), "by two pixels"
    assert (found[:, 20, 36] == 700).all() and (found[:, 20, 35] == 900).all()
    assert not found[:, 8, 18].any(), "corners are rounded"
    few = depth_camera(image, 0, replace(STILL, fattening=(0.5, 0.9)))
    np.testing.assert_array_equal(few, image)


def test_cameras_see_the_whole_forearm_in_the_same_box() -> None:
    plain, camera = (batch(16, seed=2, domain=domain).images[:, 0] for domain in DOMAINS)
    edges = [
        np.concatenate([each[:, 0], each[:, -1], each[:, :, 0], each[:, :, -1]], axis=1)
        for each in (plain, camera)
    ]
    assert not edges[0].any() and (edges[1] > 0).any(axis=1).mean() > 0.8
    whole = batch(4, seed=2, domain="camera", crop="none")
    boxes = batch(4, seed=2, domain="camera").labels["box"].astype(int)
    for image, (left, top, right, bottom) in zip(whole.images[:, 0], boxes, strict=True):
        found = depth.hand_box(image, margin=0)
        assert found is not None and max(found[2] - found[0], found[3] - found[1]) > right - left
        outside = (image > 0).sum() - (image[top:bottom, left:right] > 0).sum()
        assert outside > 500, "the arm goes on beyond the crop"


def test_depth_comes_in_steps_that_grow_with_it() -> None:
    image = np.tile(np.linspace(600, 1100, 4000, dtype=np.float32).reshape(1, 40, 100), (3, 1, 1))
    found = np.unique(depth_camera(image, 0))
    found = found[found > 0].astype(float)
    steps = np.rint(DISPARITY / found)
    assert np.abs(found - DISPARITY / steps).max() <= 0.5, "of whole steps of disparity"
    assert np.diff(found[found > 1000]).min() > 1.7 * np.diff(found[found < 700]).min()


def test_shadows_are_on_the_side_away_from_the_projector() -> None:
    image = np.full((1, 40, 200), 1000, np.float32)
    image[:, :, 100:120] = 700
    spec = replace(STILL, shadows=True)
    lost = depth_camera(image, 0, spec)[0] == 0
    columns = np.flatnonzero(lost.all(axis=0))
    wide = 588.03 * 75 * (1 / 700 - 1 / 1000)
    assert columns.max() == 99 and len(columns) == pytest.approx(wide, abs=1.5)
    assert (lost.any(axis=0) == lost.all(axis=0)).all()


def test_a_perfect_camera_changes_nothing_and_seeds_decide() -> None:
    images = batch(2, crop="none").images[:, 0]
    np.testing.assert_array_equal(depth_camera(images, 0, STILL), images)
    first = depth_camera(images, 1)
    np.testing.assert_array_equal(first, depth_camera(images, 1))
    assert not np.array_equal(first, depth_camera(images, 2))
    assert depth_camera(images[:0], 1).shape == (0, 480, 640)
    assert not depth_camera(np.zeros((1, 9, 9), np.uint16), 1).any()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (np.zeros((9, 9), np.uint16), "uint16 or float"),
        (np.zeros((1, 9, 9), np.uint8), "uint16 or float"),
        (np.full((1, 9, 9), np.nan), "NaN"),
        (np.full((1, 9, 9), -1.0), "negative"),
        (np.full((1, 9, 9), 0.8), "not metres"),
    ],
)
def test_the_camera_refuses(wrong: np.ndarray, message: str) -> None:
    with pytest.raises(InputError, match=message):
        depth_camera(wrong)


@pytest.mark.parametrize(
    "wrong",
    [
        {"count": -1},
        {"count": 5, "seed": -2},
        {"count": 5, "start": -3},
        {"count": 5, "batch_size": 0},
        {"count": 5, "size": (15, 55)},
        {"count": 5, "size": (35, 5000)},
        {"count": 5, "domain": "real"},
        {"count": 5, "views": 2},
        {"count": 5, "poses": "fist"},
        {"count": 5, "crop": "mask"},
        {"count": 5, "values": "metres"},
    ],
)
def test_bad_arguments_are_told_at_the_call(wrong: dict[str, object]) -> None:
    argument = list(wrong)[-1]
    with pytest.raises(InputError, match=rf"{argument} is .*; (give|choose)"):
        simulate_hands(**wrong)  # type: ignore[arg-type]


def test_the_command_writes_sets_in_parts(tmp_path: Path) -> None:
    options = ["--size", "32x32", "--views", "3", "--values", "paper", "--domain", "camera"]
    for name, amount in (("all", ["--count", "9"]), ("part", ["--count", "3", "--start", "6"])):
        assert cli.main(["simulate", "hands", str(tmp_path / name), *amount, *options]) == 0
    whole, part = (open_packed(tmp_path / name) for name in ("all", "part"))
    assert whole.dtype == "uint16"
    assert list(whole.names[4:6]) == ["camera-0-0000001-2.png", "camera-0-0000001-3.png"]
    assert list(part.names) == list(whole.names[6:])
    np.testing.assert_array_equal(part.images(0, 3), whole.images(6, 9))
    np.testing.assert_array_equal(part.labels["joints"], whole.labels["joints"][6:])
    with pytest.raises(InputError, match="views: only hands have that"):
        simulate("eyes", tmp_path / "eyes", count=1, views=3)
    with pytest.raises(InputError, match="fingers: no option of hands"):
        simulate("hands", tmp_path / "hands", count=1, fingers=6)


def test_documentation_gives_the_ranges_in_use() -> None:
    page = Path(__file__).parents[1] / "docs" / "hand_simulator.md"
    if not page.exists():
        pytest.skip("docs/ is not beside the tests")
    rows = {
        cells[1].strip("` "): cells[2:-1]
        for cells in (line.split("|") for line in page.read_text().splitlines())
        if len(cells) > 4 and cells[1].strip().startswith("`")
    }

    def numbers(cell: str) -> tuple[float, ...]:
        return tuple(float(n) for n in re.findall(r"-?\d+\.?\d*", cell))

    for plain, camera in zip(PLAIN, CAMERA, strict=True):
        for field in fields(plain):
            first, second = getattr(plain, field.name), getattr(camera, field.name)
            assert numbers(rows[field.name][1]) == first, field.name
            assert numbers(rows[field.name][2]) == (() if first == second else second), field.name
    for field in fields(PRIMESENSE):
        if isinstance(getattr(PRIMESENSE, field.name), tuple):
            assert numbers(rows[field.name][1]) == getattr(PRIMESENSE, field.name), field.name
