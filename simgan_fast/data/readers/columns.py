"""What kinds of columns there are in Arrow's tables, each in its several widths."""

from __future__ import annotations

import pyarrow as pa


def storage_type(kind: pa.DataType) -> pa.DataType:
    """The type that an extension type is stored as: Hugging Face's Array2D, where its library is imported."""
    return kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind


def storage(array: pa.Array) -> pa.Array:
    return array.storage if isinstance(array, pa.ExtensionArray) else array


def is_list(kind: pa.DataType) -> bool:
    types = pa.types
    return bool(types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind))


def is_text(kind: pa.DataType) -> bool:
    types = pa.types
    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))


def is_binary(kind: pa.DataType) -> bool:
    types = pa.types
    return bool(types.is_binary(kind) or types.is_large_binary(kind) or types.is_binary_view(kind))


def is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))
