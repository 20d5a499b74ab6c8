"""Pictures to look at: rows of small images as one PNG."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from simgan_fast.files import written_whole

GAP = 2  # pixels between images
LABEL_WIDTH = 90  # pixels for the name of a row


def image_grid(rows: Mapping[str, Tensor], scale: int = 2) -> np.ndarray:
    """One uint8 picture [h, w, 3] with a named row per entry of `rows`: uint8 tensors [n, 1 or 3, h, w] of one size."""
    lines = [_row(images, scale) for images in rows.values()]
    width = max(line.shape[1] for line in lines)
    picture = Image.new(
        "RGB", (LABEL_WIDTH + width, sum(len(line) + GAP for line in lines)), "white"
    )
    top = 0
    for name, line in zip(rows, lines, strict=True):
        picture.paste(Image.fromarray(line), (LABEL_WIDTH, top))
        ImageDraw.Draw(picture).text((4, top + len(line) // 2 - 6), name, fill="black")
        top += len(line) + GAP
    return np.asarray(picture)


def _row(images: Tensor, scale: int) -> np.ndarray:
    n, channels, height, width = images.shape
    colour = images[:, :3] if channels >= 3 else images[:, :1].expand(n, 3, height, width)
    large = colour.repeat_interleave(scale, 2).repeat_interleave(scale, 3)
    row = np.full((height * scale, n * (width * scale + GAP), 3), 255, np.uint8)
    for index in range(n):
        left = index * (width * scale + GAP)
        row[:, left : left + width * scale] = large[index].permute(1, 2, 0).numpy()
    return row


def difference(refined: Tensor, synthetic: Tensor) -> Tensor:
    """refined - synthetic of two uint8 tensors as a uint8 picture: mid grey where nothing changed."""
    return ((refined.to(torch.int16) - synthetic.to(torch.int16)) // 2 + 128).to(torch.uint8)


def save_picture(path: str | Path, picture: np.ndarray) -> None:
    """Write `picture` [h, w, 3] as PNG."""
    with written_whole(path) as file:
        Image.fromarray(picture).save(file, format="PNG")
