"""WebDataset: tar files in which `a/b.png`, `a/b.json` and `a/b.cls` are image, labels, class of one sample."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from simgan_fast.data.checks import checked_name
from simgan_fast.data.image_files import Rejected
from simgan_fast.data.labels_json import BROKEN, label_numbers, object_labels
from simgan_fast.data.readers import PixelLabelsByName, Sample, left_out
from simgan_fast.data.readers.folder import SUFFIXES, natural_order
from simgan_fast.errors import InputError
from simgan_fast.stalls import reading

COMPRESSED = (".tar.gz", ".tgz", ".tar.xz", ".txz", ".tar.bz2", ".tar.zst")
NAME_KEY = "__name__"  # of the JSON: the image's name, where a tar cannot have it
LARGEST_IMAGE = 256 << 20  # bytes of a member
LARGEST_LABELS = 1 << 20
LARGEST_HEADER = 16 << 10  # a name can take 4 KiB; tarfile's time grows with the square of it


@dataclass(frozen=True, slots=True)
class _Member:
    """A file in a tar, by its place; `problem` says why it is not read, if it is not."""

    shard: Path
    start: int
    size: int
    problem: str = ""

    def read(self) -> bytes:
        """Its bytes; opened anew each time, so that any thread may read any member."""
        if self.problem:
            raise Rejected(self.problem)
        try:
            descriptor = os.open(self.shard, os.O_RDONLY)
            try:
                data = os.pread(descriptor, self.size, self.start)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise Rejected(f"cannot be read: {error.strerror}") from None
        if len(data) != self.size:
            raise Rejected(f"{self.shard.name} has become shorter since it was opened")
        return data


@dataclass(slots=True)
class _Index:
    """Images by name and labels by (key, extension), in the order of the tars."""

    images: dict[str, _Member] = field(default_factory=dict)
    labels: dict[tuple[str, str], _Member] = field(default_factory=dict)


class WebDatasetReader(PixelLabelsByName):
    """The images (.png, .jpg, .jpeg) in one tar file, or in the tar files of a folder in natural order.

    A member's key is its path up to the first dot of the file's name, the rest its extension; the image's name is key
    and extension, "a/b.png". Labels are the numbers, and lists of numbers, of the object in the key's `.json`, and the
    number in its `.cls` as `cls`; which labels there are, the first image that has some says. An image with others, or
    with a link, a device or a sparse file in place of one, is left out and listed in rejects.csv. Nothing is unpacked
    to the disk.

    Raises InputError for a source that is missing, damaged, compressed or holds no image, and for a name that comes
    twice.

    >>> reader = WebDatasetReader("shards")  # doctest: +SKIP
    """

    def __init__(self, source: str | Path) -> None:
        self.source = Path(source)
        self._index = _Index()
        for shard in _shards(self.source):
            with reading(str(shard)):
                _add_shard(self._index, shard)
        if not self._index.images:
            raise InputError(
                f"{self.source} holds no image: want members such as 0001.png, without another dot in "
                "the file's name."
            )
        self.labels = self._measure()

    @property
    def title(self) -> str:
        return str(self.source)

    def __len__(self) -> int:
        return len(self._index.images)

    def __iter__(self) -> Iterator[Sample]:
        for name, member in self._index.images.items():
            source = str(member.shard)
            try:
                if member.problem:
                    raise Rejected(member.problem)
                own, labels = self._read_labels(name)
                widths = {label: len(values) for label, values in labels.items()}
                if widths != self.labels:
                    raise Rejected(f"its labels are {widths}, those of the others {self.labels}")
                arrays = {label: np.array(values) for label, values in labels.items()}
                yield Sample(own, member.read, arrays, source)
            except Rejected as reason:
                yield left_out(name, str(reason), source)

    def _measure(self) -> dict[str, int]:
        """The labels of the first image that has some."""
        for name in self._index.images if self._index.labels else ():
            try:
                _, labels = self._read_labels(name)
            except Rejected:
                continue
            if labels:
                return {label: len(values) for label, values in labels.items()}
        return {}

    def _read_labels(self, name: str) -> tuple[str, dict[str, list[float]]]:
        """The image's own name, and its labels."""
        key, _ = _key(name)
        labels: dict[str, list[float]] = {}
        annotation = self._index.labels.get((key, "json"))
        number = self._index.labels.get((key, "cls"))
        try:
            if annotation is not None:
                labels, texts = object_labels(annotation.read())
                name = checked_name(texts.get(NAME_KEY, name))
            if number is not None:
                labels["cls"] = label_numbers(float(number.read())) or []
        except BROKEN as error:
            raise Rejected(f"its labels are damaged ({type(error).__name__}: {error})") from None
        return name, labels


