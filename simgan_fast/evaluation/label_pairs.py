"""Raw and refined images of the same names, and what refining did to their pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from simgan_fast.errors import InputError
from simgan_fast.evaluation.gaze_training import LabelledSet

LEAST = 200  # pairs: one half to train estimators on, the other to measure
BATCH = 512


class NamedSet(LabelledSet, Protocol):
    """A labelled set whose images have names; a PackedSet is one."""

    @property
    def names(self) -> Sequence[str]: ...


@dataclass(frozen=True)
class Pairs:
    """Images with the same name: uint8 or uint16 [n, c, h, w], labels of the raw ones, and how many had no partner."""

    names: list[str]
    raw: Tensor
    refined: Tensor
    labels: dict[str, NDArray[Any]]
    alone: int


def matched(raw: NamedSet, refined: NamedSet) -> Pairs:
    """The images that both sets have, by name without its ending, in the order of `raw`."""
    rows = paired_rows(raw, refined)
    pixels, others = raw.load(), refined.load()
    if pixels.shape[1:] != others.shape[1:] or pixels.dtype != others.dtype:
        raise InputError(
            f"raw images are {pixels.dtype} {list(pixels.shape[1:])} and refined ones {others.dtype} "
            f"{list(others.shape[1:])} (channels, height, width): make them alike."
        )
    first, second = ([pair[side] for pair in rows.values()] for side in (0, 1))
    return Pairs(
        names=list(rows),
        raw=rows_of(pixels, first),
        refined=rows_of(others, second),
        labels={name: np.asarray(values)[first] for name, values in raw.labels.items()},
        alone=len(raw.names) + len(refined.names) - 2 * len(rows),
    )


def paired_rows(raw: NamedSet, refined: NamedSet) -> dict[str, tuple[int, int]]:
    """Name without its ending -> row in either set, of the images that both have, in the order of `raw`.

    Raises InputError where these are too few to measure labels, or names of a set differ by their endings alone.
    """
    a, b = (
        {_stem(name): row for row, name in enumerate(images.names)} for images in (raw, refined)
    )
    if len(a) < len(raw.names) or len(b) < len(refined.names):
        raise InputError(
            "two images of a set differ by the ending of their names alone: rename one of them."
        )
    both = {name: (row, b[name]) for name, row in a.items() if name in b}
    if len(both) < LEAST:
        raise InputError(
            f"{len(both)} of the {len(a)} raw and {len(b)} refined images have the same name: labels need at least "
            f"{LEAST} pairs, half of them to train estimators on."
        )
    return both


@dataclass(frozen=True)
class Change:
    """How much the pixels of all pairs changed, in grey levels: `mean` |refined - raw| and its `std` over the images,
    `signed` mean of refined - raw, and `where`, mean |refined - raw| at each pixel [h][w].
    """

    mean: float
    std: float
    signed: float
    where: list[list[float]]


def pixel_change(raw: Tensor, refined: Tensor) -> Change:
    """What refining did to the pixels of images [n, c, h, w] of one type."""
    total, absolute, of_image = 0.0, np.zeros(raw.shape[2:]), []
    for rows in (slice(i, i + BATCH) for i in range(0, len(raw), BATCH)):
        moved = refined[rows].numpy().astype(np.float64) - raw[rows].numpy()
        total += float(moved.sum())
        np.abs(moved, out=moved)
        absolute += moved.mean(axis=1).sum(axis=0)
        of_image.append(moved.mean(axis=(1, 2, 3)))
    means = np.concatenate(of_image)
    return Change(
        mean=float(means.mean()),
        std=float(means.std()),
        signed=total / raw.numel(),
        where=(absolute / len(raw)).round(4).tolist(),
    )


def rows_of(images: Tensor, rows: Sequence[int] | NDArray[np.intp]) -> Tensor:
    """Images `rows`, by numpy: torch gathers no uint16."""
    return torch.from_numpy(images.numpy()[rows])


def joined(parts: Sequence[Tensor]) -> Tensor:
    """The images of all parts, by numpy as well."""
    return torch.from_numpy(np.concatenate([part.numpy() for part in parts]))


def _stem(name: str) -> str:
    return str(PurePosixPath(name).with_suffix(""))
