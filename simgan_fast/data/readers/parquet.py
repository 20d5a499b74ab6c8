"""Parquet and Arrow files with a column of images, as Hugging Face and others write them."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from simgan_fast.data.checks import checked_name, checked_widths
from simgan_fast.data.image_files import Rejected
from simgan_fast.data.labels_json import label_numbers
from simgan_fast.data.packed_format import FORMAT
from simgan_fast.data.readers import PixelLabelsByName, Sample, left_out
from simgan_fast.data.readers.columns import is_list, is_number, is_text, storage, storage_type
from simgan_fast.data.readers.folder import file_names
from simgan_fast.data.readers.image_column import cell_image, has_path, image_column
from simgan_fast.data.readers.tables import SUFFIXES, Table
from simgan_fast.errors import InputError

NAME_COLUMNS = ("name", "file_name", "filename", "file", "path")
WIDEST = 4096  # numbers of a label
LONGEST = 1024  # characters of a name

_log = logging.getLogger(__name__)


class TableReader(PixelLabelsByName):
    """The rows of `files` of the data set `source`; `ParquetReader` says what they mean."""

    def __init__(self, source: Path, files: Sequence[Path], image: str | None = None) -> None:
        self.source = source
        self._folder = source if os.path.isdir(source) else source.parent
        self._tables = [Table(file) for file in files]
        schema = self._tables[0].schema
        if (schema.metadata or {}).get(b"format") == FORMAT.encode():
            raise InputError(
                f"{source} is a packed set already, or a part of one: use the set as it is."
            )
        self._count = sum(table.count for table in self._tables)
        if not self._count:
            raise InputError(f"{source} holds no row.")
        self._image = image_column(source, schema, image)
        self._check_columns()
        self.labels = self._label_columns()
        self._name = self._name_column()

    @property
    def title(self) -> str:
        return str(self.source)

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Sample]:
        columns = dict.fromkeys([self._image, *self.labels, self._name or self._image])
        row = 0
        for table in self._tables:
            for batch in table.batches(list(columns)):
                yield from self._samples(str(table.file), batch, row)
                row += len(batch)

    def _samples(self, file: str, batch: pa.RecordBatch, first: int) -> Iterator[Sample]:
        digits = max(6, len(str(self._count)))
        names = [f"{first + i:0{digits}d}.png" for i in range(len(batch))]
        if self._name is not None:
            names = [str(name) for name in _texts(batch.column(self._name))]
        images = storage(batch.column(self._image))
        values = {label: storage(batch.column(label)) for label in self.labels}
        for i, name in enumerate(names):
            try:
                labels = {
                    label: _numbers(label, values[label][i], width)
                    for label, width in self.labels.items()
                }
                yield Sample(name, cell_image(images[i], self._folder), labels, source=file)
            except Rejected as reason:
                yield left_out(name, str(reason), file)

    def _check_columns(self) -> None:
        """Raise InputError where a file lacks a column that the first one has and that is read."""
        first = self._tables[0]
        for name in self._candidates():
            kind = first.schema.field(name).type
            for table in self._tables:
                count = table.columns.count(name)
                if count != 1 or table.schema.field(name).type != kind:
                    other = table.schema.field(name).type if count == 1 else "missing"
                    raise InputError(
                        f"the column {name!r} is {kind} in {first.file} and {other} in {table.file}: the files of a "
                        "set have the same columns."
                    )

    def _candidates(self) -> list[str]:
        """The columns that may be read."""
        schema = self._tables[0].schema
        return [
            field.name
            for field in schema
            if field.name == self._image
            or (is_text(field.type) if field.name in NAME_COLUMNS else _is_label(schema, field))
        ]

    def _label_columns(self) -> dict[str, int]:
        """How many numbers each label has; of lists of any length, the first row says it."""
        schema = self._tables[0].schema
        widths = {}
        for name in self._candidates():
            kind = storage_type(schema.field(name).type)
            width = 1 if is_number(kind) else 0
            if pa.types.is_fixed_size_list(kind):
                width = kind.list_size
            elif is_list(kind):
                width = self._first_length(name)
            if name != self._image and 1 <= width <= WIDEST:
                widths[name] = width
        other = [x for x in schema.names if x not in (*widths, self._image, *NAME_COLUMNS)]
        if other:
            text = ", ".join(other)[:500]
            _log.warning("%s: passed over, as no labels: %s.", self.source, text)
        return widths

    def _first_length(self, column: str) -> int:
        for table in self._tables:
            for batch in table.batches([column]):
                for cell in storage(batch.column(0)):
                    if cell.is_valid and len(cell.values):
                        return len(cell.values)
        return 0

    def _name_column(self) -> str | None:
        """The column that names the images, the image's own for its paths; None where they are numbered."""
        found = [name for name in NAME_COLUMNS if name in self._candidates()]
        own = [self._image] if has_path(self._tables[0].schema.field(self._image).type) else []
        chosen = next((name for name in found + own if self._all_names(name)), None)
        if found and chosen not in found:
            _log.warning(
                "%s: %s does not name the images, as not each has a relative path of its own there.",
                self.source, " or ".join(found),
            )  # fmt: skip
        return chosen

    def _all_names(self, column: str) -> bool:
        """Whether each value of the column is a name, and each another one."""
        seen: set[str] = set()
        for table in self._tables:
            # Of images in a Parquet file the paths alone are read.
            part = f"{column}.path" if column == self._image and table.is_parquet else column
            for batch in table.batches([part]):
                for name in _texts(batch.column(0)):
                    if name is None or name in seen or not _is_name(name):
                        return False
                    seen.add(name)
        return True


