"""DALI as the decoder of ingest: a batch at a time, a thread per core."""

from __future__ import annotations

import importlib
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from simgan_fast.data.decode import (
    Chunk,
    Item,
    Target,
    content_of,
    fit_array,
    load_image,
)
from simgan_fast.data.image_files import ImageInfo, Rejected, inspect_file
from simgan_fast.errors import InputError

BATCH = 256  # images at most that DALI decodes at a time


class DecodeError(Exception):
    """A batch could not be decoded; one file of it is enough."""


class DaliLoader:
    """Loads chunks as `load_chunk` does; whole files by DALI, the rest as that does.

    A bad file ends a DALI pipeline for good, so each is checked before; should one fail all the same, it is found by
    halving the batch, with another pipeline.

    Raises InputError where DALI is not installed.
    """

    def __init__(self, target: Target, usual: ImageInfo) -> None:
        self.target, self.usual = target, usual
        try:
            # Imported here because it takes a second, and by name because its types are not for mypy.
            self._dali: Any = importlib.import_module("nvidia.dali")
        except (ImportError, OSError) as error:
            raise InputError(
                f"decoder is 'dali', and DALI cannot be imported ({error}): install it, or use decoder='auto'."
            ) from None
        self._pipeline: Any = None

    def __call__(self, items: Sequence[Item]) -> Chunk:
        chunk = Chunk(np.empty((len(items), *self.target.shape), self.target.dtype))
        files: dict[int, bytes] = {}
        for i, item in enumerate(items):
            try:
                self._add(chunk, files, i, item)
            except Rejected as reason:
                chunk.reasons[i] = str(reason)
        rows, data = list(files), list(files.values())
        for start in range(0, len(rows), BATCH):
            self._decode(chunk, rows[start : start + BATCH], data[start : start + BATCH])
        return chunk

    def _add(self, chunk: Chunk, files: dict[int, bytes], i: int, item: Item) -> None:
        """Put a file into `files`, and all else into `chunk`, loaded."""
        content, labels, box = content_of(item)
        if isinstance(content, bytes) and box is None:
            pixels, info = None, inspect_file(content)
            if self.target.takes(info):
                files[i] = content
        else:
            pixels, info, _ = load_image((content, box, item[2]), self.target.shape[0])
        if info != self.usual:
            chunk.infos[i] = info
        if labels:
            chunk.labels[i] = labels
        if pixels is not None and self.target.takes(info):
            chunk.pixels[i] = fit_array(pixels, self.target, nearest=item[2])

    def _decode(self, chunk: Chunk, rows: Sequence[int], files: Sequence[bytes]) -> None:
        if not files:
            return
        try:
            chunk.pixels[rows] = self._run(files)
        except DecodeError as error:
            if len(files) == 1:
                chunk.reasons[rows[0]] = f"damaged: {error}"
                return
            half = len(files) // 2
            self._decode(chunk, rows[:half], files[:half])
            self._decode(chunk, rows[half:], files[half:])

    def _run(self, files: Sequence[bytes]) -> np.ndarray:
        if self._pipeline is None:
            self._pipeline = _pipeline(self._dali, self.target)
        try:
            self._pipeline.feed_input("files", [np.frombuffer(file, np.uint8) for file in files])
            (images,) = self._pipeline.run()
        except RuntimeError as error:
            self._pipeline = None
            raise DecodeError(_last_line(error)) from None
        # [h, w, c], in memory that the next run overwrites
        pixels = [np.asarray(images[i]).transpose(2, 0, 1) for i in range(len(files))]
        wrong = [image.shape for image in pixels if image.shape != self.target.shape]
        if wrong:
            raise DecodeError(f"decoded to {list(wrong[0])}, not {list(self.target.shape)}")
        return np.stack(pixels)


def _pipeline(dali: Any, target: Target) -> Any:
    fn, types = dali.fn, dali.types
    channels, height, width = target.shape
    threads = len(os.sched_getaffinity(0))
    pipeline = dali.Pipeline(BATCH, num_threads=threads, device_id=None, prefetch_queue_depth=1)
    with pipeline:
        files = fn.external_source(name="files", dtype=types.UINT8, ndim=1)
        # Never types.ANY_DATA: with a grey JPEG it corrupts the heap in DALI 2.4.
        images = fn.decoders.image(
            files,
            device="cpu",
            output_type=types.GRAY if channels == 1 else types.RGB,
            dtype=types.UINT16 if target.dtype == "uint16" else types.UINT8,
        )
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
