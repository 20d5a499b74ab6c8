"""Split a packed set in two: images to train on, and others to choose by."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from simgan_fast.data.packed import PackedSet, open_packed
from simgan_fast.data.packed_writer import PackedWriter
from simgan_fast.errors import InputError

LEAST, MOST, SHARE = 128, 1000, 10  # images held out: a tenth of the set, within these bounds
BLOCK = 1024  # images read at a time


def hold_out(images: PackedSet, folder: Path, *, seed: int) -> tuple[PackedSet, PackedSet]:
    """Write `folder`/training and `folder`/validation, which have every image of `images` once, labels included.

    Held out are a tenth of the images, 128 at least and 1,000 at most: those whose pixels have the smallest keyed
    BLAKE2b. So the split depends on the pixels and `seed` alone, and equal images are on one side.

    Raises InputError for a set of fewer than 256 images, or of which more than half would be held out since they are
    alike.

    >>> training, validation = hold_out(open_packed("real"), Path("split"), seed=0)  # doctest: +SKIP
    """
    if len(images) < 2 * LEAST:
        raise InputError(
            f"{images.path} has {len(images)} images: choosing a refiner holds {LEAST} of them out, so it needs at "
            f"least {2 * LEAST}; add images, or train with select_by none."
        )
    digests = _digests(images, seed)
    count = min(max(len(images) // SHARE, LEAST), MOST)
    held = digests <= np.partition(digests, count - 1)[count - 1]
    if held.sum() > len(images) / 2:
        raise InputError(
            f"{images.path} holds one image many times: {held.sum()} of {len(images)} would be held out for choosing a "
            "refiner; leave the copies out."
        )
    return (
        write_part(images, folder / "training", ~held),
        write_part(images, folder / "validation", held),
    )


def _digests(images: PackedSet, seed: int) -> NDArray[np.uint64]:
    """64 bits [n] of each image's pixels."""
    key = str(seed).encode()
    blocks = (images.images(start, start + BLOCK) for start in range(0, len(images), BLOCK))
    digests = [
        int.from_bytes(hashlib.blake2b(image.tobytes(), digest_size=8, key=key).digest(), "little")
        for block in blocks
        for image in block
    ]
    return np.array(digests, np.uint64)


def write_part(images: PackedSet, path: Path, wanted: NDArray[np.bool_]) -> PackedSet:
    """A packed set of those of `images` for which `wanted` [n] is true, at the new `path`."""
    origin = f"part {path.name} of {images.path}, digest {images.info['digest']}"
    writer = PackedWriter(path, images.shape, images.info["labels"], images.dtype, origin=origin)
    names, sources, labels = images.names, images.sources, images.labels
    with writer:
        for start in range(0, len(images), BLOCK):
            rows = np.flatnonzero(wanted[start : start + BLOCK])
            if len(rows):
                writer.add(
                    images.images(start, start + BLOCK)[rows],
                    [names[start + row] for row in rows],
                    {name: values[start + rows] for name, values in labels.items()},
                    [sources[start + row] for row in rows],
                )
    return open_packed(path)
