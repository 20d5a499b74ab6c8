"""The NYU hand pose data (Tompson et al., ACM TOG 2014): `dataset/{train,test}`, depth images of hands with joints.

A folder holds `depth_V_NNNNNNN.png`, what camera V (1 to 3) saw in frame N (from 1), `synthdepth_V_NNNNNNN.png`, the
hand model rendered in the same pose, and `joint_data.mat` with `joint_uvd` and `joint_xyz` [3, N, 36, 3]. 14 of the 36
joints are those that all evaluate (DeepPrior++, V2V-PoseNet, AWR): tip and middle of little, ring, middle and index
finger, tip, middle and root of the thumb, two of the wrist, and the palm's centre, which is the hand's.

The crop is that of the code for the paper: around the pixels of the synthetic image, for the real image too. Whether
the paper cut out a box or the hand's outline it does not say; `crop` offers both.
"""

from __future__ import annotations

import re
import warnings
import zlib
from collections.abc import Iterator, Mapping
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from simgan_fast import depth as depths
from simgan_fast.data.decode import Loaded
from simgan_fast.data.image_files import Rejected
from simgan_fast.data.isolation import Isolated
from simgan_fast.data.readers import Sample, left_out, needed, reason_of
from simgan_fast.depth import JOINTS, VALUES, Box
from simgan_fast.errors import InputError

KINDS, CROPS = ("depth", "synthdepth"), ("box", "mask", "none")
VIEWS = (1, 2, 3)
FRAMES = 1 << 17  # more than that is damage, and is not read
# SciPy trips over its own feet too: UnboundLocalError is a NameError.
_DAMAGED = (
    OSError,
    LookupError,
    ValueError,
    TypeError,
    NotImplementedError,
    NameError,
    MemoryError,
    zlib.error,
)


