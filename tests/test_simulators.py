"""The bundled simulator: labels agree with pictures, images depend on their number alone."""

from __future__ import annotations

import io
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from simgan_fast.errors import InputError
from simgan_fast.histogram import equalised
from simgan_fast.simulators import CameraSpec, EyeBatch, camera_model, simulate_eyes
from simgan_fast.simulators.camera import WEBCAM, jpeg
from simgan_fast.simulators.eye_domains import CAMERA, PLAIN, Floats
from simgan_fast.simulators.eye_geometry import angles, direction

DOMAINS = ("plain", "camera")
SIZES = ((35, 55), (36, 60), (84, 140), (48, 48))


def simulate(count: int, **options: object) -> EyeBatch:
    """One batch of `count` images."""
    return next(simulate_eyes(count, batch_size=count, **options))  # type: ignore[arg-type]


def at(images: Floats, points: Floats) -> Floats:
    """Mean over the 3x3 pixels around points [n, 2] (x, y) of images [n, 1, h, w]."""
    height, width = images.shape[2:]
    x = np.clip(np.rint(points[:, 0]).astype(int), 1, width - 2)
    y = np.clip(np.rint(points[:, 1]).astype(int), 1, height - 2)
    n = np.arange(len(images))
    offsets = (-1, 0, 1)
    return np.mean([images[n, 0, y + j, x + i] for i in offsets for j in offsets], axis=0)


def lids(batch: EyeBatch) -> tuple[Floats, Floats]:
    """Upper and lower lid points, each [n, 8, 2]."""
    points = batch.labels["eyelids"].reshape(len(batch), 2, 8, 2)
    return points[:, 0], points[:, 1]


def degrees(batch: EyeBatch) -> tuple[Floats, Floats]:
    pitch, yaw = angles(batch.labels["gaze"])
    return np.degrees(pitch), np.degrees(yaw)


@pytest.fixture(scope="module")
def plain() -> EyeBatch:
    return simulate(384, seed=7, size=(70, 110))


@pytest.mark.parametrize("domain", DOMAINS)
@pytest.mark.parametrize("size", SIZES)
def test_shapes_types_and_ranges(domain: str, size: tuple[int, int]) -> None:
    batch = simulate(9, domain=domain, size=size)
    assert batch.images.shape == (9, 1, *size)
    assert batch.images.dtype == np.uint8
    widths = {name: values.shape[1] for name, values in batch.labels.items()}
    assert widths == {"gaze": 3, "pupil": 2, "eyelids": 32}
    assert all(v.dtype == np.float32 and np.isfinite(v).all() for v in batch.labels.values())
    assert (batch.images.std(axis=(1, 2, 3)) > 8).all()


@pytest.mark.parametrize("domain", DOMAINS)
def test_gaze_is_uniform_over_the_stated_range(domain: str) -> None:
    pitch, yaw = degrees(simulate(1024, domain=domain, size=(16, 16)))
    assert -25.01 <= pitch.min() < pitch.max() <= 10.01
    assert -25.01 <= yaw.min() < yaw.max() <= 25.01
    assert pitch.mean() == pytest.approx(-7.5, abs=1.5)
    assert yaw.mean() == pytest.approx(0, abs=2)
    assert pitch.std() == pytest.approx(35 / 12**0.5, rel=0.1)
    assert yaw.std() == pytest.approx(50 / 12**0.5, rel=0.1)


def test_gaze_convention() -> None:
    zero = np.zeros(1, np.float32)
    np.testing.assert_allclose(direction(zero, zero), [[0, 0, -1]])
    up_and_left = direction(zero + 0.2, zero + 0.3)
    assert (up_and_left < 0).all()
    np.testing.assert_allclose(angles(up_and_left), [[0.2], [0.3]], rtol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(simulate(40).labels["gaze"], axis=1), 1, atol=1e-6)


