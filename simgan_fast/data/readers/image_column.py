"""A table's column of images: which it is, and what its cells hold, encoded files, paths of files, or pixels."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from simgan_fast.data.image_files import Rejected
from simgan_fast.data.readers.columns import is_binary, is_list, is_text, storage_type
from simgan_fast.errors import InputError

LARGEST_IMAGE = 256 << 20  # bytes of a file, or numbers of decoded pixels
WANTED = "PNG or JPEG files (binary, or a struct of bytes and path) or pixels (lists of lists of uint8 or uint16)"


def image_column(source: Path, schema: pa.Schema, image: str | None) -> str:
    """The column `image`; None: "image", or the only one that can be. InputError where there is none."""
    found = [field.name for field in schema if _is_image(storage_type(field.type))]
    found = [name for name in found if schema.names.count(name) == 1]
    if image is None and "image" not in found and len(found) > 1:
        raise InputError(
            f"{source} has several columns of images ({', '.join(found)}): name one, as in --image {found[0]}."
        )
    chosen = image or ("image" if "image" in found or not found else found[0])
    if chosen in found:
        return chosen
    if schema.names.count(chosen) == 1:
        raise InputError(
            f"the column {chosen!r} of {source} is {schema.field(chosen).type}: want {WANTED}."
        )
    raise InputError(
        f"{source} has the columns {', '.join(schema.names)[:500] or 'none'}, and none {chosen!r} of images: want "
        f"{WANTED}, and name it, as in --image picture."
    )


def has_path(kind: pa.DataType) -> bool:
    """Whether images of this type have paths, as Hugging Face's have."""
    index = kind.get_field_index("path") if pa.types.is_struct(kind) else -1
    return index >= 0 and is_text(kind.field(index).type)


def cell_image(cell: pa.Scalar, folder: Path) -> bytes | Path | np.ndarray:
    """What a cell of the image column holds: a file's bytes, a file in `folder`, or pixels [h, w] or [h, w, c]."""
    if is_list(cell.type):
        return _pixels(cell.values)
    if pa.types.is_struct(cell.type):
        content = cell["bytes"] if cell.is_valid else None
        if content is None or not content.is_valid:
            path = cell["path"].as_py() if cell.is_valid and has_path(cell.type) else None
            return _file(folder, path)
        cell = content
    if not cell.is_valid:
        raise Rejected("it is null")
    data = cell.as_buffer()
    if data.size > LARGEST_IMAGE:
        raise Rejected(f"a file of {data.size >> 20} MiB")
    return bytes(data)


def _file(folder: Path, path: str | None) -> Path:
    """The file that an image without bytes names: it must lie in `folder`, links followed."""
    if not path or "\0" in path:
        raise Rejected("it is null")
    home = os.path.realpath(folder)
    place = os.path.realpath(os.path.join(home, path))
    if os.path.commonpath([home, place]) != home:
        raise Rejected(f"it has no bytes, and its path {path[:200]!r} leads out of the folder")
    if not os.path.isfile(place):
        raise Rejected(f"it has no bytes, and its path {path[:200]!r} is no file in the folder")
    return Path(place)


def _pixels(values: pa.Array | None) -> np.ndarray:
    """The pixels in lists of one length each."""
    if values is None:
        raise Rejected("it is null")
    shape = [len(values)]
    while is_list(values.type):
        lengths = pc.unique(pc.list_value_length(values)).to_pylist()
        if len(lengths) != 1 or lengths[0] is None:
            raise Rejected("its rows are not of one length")
        shape.append(lengths[0])
        values = values.flatten()
    if values.null_count:
        raise Rejected("some of its pixels are null")
    if len(values) > LARGEST_IMAGE:
        raise Rejected(f"pixels {shape}")
    pixels: np.ndarray = values.to_numpy().reshape(shape)
    planes_first = len(shape) == 3 and shape[2] not in (1, 3) and shape[0] in (1, 3)
    return pixels.transpose(1, 2, 0) if planes_first else pixels


def _is_image(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        index = kind.get_field_index("bytes")
        return index >= 0 and is_binary(kind.field(index).type)
    depth = 0
    while is_list(kind):
        kind, depth = kind.value_type, depth + 1
    pixels = pa.types.is_uint8(kind) or pa.types.is_uint16(kind)
    return bool(pixels and depth in (2, 3)) or (depth == 0 and is_binary(kind))
