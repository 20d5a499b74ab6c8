"""UnityEyes (Wood et al., ETRA 2016): renders `N.jpg`, each with its annotation `N.json`, as the program has them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simgan_fast.data.decode import Box
from simgan_fast.data.readers.folder import natural_order
from simgan_fast.data.readers.unity_renders import (
    CROPS,
    LATERAL,
    Floats,
    RenderSamples,
    crop_box,
    damaged,
    eye_labels,
    folder_of_renders,
    numbers,
    points,
    read_annotation,
)
from simgan_fast.errors import InputError
from simgan_fast.gaze import look_vec_to_vector


class UnityEyesReader(RenderSamples):
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
        if crop not in CROPS:
            raise InputError(f"crop is {crop!r}: want one of {', '.join(CROPS)}.")
        self.folder = folder_of_renders(folder, ["imgs"])
        self.annotations = _Annotations(crop)
        numbered = {path.stem for path in self.folder.glob("*.json")}
        if not numbered:
            raise InputError(f"{self.folder} holds no annotation: want pairs N.jpg and N.json.")
        numbered |= {path.stem for path in self.folder.glob("*.jpg")}
        self.entries = [
            (f"{stem}.jpg", self.folder / f"{stem}.jpg", self.folder / f"{stem}.json")
            for stem in sorted(numbered, key=natural_order)
        ]


@dataclass(frozen=True)
class _Annotations:
    crop: str

    def labels_and_box(
        self, annotation: Path, size: tuple[int, int]
    ) -> tuple[dict[str, Floats], Box]:
        content = read_annotation(annotation)
        try:
            labels = labels_of(content, size[0])
            box = self._box(content, labels["eyelids"], size)
        except (ValueError, LookupError, TypeError) as error:
            raise damaged(annotation, error) from None
        return labels, box

    def _box(self, content: Mapping[str, Any], eyelids: Floats, size: tuple[int, int]) -> Box:
        height, width = size
        if self.crop == "none":
            return 0, 0, width, height
        across = None
        if self.crop == "eye-width":
            corner = points(content["interior_margin_2d"], height)[LATERAL, 0]
            across = abs(corner - points(content["caruncle_2d"], height)[:, 0].mean())
        return crop_box(eyelids, across, size)


def labels_of(content: Mapping[str, Any], height: int) -> dict[str, Floats]:
    """The labels of one annotation, positions in pixels of the whole render of `height` pixels.

    The file counts y from below, and its gaze has y up; it may hold three or four numbers a vector.
    """
    look_vec = numbers(content["eye_details"]["look_vec"])[:3]
    return {"gaze": look_vec_to_vector([look_vec])[0], **eye_labels(content, height)}
