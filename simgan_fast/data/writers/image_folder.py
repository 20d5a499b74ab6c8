"""A folder of image files with labels.csv."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path, PurePosixPath

import numpy as np

from simgan_fast.data import labels_csv
from simgan_fast.data.packed_format import REJECTS_FILE
from simgan_fast.data.readers.folder import LABELS_FILE
from simgan_fast.data.writers import CheckedWriter
from simgan_fast.data.writers.codecs import JPEG, PNG, Codec
from simgan_fast.errors import InputError
from simgan_fast.files import folder_written_whole


class ImageFolderWriter(CheckedWriter):
    """Writes image files under the images' own names, sub-folders kept, labels.csv, rejects.csv.

    The folder appears whole when the `with` block ends well; its single files are not synced to the disk one by one,
    which would cost more than all the rest.

    Raises InputError as `CheckedWriter` does, for what `codec` cannot hold, for two names that would be one file, and
    for a name that a file cannot have.
    """

    codec: Codec

    def __init__(
        self,
        out: str | Path,
        shape: Sequence[int],
        labels: Mapping[str, int] | None = None,
        dtype: str = "uint8",
    ) -> None:
        super().__init__(out, shape, labels, dtype)
        self.codec.check(self.shape, dtype)
        self._files = {name: name for name in (LABELS_FILE, REJECTS_FILE)}  # file -> image
        self._folders: dict[str, str] = {}  # sub-folder -> an image in it

    @contextmanager
    def _opened(self) -> Iterator[None]:
        with folder_written_whole(self.path) as self._folder, ExitStack() as stack:
            self._table = None
            if self.labels:
                file = open(self._folder / LABELS_FILE, "w", newline="", encoding="utf-8")  # noqa: SIM115
                self._table = csv.writer(stack.enter_context(file), lineterminator="\n")
                self._table.writerow(labels_csv.header(self.labels))
            yield
            self._write_rejects(self._folder)

    def _write(
        self, images: np.ndarray, names: Sequence[str], labels: Mapping[str, np.ndarray]
    ) -> None:
        files = [self._file_for(name) for name in names]
        for file, data in zip(files, self.codec.encode_all(images), strict=True):
            with open(self._folder / file, "wb") as stream:
                stream.write(data)
        if self._table is not None:
            self._table.writerows(labels_csv.rows(files, labels))

    def _file_for(self, name: str) -> str:
        """The file of the image `name`, in a sub-folder that is there."""
        file = self.codec.file_name(name)
        if "\r" in file or any(part.startswith(".") for part in file.split("/")):
            # Readers pass over hidden files, and csv does not quote a carriage return.
            raise InputError(
                f"the name {name!r} cannot be a file's: no part may begin with a dot, nor hold a carriage "
                "return, so rename it, or write the format 'arrow'."
            )
        folders = [str(folder) for folder in PurePosixPath(file).parents][:-1]
        place = next((x for x in (file, *folders) if x in self._files), file)
        other = self._files.get(place) or self._folders.get(place)
        if other is not None:
            raise InputError(
                f"the names {other!r} and {name!r} both become {place!r}: rename one of them, or write the "
                "format 'arrow'."
            )
        if folders and folders[0] not in self._folders:
            (self._folder / folders[0]).mkdir(parents=True, exist_ok=True)
            self._folders |= dict.fromkeys(folders, name)
        self._files[file] = name
        return file


class PngWriter(ImageFolderWriter):
    """PNG files: grey (1 channel, uint8 or uint16) or RGB (3 channels, uint8); nothing is lost."""

    codec = PNG


class JpegWriter(ImageFolderWriter):
    """JPEG files of quality 95 and 4:4:4: grey or RGB, uint8; pixels change by a level or two."""

    codec = JPEG
