"""Refine a whole set: same names and labels out, every image once, the last partial batch included."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from simgan_fast.data import open_images
from simgan_fast.data.export import open_writer
from simgan_fast.data.packed import PackedSet
from simgan_fast.depth import encoding_of, plausible_depth
from simgan_fast.devices import usable_device
from simgan_fast.errors import InputError
from simgan_fast.files import require_outside
from simgan_fast.models.refiner import Refiner, read_refiner
from simgan_fast.ops.gather_normalize import gather_normalize, to_uint8, to_uint16
from simgan_fast.precision import chosen_precision, computing_in
from simgan_fast.progress import Progress

LOOKED_AT = 64  # images, to tell how their depth is encoded
PLAUSIBLE = ("paper", "metric")  # encodings of which refined hands are made plausible depth


@dataclass(frozen=True)
class RefineResult:
    """What a refining job did: images, images per second (reading and writing included), mean |R(x) - x| in [-1, 1]."""

    images: int
    images_per_second: float
    mean_abs_change: float


def refine(
    refiner: Refiner | str | Path,
    source: str | Path,
    out: str | Path,
    *,
    format: str = "png",
    size: tuple[int, int] | None = None,
    batch_size: int = 64,
    device: str = "cpu",
    precision: str = "auto",
) -> RefineResult:
    """Refine every image of `source` into `out`.

    Depth images of hands (16 bits, the label `centre`) come out as depth that can have been measured: missing pixels
    stay missing, others are of the hand's cube (`simgan_fast.depth.plausible_depth`).

    Args:
        refiner: a Refiner, a run folder, or a folder that `Refiner.save_pretrained` wrote.
        source: a packed set or a folder of PNG and JPEG images. What cannot be decoded is listed in
            rejects.csv.
        out: a new folder, of hdf5 a new file, that appears whole or not at all; names and labels are those of `source`.
        format: one of `simgan_fast.data.export.FORMATS`; docs/file_formats.md has what each writes.
        size: (height, width) to resize a folder's images to first.
        batch_size: images at a time; the result does not depend on it beyond rounding.
        device: a torch device.
        precision: "float32", "bfloat16" on a GPU, or "auto", which takes it there for images of 8 bits.

    Raises InputError for unusable input or an `out` that holds something.

    >>> refine("runs/first", "simulated", "refined")  # doctest: +SKIP
    """
    usable_device(device)
    require_batch_size(batch_size)
    require_outside(out, source)
    refiner = read_refiner(refiner)
    images = open_images(source, size=size)
    require_channels(refiner, images, source)
    precision = chosen_precision(precision, device, images.dtype)
    began, change = time.monotonic(), 0.0
    labels = {name: values.shape[1] for name, values in images.labels.items()}
    writer = open_writer(out, format=format, shape=images.shape, labels=labels, dtype=images.dtype)
    with writer, Progress(len(images), "image", "refine") as progress:
        batches = refined_batches(refiner, images, batch_size, device, precision)
        for start, refined, moved in batches:
            rows = slice(start, start + len(refined))
            batch_labels = {name: values[rows] for name, values in images.labels.items()}
            writer.add(refined, images.names[rows], batch_labels)
            change += moved
            progress.update(len(refined))
        for file, reason in images.rejects:
            writer.reject(file, reason)
    seconds = time.monotonic() - began
    return RefineResult(len(images), len(images) / seconds, change / len(images))


def require_batch_size(batch_size: int) -> None:
    """Raise InputError unless it is at least 1."""
    if batch_size < 1:
        raise InputError(f"batch_size is {batch_size}: it must be at least 1.")


def require_channels(refiner: Refiner, images: PackedSet, source: str | Path) -> None:
    """Raise InputError where the refiner does not take such images."""
    if images.shape[0] != refiner.config.in_channels:
        raise InputError(
            f"{source} has {images.shape[0]} channels, the refiner takes {refiner.config.in_channels}."
        )


def hand_encoding(images: PackedSet) -> str | None:
    """How depth of hands, which has a number as `centre`, is encoded: one of `depth.VALUES`; None for other images."""
    centre = images.labels.get("centre")
    if images.dtype != "uint16" or centre is None or centre.shape[1] != 1:
        return None
    return encoding_of(images.images(0, LOOKED_AT))


@torch.inference_mode()
def refined_batches(
    refiner: Refiner,
    images: PackedSet,
    batch_size: int,
    device: str = "cpu",
    precision: str = "float32",
    *,
    start: int = 0,
    stop: int | None = None,
) -> Iterator[tuple[int, np.ndarray, float]]:
    """Yield (first row, refined images in the set's dtype [n, c, h, w], their sum of mean |R(x) - x|).

    From the row `start` on, in whole batches but for the set's last, until the row `stop` is reached. Depth of hands
    is made plausible.
    """
    values = hand_encoding(images)
    stop = len(images) if stop is None else stop
    refiner = refiner.to(device=device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    for first in range(start, stop, batch_size):
        raw = torch.from_numpy(np.array(images.images(first, min(first + batch_size, len(images)))))
        synthetic = gather_normalize(raw.to(device), torch.arange(len(raw), device=device))
        with computing_in(precision, device):
            refined: Tensor = refiner(synthetic).float()
        moved = float((refined - synthetic).abs().mean(dim=(1, 2, 3)).sum())
        integers = to_uint16(refined) if images.dtype == "uint16" else to_uint8(refined)
        written = integers.cpu().numpy()
        if values in PLAUSIBLE:
            centre = images.labels["centre"][first : first + len(raw)]
            written = plausible_depth(written, raw.numpy(), values, centre)
        yield first, written, moved
