"""UnityEyes 2 (Smith and Muthumanickam, 2025; github.com/alexanderdsmith/UnityEyes2): UnityEyes with several cameras.

The program writes `N.json` and of each camera `N_<camera>.jpg`, into the folder that is set, or `EER_eye_data`, or
`imgs` (its Assets/SynthesEyesServer.cs, `saveFrame` and `saveAllCamerasDetails`; the repository's testing/imgs has
`2.json` beside `2_cam1.jpg`). `cameras.<camera>` of the JSON holds `interior_margin_2d`, `caruncle_2d`, `iris_2d` and
`head_pose` as UnityEyes has them, and `ground_truth`. An older version writes `N.jpg` and a JSON with `ground_truth`
alone.

`ground_truth` tells the gaze in two ways. `gaze_vec`, of older versions, is a direction: x right, y up, z away from
the camera, so (x, y, z) is (x, -y, z) here. Later versions have `iris_center` and `eye_center` in metres, x right, y
down, z away, and the gaze is the direction from the second to the first; their `gaze_vector` is no direction but a
point, scaled twice. The `iris_center` of the older version was taken before the eye was turned (it is the same for
every gaze), so it is no label.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from simgan_fast.data.checks import checked_name
from simgan_fast.data.decode import Box
from simgan_fast.data.image_files import Rejected
from simgan_fast.data.readers.folder import natural_order
from simgan_fast.data.readers.unity_renders import (
    CROPS,
    LABELS,
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
from simgan_fast.gaze import look_vec_to_vector, unit_vectors

INSIDE = ("EER_eye_data", "imgs")


class UnityEyes2Reader(RenderSamples):
    """The images N_<camera>.jpg, or N.jpg, of the annotations N.json in `folder`, or its `EER_eye_data` or `imgs`.

    crop: "fixed", "eye-width" or "none" as in `UnityEyesReader`, but that the eye's width is measured along the eye, as
    these cameras may be rolled. Default: "eye-width" (give a size to resize to), as the cameras stand at any distance;
    "none" for annotations without landmarks (`ground_truth` alone), where there is nothing to crop around.

    Labels: `gaze`, `pupil`, `eyelids` (each lid from the inner to the outer corner) and `head_pose` as in
    `UnityEyesReader`; `gaze` alone where there are no landmarks. A frame that lacks the image of a camera which others
    have, or the annotation, is left out and listed in rejects.csv.

    Raises InputError for a folder that is missing or holds no annotation, an unknown crop, or one that needs landmarks
    where there are none.

    >>> reader = UnityEyes2Reader("UnityEyes2/EER_eye_data")  # doctest: +SKIP
    """

    def __init__(self, folder: str | Path, crop: str | None = None) -> None:
        if crop not in (*CROPS, None):
            raise InputError(f"crop is {crop!r}: want one of {', '.join(CROPS)}.")
        self.folder = folder_of_renders(folder, INSIDE)
        frames, cameras = _frames_and_cameras(self.folder)
        self.entries = [
            (name, self.folder / name, (self.folder / f"{frame}.json", camera))
            for frame in frames
            for camera in cameras
            for name in [f"{frame}_{camera}.jpg" if camera else f"{frame}.jpg"]
        ]
        self.landmarks = cameras != [""] or _has_cameras(self.folder, frames)
        if not self.landmarks and crop not in ("none", None):
            raise InputError(
                f"the annotations in {self.folder} have no landmarks to crop around (ground_truth alone): use the "
                "crop 'none'."
            )
        crop = crop or ("eye-width" if self.landmarks else "none")
        self.annotations = _Annotations(crop, self.landmarks)
        self.labels = LABELS if self.landmarks else {"gaze": 3}


@dataclass(frozen=True)
class _Annotations:
    crop: str
    landmarks: bool

    def labels_and_box(
        self, annotation: tuple[Path, str], size: tuple[int, int]
    ) -> tuple[dict[str, Floats], Box]:
        file, camera = annotation
        content = read_annotation(file)
        try:
            if self.landmarks:
                content = _camera_of(content, camera, file)
            labels = {"gaze": gaze_of(content["ground_truth"])}
            if self.landmarks:
                labels |= eye_labels(content, size[0])
            box = self._box(content, labels, size)
        except (ValueError, LookupError, TypeError) as error:
            raise damaged(file, error) from None
        return labels, box

    def _box(
        self, content: Mapping[str, Any], labels: Mapping[str, Floats], size: tuple[int, int]
    ) -> Box:
        height, width = size
        if self.crop == "none":
            return 0, 0, width, height
        across = None
        if self.crop == "eye-width":
            corner = points(content["interior_margin_2d"], height)[LATERAL]
            inner = points(content["caruncle_2d"], height).mean(0)
            across = float(np.linalg.norm(corner - inner))
        return crop_box(labels["eyelids"], across, size)


def gaze_of(truth: Mapping[str, Any]) -> Floats:
    """Unit gaze [3] in the camera's axes (x right, y down, z away) of a `ground_truth`."""
    if "gaze_vec" in truth:
        gaze = look_vec_to_vector([numbers(truth["gaze_vec"])[:3]])
    else:
        iris, eye = numbers(truth["iris_center"])[:3], numbers(truth["eye_center"])[:3]
        gaze = unit_vectors([np.subtract(iris, eye)])
    found: Floats = gaze[0]
    return found


def _frames_and_cameras(folder: Path) -> tuple[list[str], list[str]]:
    """Frames in order, and the cameras that any image is of; "" for images without."""
    frames = {path.stem for path in folder.glob("*.json") if path.stem.isdecimal()}
    if not frames:
        raise InputError(
            f"{folder} holds no annotation: want N.json with N_<camera>.jpg or N.jpg, N a number."
        )
    cameras: set[str] = set()
    for path in folder.glob("*.jpg"):
        found = re.fullmatch(r"(\d+)(?:_(.+))?", path.stem)
        if found is not None:
            checked_name(path.name)
            frames.add(found[1])
            cameras.add(found[2] or "")
    if not cameras:
        raise InputError(f"{folder} holds no image: want N_<camera>.jpg or N.jpg for each N.json.")
    return sorted(frames, key=natural_order), sorted(cameras, key=natural_order)


def _has_cameras(folder: Path, frames: list[str]) -> bool:
    """By the first annotation that can be read."""
    for frame in frames:
        try:
            content = read_annotation(folder / f"{frame}.json")
        except Rejected:
            continue
        return isinstance(content, dict) and "cameras" in content
    return False


def _camera_of(content: Any, camera: str, file: Path) -> Any:
    """The part of an annotation for `camera`; an image N.jpg is of its only one."""
    cameras = content["cameras"]
    if not isinstance(cameras, dict):
        raise TypeError("cameras is no table")
    if not camera and len(cameras) == 1:
        return next(iter(cameras.values()))
    if camera not in cameras:
        raise Rejected(f"its annotation {file.name} has no camera {camera!r}")
    return cameras[camera]