def test_pupil_label_lies_on_the_dark_pupil(plain: EyeBatch) -> None:
    upper, lower = lids(plain)
    pupil = plain.labels["pupil"]
    # three pixels clear of both lids, so that neither they nor lashes hide the pupil
    top = np.array([np.interp(p[0], u[:, 0], u[:, 1]) for p, u in zip(pupil, upper, strict=True)])
    low = np.array([np.interp(p[0], u[:, 0], u[:, 1]) for p, u in zip(pupil, lower, strict=True)])
    seen = (pupil[:, 1] - top > 6) & (low - pupil[:, 1] > 6)
    assert seen.sum() > 200
    images, here = plain.images[seen].astype(np.float32), pupil[seen]
    beside = [at(images, here + np.array([dx, 0])) for dx in (-22, 22)]  # off the iris
    dark = at(images, here)
    assert np.mean(dark < np.minimum(*beside)) > 0.97
    # glints may cover the very centre; the darkest pixels nearby are the pupil's
    assert np.median(dark) < 10


def test_pupil_follows_gaze(plain: EyeBatch) -> None:
    upper, _ = lids(plain)
    middle = (upper[:, 0] + upper[:, -1]) / 2
    offset = plain.labels["pupil"] - middle
    pitch, yaw = degrees(plain)
    assert np.corrcoef(offset[:, 0], yaw)[0, 1] < -0.9  # yaw > 0 looks to the left of the picture
    assert np.corrcoef(offset[:, 1], pitch)[0, 1] < -0.8  # pitch > 0 looks up


def test_head_pose_varies_apart_from_gaze(plain: EyeBatch) -> None:
    upper, _ = lids(plain)
    width = np.linalg.norm(upper[:, -1] - upper[:, 0], axis=1)
    offset = plain.labels["pupil"][:, 0] - (upper[:, 0, 0] + upper[:, -1, 0]) / 2
    _, yaw = degrees(plain)
    fit = np.polyfit(yaw, offset / width, 1)
    left_over = offset / width - np.polyval(fit, yaw)
    assert 0.01 < left_over.std() < 0.05  # share of the eye's width that gaze alone leaves open


def test_lids_follow_gaze(plain: EyeBatch) -> None:
    upper, lower = lids(plain)
    pitch, _ = degrees(plain)
    corners = (upper[:, 0, 1] + upper[:, -1, 1]) / 2
    assert np.corrcoef(upper[:, 3:5, 1].mean(1) - corners, pitch)[0, 1] < -0.6
    opening = (lower[:, 3:5, 1] - upper[:, 3:5, 1]).mean(1)
    assert (opening > 0).all()
    assert opening[pitch < -18].mean() < 0.85 * opening[pitch > 3].mean()


def test_lid_points_lie_on_the_drawn_edges(plain: EyeBatch) -> None:
    """Crossing a lid's edge at its points changes the picture more than moving along it."""
    images = plain.images.astype(np.float32)
    for points, outward in zip(lids(plain), (-1, 1), strict=True):
        for k in (2, 3, 4, 5):
            here = points[:, k]
            across = at(images, here + [0, 4 * outward]) - at(images, here - [0, 4 * outward])
            along = at(images, here + [0, 6 * outward]) - at(images, here + [0, 4 * outward])
            assert np.abs(across).mean() > 1.5 * np.abs(along).mean()


def test_lid_corners_and_order(plain: EyeBatch) -> None:
    upper, lower = lids(plain)
    np.testing.assert_allclose(upper[:, [0, -1]], lower[:, [0, -1]], atol=1.5)
    for points in (upper, lower):
        assert (np.diff(points[..., 0], axis=1) > 0).all()
    assert (lower[:, 1:-1, 1] >= upper[:, 1:-1, 1]).all()


@pytest.mark.parametrize("domain", DOMAINS)
def test_an_image_depends_on_its_number_alone(domain: str) -> None:
    whole = simulate(100, seed=3, domain=domain)
    parts = list(simulate_eyes(41, seed=3, domain=domain, start=37, batch_size=7))
    assert [len(p) for p in parts] == [7, 7, 7, 7, 7, 6]
    assert [p.start for p in parts] == [37, 44, 51, 58, 65, 72]
    np.testing.assert_array_equal(np.concatenate([p.images for p in parts]), whole.images[37:78])
    for name, values in whole.labels.items():
        joined = np.concatenate([p.labels[name] for p in parts])
        np.testing.assert_array_equal(joined, values[37:78])


