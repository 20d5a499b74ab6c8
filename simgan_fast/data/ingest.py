"""From a data set on disk to a packed set: files are checked, decoded and brought to one shape."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from simgan_fast.data.decode import (
    Chunk,
    Target,
    content_of,
    load_chunk,
    load_image,
    size_of,
    stamp,
    stamp_of,
)
from simgan_fast.data.decode_dali import BATCH, DaliLoader, has_dali
from simgan_fast.data.image_files import ImageInfo, Rejected
from simgan_fast.data.packed import PackedSet, open_packed
from simgan_fast.data.packed_writer import PackedWriter, Reject
from simgan_fast.data.parallel import WORTH_PROCESSES, Loaded, Loader, cores, item_of, loaded
from simgan_fast.data.readers import Reader, Sample
from simgan_fast.errors import InputError
from simgan_fast.files import require_absent_or_empty
from simgan_fast.progress import Progress
from simgan_fast.stalls import moved, reading

DECODERS = ("auto", "pillow", "dali")
WORTH_DALI = 2000  # large files; fewer are decoded before DALI has begun (0.3 s)
LARGE = 128 * 128  # pixels
CHUNK = 512  # images at most that a process hands over at a time
LARGE_CHUNK = 64  # of large files: the progress moves, and what a stop loses is little
CHUNK_BYTES = 8 << 20  # of their pixels


def ingest(
    reader: Reader,
    out: str | Path,
    *,
    size: tuple[int, int] | None = None,
    channels: int | None = None,
    decoder: str = "auto",
    processes: int | None = None,
    origin: str = "",
    sources: Sequence[str | Path] = (),
) -> PackedSet:
    """Pack the images of `reader` into the new folder `out`, which appears whole or not at all.

    `size`: (height, width) in pixels to resize to, antialiased, without keeping the aspect ratio
    (default: the images have one size, which stays). `channels`: 1 for grey, 3 for RGB (default:
    what the images have). `decoder`: "auto" (DALI for 2,000 large files and more, where it is
    installed; else simplejpeg for JPEG, where that is, and Pillow), "pillow" or "dali". `processes`:
    how many decode, or of DALI threads (default: one per core, for sets large enough). `origin`: kept
    in set.json. `sources`: the files and folders that `reader` reads; where they are given, an ingest
    that was stopped leaves what it has packed beside `out`, and the next one with the same `origin`
    and arguments goes on from there, unless a source has changed.

    Files that cannot be decoded are listed in `rejects.csv` and left out. 16-bit grey PNGs stay 16
    bits wide. Labels that are pixel positions (`reader.pixel_labels`) move with the pixels; other
    labels stay as they are.

    Raises InputError where nothing can be decoded; for mixed sizes without `size`, grey and colour
    images without `channels`, or 8-bit and 16-bit images together; and for an `out` that already
    holds something.

    >>> ingest(FolderReader("photos"), "photos-packed", size=(35, 55), channels=1)
    """
    require_absent_or_empty(out)
    _check_arguments(size, channels, decoder, processes)
    beside = getattr(reader, "beside_images", sources)  # the images' own stamps are kept
    resume = {"size": size, "channels": channels, "decoder": decoder, "sources": _state(beside)}
    plan = _Plan(reader, size, channels)
    writer = PackedWriter(
        out,
        plan.target.shape,
        reader.labels,
        plan.target.dtype,
        origin=origin,
        resume=resume if sources else None,
    )
    with ExitStack() as stack:
        stack.enter_context(writer)
        seen = _seen_before(writer, reader)
        done, label = seen.count, f"ingest {reader.title}"
        progress = stack.enter_context(Progress(len(reader), "image", label, done))
        chunks = _loaded(_rest(reader, done), plan, decoder, processes)
        for samples, chunk in stack.enter_context(closing(chunks)):
            seen.add(samples, [chunk.stamps.get(i, "") for i in range(len(samples))])
            writer.note = seen.note
            _add(writer, samples, chunk, plan)
            progress.update(len(samples))
    return open_packed(out)


class _Plan:
    """What the images become: the arguments and the first good image say it."""

    def __init__(self, reader: Reader, size: tuple[int, int] | None, channels: int | None) -> None:
        self.size, self.channels = size, channels
        self.count, self.pixel_labels = len(reader), reader.pixel_labels
        for name in sorted(self.pixel_labels):
            if (width := reader.labels[name]) % 2:
                raise InputError(
                    f"the label {name} has {width} numbers: positions are x0, y0, x1, y1, ..., two a point."
                )
        with reading(f"the first image of {reader.title}"):
            self.name, self.first, self.pixels = _first_good(reader)
        height, width = size or (self.first.height, self.first.width)
        shape = (channels or self.first.channels, height, width)
        self.target = Target(shape, self.first.dtype, size is not None)
        self.check(self.name, self.first)

    def is_for_dali(self) -> bool:
        """Whether DALI is the faster: for many large files."""
        return self.count >= WORTH_DALI and self.pixels >= LARGE and has_dali()

    def check(self, name: str, info: ImageInfo) -> None:
        """Raise InputError if the image `name` does not fit to the first one."""
        first, pair = self.first, f"{self.name} and {name}"
        if info.dtype != first.dtype:
            raise InputError(
                f"{pair} hold {first.dtype} and {info.dtype} pixels: a set is 8-bit or 16-bit, so "
                "convert one kind."
            )
        if self.size is None and (info.height, info.width) != (first.height, first.width):
            raise InputError(
                f"the images have different sizes ({self.name} {first.height}x{first.width}, "
                f"{name} {info.height}x{info.width}): give one size, height x width, as in --size "
                "35x55."
            )
        if self.channels is None and info.channels != first.channels:
            raise InputError(
                f"{pair} have {first.channels} and {info.channels} channels: give channels=1 "
                "(grey) or channels=3 (RGB), --channels on the command line."
            )
        if info.channels not in (1, 3, self.target.shape[0]):
            raise InputError(f"{name} has {info.channels} channels: only 1 and 3 can be converted.")


def _first_good(reader: Reader) -> tuple[str, ImageInfo, int]:
    """Name of the first image that is whole, what it is, and the pixels of its file; 0 where it has none."""
    rejects = []
    for sample in reader:
        moved()
        try:
            content, _, box, _ = content_of(item_of(sample))
            _, info = load_image(content, box, None)
            height, width = size_of(content) if isinstance(content, bytes) else (0, 0)
        except Rejected as reason:
            rejects.append(Reject(0, sample.name, str(reason)))
        else:
            return sample.name, info, height * width
    raise InputError(_nothing_decodes(reader, rejects))


class _Seen:
    """Which samples were seen, and what they were: their names, and the stamps of those that are files."""

    def __init__(self) -> None:
        self.count, self._digest = 0, hashlib.sha256()

    def add(self, samples: Sequence[Sample], stamps: Sequence[str]) -> None:
        self.count += len(samples)
        rows = [f"{s.name}\n{stamp}\n" for s, stamp in zip(samples, stamps, strict=True)]
        self._digest.update(os.fsencode("".join(rows)))

    @property
    def note(self) -> list[Any]:
        return [self.count, self._digest.hexdigest()]

    def copy(self) -> _Seen:
        other = _Seen()
        other.count, other._digest = self.count, self._digest.copy()
        return other


def _seen_before(writer: PackedWriter, reader: Reader) -> _Seen:
    """The samples of the files that `writer` goes on from; none where the reader has others now, or changed files.

    The note of a stopped writer is of all samples that it had seen, more than are in its files.
    """
    if writer.note is None:
        return _Seen()
    done, samples, seen = writer.count + len(writer.rejects), iter(reader), _Seen()
    with reading(f"what was seen of {reader.title} before"):
        _look_at(islice(samples, done), seen)
        in_files = seen.copy()
        _look_at(islice(samples, writer.note[0] - done), seen)
    if seen.note == writer.note:
        return in_files
    writer.begin_anew()
    return _Seen()


def _look_at(samples: Iterable[Sample], seen: _Seen) -> None:
    for sample in samples:
        moved()
        file = item_of(sample)[0]
        seen.add([sample], [stamp_of(file) if isinstance(file, str) else ""])


def _rest(reader: Reader, done: int) -> Iterator[Sample]:
    """The samples after the first `done`."""
    for i, sample in enumerate(reader):
        moved()
        if i >= done:
            yield sample


def _loaded(
    samples: Iterator[Sample], plan: _Plan, decoder: str, processes: int | None
) -> Generator[Loaded, None, None]:
    target, first = plan.target, plan.first
    image_bytes = int(np.prod(target.shape)) * np.dtype(target.dtype).itemsize
    size = max(1, min(CHUNK_BYTES // image_bytes, CHUNK))
    fast = decoder == "auto"
    load: Loader = partial(load_chunk, target=target, usual=first, fast=fast)
    if processes is None:
        processes = cores() if plan.count >= WORTH_PROCESSES else 1
    if decoder == "dali" or (fast and plan.is_for_dali()):
        make = partial(DaliLoader, target, first)
        make()  # or its absence would be found by a thread
        return loaded(samples, load, min(size, BATCH), processes, image_bytes, make)
    if plan.pixels >= LARGE:
        size = min(size, LARGE_CHUNK)
    return loaded(samples, load, size, processes, image_bytes)


def _add(writer: PackedWriter, samples: Sequence[Sample], chunk: Chunk, plan: _Plan) -> None:
    """Hand a chunk over, good images and others in their order."""
    for i, info in sorted(chunk.infos.items()):
        plan.check(samples[i].name, info)
    first = 0
    for i, reason in sorted(chunk.reasons.items()):
        _add_good(writer, samples, chunk, range(first, i), plan)
        writer.reject(samples[i].name, reason)
        first = i + 1
    _add_good(writer, samples, chunk, range(first, len(samples)), plan)


def _add_good(
    writer: PackedWriter, samples: Sequence[Sample], chunk: Chunk, rows: range, plan: _Plan
) -> None:
    if not rows:
        return
    labels = {}
    for name, width in writer.labels.items():
        values = [chunk.labels.get(i, samples[i].labels)[name] for i in rows]
        labels[name] = np.array(values, np.float32).reshape(len(rows), width)
    for name in plan.pixel_labels:
        infos = [chunk.infos.get(i, plan.first) for i in rows]
        labels[name] = _moved(labels[name], infos, plan.target)
    part = samples[rows.start : rows.stop]
    pixels = chunk.pixels[rows.start : rows.stop]
    writer.add(pixels, [s.name for s in part], labels, [s.source for s in part])


def _moved(points: np.ndarray, infos: Sequence[ImageInfo], target: Target) -> np.ndarray:
    """Move points [m, 2k] (x0, y0, ...; pixel centres at integers) to the target's size."""
    _, height, width = target.shape
    scale = np.array([(width / info.width, height / info.height) for info in infos])  # [m, 2]
    pairs = points.reshape(len(points), -1, 2).astype(np.float64)  # exact where the scale is 1
    moved: np.ndarray = (pairs + 0.5) * scale[:, None] - 0.5
    return moved.reshape(points.shape).astype(np.float32)


