"""Image files to pixels of one shape, by DALI or by Pillow.

Both turn images upright by their EXIF tag, drop alpha, expand palettes, convert grey and colour
(luma weights .299, .587, .114) and resize with a triangle filter that is widened when it shrinks
(antialiased).
"""

from __future__ import annotations

import importlib
import io
import logging
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from PIL import Image, ImageOps

from simgan_fast.errors import InputError

DECODERS = ("auto", "dali", "pillow")
BATCH = 256  # images DALI decodes at a time
LUMA = np.array([0.299, 0.587, 0.114])

_log = logging.getLogger(__name__)


class DecodeError(Exception):
    """A batch could not be decoded; one file of it is enough."""


@dataclass(frozen=True)
class Target:
    """What every image becomes: `shape` (channels, height, width), `dtype` "uint8" or "uint16".

    `resize`: whether images may come in other sizes.
    """

    shape: tuple[int, int, int]
    dtype: str
    resize: bool


class Decoder(Protocol):
    """Decodes checked files: at most BATCH of them to [m, c, h, w], or DecodeError."""

    def __call__(self, files: Sequence[bytes]) -> np.ndarray: ...


def open_decoder(kind: str, target: Target) -> Decoder:
    """Return the decoder `kind`; "auto" is DALI, or Pillow and a log line where DALI is missing."""
    if kind not in DECODERS:
        raise InputError(f"decoder is {kind!r}: want one of {', '.join(DECODERS)}.")
    if kind == "pillow":
        return PillowDecoder(target)
    try:
        return DaliDecoder(target)
    except (ImportError, OSError) as error:
        if kind == "dali":
            raise InputError(
                f"decoder is 'dali', and DALI cannot be imported ({error}): install it, or use "
                "decoder='pillow'."
            ) from None
        _log.warning(
            "DALI is not installed: decoding with Pillow (the same shapes, pixels may differ by "
            "a level)."
        )
        return PillowDecoder(target)


class DaliDecoder:
    """DALI on the CPU, a thread per core.

    A bad file ends a DALI pipeline for good: after a DecodeError the next call builds another.
    """

    def __init__(self, target: Target) -> None:
        self.target = target
        # Imported here because it takes a second, and by name because its types are not for mypy.
        self._dali: Any = importlib.import_module("nvidia.dali")
        self._pipeline: Any = None

    def __call__(self, files: Sequence[bytes]) -> np.ndarray:
        if self._pipeline is None:
            self._pipeline = _dali_pipeline(self._dali, self.target)
        try:
            self._pipeline.feed_input("files", [np.frombuffer(file, np.uint8) for file in files])
            (images,) = self._pipeline.run()
        except RuntimeError as error:
            self._pipeline = None
            raise DecodeError(_last_line(error)) from None
        # [m, h, w, c], in memory that the next run overwrites
        pixels = [np.asarray(images[i]) for i in range(len(files))]
        return _stacked([array.transpose(2, 0, 1) for array in pixels], self.target)


class PillowDecoder:
    """Pillow, one file after the other: for where DALI is not installed."""

    def __init__(self, target: Target) -> None:
        self.target = target

    def __call__(self, files: Sequence[bytes]) -> np.ndarray:
        return _stacked(
            [fit_array(_pillow_pixels(file, self.target.shape[0]), self.target) for file in files],
            self.target,
        )


def fit_array(pixels: np.ndarray, target: Target, *, nearest: bool = False) -> np.ndarray:
    """Bring decoded pixels [h, w] or [h, w, c] to `target` [c, h, w]: channels first, then size.

    `nearest`: each pixel is the nearest one, in place of means.
    """
    planes = pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
    channels, height, width = target.shape
    if len(planes) == 3 and channels == 1:
        planes = np.rint(np.tensordot(LUMA, planes, 1))[None].astype(pixels.dtype)
    elif len(planes) == 1:
        planes = np.repeat(planes, channels, axis=0)
    if planes.shape[1:] == (height, width):
        return planes
    if nearest:
        return _nearest(planes, height, width)
    rounded: np.ndarray = np.rint([_resized(plane, height, width) for plane in planes])
    return rounded.astype(pixels.dtype)


def _nearest(planes: np.ndarray, height: int, width: int) -> np.ndarray:
    rows, columns = (
        ((np.arange(new) + 0.5) * old / new).astype(int)
        for old, new in zip(planes.shape[1:], (height, width), strict=True)
    )
    resized: np.ndarray = planes[:, rows[:, None], columns]
    return resized


def _resized(plane: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resize a plane to float32 [height, width]; beyond the border the edge repeats, as in DALI."""
    h, w = plane.shape
    pad = max(1, math.ceil(h / height), math.ceil(w / width))  # as far as the filter reaches
    image = Image.fromarray(np.pad(plane.astype(np.float32), pad, mode="edge"))
    box = (pad, pad, pad + w, pad + h)
    resized: np.ndarray = np.asarray(image.resize((width, height), Image.Resampling.BILINEAR, box))
    return resized


def _pillow_pixels(file: bytes, channels: int) -> np.ndarray:
    """Decode to [h, w] or [h, w, 3]; uint16 only for 16-bit grey."""
    try:
        with Image.open(io.BytesIO(file), formats=("PNG", "JPEG")) as image:
            if channels == 1:
                image.draft("L", None)  # of a colour JPEG its luma, as DALI does
            upright = ImageOps.exif_transpose(image)
            if upright.mode.startswith("I"):  # 16-bit grey: "I;16", or "I" in an older Pillow
                return np.asarray(upright).astype(np.uint16)
            grey = upright.mode in ("1", "L", "LA")
            pixels: np.ndarray = np.asarray(upright.convert("L" if grey else "RGB"))
            return pixels
    except (OSError, SyntaxError, ValueError) as error:
        raise DecodeError(str(error)) from None


def _dali_pipeline(dali: Any, target: Target) -> Any:
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


def _stacked(images: list[np.ndarray], target: Target) -> np.ndarray:
    wrong = [image.shape for image in images if image.shape != target.shape]
    if wrong:
        raise DecodeError(f"decoded to {list(wrong[0])}, and {list(target.shape)} was expected")
    return np.stack(images)


def _last_line(error: Exception) -> str:
    """DALI's messages are a page long; the one line that names the failure starts with 'Failed'."""
    lines = [line.strip() for line in str(error).splitlines()]
    return next(
        (line for line in lines if line.startswith("Failed")), lines[-1] if lines else "unknown"
    )
