"""From a data set on disk to a packed set: files are checked, decoded and brought to one shape."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from simgan_fast.data.decode import (
    BATCH,
    DECODERS,
    DecodeError,
    Decoder,
    Target,
    fit_array,
    open_decoder,
)
from simgan_fast.data.image_files import ImageInfo, Rejected, inspect_array, inspect_file
from simgan_fast.data.packed import PackedSet, PackedWriter, open_packed
from simgan_fast.data.readers import Reader, Sample
from simgan_fast.errors import InputError
from simgan_fast.files import require_absent_or_empty
from simgan_fast.progress import Progress

BATCH_BYTES = 128 << 20  # of decoded pixels: bounds the memory, which DALI never gives back


@dataclass(frozen=True)
class _Checked:
    sample: Sample
    info: ImageInfo
    data: bytes | np.ndarray  # the whole file, or pixels [h, w(, c)]


def ingest(
    reader: Reader,
    out: str | Path,
    *,
    size: tuple[int, int] | None = None,
    channels: int | None = None,
    decoder: str = "auto",
    origin: str = "",
) -> PackedSet:
    """Pack the images of `reader` into the new folder `out`, which appears whole or not at all.

    `size`: (height, width) in pixels to resize to, antialiased, without keeping the aspect ratio
    (default: the images have one size, which stays). `channels`: 1 for grey, 3 for RGB (default:
    what the images have). `decoder`: "dali", "pillow", or "auto": DALI where it is installed.
    `origin`: kept in set.json.

    Files that cannot be decoded are listed in `rejects.csv` and left out. 16-bit grey PNGs stay 16
    bits wide. Labels that are pixel positions (`reader.pixel_labels`) move with the pixels; other
    labels stay as they are.

    Raises InputError where nothing can be decoded; for mixed sizes without `size`, grey and colour
    images without `channels`, or 8-bit and 16-bit images together; and for an `out` that already
    holds something.

    >>> ingest(FolderReader("photos"), "photos-packed", size=(35, 55), channels=1)
    """
    require_absent_or_empty(out)
    if decoder not in DECODERS:
        raise InputError(f"decoder is {decoder!r}: want one of {', '.join(DECODERS)}.")
    plan = _Plan(_checked_size(size), _checked_channels(channels), [])
    with ExitStack() as stack:
        progress = stack.enter_context(Progress(len(reader), "image", f"ingest {reader.title}"))
        writer = None
        for batch in _batches(reader, plan, progress):
            if writer is None:
                shape, dtype = plan.target.shape, plan.target.dtype
                packed = PackedWriter(out, shape, reader.labels, dtype, origin=origin)
                writer = stack.enter_context(packed)
                decode = open_decoder(decoder, plan.target)
            for part, images in _decoded(batch, decode, plan):
                _add(writer, part, images, plan.target, reader.pixel_labels)
        if writer is None or writer.count == 0:
            raise InputError(_nothing_decodes(reader, plan.rejects))
        for file, reason in plan.rejects:
            writer.reject(file, reason)
    return open_packed(out)


class _Plan:
    """What the images become (the arguments and the first good image say), and what is left out."""

    def __init__(
        self, size: tuple[int, int] | None, channels: int | None, rejects: list[tuple[str, str]]
    ) -> None:
        self.size, self.channels, self.rejects = size, channels, rejects
        self.first: _Checked | None = None
        self.target = Target((0, 0, 0), "", False)

    def settle(self, item: _Checked) -> None:
        """Take the first image as the measure; raise InputError if a later one does not fit."""
        if self.first is None:
            info = item.info
            height, width = self.size or (info.height, info.width)
            self.first = item
            self.target = Target(
                (self.channels or info.channels, height, width), info.dtype, self.size is not None
            )
        self._check(item, self.first)

    def _check(self, item: _Checked, first: _Checked) -> None:
        info, other = item.info, first.info
        pair = f"{first.sample.name} and {item.sample.name}"
        if info.dtype != other.dtype:
            raise InputError(
                f"{pair} hold {other.dtype} and {info.dtype} pixels: a set is 8-bit or 16-bit, so "
                "convert one kind."
            )
        if self.size is None and (info.height, info.width) != (other.height, other.width):
            raise InputError(
                f"the images have different sizes ({first.sample.name} "
                f"{other.height}x{other.width}, {item.sample.name} {info.height}x{info.width}): "
                "give one size, height x width, as in --size 35x55."
            )
        if self.channels is None and info.channels != other.channels:
            raise InputError(
                f"{pair} have {other.channels} and {info.channels} channels: give channels=1 "
                "(grey) or channels=3 (RGB), --channels on the command line."
            )
        if info.channels not in (1, 3, self.target.shape[0]):
            raise InputError(
                f"{item.sample.name} has {info.channels} channels: only 1 and 3 can be converted."
            )


def _batches(reader: Reader, plan: _Plan, progress: Progress) -> Iterator[list[_Checked]]:
    """Yield checked images in the reader's order: at most BATCH, about BATCH_BYTES of pixels."""
    batch: list[_Checked] = []
    size = 0
    for sample in reader:
        progress.update(1)
        try:
            item = _check(sample)
        except Rejected as reason:
            plan.rejects.append((sample.name, str(reason)))
            continue
        plan.settle(item)
        pixels = item.info.height * item.info.width * item.info.channels
        if batch and (len(batch) == BATCH or size + pixels > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(item)
        size += pixels
    if batch:
        yield batch


def _check(sample: Sample) -> _Checked:
    content = sample.image() if callable(sample.image) else sample.image
    if isinstance(content, Path):
        try:
            content = content.read_bytes()
        except OSError as error:
            raise Rejected(f"cannot be read: {error.strerror}") from None
    if isinstance(content, bytes):
        return _Checked(sample, inspect_file(content), content)
    return _Checked(sample, inspect_array(content), content)


def _decoded(
    batch: Sequence[_Checked], decode: Decoder, plan: _Plan
) -> Iterator[tuple[Sequence[_Checked], np.ndarray]]:
    """Yield parts of `batch` with pixels [m, c, h, w]; a file that fails is found by halving."""
    try:
        images = _pixels(batch, decode, plan.target)
    except DecodeError as error:
        if len(batch) == 1:
            plan.rejects.append((batch[0].sample.name, f"damaged: {error}"))
            return
        half = len(batch) // 2
        yield from _decoded(batch[:half], decode, plan)
        yield from _decoded(batch[half:], decode, plan)
    else:
        yield batch, images


def _pixels(batch: Sequence[_Checked], decode: Decoder, target: Target) -> np.ndarray:
    files = [item.data for item in batch if isinstance(item.data, bytes)]
    if len(files) == len(batch):
        return decode(files)
    images = np.empty((len(batch), *target.shape), target.dtype)
    is_file = [isinstance(item.data, bytes) for item in batch]
    if files:
        images[is_file] = decode(files)
    for i, item in enumerate(batch):
        if isinstance(item.data, np.ndarray):
            images[i] = fit_array(item.data, target, nearest=item.sample.nearest)
    return images


def _add(
    writer: PackedWriter,
    items: Sequence[_Checked],
    images: np.ndarray,
    target: Target,
    pixel_labels: frozenset[str],
) -> None:
    labels = {}
    for name, width in writer.labels.items():
        values = [item.sample.labels[name] for item in items]
        labels[name] = np.array(values, np.float32).reshape(len(items), width)
    for name in pixel_labels:
        labels[name] = _moved(labels[name], [item.info for item in items], target)
    sources = [item.sample.source for item in items]
    writer.add(images, [item.sample.name for item in items], labels, sources)


def _moved(points: np.ndarray, infos: Sequence[ImageInfo], target: Target) -> np.ndarray:
    """Move points [m, 2k] (x0, y0, ...; pixel centres at integers) to the target's size."""
    _, height, width = target.shape
    scale = np.array([(width / info.width, height / info.height) for info in infos])  # [m, 2]
    pairs = points.reshape(len(points), -1, 2).astype(np.float64)  # exact where the scale is 1
    moved: np.ndarray = (pairs + 0.5) * scale[:, None] - 0.5
    return moved.reshape(points.shape).astype(np.float32)


def _checked_size(size: tuple[int, int] | None) -> tuple[int, int] | None:
    if size is not None and (len(size) != 2 or min(size) < 1):
        raise InputError(f"size is {size}: want (height, width) in pixels, as in (35, 55).")
    return size


def _checked_channels(channels: int | None) -> int | None:
    if channels not in (None, 1, 3):
        raise InputError(f"channels is {channels}: want 1 (grey) or 3 (RGB).")
    return channels


def _nothing_decodes(reader: Reader, rejects: Sequence[tuple[str, str]]) -> str:
    if not rejects:
        return f"{reader.title} holds no image."
    file, reason = rejects[0]
    return f"none of the {len(reader)} images of {reader.title} can be decoded ({file}: {reason})."
