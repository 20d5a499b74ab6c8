"""Look at a set before one trains on it: a contact sheet, its numbers, and what looks wrong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simgan_fast.data import open_images
from simgan_fast.data.contact_sheet import contact_sheet
from simgan_fast.data.packed import PackedSet
from simgan_fast.data.set_facts import Bin, LabelFacts, histogram_bins, label_facts, pixel_facts
from simgan_fast.data.suspicions import Evidence, Suspicion, suspicions
from simgan_fast.errors import InputError
from simgan_fast.evaluation.gaze_labels import ANGLE_NAMES
from simgan_fast.files import require_output_file, write_json
from simgan_fast.gaze import pitch_yaw_to_vector, vector_to_pitch_yaw
from simgan_fast.pictures import save_picture

MOST = 600  # images on a sheet: 8,000 x 5,000 display pixels

Array = NDArray[Any]


@dataclass(frozen=True)
class SetFacts:
    """What `show` found.

    `shape` is (channels, height, width). `low` to `high` are the values that occur, `mean` and `spread` (standard
    deviation) those of all pixels. `pitch` and `yaw`: smallest and largest in degrees, where there is a gaze.
    `rejects`: how many files could not be read when the set was made. `shown`: the names on the contact sheet `sheet`.
    """

    source: str
    images: int
    shape: tuple[int, int, int]
    dtype: str
    low: int
    high: int
    mean: float
    spread: float
    histogram: list[Bin]
    labels: dict[str, LabelFacts]
    pitch: tuple[float, float] | None
    yaw: tuple[float, float] | None
    rejects: int
    suspicions: list[Suspicion]
    sheet: str
    shown: list[str]


def show(
    source: str | Path,
    out: str | Path | None = None,
    *,
    count: int = 60,
    seed: int | None = None,
    size: tuple[int, int] | None = None,
    channels: int | None = None,
    labels: str | Path | None = None,
    json_out: str | Path | None = None,
) -> SetFacts:
    """Look through the set `source` and write a contact sheet of it, a PNG.

    Args:
        source: a packed set or a folder of PNG and JPEG images.
        out: the PNG, in a folder that exists and is not the set; by default `<name of source>-sheet.png` in the
            current folder. One from before is replaced.
        count: images on the sheet, 1 to 600, spread evenly over the set; all where it has fewer.
        seed: draws them at random instead, the same for the same seed.
        size, channels: what a folder's images become, as in `open_images`.
        labels: a CSV or JSON file for an image folder, if not its labels.csv.
        json_out: a file for all the facts.

    All pixels are read once, block by block: 1.2 million images of 35x55 take 15 seconds on one core. Suspicions are
    no errors. Raises InputError for a source that cannot be read, a count that cannot be, and a file that cannot be
    written.

    >>> show("simulated").suspicions  # doctest: +SKIP
    []
    """
    if not 1 <= count <= MOST:
        raise InputError(f"count is {count}: a contact sheet holds 1 to {MOST} images.")
    if seed is not None and seed < 0:
        raise InputError(f"seed is {seed}: want 0 or more.")
    sheet = Path(out) if out is not None else Path(f"{Path(source).resolve().name}-sheet.png")
    _check_files(Path(source), sheet, Path(json_out) if json_out is not None else None)
    images = open_images(source, size=size, channels=channels, labels=labels)
    chosen, gaze = chosen_rows(len(images), count, seed), gaze_vectors(images.labels)
    facts = _facts(images, gaze, chosen, str(source), str(sheet))
    picture = contact_sheet(
        np.concatenate([images.images(row, row + 1) for row in chosen]),
        facts.shown,
        {name: values[chosen] for name, values in images.labels.items()},
        None if gaze is None else gaze[chosen],
    )
    save_picture(sheet, picture)
    if json_out is not None:
        write_json(json_out, asdict(facts))
    return facts


def _facts(
    images: PackedSet, gaze: Array | None, chosen: Array, source: str, sheet: str
) -> SetFacts:
    pixels = pixel_facts(images)
    pitch, yaw = _angle_ranges(gaze)
    evidence = Evidence(images.shape, images.dtype, pixels, images.labels, gaze)
    return SetFacts(
        source=source,
        images=len(images),
        shape=images.shape,
        dtype=images.dtype,
        low=pixels.low,
        high=pixels.high,
        mean=pixels.mean,
        spread=pixels.deviation,
        histogram=histogram_bins(pixels),
        labels={name: label_facts(values) for name, values in images.labels.items()},
        pitch=pitch,
        yaw=yaw,
        rejects=len(images.rejects),
        suspicions=suspicions(evidence, images.names),
        sheet=sheet,
        shown=[images.names[row] for row in chosen],
    )


def gaze_vectors(labels: Mapping[str, Array]) -> Array | None:
    """Unit vectors [n, 3] of the label `gaze`, or of pitch and yaw; NaN where one has no direction, None without."""
    if "gaze" in labels and labels["gaze"].shape[1] == 3:
        vectors = labels["gaze"].astype(np.float64)
        with np.errstate(invalid="ignore", divide="ignore"):
            unit: Array = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        return unit
    for pair in ANGLE_NAMES:
        if all(name in labels and labels[name].shape[1] == 1 for name in pair):
            with np.errstate(invalid="ignore"):
                return pitch_yaw_to_vector(np.hstack([labels[name] for name in pair]))
    return None


def chosen_rows(total: int, count: int, seed: int | None = None) -> Array:
    """`count` of `total` rows in order, spread evenly, from the first to the last, or drawn at random by `seed`.

    >>> chosen_rows(100, 4)
    array([ 0, 33, 66, 99])
    """
    count = min(count, total)
    if seed is not None:
        return np.sort(np.random.default_rng(seed).choice(total, count, replace=False))
    return np.rint(np.linspace(0, total - 1, count)).astype(np.intp)


def _angle_ranges(gaze: Array | None) -> list[tuple[float, float] | None]:
    """Smallest and largest pitch, and yaw, in degrees; None where there is no gaze."""
    known = gaze[np.isfinite(gaze).all(axis=1)] if gaze is not None else np.empty((0, 3))
    if not len(known):
        return [None, None]
    angles = np.rad2deg(vector_to_pitch_yaw(known))
    return [(float(column.min()), float(column.max())) for column in angles.T]


def _check_files(source: Path, sheet: Path, json_file: Path | None) -> None:
    """Raise InputError, before any work, where one cannot be written or would come to lie in the set."""
    if sheet.suffix.lower() != ".png":
        raise InputError(f"{sheet} is to be a PNG: want a name that ends in .png.")
    if json_file is not None and json_file.resolve() == sheet.resolve():
        raise InputError(f"{sheet} cannot be the sheet and the JSON file: name two files.")
    for file in filter(None, (sheet, json_file)):
        if not file.parent.is_dir():
            raise InputError(f"{file} cannot be written: make the folder {file.parent} first.")
        require_output_file(file, [source])
