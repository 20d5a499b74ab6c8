"""Pictures of what refining moved: where pixels changed, and the pupils that seem to have moved most."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageDraw

from simgan_fast.data.contact_sheet import contact_sheet, shown_size
from simgan_fast.evaluation.label_pairs import NamedSet, matched
from simgan_fast.files import folder_written_whole
from simgan_fast.pictures import save_picture

MOST = 15  # pairs on the sheet
BAR, LINE, MARGIN = 14, 18, 12  # display pixels


def save_label_pictures(
    results: Mapping[str, Any], raw: NamedSet, refined: NamedSet, out: str | Path
) -> None:
    """Write the pictures of what `evaluate_labels` found into the new folder `out`.

    change.png: the heat map of mean |refined - raw|. pupils.png, if there is a pupil: the held-out pairs whose
    estimated pupils are farthest apart, with these drawn. Raises InputError where `out` holds something.
    """
    with folder_written_whole(out) as folder:
        save_picture(folder / "change.png", heat_map(results["change"]["where"]))
        if "pupil_raw_px" in results:
            save_picture(folder / "pupils.png", _pupils(results, raw, refined))


def heat_map(values: ArrayLike, unit: str = "grey levels") -> NDArray[np.uint8]:
    """A picture [height, width, 3] of values [h, w] from 0 up: black, red, yellow, white, with its scale below.

    >>> heat_map(np.eye(35, 55)).shape
    (196, 244, 3)
    """
    heat = np.asarray(values, np.float64)
    top = max(float(heat.max()), 1e-9)
    width, height = shown_size(heat.shape[1], heat.shape[0])
    below = height + 2 * MARGIN
    sheet = Image.new("RGB", (width + 2 * MARGIN, below + BAR + LINE), "white")
    picture = Image.fromarray(_coloured(heat / top))
    sheet.paste(picture.resize((width, height), Image.Resampling.NEAREST), (MARGIN, MARGIN))
    bar = np.broadcast_to(np.linspace(0, 1, width), (BAR, width))
    sheet.paste(Image.fromarray(_coloured(bar)), (MARGIN, below))
    pen = ImageDraw.Draw(sheet)
    pen.text((MARGIN, below + BAR + 2), "0", "black")
    pen.text((MARGIN + width, below + BAR + 2), f"{top:.1f} {unit}", "black", anchor="ra")
    return np.asarray(sheet)


def _coloured(share: NDArray[np.float64]) -> NDArray[np.uint8]:
    """0 to 1 as colours [h, w, 3]: red, then green, then blue come up."""
    rising = np.clip(3 * share[..., None] - [0, 1, 2], 0, 1)
    return np.rint(255 * rising).astype(np.uint8)


def _pupils(results: Mapping[str, Any], raw: NamedSet, refined: NamedSet) -> NDArray[np.uint8]:
    """A contact sheet: raw and refined image of each pair side by side, with the estimated pupils."""
    before, after = (np.array(results[name]) for name in ("pupil_raw_px", "pupil_refined_px"))
    shift = np.linalg.norm(after - before, axis=1)
    pairs = matched(raw, refined)
    row_of = {name: row for row, name in enumerate(pairs.names)}
    chosen = np.argsort(-shift, kind="stable")[:MOST]
    images, names, points = [], [], []
    for held in chosen:
        row = row_of[results["held_out_names"][held]]
        images += [pairs.raw.numpy()[row], pairs.refined.numpy()[row]]
        names += [f"raw {pairs.names[row]}", f"refined: {shift[held]:.1f} px"]
        points += [before[held], after[held]]
    return contact_sheet(np.stack(images), names, {"pupil": np.stack(points)})
