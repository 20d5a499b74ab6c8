"""What a reader of a data set must give: samples, one at a time, in an order that never changes.

A new format is a new module beside this one with a class that fulfils `Reader`; everything behind
it (checking, decoding, resizing, packing) is `simgan_fast.data.ingest` and the same for all.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

import numpy as np

from simgan_fast.data.decode import Box, Content, Labels, Loaded
from simgan_fast.data.image_files import Rejected
from simgan_fast.errors import InputError

PIXEL_LABELS = frozenset({"pupil", "eyelids"})
"""Labels that are pixel positions x0, y0, x1, y1, ... wherever they occur; they move when an image
is resized.
"""


class Sample(NamedTuple):
    """One image on its way in.

    `name`: its identity in the set, a relative POSIX path such as "left/0001.png". `image`: a PNG or
    JPEG file, as a path (text is quicker than a Path) or as its bytes; or pixels that are decoded
    already, uint8 or uint16 [h, w] or [h, w, c]; or a function that gives such bytes or pixels, or
    `Loaded`, which are those with labels (and a box), and may raise `Rejected` (simgan_fast.data.image_files) with the
    reason why the image is left out. It is called once, perhaps in another process, so it must be one
    that can be pickled. `labels`: name -> [k] numbers. `source`: where it comes from, for people.
    `box`: left, top, right, bottom of the part of the image that is meant, in whole pixels; beyond the
    border the edge repeats. `nearest`: pixels are resized by the nearest one, as a mean of two of them
    would mean nothing: depth of a hand and of what is behind.
    """

    name: str
    image: Path | str | bytes | np.ndarray | Callable[[], Content | Loaded]
    labels: Labels = MappingProxyType({})
    source: str = ""
    box: Box | None = None
    nearest: bool = False


class Reader(Protocol):
    """A data set that can be iterated over.

    `labels`: how many numbers each label of every sample has. `pixel_labels`: those of them that
    are positions x0, y0, ... in pixels (the centre of the top-left pixel is (0, 0)). `title`: how
    messages name the data set. Where each sample's image is a file of its own, by path, it may have
    `beside_images`: the other files that it reads, which alone are then asked for changes before.
    """

    @property
    def labels(self) -> Mapping[str, int]: ...

    @property
    def pixel_labels(self) -> frozenset[str]: ...

    @property
    def title(self) -> str: ...

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Sample]: ...


class PixelLabelsByName:
    """Of a reader with labels of any name: those of PIXEL_LABELS are positions."""

    labels: Mapping[str, int]

    @property
    def pixel_labels(self) -> frozenset[str]:
        return PIXEL_LABELS & self.labels.keys()


class GazeLabels:
    """The labels of a reader that knows the gaze alone."""

    @property
    def labels(self) -> Mapping[str, int]:
        return {"gaze": 3}

    @property
    def pixel_labels(self) -> frozenset[str]:
        return frozenset()


def left_out(name: str, reason: str, source: str) -> Sample:
    """A sample of which it is known that it goes to rejects.csv, for `reason`."""
    return Sample(name, partial(_reject, reason), source=source)


def _reject(reason: str) -> np.ndarray:
    raise Rejected(reason)


def reason_of(error: BaseException) -> str:
    """What a library's exception says, in one line of at most 300 characters."""
    return " ".join(str(error).split())[:300] or type(error).__name__


def needed(module: str, package: str) -> Any:
    """The module that a format needs and the package does not; InputError where it is not installed."""
    try:
        return importlib.import_module(module)
    except ImportError:
        raise InputError(
            f"this format needs {package}, which is not installed: pip install 'simgan-fast[formats]'."
        ) from None
