"""What the readers of UnityEyes and UnityEyes 2 share: annotations, crops around the eye, samples that may fail.

Both programs write points as texts "(x, y, z)", in pixels from the bottom-left corner of the image.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from simgan_fast.data.decode import Box, Loaded, read_file, size_of
from simgan_fast.data.image_files import Rejected, is_jpeg
from simgan_fast.data.readers import PIXEL_LABELS, PixelLabelsByName, Sample
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
USUAL_BYTES = 128 << 10  # of an annotation: the programs write 5 to 100 KiB
ANNOTATION_BYTES = 4 << 20  # at most
LONGEST = 1e12  # of a coordinate: what lies farther off is damage, and would overflow later on

Floats = NDArray[np.float64]


class Annotations(Protocol):
    """What the annotations of a program say; it goes to other processes, so it is small."""

    def labels_and_box(
        self, annotation: Any, size: tuple[int, int]
    ) -> tuple[dict[str, Floats], Box]:
        """Positions in pixels of the whole image of `size` (height, width), and the crop; or Rejected."""


class RenderSamples(PixelLabelsByName):
    """The samples of `entries`, (name, image file, annotation) each; `annotations` reads them."""

    folder: Path
    entries: Sequence[tuple[str, Path, Any]]
    annotations: Annotations
    labels = LABELS

    @property
    def title(self) -> str:
        return str(self.folder)

    def __len__(self) -> int:
        return len(self.entries)

    def __iter__(self) -> Iterator[Sample]:
        for name, file, annotation in self.entries:
            load = partial(_load, self.annotations, str(file), annotation)
            yield Sample(name, load, source=self.title)


def _load(annotations: Annotations, file: str, annotation: Any) -> Loaded:
    data = read_file(file)
    if not is_jpeg(data):
        raise Rejected("not a JPEG file")
    labels, box = annotations.labels_and_box(annotation, size_of(data))
    for label in PIXEL_LABELS & labels.keys():
        labels[label] = labels[label] - np.tile(box[:2], labels[label].size // 2)
    return Loaded(data, labels, box)


def folder_of_renders(folder: str | Path, inside: Sequence[str]) -> Path:
    """`folder`, or the first of the sub-folders `inside` that it has; InputError where it is none."""
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"the folder {folder} does not exist.")
    return next((folder / name for name in inside if (folder / name).is_dir()), folder)


def read_annotation(file: Path) -> Any:
    """The JSON in `file`; Rejected where it is missing, no JSON, or too large."""
    try:
        with open(file, "rb", buffering=0) as stream:
            data = stream.read(USUAL_BYTES)
            if len(data) == USUAL_BYTES:  # room for the largest is not asked for each of them
                data += stream.read(ANNOTATION_BYTES + 1 - USUAL_BYTES)
        if len(data) > ANNOTATION_BYTES:
            raise Rejected(f"its annotation {file.name} is larger than {ANNOTATION_BYTES} bytes")
        return json.loads(data)
    except FileNotFoundError:
        raise Rejected(f"its annotation {file.name} is missing") from None
    except (OSError, ValueError, RecursionError) as error:
        raise damaged(file, error) from None


def damaged(file: Path, error: Exception) -> Rejected:
    """What to raise for an annotation of which `error` came."""
    kind, text = type(error).__name__, str(error)[:200]  # a text of the file may be in it
    return Rejected(f"its annotation {file.name} is damaged ({kind}: {text})")


def numbers(text: Any) -> list[float]:
    """Of "(1.0, 2.0, 3.0)", three or four; ValueError for anything else."""
    found = [float(part) for part in _inside(text).split(",")]
    if len(found) not in (3, 4) or not all(abs(number) <= LONGEST for number in found):  # NaN too
        raise ValueError(f"{text[:50]!r} is no vector")
    return found


def points(texts: Any, height: int) -> Floats:
    """x to the right and y down from the top-left corner, [n, 2]; ValueError where there is none."""
    if not isinstance(texts, list) or not texts:
        raise ValueError("a list of points is missing")
    # As `numbers`, but all together, as an annotation holds a hundred.
    inside = [
        text[1:-1]
        for text in texts
        if isinstance(text, str) and text[:1] == "(" and text[-1:] == ")"
    ]
    if len(inside) < len(texts):
        inside = [_inside(text) for text in texts]  # blanks around a vector, or none
    commas = {text.count(",") for text in inside}
    if commas not in ({2}, {3}):
        raise ValueError("a point is no vector")
    found = np.array(list(map(float, ",".join(inside).split(",")))).reshape(len(inside), -1)
    if not (np.abs(found) <= LONGEST).all():  # NaN too
        raise ValueError("a point is no vector")
    positions: Floats = found[:, :2]
    positions[:, 1] = height - positions[:, 1]
    return positions


def _inside(text: Any) -> str:
    """What is between the brackets of a vector."""
    if not isinstance(text, str) or not (text := text.strip()).startswith("(") or text[-1] != ")":
        raise ValueError(f"{str(text)[:50]!r} is no vector")
    return text[1:-1]


def eye_labels(content: Mapping[str, Any], height: int) -> dict[str, Floats]:
    """`pupil` and `eyelids` in pixels of the whole image, and `head_pose`, as both programs write them."""
    lids = points(content["interior_margin_2d"], height)
    if len(lids) != LID_POINTS:
        raise ValueError(f"{len(lids)} points in interior_margin_2d")
    around = np.concatenate([lids[:LATERAL], lids[: LATERAL - 1 : -1]])
    pitch, yaw, roll = numbers(content["head_pose"])[:3]
    return {
        "pupil": points(content["iris_2d"], height).mean(0) - 0.5,
        "eyelids": around.reshape(-1) - 0.5,
        "head_pose": np.array([_turned(pitch), _turned(yaw - 180), _turned(roll)]),
    }


def crop_box(eyelids: Floats, across: float | None, size: tuple[int, int]) -> Box:
    """The crop of an image of `size` (height, width) around `eyelids`: "fixed", or for an eye `across` pixels wide.

    Raises Rejected where the eye is outside of the image, or absurdly large.
    """
    height, width = size
    corners = eyelids.reshape(-1, 2) + 0.5  # from pixels' centres to their corners
    middle = (corners.min(0) + corners.max(0)) / 2
    half = np.array(HALF_SIZE[::-1], float)
    if across is not None:
        half = EYE_WIDTHS * across / 2 * np.array([1, ASPECT])
    left, top = (int(x) for x in np.rint(middle - half))
    right, bottom = (int(x) for x in (left, top) + np.rint(2 * half))
    if max(half) > LARGEST * max(size):
        raise Rejected("the eye is many times as large as the image")
    if right <= 0 or bottom <= 0 or left >= width or top >= height or min(half) < 1:
        raise Rejected("the eye is outside of the image")
    return left, top, right, bottom


def _turned(degrees: float) -> float:
    """Brought to [-180, 180)."""
    return (degrees + 180) % 360 - 180