def test_seeds_domains_and_numbers_differ() -> None:
    first = simulate(64, seed=1)
    assert not np.array_equal(first.images[:32], first.images[32:])
    assert not np.array_equal(first.images, simulate(64, seed=2).images)
    other = simulate(64, seed=1, domain="camera")
    assert not np.array_equal(first.labels["gaze"], other.labels["gaze"])
    assert len(np.unique(first.labels["gaze"], axis=0)) == 64


@pytest.mark.parametrize("domain", DOMAINS)
def test_thread_count_changes_nothing(domain: str) -> None:
    program = (
        "import hashlib; from simgan_fast.simulators import simulate_eyes as s; "
        f"b = next(s(64, seed=5, domain={domain!r}, size=(50, 80))); "
        "print(hashlib.sha256(b.images.tobytes() + b.labels['eyelids'].tobytes()).hexdigest())"
    )
    digests = set()
    for threads in ("1", "4"):
        names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
        run = subprocess.run(
            [sys.executable, "-c", program],
            env={**dict.fromkeys(names, threads), "PYTHONPATH": ":".join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        )
        digests.add(run.stdout)
    assert len(digests) == 1


def test_nothing_to_do() -> None:
    assert list(simulate_eyes(0)) == []
    assert list(simulate_eyes(0, start=5)) == []


def test_domains_look_different() -> None:
    """`camera` is equalised, blurred and noisy; `plain` is neither."""
    plain, camera = (simulate(256, domain=d).images[:, 0].astype(np.float32) for d in DOMAINS)
    assert camera.mean((1, 2)).std() < 3 < plain.mean((1, 2)).std()
    assert camera.std((1, 2)).mean() == pytest.approx(73.6, abs=1.5)  # of a flat histogram
    assert plain.std((1, 2)).mean() < 60


@pytest.mark.parametrize(
    "wrong",
    [
        {"count": -1},
        {"count": 5, "seed": -2},
        {"count": 5, "start": -3},
        {"count": 5, "batch_size": 0},
        {"count": 5, "size": (15, 55)},
        {"count": 5, "size": (35, 5000)},
        {"count": 5, "size": (35, 55, 1)},
        {"count": 5, "domain": "real"},
    ],
)
def test_bad_arguments_are_told_at_the_call(wrong: dict[str, object]) -> None:
    argument = list(wrong)[-1]
    with pytest.raises(InputError, match=rf"{argument} is .*; (give|choose)"):
        simulate_eyes(**wrong)  # type: ignore[arg-type]


def test_camera_keeps_places() -> None:
    """Dark discs stay where they are through blur, sensor grid and compression."""
    y, x = np.mgrid[0:36, 0:60].astype(np.float32)
    rng = np.random.default_rng(4)
    place = np.stack([rng.integers(18, 42, 300), rng.integers(14, 22, 300)], 1)
    squared = (x - place[:, :1, None]) ** 2 + (y - place[:, 1:, None]) ** 2
    shots = camera_model(np.where(squared < 81, 0.1, 1.0).astype(np.float32)[:, None], 1)[:, 0]
    dark = (shots < 80) & (squared < 200)
    area = dark.sum((1, 2))
    found = np.stack([(dark * x).sum((1, 2)) / area, (dark * y).sum((1, 2)) / area], 1)
    np.testing.assert_allclose((found - place).mean(0), 0, atol=0.05)
    assert (np.abs(found - place) < 2.0).mean() > 0.99


def test_camera_model_is_reproducible_and_scale_free() -> None:
    images = np.random.default_rng(0).random((20, 1, 40, 44), dtype=np.float32)
    first = camera_model(images, 9)
    np.testing.assert_array_equal(first, camera_model(images, 9))
    np.testing.assert_array_equal(first, camera_model(images * 4.0, 9))  # exposure is automatic
    assert not np.array_equal(first, camera_model(images, 10))
    assert camera_model(images[:0], 9).shape == (0, 1, 40, 44)


def test_sharp_quiet_camera_returns_the_picture() -> None:
    spec = CameraSpec(
        level=(0.3, 0.3),
        vignetting=(0, 0),
        defocus=(0, 0),
        motion=(0, 0),
        sensor_scales=(1.0,),
        electrons=(1e12, 1e12),
        read_noise=(0, 0),
        gamma=(1, 1),
        jpeg_quality=(100, 100),
        equalise=False,
    )
    picture = np.random.default_rng(1).random((3, 1, 30, 50), dtype=np.float32)
    picture = (picture + 1) / 4
    expected = picture * 0.3 / picture.mean((1, 2, 3), keepdims=True) * 255
    assert np.abs(camera_model(picture, 0, spec) - expected).max() <= 2.0


@pytest.mark.parametrize(
    "images",
    [
        np.zeros((2, 1, 20, 20), np.uint8),
        np.zeros((2, 20, 20), np.float32),
        np.zeros((2, 3, 20, 20), np.float32),
        np.full((2, 1, 20, 20), np.nan, np.float32),
        np.full((2, 1, 20, 20), -0.1, np.float32),
    ],
)
def test_camera_model_rejects(images: Floats) -> None:
    with pytest.raises(InputError, match=r"camera_model: images .*; give"):
        camera_model(images)


def test_equalised_is_opencv_s_formula() -> None:
    image = np.random.default_rng(2).integers(40, 90, (1, 13, 17)).astype(np.uint8)
    counts = np.bincount(image.ravel(), minlength=256)
    first = int(image.min())
    table = np.rint((counts.cumsum() - counts[first]) * 255.0 / (image.size - counts[first]))
    np.testing.assert_array_equal(equalised(image)[0], table[image[0]])
    assert (equalised(image).min(), equalised(image).max()) == (0, 255)
    flat = np.full((2, 5, 5), 77, np.uint8)
    np.testing.assert_array_equal(equalised(flat), flat)


def test_jpeg_follows_pillow() -> None:
    """Same transform and tables as libjpeg, so nearly the same pixels."""
    pillow = pytest.importorskip("PIL.Image")
    image = simulate(1, size=(64, 96)).images[0, 0]
    for quality in (30, 60, 90):
        held = io.BytesIO()
        pillow.fromarray(image).save(held, "JPEG", quality=quality)
        expected = np.asarray(pillow.open(held)).astype(np.float32)
        ours = jpeg(image[None].astype(np.float32), np.array([quality], np.float32))[0]
        # libjpeg's integer transform puts a few coefficients on the other side of a rounding
        assert (np.abs(ours - expected) <= 1).mean() > 0.95
        assert np.abs(ours - expected).mean() < 0.25


def test_documentation_gives_the_ranges_in_use() -> None:
    page = Path(__file__).parents[1] / "docs" / "simulator.md"
    if not page.exists():
        pytest.skip("docs/ is not beside the tests")
    rows = {
        cells[1].strip("` "): cells
        for cells in (line.split("|") for line in page.read_text().splitlines())
        if len(cells) in (6, 7) and cells[1].strip().startswith("`")
    }

    def numbers(cell: str) -> tuple[float, ...]:
        return tuple(float(n) for n in re.findall(r"-?\d+\.?\d*(?:e-?\d+)?", cell))

    sensor = {field.name: getattr(WEBCAM, field.name) for field in fields(WEBCAM)}
    for field in fields(PLAIN):
        if field.name != "gamma":  # the sensor model's row has the same name
            plain, camera = getattr(PLAIN, field.name), getattr(CAMERA, field.name)
            assert numbers(rows[field.name][3]) == plain, field.name
            assert numbers(rows[field.name][4]) == (() if plain == camera else camera), field.name
    for name in sensor.keys() - {"equalise"}:
        assert numbers(rows[name][3]) == sensor[name], name
