"""Write a set in another format: same pixels, names and labels."""

from __future__ import annotations

from pathlib import Path

from simgan_fast.data import open_images
from simgan_fast.data.export import open_writer
from simgan_fast.data.packed import PackedSet
from simgan_fast.files import require_outside
from simgan_fast.progress import Progress

BATCH = 256  # images at a time


def export(
    source: str | Path,
    out: str | Path,
    format: str = "png",
    *,
    size: tuple[int, int] | None = None,
    channels: int | None = None,
    labels: str | Path | None = None,
) -> PackedSet:
    """Write the images of `source` to `out`, which appears whole or not at all.

    Args:
        source: a packed set, or a folder of PNG and JPEG images. What cannot be decoded is listed among the rejects.
        out: a new folder; of hdf5 a new file.
        format: one of `simgan_fast.data.export.FORMATS`; docs/file_formats.md has what each writes. All but jpeg keep
            every pixel.
        size: (height, width) that a folder's images are resized to first.
        channels: 1 or 3, what a folder's images become.
        labels: a CSV or JSON file for an image folder, if not its own labels.csv.

    Returns the set that was written. Raises InputError for unusable input, a format that cannot hold the images, or an
    `out` that holds something.

    >>> export("refined", "refined-shards", "webdataset")  # doctest: +SKIP
    """
    require_outside(out, source)
    images = open_images(source, size=size, channels=channels, labels=labels)
    widths = images.info["labels"]
    writer = open_writer(out, format, shape=images.shape, labels=widths, dtype=images.dtype)
    with writer, Progress(len(images), "image", f"export {format}") as progress:
        for start in range(0, len(images), BATCH):
            rows = slice(start, start + BATCH)
            batch_labels = {name: values[rows] for name, values in images.labels.items()}
            batch = images.images(start, start + BATCH)
            writer.add(batch, images.names[rows], batch_labels, images.sources[rows])
            progress.update(len(batch))
        for file, reason in images.rejects:
            writer.reject(file, reason)
    return images
