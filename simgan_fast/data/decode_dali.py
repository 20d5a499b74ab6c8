"""DALI as a decoder of ingest, for large files."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from simgan_fast.data.decode import (
    Box,
    Chunk,
    Item,
    Target,
    content_of,
    fit_array,
    has_exif,
    header_of,
    load_image,
    size_of,
)
from simgan_fast.data.image_files import ImageInfo, Rejected, inspect_file, is_jpeg
from simgan_fast.errors import InputError

BATCH = 256  # images at most that DALI decodes at a time


class DecodeError(Exception):
    """A batch could not be decoded; one file of it is enough."""


class File(NamedTuple):
    """A file's bytes, and the part of the image that is meant; None: all of it."""

    data: bytes
    box: Box | None


def has_dali() -> bool:
    """Whether DALI is installed; it is not imported for that."""
    return importlib.util.find_spec("nvidia") is not None and (
        importlib.util.find_spec("nvidia.dali") is not None
    )


class DaliLoader:
    """Loads chunks as `load_chunk` does: PNG and JPEG files by DALI on one thread, the rest as that does.

    Of a JPEG of which a part is meant, that part alone is decoded, in half the time. A bad file ends a DALI pipeline
    for good: all files of its batch are checked then, and the others decoded by another pipeline.

    Raises InputError where DALI is not installed.
    """

    def __init__(self, target: Target, usual: ImageInfo) -> None:
        self.target, self.usual = target, usual
        try:
            # By name because its types are not for mypy.
            self._dali: Any = importlib.import_module("nvidia.dali")
        except (ImportError, OSError) as error:
            raise InputError(
                f"decoder is 'dali', and DALI cannot be imported ({error}): install it, or use decoder='auto'."
            ) from None
        self._pipelines: dict[bool, Any] = {}  # by whether parts are meant

    def __call__(self, items: Sequence[Item]) -> Chunk:
        chunk = Chunk(np.empty((len(items), *self.target.shape), self.target.dtype))
        files: dict[int, File] = {}
        for i, item in enumerate(items):
            try:
                self._add(chunk, files, i, item)
            except Rejected as reason:
                chunk.reasons[i] = str(reason)
        for parts in (False, True):
            rows = [i for i, file in files.items() if (file.box is not None) == parts]
            for start in range(0, len(rows), BATCH):
                self._decode(chunk, rows[start : start + BATCH], files)
        return chunk

    def _add(self, chunk: Chunk, files: dict[int, File], i: int, item: Item) -> None:
        """Put a file into `files`, and all else into `chunk`, loaded."""
        content, labels, box, chunk.stamps[i] = content_of(item)
        pixels = None
        if isinstance(content, bytes) and _is_for_dali(content, box):
            info = header_of(content)
            if box is not None:
                info = info._replace(height=box[3] - box[1], width=box[2] - box[0])
            if self.target.takes(info):
                files[i] = File(content, box)
        else:
            pixels, info = load_image(content, box, self.target.shape[0])
        if info != self.usual:
            chunk.infos[i] = info
        if labels:
            chunk.labels[i] = labels
        if pixels is not None and self.target.takes(info):
            chunk.pixels[i] = fit_array(pixels, self.target, nearest=item[2])

    def _decode(self, chunk: Chunk, rows: Sequence[int], files: Mapping[int, File]) -> None:
        if not rows:
            return
        try:
            chunk.pixels[rows] = self._run([files[i] for i in rows])
        except DecodeError as error:
            good = self._good(chunk, rows, files)
            if len(rows) == 1 and good:
                chunk.reasons[rows[0]] = f"damaged: {error}"
            elif len(good) < len(rows):
                self._decode(chunk, good, files)
            else:  # it is damage that only DALI minds
                half = len(rows) // 2
                self._decode(chunk, rows[:half], files)
                self._decode(chunk, rows[half:], files)

    @staticmethod
    def _good(chunk: Chunk, rows: Sequence[int], files: Mapping[int, File]) -> list[int]:
        """Those of `rows` whose files are whole; the reasons of the others go to the chunk."""
        good = []
        for i in rows:
            try:
                inspect_file(files[i].data)
                good.append(i)
            except Rejected as reason:
                chunk.reasons[i] = str(reason)
        return good

    def _run(self, files: Sequence[File]) -> np.ndarray:
        boxes = [file.box for file in files if file.box is not None]
        if bool(boxes) not in self._pipelines:
            self._pipelines[bool(boxes)] = _pipeline(self._dali, self.target, bool(boxes))
        pipeline = self._pipelines[bool(boxes)]
        try:
            pipeline.feed_input("files", [np.frombuffer(file.data, np.uint8) for file in files])
            if boxes:
                starts = [(top, left) for left, top, _, _ in boxes]
                shapes = [(bottom - top, right - left) for left, top, right, bottom in boxes]
                pipeline.feed_input("start", list(np.array(starts, np.int32)))
                pipeline.feed_input("shape", list(np.array(shapes, np.int32)))
            (images,) = pipeline.run()
        except RuntimeError as error:
            del self._pipelines[bool(boxes)]
            raise DecodeError(_last_line(error)) from None
        # [h, w, c], in memory that the next run overwrites
        pixels = [np.asarray(images[i]).transpose(2, 0, 1) for i in range(len(files))]
        wrong = [image.shape for image in pixels if image.shape != self.target.shape]
        if wrong:
            raise DecodeError(f"decoded to {list(wrong[0])}, not {list(self.target.shape)}")
        return np.stack(pixels)


def _is_for_dali(data: bytes, box: Box | None) -> bool:
    """Whether DALI takes it: a part must lie in the image, and nothing be said of turning it."""
    if box is None:
        return True
    if not is_jpeg(data) or has_exif(data):
        return False
    (height, width), (left, top, right, bottom) = size_of(data), box
    return 0 <= left < right <= width and 0 <= top < bottom <= height


def _pipeline(dali: Any, target: Target, parts: bool) -> Any:
    fn, types = dali.fn, dali.types
    channels, height, width = target.shape
    pipeline = dali.Pipeline(BATCH, num_threads=1, device_id=None, prefetch_queue_depth=1)
    with pipeline:
        files = fn.external_source(name="files", dtype=types.UINT8, ndim=1)
        # Never types.ANY_DATA: with a grey JPEG it corrupts the heap in DALI 2.4.
        options = {
            "device": "cpu",
            "output_type": types.GRAY if channels == 1 else types.RGB,
            "dtype": types.UINT16 if target.dtype == "uint16" else types.UINT8,
        }
        if parts:
            places = [
                fn.external_source(name=name, dtype=types.INT32, ndim=1)
                for name in ("start", "shape")
            ]
            images = fn.decoders.image_slice(
                files,
                *places,
                normalized_anchor=False,
                normalized_shape=False,
                axis_names="HW",
                **options,
            )
        else:
            images = fn.decoders.image(files, **options)
        if target.resize:
            images = fn.resize(
                images, size=[height, width], interp_type=types.INTERP_LINEAR, antialias=True
            )
        pipeline.set_outputs(images)
    pipeline.build()
    return pipeline


def _last_line(error: Exception) -> str:
    """DALI's messages are a page long; the one line that names the failure starts with 'Failed'."""
    lines = [line.strip() for line in str(error).splitlines()]
    return next(
        (line for line in lines if line.startswith("Failed")), lines[-1] if lines else "unknown"
    )
