"""Images and labels on their way in and out: readers, ingest, packed sets, feeds, writers."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import weakref
from pathlib import Path

from simgan_fast.data import ingest
from simgan_fast.data.packed import PackedSet, is_packed, open_packed
from simgan_fast.data.packed_writer import PackedWriter
from simgan_fast.data.readers.folder import FolderReader
from simgan_fast.errors import InputError
from simgan_fast.stalls import moved, reading

__all__ = [
    "FolderReader",
    "PackedSet",
    "PackedWriter",
    "is_packed",
    "open_images",
    "open_packed",
]


def open_images(
    path: str | Path,
    *,
    size: tuple[int, int] | None = None,
    channels: int | None = None,
    cache: str | Path | None = None,
    labels: str | Path | None = None,
    decoder: str = "auto",
) -> PackedSet:
    """Open a packed set, or a folder of PNG and JPEG files, which is packed first.

    `size`: (height, width) in pixels, `channels`: 1 or 3: what a folder's images become (see
    `ingest`), and what a packed set must have already. `cache`: the folder for the packed copy; one
    made before from the same files with the same arguments is used again. Without `cache` the copy
    is temporary and goes with the returned set. `labels`: a CSV or JSON file for an image folder
    (default: its own labels.csv).

    Raises InputError where nothing can be read, a packed set has another size, or `cache` holds
    something else.

    >>> open_images("photos", size=(35, 55), channels=1).shape
    (1, 35, 55)
    """
    path = Path(path)
    if is_packed(path):
        if labels is not None:
            raise InputError(f"{path} is a packed set, which holds its labels: leave out {labels}.")
        return _with_shape(open_packed(path), size, channels)
    with reading(str(path)):
        reader = FolderReader(path, labels)
        origin = _origin(reader, size, channels) if cache is not None else ""
    if cache is not None and is_packed(cache):
        return _with_origin(open_packed(cache), origin, path)
    folder = Path(cache) if cache is not None else Path(tempfile.mkdtemp(prefix="simgan_fast-"))
    try:
        packed = ingest.ingest(
            reader, folder, size=size, channels=channels, decoder=decoder, origin=origin
        )
    except BaseException:
        if cache is None:
            shutil.rmtree(folder, ignore_errors=True)
        raise
    if cache is None:
        weakref.finalize(packed, shutil.rmtree, folder, ignore_errors=True)
    return packed


def _with_shape(packed: PackedSet, size: tuple[int, int] | None, channels: int | None) -> PackedSet:
    c, h, w = packed.shape
    if size is not None and tuple(size) != (h, w):
        raise InputError(
            f"{packed.path} holds images of {h}x{w} (height x width) and {size[0]}x{size[1]} was "
            "asked for: a packed set is not resized, so ingest the original images with that "
            "size."
        )
    if channels is not None and channels != c:
        raise InputError(
            f"{packed.path} holds images with {c} channels and {channels} were asked for: ingest "
            f"the original images with channels={channels}."
        )
    return packed


def _origin(reader: FolderReader, size: tuple[int, int] | None, channels: int | None) -> str:
    """A digest of what the packed copy depends on: names, file sizes, times of change, and the
    arguments.
    """
    digest = hashlib.sha256(f"{size and tuple(size)} {channels}\n".encode())
    files = [reader.folder / name for name in reader.names]
    if reader.labels:
        files.append(reader.labels_file)
    for file in files:
        moved()
        status = file.lstat()  # of the link itself where it is one: it may point nowhere
        digest.update(os.fsencode(file) + f" {status.st_size} {status.st_mtime_ns}\n".encode())
    return f"folder sha256:{digest.hexdigest()}"


def _with_origin(packed: PackedSet, origin: str, path: Path) -> PackedSet:
    if packed.info.get("origin") != origin:
        raise InputError(
            f"the cache {packed.path} was made from other images or with other arguments than "
            f"{path} now has: remove it, or name another."
        )
    return packed