class NYUHandsReader:
    """The hands in `folder`: the data set's own, its `dataset`, or one of `train` and `test`, with a joint_data.mat.

    Args:
        kind: "depth", the camera's images, or "synthdepth", the rendered ones.
        view: 1, 2 or 3, or "all". Default 1, the camera in front, which is the one that results are reported for.
        crop: "box", a square around the hand, 10 pixels larger than the pixels of the synthetic image, the same for
            both kinds; "mask", that, with depth only where the synthetic image has some, so that a real image has an
            empty background too; "none", the whole image. Beyond the border there is no depth.
        values: "millimetres", uint16 as they are; "paper" and "metric", encoded for training by `encode_paper` and
            `encode_metric` of simgan_fast.depth, which has the inverses. Without depth is 0 in the first two, far in
            the last.

    Images are resized by the nearest pixel: a mean of hand and background would be a depth where nothing is.

    Labels: `joints` 14 x (x, y) in pixels of the crop; `joints_xyz` 14 x (x, y, z) in mm, x right, y
    up, z away from the camera; `centre`, the depth of the palm in mm; `box`, left, top, right and bottom of the crop in
    pixels of the whole image; `frame`, its number in its part of the set, and `view`, its camera. An image that is
    damaged, has no synthetic one to crop by, no depth in its crop, or no joints, or joints behind the camera, is left
    out and listed in rejects.csv; so is depth of 8 bits, or in metres. Frames without an image are passed over, so that
    a part of the set can be read; of all views, those that a frame lacks are listed.

    Raises InputError for a folder that holds no such images, a joint_data.mat that cannot be read, an unknown option,
    and where SciPy is not installed.

    >>> reader = NYUHandsReader("nyu_hand_dataset_v2", kind="synthdepth")  # doctest: +SKIP
    """

    def __init__(
        self,
        folder: str | Path,
        kind: str = "depth",
        view: int | str = 1,
        crop: str = "box",
        values: str = "millimetres",
    ) -> None:
        self.kind, self.crop, self.values = kind, crop, values
        for name, value, known in (
            ("kind", kind, KINDS),
            ("view", str(view), (*map(str, VIEWS), "all")),
            ("crop", crop, CROPS),
            ("values", values, VALUES),
        ):
            if value not in known:
                raise InputError(f"{name} is {value!r}: want one of {', '.join(known)}.")
        self.folder = Path(folder)
        views = VIEWS if str(view) == "all" else (int(view),)
        self._frames = [
            frame
            for prefix, place in _splits(self.folder)
            for frame in self._of(prefix, place, views)
        ]
        if not self._frames:
            raise InputError(f"{folder} holds no {kind}_{views[0]}_0000001.png or the like.")

    @property
    def labels(self) -> Mapping[str, int]:
        joints = {"joints": 2 * len(JOINTS), "joints_xyz": 3 * len(JOINTS)}
        return {**joints, "centre": 1, "box": 4, "frame": 1, "view": 1}

    @property
    def pixel_labels(self) -> frozenset[str]:
        return frozenset({"joints"})

    @property
    def title(self) -> str:
        return str(self.folder)

    def __len__(self) -> int:
        return len(self._frames)

    def __iter__(self) -> Iterator[Sample]:
        for name, place, uvd, xyz, absent in self._frames:
            reason = absent or _problem(uvd, xyz)
            if reason:
                yield left_out(name, reason, self.title)
            else:
                file = place / name.rpartition("/")[2]
                load = partial(_load, file, (self.kind, self.crop, self.values), uvd, xyz)
                yield Sample(name, load, source=self.title, nearest=True)

    def _of(self, prefix: str, place: Path, views: tuple[int, ...]) -> Iterator[Any]:
        """Name, folder, joints (u, v, d) and (x, y, z) [14, 3] or None, and why it is absent, of each image."""
        uvd, xyz = (
            _joints(place / "joint_data.mat", name, views) for name in ("joint_uvd", "joint_xyz")
        )
        pattern = re.compile(rf"{self.kind}_([123])_([0-9]{{7}})\.png")
        matches = (pattern.fullmatch(file.name) for file in place.iterdir())
        found = {(int(match[1]), int(match[2])) for match in matches if match is not None}
        found = {(view, frame) for view, frame in found if view in views}
        for view, frame in sorted(set(product(views, {frame for _, frame in found}))):
            known = 0 < frame <= min(uvd.shape[1], xyz.shape[1])
            rows = views.index(view), frame - 1
            joints = (uvd[rows], xyz[rows]) if known else (None, None)
            absent = "" if (view, frame) in found else "missing: its frame lacks this view"
            yield f"{prefix}{self.kind}_{view}_{frame:07d}.png", place, *joints, absent


def _load(file: Path, options: tuple[str, str, str], uvd: np.ndarray, xyz: np.ndarray) -> Loaded:
    """uint16 [h, w] of one file, cropped and encoded, and its labels; the crop is that of the synthetic image."""
    kind, crop, values = options
    view, number = file.stem.split("_")[1:]
    depth, centre = _read(file), float(xyz[-1, 2])
    if 0 < depth.max() < depths.NEAREST:
        raise Rejected(
            f"its largest depth is {depth.max()}: that seems to be metres, and millimetres are wanted"
        )
    box: Box = (0, 0, depths.WIDTH, depths.HEIGHT)
    if crop != "none":
        rendered = file.with_name(f"synthdepth{file.name[len(kind) :]}")
        synthetic = depth if kind == "synthdepth" else _read(rendered)
        box = hand_box(synthetic)
        if crop == "mask":
            depth = np.where(synthetic > 0, depth, 0).astype(np.uint16)
        depth = depths.crop_depth(depth, box)
    if not depth.any():
        raise Rejected("there is no depth in its crop: it is all background")
    labels = {
        "joints": (uvd[:, :2] - np.array(box[:2], np.float32)).reshape(-1),
        "joints_xyz": xyz.reshape(-1),
        "centre": np.array([centre]),
        "box": np.array(box),
        "frame": np.array([int(number)]),
        "view": np.array([int(view)]),
    }
    return Loaded(depths.encoded(depth, values, centre), labels)