def _state(sources: Sequence[str | Path]) -> str:
    """A digest of all files in `sources`, by name and stamp."""
    digest = hashlib.sha256()
    for source in sources:
        with reading(f"the list of {source}"):
            for folder, rows in _stats(source):
                digest.update(os.fsencode("\n".join([folder, *rows, ""])))
    return digest.hexdigest()


def _stats(source: str | Path) -> Iterator[tuple[str, list[str]]]:
    """A file, or each folder from `source` down (links to folders are not followed), and a row for each file in it."""
    if not os.path.isdir(source):
        yield str(source), [_stat(source)]
        return
    folders = [str(source)]
    while folders:
        folder = folders.pop()
        with os.scandir(folder) as entries:
            ordered = sorted(entries, key=lambda entry: entry.name)
        yield folder, [f"{entry.name} {_stat(entry)}" for entry in ordered if not entry.is_dir()]
        folders += [entry.path for entry in ordered if entry.is_dir(follow_symlinks=False)]


def _stat(file: str | Path | os.DirEntry[str]) -> str:
    moved()
    try:
        return stamp(os.stat(file))
    except OSError:  # a link that leads nowhere
        return ""


def _check_arguments(
    size: tuple[int, int] | None, channels: int | None, decoder: str, processes: int | None
) -> None:
    if decoder not in DECODERS:
        raise InputError(f"decoder is {decoder!r}: want one of {', '.join(DECODERS)}.")
    if size is not None and (len(size) != 2 or min(size) < 1):
        raise InputError(f"size is {size}: want (height, width) in pixels, as in (35, 55).")
    if channels not in (None, 1, 3):
        raise InputError(f"channels is {channels}: want 1 (grey) or 3 (RGB).")
    if processes is not None and processes < 1:
        raise InputError(f"processes is {processes}: want at least 1.")


def _nothing_decodes(reader: Reader, rejects: Sequence[Reject]) -> str:
    if not rejects:
        return f"{reader.title} holds no image."
    example = f"{rejects[0].file}: {rejects[0].reason}"
    return f"none of the {len(reader)} images of {reader.title} can be decoded ({example})."