def _shards(source: Path) -> list[Path]:
    if not source.exists():
        raise InputError(f"{source} does not exist: want a tar file, or a folder of them.")
    files = [source] if source.is_file() else sorted(source.iterdir(), key=_natural)
    for file in files:
        if file.name.lower().endswith(COMPRESSED):
            raise InputError(
                f"{file} is compressed, and its members cannot be read one by one: unpack it to a .tar first."
            )
    shards = files if source.is_file() else [x for x in files if x.suffix.lower() == ".tar"]
    if not shards:
        raise InputError(f"{source} holds no file that ends in .tar.")
    return shards


def _natural(file: Path) -> tuple[object, ...]:
    return natural_order(file.name)


class _Headers(io.FileIO):
    """A tar file as tarfile reads it: in headers, which may say that they are gigabytes long."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or not 0 <= size <= LARGEST_HEADER:
            raise tarfile.ReadError(f"a header of {size} bytes")
        return super().read(size) or b""


def _add_shard(index: _Index, shard: Path) -> None:
    try:
        with _Headers(shard) as file, tarfile.open(fileobj=file, mode="r:") as tar:
            length = shard.stat().st_size
            while _advance(tar, length, index, shard):
                pass
            file.seek(tar.offset)
            if file.read(tarfile.BLOCKSIZE).strip(b"\0"):  # tarfile takes a bad header for the end
                raise tarfile.ReadError(f"no header at byte {tar.offset}")
    except InputError:
        raise
    except (tarfile.TarError, OSError, LookupError, *BROKEN) as error:
        raise InputError(
            f"{shard} is no tar file, damaged or cut off ({error}): make or fetch it again."
        ) from None


def _advance(tar: tarfile.TarFile, length: int, index: _Index, shard: Path) -> bool:
    """Put the next member into `index`; whether there was one."""
    info = tar.next()
    tar.members.clear()  # type: ignore[attr-defined]  # or it keeps a kilobyte of each
    if info is None:
        return False
    if info.size < 0 or tar.offset <= info.offset:  # it could lead round in a circle
        raise tarfile.ReadError(f"a member of {info.size} bytes")
    if info.isdir():
        return True
    problem = ""
    if not info.isreg() or info.sparse is not None:
        problem = "a link, a device or a sparse file"
    elif info.offset_data + info.size > length:
        raise tarfile.ReadError("unexpected end of data")
    _file_member(index, info.name, _Member(shard, info.offset_data, info.size, problem))
    return True


def _file_member(index: _Index, name: str, member: _Member) -> None:
    """File an image or labels under its name; other members are passed over."""
    name = name.removeprefix("./")
    key, extension = _key(name)
    if f".{extension}" in SUFFIXES:
        try:
            checked_name(name)
        except InputError:
            name, problem = (
                ascii(name),
                "its name is no relative path in UTF-8 without '..' or '\\'",
            )
            member = _Member(member.shard, 0, 0, problem)
        if member.size > LARGEST_IMAGE:
            member = _Member(member.shard, 0, 0, f"a file of {member.size >> 20} MiB")
        other = index.images.setdefault(name, member)
    elif extension in ("json", "cls"):
        if member.size > LARGEST_LABELS:
            member = _Member(member.shard, 0, 0, f"labels of {member.size >> 20} MiB")
        other = index.labels.setdefault((key, extension), member)
    else:
        return
    if other is not member:
        raise InputError(
            f"the member {name!r} comes twice, in {other.shard} and {member.shard}: names identify images, so "
            "rename one of them."
        )


def _key(name: str) -> tuple[str, str]:
    """("a/b", "png") of "a/b.png", ("a/b", "left.png") of "a/b.left.png"."""
    folder, slash, file = name.rpartition("/")
    stem, _, extension = file.partition(".")
    return f"{folder}{slash}{stem}", extension.lower()
