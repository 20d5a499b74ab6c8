"""The images of a study's sets, and how both kinds become PNG files that nothing but their pixels tells apart."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from simgan_fast.data import PackedSet, open_images
from simgan_fast.data.set_facts import pixel_facts
from simgan_fast.errors import InputError

EXAMPLES, QUESTIONS = 20, 50  # of each kind, for each participant: the paper's
BACKGROUND = 0.1  # of all 16-bit pixels, that the most frequent value must have to be one

Sets = Mapping[str, PackedSet]


@dataclass(frozen=True)
class Window:
    """16-bit values from `low` to `high` are shown from black to white, those beyond as black and white."""

    low: int
    high: int


def open_sets(
    real: str | Path,
    refined: str | Path,
    raw: str | Path | None = None,
    *,
    size: tuple[int, int] | None = None,
    channels: int | None = None,
) -> dict[str, PackedSet]:
    """Open the sets of a study: "real", "refined" and, where there is one, "raw".

    Raises InputError where one cannot be read, has fewer than 20 + 50 images, is neither grey nor RGB, or has another
    shape or pixel type than the first.
    """
    paths = {"real": real, "refined": refined} | ({"raw": raw} if raw is not None else {})
    sets = {name: open_images(path, size=size, channels=channels) for name, path in paths.items()}
    for name, images in sets.items():
        _check_set(paths[name], images, sets["real"])
    return sets


def _check_set(path: str | Path, images: PackedSet, first: PackedSet) -> None:
    wanted = EXAMPLES + QUESTIONS
    if len(images) < wanted:
        raise InputError(
            f"{path} has {len(images)} images: a participant is shown {EXAMPLES} as examples and "
            f"{QUESTIONS} to judge, so want at least {wanted}."
        )
    if images.shape[0] not in (1, 3):
        raise InputError(f"{path} has {images.shape[0]} channels: want 1 (grey) or 3 (RGB).")
    if (images.shape, images.dtype) != (first.shape, first.dtype):
        raise InputError(
            f"{path} holds {_described(images)} and the real images are {_described(first)}, which "
            "would give them away: make them alike first."
        )


def _described(images: PackedSet) -> str:
    channels, height, width = images.shape
    return f"{height}x{width} (height x width), {channels} channel{'s' * (channels > 1)}, {images.dtype}"


def common_window(sets: Sets) -> Window | None:
    """What of the 16-bit values of all sets together is shown, from black to white; None for 8 bits.

    The same for every image, so that it hides no difference of the kinds: the middle 99.8 % of the values, but for the
    most frequent one where it has a tenth of the pixels (a background, as depth has). Reads all pixels once.
    """
    if next(iter(sets.values())).dtype == "uint8":
        return None
    counts = np.sum([pixel_facts(images).histogram for images in sets.values()], axis=0)
    if counts.max() > BACKGROUND * counts.sum() and np.count_nonzero(counts) > 1:
        counts[counts.argmax()] = 0
    shares = np.cumsum(counts) / counts.sum()
    low, high = np.searchsorted(shares, [0.001, 0.999])
    return Window(int(low), int(high))


def png(image: NDArray[Any], window: Window | None) -> bytes:
    """An image [c, h, w], uint8 or uint16, as an 8-bit PNG without compression or anything but pixels.

    All images of a shape give files of one length: how well an image can be compressed would tell smooth refined ones
    from noisy photographs.
    """
    if window is not None:
        span = max(1, window.high - window.low)
        image = np.clip((image.astype(np.float64) - window.low) / span, 0, 1) * 255
    pixels = np.rint(image).astype(np.uint8).transpose(1, 2, 0)
    picture = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    file = io.BytesIO()
    picture.save(file, "PNG", compress_level=0)
    return file.getvalue()


def draw(sizes: tuple[int, int], seed: int) -> tuple[list[tuple[str, int]], list[tuple[str, int]]]:
    """Examples, the 20 real ones first, and questions in random order, as ("real" or "synthetic", row).

    `sizes`: how many real and how many synthetic images there are. No image comes twice; the same for the same seed.

    >>> examples, questions = draw((70, 200), seed=1)
    >>> len(examples), len(questions)
    (40, 100)
    """
    rng = np.random.default_rng(seed)
    examples, questions = [], []
    for kind, size in zip(("real", "synthetic"), sizes, strict=True):
        rows = rng.choice(size, EXAMPLES + QUESTIONS, replace=False).tolist()
        examples += [(kind, row) for row in rows[:EXAMPLES]]
        questions += [(kind, row) for row in rows[EXAMPLES:]]
    return examples, [questions[i] for i in rng.permutation(len(questions))]
