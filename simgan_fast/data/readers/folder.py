"""A folder of PNG and JPEG files, with labels in a CSV or JSON file if there are any."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from simgan_fast.data.checks import checked_names
from simgan_fast.data.labels_csv import read_labels
from simgan_fast.data.labels_json import read_labels_json
from simgan_fast.data.readers import PixelLabelsByName, Sample
from simgan_fast.errors import InputError
from simgan_fast.stalls import moved

SUFFIXES = (".png", ".jpg", ".jpeg")
LABELS_FILE = "labels.csv"
_DIGITS = re.compile(r"[0-9]+")


class FolderReader(PixelLabelsByName):
    """The image files under `folder`, sub-folders included, in natural order (2.png before 10.png).

    A name is the path relative to `folder`, with '/'. Files and folders that begin with a dot are
    passed over, and so are links to folders. `labels`: a CSV file whose first column is the name
    (default: `labels.csv` in the folder, if it is there), or a .json file; docs/file_formats.md
    describes both. Its rows must be exactly the images.

    Raises InputError for a folder that is missing or has no image, and for labels that do not
    match.

    >>> reader = FolderReader("eyes")
    >>> len(reader), reader.labels
    (1500, {'gaze': 3})
    """

    def __init__(self, folder: str | Path, labels: str | Path | None = None) -> None:
        self.folder = Path(folder)
        self.names = image_names(self.folder)
        self.labels_file = Path(labels) if labels is not None else self.folder / LABELS_FILE
        self.beside_images = [self.labels_file]
        self._values: dict[str, np.ndarray] = {}
        if labels is not None or self.labels_file.is_file():
            read = read_labels_json if self.labels_file.suffix.lower() == ".json" else read_labels
            self._values = read(self.labels_file, self.names)
        self.labels = {name: values.shape[1] for name, values in self._values.items()}

    @property
    def title(self) -> str:
        return str(self.folder)

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[Sample]:
        prefix, title = os.path.join(self.folder, ""), self.title
        for i, name in enumerate(self.names):
            labels = {label: values[i] for label, values in self._values.items()}
            yield Sample(name, prefix + name, labels, title)


def natural_order(name: str) -> tuple[str, str]:
    """Sort key: folder by folder, runs of digits as numbers; the plain name breaks ties.

    Texts alone: lists with numbers in them take twice as long.
    """
    return _DIGITS.sub(_by_length, name.replace("/", "\0")), name


def _by_length(digits: re.Match[str]) -> str:
    """A number as a text that sorts as the number does: its digits, counted."""
    number = digits[0].lstrip("0")
    return f"0{chr(len(number))}{number}"


def image_names(folder: Path) -> list[str]:
    """The names of the image files under `folder` as `FolderReader` takes them; InputError where there are none."""
    if not folder.exists():
        raise InputError(f"the image folder {folder} does not exist.")
    if not folder.is_dir():
        raise InputError(f"{folder} is a file: want a folder of PNG or JPEG images.")
    names = file_names(folder, SUFFIXES)
    if not names:
        raise InputError(f"{folder} holds no image: want files that end in {', '.join(SUFFIXES)}.")
    return names


def file_names(folder: Path, suffixes: tuple[str, ...]) -> list[str]:
    """The files under `folder` that end in one of `suffixes`, in natural order; links to folders are passed over."""
    names = []
    for place, folders, files in os.walk(folder, onerror=_cannot_list):
        moved()
        folders[:] = [name for name in folders if not name.startswith(".")]
        prefix = "" if place == str(folder) else f"{Path(place).relative_to(folder).as_posix()}/"
        names += [
            prefix + file
            for file in files
            if file.lower().endswith(suffixes) and not file.startswith(".")
        ]
    return sorted(checked_names(names), key=natural_order)


def _cannot_list(error: OSError) -> None:
    raise InputError(f"the folder {error.filename} cannot be listed ({error.strerror}).")
