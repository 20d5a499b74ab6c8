"""Images, names and labels as every packed or exported set must have them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from simgan_fast.errors import InputError

# No part of a name may be empty, "." or "..", and no character one of these.
_WRONG = re.compile(r"//|/\.{1,2}/|[\0\\]")


def is_name(name: str) -> bool:
    """Whether `name` is a relative POSIX path without '..', in UTF-8."""
    return not _WRONG.search(f"/{name}/") and not _not_utf8(name)


def checked_name(name: str) -> str:
    """Return `name`; raise InputError unless it is a relative POSIX path without '..'."""
    if not is_name(name):
        raise InputError(
            f"the name {name!r} cannot be kept: want a relative path such as 'left/0001.png', "
            "without '..' or '\\', in UTF-8."
        )
    return name


def checked_names(names: Sequence[str]) -> Sequence[str]:
    """Return `names`; raise InputError as `checked_name` does. All together, as that takes a tenth of the time."""
    if not is_name("/".join(names)):  # as a path whose parts are theirs
        for name in names:
            checked_name(name)
    return names


def checked_images(
    images: np.ndarray, shape: Sequence[int], dtype: np.dtype[Any], names: Sequence[str]
) -> np.ndarray:
    """Return `images` if they are `dtype` [m, *shape] with a name each; else raise InputError."""
    images = np.asarray(images)
    if images.dtype != dtype or images.ndim != 4 or images.shape[1:] != tuple(shape):
        raise InputError(
            f"images are {images.dtype} {list(images.shape)}: this set takes {dtype} "
            f"[m, {', '.join(map(str, shape))}] (count, channels, height, width)."
        )
    if len(names) != len(images):
        raise InputError(
            f"{len(names)} names came for {len(images)} images: give one name per image."
        )
    return images


def checked_widths(labels: Mapping[str, int]) -> dict[str, int]:
    """Return `labels` (name -> width); raise InputError where labels.csv could not name one."""
    for name, width in labels.items():
        if not name or re.search(r"\.\d+$", name) or width < 1:
            raise InputError(
                f"the label {name!r} of {width} numbers cannot be kept: want a name that does not "
                "end in '.0' or the like, and at least 1 number."
            )
    return dict(labels)


def checked_labels(
    labels: Mapping[str, np.ndarray], widths: Mapping[str, int], names: Sequence[str]
) -> dict[str, np.ndarray]:
    """Return `labels` as float32 [m, k], in the order of `widths`.

    Raises InputError where a label is missing, unknown, not [m, k], or not finite (it names the
    image).
    """
    if set(labels) != set(widths):
        raise InputError(f"labels are {sorted(labels)}: this set takes {sorted(widths)}.")
    return {
        name: _checked_label(name, labels[name], width, names) for name, width in widths.items()
    }


def _checked_label(label: str, values: np.ndarray, width: int, names: Sequence[str]) -> np.ndarray:
    values = np.asarray(values, np.float32)
    if values.ndim == 1 and width == 1:
        values = values[:, None]
    if values.shape != (len(names), width):
        raise InputError(
            f"label {label!r} is {list(values.shape)}: want [{len(names)}, {width}] (one row per "
            "image)."
        )
    bad = np.flatnonzero(~np.isfinite(values).all(axis=1))
    if len(bad):
        raise InputError(
            f"label {label!r} of {names[bad[0]]!r} is {values[bad[0]].tolist()} ({len(bad)} such "
            "images in this batch): labels must be finite, so mend them or leave the image out."
        )
    return np.ascontiguousarray(values)


def _not_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:  # a file name in another encoding, as Python hands it over
        return True
    return False
