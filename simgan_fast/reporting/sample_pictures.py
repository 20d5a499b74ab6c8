"""The sample grids of a run inside of a page."""

from __future__ import annotations

import base64
import io
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from simgan_fast.reporting.html_parts import paragraph

MOST = 6  # grids of a run, spread over its updates
MOST_BYTES = 300_000  # of a grid as it is; a larger one is shown smaller
BOMBS = (Image.DecompressionBombError, Image.DecompressionBombWarning)
WIDE = 1210  # pixels of a grid that is made smaller: as wide as one of ten eyes


def sample_pictures(samples: Sequence[tuple[int, Path]]) -> str:
    """Figures of some of `samples`, (update, PNG file) in order, from the first to the last."""
    if not samples:
        return paragraph("No sample was drawn yet.")
    rows = np.linspace(0, len(samples) - 1, min(len(samples), MOST)).round().astype(int)
    figures = [_figure(*samples[row]) for row in rows]
    note = f"{len(figures)} of {len(samples)} grids, with the same images each time."
    return "".join(figures) + (paragraph(note) if len(figures) < len(samples) else "")


def _figure(update: int, file: Path) -> str:
    caption = f"update {update:,}"
    try:
        kind, content = _content(file)
    except (OSError, ValueError, SyntaxError, *BOMBS):
        return f"<figure><figcaption>{caption}: the picture is damaged</figcaption></figure>"
    data = base64.b64encode(content).decode()
    return (
        f"<figure><figcaption>{caption}</figcaption>"
        f'<img alt="synthetic, refined, difference and real images at {caption}" '
        f'src="data:image/{kind};base64,{data}"></figure>'
    )


def _content(file: Path) -> tuple[str, bytes]:
    """A whole PNG as it is where it is small, else a smaller JPEG of it."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        opened = Image.open(file, formats=["PNG"])
    with opened as picture:
        picture.load()
        if file.stat().st_size <= MOST_BYTES:
            return "png", file.read_bytes()
        picture.thumbnail((WIDE, WIDE))
        shrunk = io.BytesIO()
        picture.convert("RGB").save(shrunk, "JPEG", quality=85)
        return "jpeg", shrunk.getvalue()
