"""UnityEyes (Wood et al., ETRA 2016): renders `N.jpg`, each with its annotation `N.json`, as the program has them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from simgan_fast.data.image_files import Rejected
from simgan_fast.data.readers import Sample
from simgan_fast.data.readers.folder import natural_order
from simgan_fast.errors import InputError

CROPS = ("fixed", "eye-width", "none")
HALF_SIZE = (
    42,
    70,
)  # rows and columns to each side of the middle of the lids, of a render of 640x480
LARGEST = 4  # half of a crop's side, in units of the image's longer side
EYE_WIDTHS = 1.5  # width of the crop "eye-width", of which the height is ASPECT
ASPECT = 36 / 60
LID_POINTS, LATERAL = 16, 8  # of interior_margin_2d; the one at the outer corner
LABELS = {"gaze": 3, "pupil": 2, "eyelids": 2 * LID_POINTS, "head_pose": 3}

Floats = NDArray[np.float64]


class UnityEyesReader:
    """The pairs N.jpg and N.json in `folder`, or in its sub-folder `imgs`, cropped around the eye.

    crop: "fixed", 84x140 pixels around the middle of the lids; "eye-width", 1.5 times as wide as the distance from
    caruncle to outer corner, and 36/60 as high, so that eyes come out alike at any distance (give a size to resize to);
    "none", the whole render. A crop that reaches over the border repeats the edge.

    Labels: `gaze` in MPIIGaze's camera axes; `pupil`, the middle of the iris, and `eyelids`, upper lid and lower lid
    from left to right, 8 points each, in pixels of the crop; `head_pose`, the program's pitch and yaw, brought to 0 for
    a head that faces the camera, and roll, in degrees. The eye is the subject's left. A pair with a part missing or
    damaged is left out and listed in rejects.csv.

    Raises InputError for a folder that is missing or holds no annotation, or an unknown crop.

    >>> reader = UnityEyesReader("UnityEyes_Windows/imgs")  # doctest: +SKIP
    """

    def __init__(self, folder: str | Path, crop: str = "fixed") -> None:
        folder = Path(folder)
        if crop not in CROPS:
            raise InputError(f"crop is {crop!r}: want one of {', '.join(CROPS)}.")
        if not folder.is_dir():
            raise InputError(f"the folder {folder} does not exist.")
        self.folder = folder / "imgs" if (folder / "imgs").is_dir() else folder
        self.crop = crop
        numbered = {path.stem for path in self.folder.glob("*.json")}
        if not numbered:
            raise InputError(f"{self.folder} holds no annotation: want pairs N.jpg and N.json.")
        numbered |= {path.stem for path in self.folder.glob("*.jpg")}
        self.stems = sorted(numbered, key=natural_order)

    @property
    def labels(self) -> Mapping[str, int]:
        return LABELS

    @property
    def pixel_labels(self) -> frozenset[str]:
        return frozenset({"pupil", "eyelids"})

    @property
    def title(self) -> str:
        return str(self.folder)

    def __len__(self) -> int:
        return len(self.stems)

    def __iter__(self) -> Iterator[Sample]:
        for stem in self.stems:
            name = f"{stem}.jpg"
            try:
                yield self._sample(name, self.folder / name, self.folder / f"{stem}.json")
            except Rejected as reason:
                yield Sample(name, partial(_fail, str(reason)), source=self.title)

    def _sample(self, name: str, file: Path, annotation: Path) -> Sample:
        width, height = _size(file)
        try:
            content = json.loads(annotation.read_text())
            labels = labels_of(content, height)
            box = self._box(content, labels["eyelids"], (height, width))
        except FileNotFoundError:
            raise Rejected(f"its annotation {annotation.name} is missing") from None
        except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
            kind = type(error).__name__
            raise Rejected(
                f"its annotation {annotation.name} is damaged ({kind}: {error})"
            ) from None
        left, top = box[:2]
        for label in self.pixel_labels:
            labels[label] = labels[label] - np.tile([left, top], labels[label].size // 2)
        return Sample(name, partial(_cropped, file, box), labels, source=self.title)

    def _box(
        self, content: Mapping[str, Any], eyelids: Floats, size: tuple[int, int]
    ) -> tuple[int, int, int, int]:
        """Left, top, right and bottom of the crop, in whole pixels."""
        height, width = size
        if self.crop == "none":
            return 0, 0, width, height
        points = eyelids.reshape(-1, 2) + 0.5  # from pixels' centres to their corners
        middle = (points.min(0) + points.max(0)) / 2
        half = np.array(HALF_SIZE[::-1], float)
        if self.crop == "eye-width":
            corner = _points(content["interior_margin_2d"], height)[LATERAL, 0]
            across = abs(corner - _points(content["caruncle_2d"], height)[:, 0].mean())
            half = EYE_WIDTHS * across / 2 * np.array([1, ASPECT])
        left, top = (int(x) for x in np.rint(middle - half))
        right, bottom = (int(x) for x in (left, top) + np.rint(2 * half))
        if max(half) > LARGEST * max(size):
            raise Rejected("the eye is many times as large as the image")
        if right <= 0 or bottom <= 0 or left >= width or top >= height or min(half) < 1:
            raise Rejected("the eye is outside of the image")
        return left, top, right, bottom


def labels_of(content: Mapping[str, Any], height: int) -> dict[str, Floats]:
    """The labels of one annotation, positions in pixels of the whole render of `height` pixels.

    The file counts y from below, and its gaze has y up; it may hold three or four numbers a vector.
    """
    x, y, z = _numbers(content["eye_details"]["look_vec"])[:3]
    length = float(np.linalg.norm((x, y, z)))
    if not length > 0:
        raise ValueError("look_vec is zero")
    lids = _points(content["interior_margin_2d"], height)
    if len(lids) != LID_POINTS:
        raise ValueError(f"{len(lids)} points in interior_margin_2d")
    around = np.concatenate([lids[:LATERAL], lids[: LATERAL - 1 : -1]])
    pitch, yaw, roll = _numbers(content["head_pose"])[:3]
    return {
        "gaze": np.array([x, -y, z]) / length,
        "pupil": _points(content["iris_2d"], height).mean(0) - 0.5,
        "eyelids": around.reshape(-1) - 0.5,
        "head_pose": np.array([pitch - 360 if pitch > 180 else pitch, yaw - 180, roll]),
    }


def _numbers(text: str) -> list[float]:
    """Of "(1.0, 2.0, 3.0)"; ValueError for anything else."""
    if not re.fullmatch(r"\s*\([^()]*\)\s*", text):
        raise ValueError(f"{text!r} is no vector")
    numbers = [float(part) for part in text.strip()[1:-1].split(",")]
    if len(numbers) < 3 or not np.isfinite(numbers).all():
        raise ValueError(f"{text!r} is no vector")
    return numbers


def _points(texts: list[str], height: int) -> Floats:
    """x to the right and y down from the top-left corner, [n, 2]."""
    return np.array([(x, height - y) for x, y, *_ in map(_numbers, texts)])


def _size(file: Path) -> tuple[int, int]:
    try:
        with Image.open(file, formats=("JPEG",)) as image:
            return int(image.width), int(image.height)
    except FileNotFoundError:
        raise Rejected("the image is missing") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        raise Rejected("not a JPEG file") from None


def _cropped(file: Path, box: tuple[int, int, int, int]) -> np.ndarray:
    left, top, right, bottom = box
    try:
        with Image.open(file, formats=("JPEG",)) as image:
            pixels = np.asarray(image if image.mode == "L" else image.convert("RGB"))
    except (OSError, SyntaxError, ValueError) as error:
        raise Rejected(f"damaged or cut off: {error}") from None
    height, width = pixels.shape[:2]
    rows = np.clip(np.arange(top, bottom), 0, height - 1)
    columns = np.clip(np.arange(left, right), 0, width - 1)
    return pixels[rows][:, columns]


def _fail(reason: str) -> np.ndarray:
    raise Rejected(reason)
