"""Image folders made up for the tests of everything that reads one."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from simgan_fast.data.ingest import ingest
from simgan_fast.data.packed import PackedSet
from simgan_fast.data.readers.folder import FolderReader

HAS_DALI = importlib.util.find_spec("nvidia") and importlib.util.find_spec("nvidia.dali")
needs_dali = pytest.mark.skipif(not HAS_DALI, reason="DALI is not installed")
DECODERS = [pytest.param("dali", marks=needs_dali), "pillow"]


def smooth(height: int, width: int, channels: int = 1, seed: int = 0) -> np.ndarray:
    """A picture without symmetry and without noise: uint8 [h, w] or [h, w, 3]."""
    y, x = np.mgrid[:height, :width] / max(height, width)
    phase = np.random.default_rng(seed).uniform(0, 6, channels)
    waves = [np.sin(5 * x + p) + np.cos(9 * y + 2 * p) + x * y for p in phase]
    pixels = np.clip(np.stack(waves, -1) * 55 + 90, 0, 255).astype(np.uint8)
    return pixels[..., 0] if channels == 1 else pixels


def save(path: Path, pixels: np.ndarray | Image.Image, **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(path, "JPEG" if path.suffix.lower() in (".jpg", ".jpeg") else "PNG", **options)
    return path


def damaged_in_part(path: Path) -> Path:
    """100 images of 6 x 8, of which 7 are damaged, one of them the first."""
    for i in range(100):
        file = save(path / f"{i}.jpg", smooth(6, 8, seed=i))
        if i % 16 == 0:
            file.write_bytes(file.read_bytes()[:-50])
    return path


def assert_equal(one: PackedSet, other: PackedSet) -> None:
    assert one.names == other.names
    assert one.rejects == other.rejects
    np.testing.assert_array_equal(one.images(), other.images())


def packed(folder: Path, **options) -> PackedSet:
    """Ingest `folder` beside itself."""
    return ingest(FolderReader(folder), folder.parent / "packed", **options)


def annotation(**changes: Any) -> dict[str, Any]:
    """A UnityEyes pair's, as the program writes it: an eye of 100 pixels in the middle, y counted from below."""
    across = np.linspace(0, 2 * np.pi, 16, endpoint=False)
    lids = [(320 - 50 * np.cos(a), 240 + 20 * np.sin(a)) for a in across]  # over the top first
    iris = [(330 + 10 * np.cos(a), 250 + 10 * np.sin(a)) for a in np.linspace(0, 6.28, 33)[:-1]]
    return {
        "interior_margin_2d": [f"({x:.4f}, {y:.4f}, 9.0)" for x, y in lids],
        "caruncle_2d": [f"(268.0000, {238 + i}.0000, 9.0)" for i in range(5)],
        "iris_2d": [f"({x:.4f}, {y:.4f}, 9.0)" for x, y in iris],
        "eye_details": {"look_vec": "(0.3000, 0.4000, -0.8660, 0.0000)", "pupil_size": "0.1"},
        "head_pose": "(355.0000, 190.0000, 0.0000)",
        **changes,
    }