def hand_box(synthetic: np.ndarray) -> Box:
    """The square around the pixels with depth (of a synthetic image); raises Rejected where there is none."""
    box = depths.hand_box(synthetic)
    if box is None:
        raise Rejected("its synthetic image is empty: there is no hand to crop around")
    return box


def _read(file: Path) -> np.ndarray:
    """Millimetres of one file; Rejected where it is missing or no such image."""
    try:
        with Image.open(file, formats=("PNG",)) as image:
            if image.mode != "RGB" or image.size != (depths.WIDTH, depths.HEIGHT):
                raise Rejected(
                    f"{file.name} is {image.mode} {image.height}x{image.width}: want RGB 480x640"
                )
            pixels = np.asarray(image)
    except FileNotFoundError:
        raise Rejected(f"{file.name} is missing") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise Rejected(f"{file.name} is damaged or cut off: {error}") from None
    red, green, blue = pixels.transpose(2, 0, 1)
    if red.any() and (red == green).all() and (red == blue).all():
        raise Rejected(f"{file.name} is grey of 8 bits: want depth in mm, 256 green + blue")
    return depths.decode_nyu(pixels)


def _problem(uvd: np.ndarray | None, xyz: np.ndarray | None) -> str:
    """Why joints [14, 3] in pixels and mm cannot be used, or ''."""
    if uvd is None or xyz is None:
        return "joint_data.mat has no such frame"
    if not (np.isfinite(uvd).all() and np.isfinite(xyz).all()):
        return "its joints are no numbers"
    if not (xyz[:, 2].min() > 0 and xyz[:, 2].max() < 65536):
        return "some of its joints are behind the camera, or farther than 65 m"
    if xyz[-1, 2] < depths.NEAREST:
        return f"its palm is {xyz[-1, 2]:.3g} mm away: that seems to be metres, and millimetres are wanted"
    return ""


def _splits(folder: Path) -> list[tuple[str, Path]]:
    """Prefix of the names, and folder, of each part of the set."""
    for place in (folder / "dataset", folder):
        parts = [name for name in ("train", "test") if (place / name / "joint_data.mat").is_file()]
        if parts:
            return [(f"{name}/", place / name) for name in parts]
    if not (folder / "joint_data.mat").is_file():
        raise InputError(
            f"{folder} holds no part of the NYU hands: want dataset/train or dataset/test with a joint_data.mat in it."
        )
    return [("", folder)]


def _joints(file: Path, name: str, views: tuple[int, ...]) -> np.ndarray:
    """[views, n, 14, 3] of the array `name`; that one alone is read, once its declared shape is known to be right."""
    scipy = needed("scipy.io", "scipy")
    try:
        with Isolated() as call:  # some damage crashes SciPy
            joints = call(_array, file, name)
    except (*_DAMAGED, scipy.matlab.MatReadError) as error:
        raise InputError(f"{file} cannot be read ({reason_of(error)}): fetch it again.") from None
    chosen = joints[[view - 1 for view in views]][:, :, list(JOINTS)]
    with np.errstate(over="ignore"):  # what becomes infinite is left out with its frame
        return np.ascontiguousarray(chosen, np.float32)


def _array(file: Path, name: str) -> np.ndarray:
    """The array `name` [3, n, 36, 3] of numbers."""
    scipy = needed("scipy.io", "scipy")
    # Opened here, because SciPy does not tell why a file cannot be; its warning is its value too.
    with open(file, "rb") as stream, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        shape = {found: shape for found, shape, _ in scipy.whosmat(stream)}[name]
        if len(shape) != 4 or shape[0] != 3 or shape[2:] != (36, 3) or shape[1] > FRAMES:
            raise ValueError(f"{name} is {list(shape)}, and [3, n, 36, 3] was expected")
        stream.seek(0)
        joints = scipy.loadmat(stream, variable_names=[name])[name]
    if not isinstance(joints, np.ndarray) or joints.shape != shape:
        raise ValueError(str(joints)[:200])
    return joints.astype(np.float64)  # fails for texts and objects
