"""A folder of depth images of hands without joints: what real depth cameras give, to refine toward."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

import numpy as np

from simgan_fast import depth as depths
from simgan_fast.data.decode import Loaded, decode_file, read_file
from simgan_fast.data.image_files import Rejected
from simgan_fast.data.readers import Sample
from simgan_fast.data.readers.folder import image_names
from simgan_fast.data.readers.nyu_hands import hand_box
from simgan_fast.depth import VALUES, Depth
from simgan_fast.errors import InputError

CROPS = ("box", "none")
FARTHEST = 65535.0  # mm

Room = tuple[float | None, float | None, int]  # near, far, lowest


class DepthFolderReader:
    """The grey PNGs under `folder`, sub-folders included, as depth of hands.

    Args:
        near, far: mm, the room that the hand is in; what lies outside of it has no depth afterwards. By default all of
            it. Files of 8 bits need both: there level `lowest` stands for `near` and 255 for `far`.
        lowest: of files of 8 bits; lower levels have no depth. Images that were resized by means have a rim of them
            around the hand, halfway to the background 0, which would be depths where nothing is.
        crop: "box", a square around the pixels that have depth, 10 pixels larger than they are, as for NYU's hands;
            "none", the whole image.
        values: "millimetres", "paper" or "metric", as for NYU's hands; "metric" is around `centre`.

    Files of 16 bits hold millimetres, 0 where nothing was measured. Labels: `centre`, the median depth of the hand in
    mm, and `box`, left, top, right and bottom of the crop in pixels of the whole image. An image without depth in that
    room, of 8 bits without `near` and `far`, in metres, or that is no grey PNG, is left out and listed in rejects.csv.

    Raises InputError for a folder that is missing or has no image, and for options that cannot be.

    >>> reader = DepthFolderReader("frames", near=200, far=900)  # doctest: +SKIP
    """

    def __init__(
        self,
        folder: str | Path,
        near: float | None = None,
        far: float | None = None,
        lowest: int = 1,
        crop: str = "box",
        values: str = "millimetres",
    ) -> None:
        for name, value, known in (("crop", crop, CROPS), ("values", values, VALUES)):
            if value not in known:
                raise InputError(f"{name} is {value!r}: want one of {', '.join(known)}.")
        if not 0 < (1 if near is None else near) < (FARTHEST if far is None else far) <= FARTHEST:
            raise InputError(
                f"near is {near} mm and far {far} mm: want 0 < near < far, and far at most {FARTHEST:g}."
            )
        if not 1 <= lowest < 255:
            raise InputError(f"lowest is {lowest}: want a level from 1 to 254.")
        self.folder = Path(folder)
        self.names = image_names(self.folder)
        self._room = near, far, lowest
        self._options = crop, values

    @property
    def labels(self) -> Mapping[str, int]:
        return {"centre": 1, "box": 4}

    @property
    def pixel_labels(self) -> frozenset[str]:
        return frozenset()

    @property
    def title(self) -> str:
        return str(self.folder)

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[Sample]:
        for name in self.names:
            load = partial(_load, self.folder / name, self._room, self._options)
            yield Sample(name, load, source=self.title, nearest=True)


def _load(file: Path, room: Room, options: tuple[str, str]) -> Loaded:
    crop, values = options
    depth = _millimetres(decode_file(read_file(str(file)), None)[0], room)
    if not depth.any():
        raise Rejected("no pixel has a depth, or none between near and far: it is all background")
    box = (0, 0, depth.shape[1], depth.shape[0])
    if crop == "box":
        box = hand_box(depth)
        depth = depths.crop_depth(depth, box)
    centre = float(np.median(depth[depth > 0]))
    labels = {"centre": np.array([centre]), "box": np.array(box)}
    return Loaded(depths.encoded(depth, values, centre), labels)


def _millimetres(pixels: np.ndarray, room: Room) -> Depth:
    """Depth [h, w] of a file's pixels, 0 where there is none in the room; Rejected where that is unknown."""
    near, far, lowest = room
    if pixels.ndim != 2:
        raise Rejected("it has colours: want grey of 16 bits, in mm")
    if pixels.dtype == np.uint8:
        if near is None or far is None:
            raise Rejected(
                "it has 8 bits, which hold no millimetres: say by near and far what the lowest and level 255 stand for"
            )
        depth = near + (pixels - float(lowest)) * (far - near) / (255 - lowest)
        return np.where(pixels < lowest, 0, np.rint(depth)).astype(np.uint16)
    if 0 < pixels.max() < depths.NEAREST:
        raise Rejected(
            f"its largest depth is {pixels.max()}: that seems to be metres, and millimetres are wanted"
        )
    outside = (pixels < (near or 0)) | (pixels > (far or FARTHEST))
    return np.where(outside, 0, pixels).astype(np.uint16)
