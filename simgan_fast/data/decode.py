"""Image files to pixels of one shape: what ingest does to each image, in this process or in several.

Images are turned upright by their EXIF tag, alpha is dropped, palettes are expanded, grey and colour converted (luma
weights .299, .587, .114; of a JPEG its own luma), and sizes changed with a triangle filter that is widened when it
shrinks (antialiased).
"""

from __future__ import annotations

import io
import math
import os
import stat
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageOps

from simgan_fast.data.image_files import (
    ImageInfo,
    Rejected,
    inspect_array,
    inspect_file,
    is_jpeg,
)
from simgan_fast.stalls import moved

LUMA = np.array([0.299, 0.587, 0.114])
EXIF, APP1, SCAN = b"Exif\0\0", 0xE1, 0xDA  # of a JPEG: a mark, its segment, the end of the header
SMALL = 16 << 10  # bytes of a file that is searched for EXIF as a whole
READING = os.O_RDONLY | os.O_NONBLOCK  # or a named pipe would never end
NO_FILE = "no file, but a folder, a pipe or a device"
FAST_PIXELS = 64 << 20  # of a JPEG; larger ones are left to Pillow, which knows what is too large

Box = tuple[int, int, int, int]  # left, top, right, bottom in whole pixels
Labels = Mapping[str, Any]  # name -> [k] numbers
Content = bytes | np.ndarray


class Loaded(NamedTuple):
    """What a sample's function may give in place of its image alone: labels too, and the `box` that is meant of it.

    `stamp`: of a file that is read again where it has changed since, see `stamp_of`.
    """

    content: Content
    labels: Labels
    box: Box | None = None
    stamp: str = ""


@dataclass(frozen=True)
class Target:
    """What every image becomes: `shape` (channels, height, width), `dtype` "uint8" or "uint16".

    `resize`: whether images may come in other sizes.
    """

    shape: tuple[int, int, int]
    dtype: str
    resize: bool

    def takes(self, info: ImageInfo) -> bool:
        """Whether such an image can be brought to this shape."""
        same = (info.height, info.width) == self.shape[1:]
        known = info.channels in (1, 3, self.shape[0])
        return info.dtype == self.dtype and known and (self.resize or same)


# What a process needs to load an image: `image` (a path as text), `box` and `nearest` of its sample, see
# simgan_fast.data.readers. A plain tuple, as others take several times as long to hand to another process.
Item = tuple[str | Content | Callable[[], Content | Loaded], Box | None, bool]


@dataclass
class Chunk:
    """Loaded images: `pixels` [m, c, h, w], and by an image's number in the chunk: `reasons` of those that are left
    out, `labels` that came with the pixels, `infos` of those that are not as usual, and `stamps` of files.
    """

    pixels: np.ndarray
    reasons: dict[int, str] = field(default_factory=dict)
    labels: dict[int, Labels] = field(default_factory=dict)
    infos: dict[int, ImageInfo] = field(default_factory=dict)
    stamps: dict[int, str] = field(default_factory=dict)


def load_chunk(
    items: Sequence[Item], target: Target, usual: ImageInfo, *, fast: bool = True
) -> Chunk:
    """Load `items` for `target`; one that is not fit for it is in `infos`, and its pixels are not to be used.

    `fast`: with simplejpeg where it is installed.
    """
    chunk = Chunk(np.empty((len(items), *target.shape), target.dtype))
    for i, item in enumerate(items):
        moved()
        try:
            content, labels, box, chunk.stamps[i] = content_of(item)
            pixels, info = load_image(content, box, target.shape[0], fast=fast)
        except Rejected as reason:
            chunk.reasons[i] = str(reason)
            continue
        if info != usual:
            chunk.infos[i] = info
        if labels:
            chunk.labels[i] = labels
        if target.takes(info):
            chunk.pixels[i] = fit_array(pixels, target, nearest=item[2])
    return chunk


def load_image(
    content: Content, box: Box | None, channels: int | None, *, fast: bool = True
) -> tuple[np.ndarray, ImageInfo]:
    """Pixels [h, w] or [h, w, c] of a file's bytes, or of pixels, and what the image was; or Rejected.

    `channels`: 1 where grey will do, which is faster of a colour JPEG.
    """
    if isinstance(content, bytes):
        pixels, info = decode_file(content, channels, fast=fast)
    else:
        pixels, info = content, inspect_array(content)
    if box is not None:
        pixels = cropped(pixels, box)
        info = info._replace(height=pixels.shape[0], width=pixels.shape[1])
    return pixels, info


def content_of(item: Item) -> Loaded:
    """The bytes of a file, or pixels, with what came with them; or Rejected."""
    image, box, _ = item
    if isinstance(image, str):
        data, its_stamp = read_stamped(image)
        return Loaded(data, {}, box, its_stamp)
    given = image() if callable(image) else image
    return given if isinstance(given, Loaded) else Loaded(given, {}, box)


def decode_file(
    data: bytes, channels: int | None, *, fast: bool = True
) -> tuple[np.ndarray, ImageInfo]:
    """The pixels of a whole PNG or JPEG file, [h, w] or [h, w, 3], and what it is; or Rejected.

    A JPEG is read by simplejpeg where it is installed (the same pixels as Pillow, five times as fast for an eye of
    35x55); what that refuses, and what needs turning, goes to Pillow, which finds the reason.
    """
    found = _fast_jpeg(data, channels) if fast else None
    return found or _by_pillow(data, inspect_file(data, whole=not is_jpeg(data)), channels)