class ParquetReader(TableReader):
    """The rows of one .parquet, .arrow or .feather file, or of all in a folder, in natural order.

    image: the column of images; None: `image`, or the only one that can be. It holds PNG or JPEG files, as binary or as
    Hugging Face's struct of `bytes` and `path`, or pixels, uint8 or uint16, as lists [h, w], [h, w, c] or [c, h, w]. An
    image that has a path and no bytes is read from that file, if it lies in the folder of `source`.

    Every other column of numbers, or of lists of them, is a label, and a row with a null, NaN or a list of another
    length than the first is left out and listed in rejects.csv. The images are named by the column `name`, `file_name`,
    `filename`, `file` or `path`, or by their own `path`: the first in which all are different relative paths; else
    "000000.png" and on. At most 64 rows are in memory at a time.

    Raises InputError for a source that is missing, damaged or without such a column, for files that have not the same
    columns, and for a part of a file that would unpack to more than 256 MiB and ten times what it takes.

    >>> reader = ParquetReader("data/train-00000-of-00001.parquet")  # doctest: +SKIP
    """

    def __init__(self, source: str | Path, image: str | None = None) -> None:
        source = Path(source)
        super().__init__(source, table_files(source), image)


def table_files(source: Path) -> list[Path]:
    """The files of a source, itself or those in the folder, in natural order; InputError where there is none."""
    if os.path.isfile(source):
        return [source]
    if not os.path.isdir(source):
        raise InputError(f"{source} does not exist: want a Parquet or Arrow file, or a folder.")
    names = file_names(source, SUFFIXES)
    if not names:
        raise InputError(f"{source} holds no file that ends in {', '.join(SUFFIXES)}.")
    return [source / name for name in names]


def _numbers(label: str, cell: pa.Scalar, width: int) -> np.ndarray:
    """The label in a cell, [width]; Rejected where it is something else."""
    length = len(cell.values) if cell.is_valid and is_list(cell.type) else 1
    if not cell.is_valid or length != width:
        value = f"{length} numbers" if cell.is_valid else "null"
        raise Rejected(f"its label {label} is {value}, those of the others {width}")
    try:
        numbers = label_numbers(cell.as_py())
    except ValueError as error:
        raise Rejected(f"its label {label}: {error}") from None
    if numbers is None:
        raise Rejected(f"its label {label} is null in part")
    return np.array(numbers)


def _texts(column: Any) -> list[str | None]:
    """The texts in a column, of images their paths."""
    if pa.types.is_struct(column.type):
        column = column.flatten()[column.type.get_field_index("path")]
    return list(column.to_pylist())


def _is_name(name: str) -> bool:
    try:
        return len(checked_name(name)) <= LONGEST
    except InputError:
        return False


def _is_label(schema: pa.Schema, field: pa.Field) -> bool:
    """Whether a column's type and name are those of a label; pandas' index, `__index_level_0__`, is none."""
    if field.name.startswith("__") or schema.names.count(field.name) > 1:
        return False
    try:
        checked_widths({field.name: 1})
    except InputError:
        return False
    kind = storage_type(field.type)
    return is_number(kind.value_type if is_list(kind) else kind)