def read_file(path: str) -> bytes:
    """The bytes of a file; Rejected where there is none, or something else."""
    return read_stamped(path)[0]


def read_stamped(path: str) -> tuple[bytes, str]:
    """Its bytes, and its stamp from before they were read; or Rejected."""
    try:
        descriptor = os.open(path, READING)
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise Rejected(NO_FILE)
            return os.read(descriptor, status.st_size), stamp(status)
        finally:
            os.close(descriptor)
    except FileNotFoundError:
        raise Rejected("the image is missing") from None
    except OSError as error:
        raise Rejected(f"cannot be read: {error.strerror}") from None


def stamp_of(path: str) -> str:
    """The stamp of a file that can be read; else ""."""
    try:
        descriptor = os.open(path, READING)
    except OSError:
        return ""
    try:
        status = os.fstat(descriptor)
    finally:
        os.close(descriptor)
    return stamp(status) if stat.S_ISREG(status.st_mode) else ""


def stamp(status: os.stat_result) -> str:
    """What changes when a file does: its size, and when its content, name or rights changed.

    Compared with another one, and with no clock: clocks are set, and that of a server may be another.
    """
    return f"{status.st_size} {status.st_ctime_ns}"


def header_of(data: bytes) -> ImageInfo:
    """What a PNG or JPEG file is by its header; or Rejected."""
    return _fast_header(data) or inspect_file(data, whole=False)


def size_of(data: bytes) -> tuple[int, int]:
    """Its height and width."""
    info = header_of(data)
    return info.height, info.width


@cache
def _simplejpeg() -> Any:
    try:
        import simplejpeg
    except ImportError:
        return None
    return simplejpeg


def _fast_header(data: bytes) -> ImageInfo | None:
    """What a JPEG is by its header, if simplejpeg can be asked for all of it."""
    jpeg = _simplejpeg()
    if jpeg is None or not is_jpeg(data) or has_exif(data):
        return None
    try:
        height, width, colours, _ = jpeg.decode_jpeg_header(data)
    except ValueError:
        return None
    if colours not in ("Gray", "YCbCr") or height * width > FAST_PIXELS:
        return None
    return ImageInfo(height, width, 1 if colours == "Gray" else 3, "uint8")


def has_exif(data: bytes) -> bool:
    """Whether a JPEG has EXIF data among its segments; true too where these cannot be followed."""
    if len(data) < SMALL:
        return EXIF in data
    at = 2
    while data[at : at + 1] == b"\xff" and at + 10 < len(data):
        marker = data[at + 1]
        if marker == SCAN:
            return False
        if marker == APP1 and data[at + 4 : at + 10] == EXIF:
            return True
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return True


def _fast_jpeg(data: bytes, channels: int | None) -> tuple[np.ndarray, ImageInfo] | None:
    info = _fast_header(data)
    if info is None:
        return None
    grey = channels == 1 or info.channels == 1
    try:
        pixels = _simplejpeg().decode_jpeg(data, "GRAY" if grey else "RGB")
    except ValueError:
        return None
    return pixels[..., 0] if grey else pixels, info


def _by_pillow(data: bytes, info: ImageInfo, channels: int | None) -> tuple[np.ndarray, ImageInfo]:
    try:
        with Image.open(io.BytesIO(data), formats=("PNG", "JPEG")) as image:
            if channels == 1:
                image.draft("L", None)  # of a colour JPEG its luma
            upright = ImageOps.exif_transpose(image)
            if upright.mode.startswith("I"):  # 16-bit grey: "I;16", or "I" in an older Pillow
                return np.asarray(upright).astype(np.uint16), info
            grey = upright.mode in ("1", "L", "LA")
            return np.asarray(upright.convert("L" if grey else "RGB")), info
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise Rejected(f"damaged or cut off: {error}") from None


def cropped(pixels: np.ndarray, box: Box) -> np.ndarray:
    """The part `box` of [h, w] or [h, w, c]; beyond the border the edge repeats."""
    left, top, right, bottom = box
    height, width = pixels.shape[:2]
    if 0 <= left < right <= width and 0 <= top < bottom <= height:
        return pixels[top:bottom, left:right]
    rows = np.clip(np.arange(top, bottom), 0, height - 1)
    columns = np.clip(np.arange(left, right), 0, width - 1)
    return pixels[rows][:, columns]


def fit_array(pixels: np.ndarray, target: Target, *, nearest: bool = False) -> np.ndarray:
    """Bring decoded pixels [h, w] or [h, w, c] to `target` [c, h, w]: channels first, then size.

    `nearest`: each pixel is the nearest one, in place of means.
    """
    planes = pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
    channels, height, width = target.shape
    if len(planes) == 3 and channels == 1:
        planes = np.rint(np.tensordot(LUMA, planes, 1))[None].astype(pixels.dtype)
    elif len(planes) == 1:
        planes = np.repeat(planes, channels, axis=0) if channels > 1 else planes
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
    rows, columns = (np.arange(-pad, size + pad).clip(0, size - 1) for size in plane.shape)
    image = Image.fromarray(plane[rows][:, columns].astype(np.float32))
    box = (pad, pad, pad + w, pad + h)
    resized: np.ndarray = np.asarray(image.resize((width, height), Image.Resampling.BILINEAR, box))
    return resized
