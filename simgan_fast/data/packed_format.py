"""What set.json and the shards of a packed set must say."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from simgan_fast.errors import InputError

FORMAT = "simgan_fast.packed_set"
VERSION = 1
SET_FILE = "set.json"
REJECTS_FILE = "rejects.csv"
MOST_PIXELS = 2**30  # of an image, times its channels
VALUE_RANGE = {"uint8": (0, 255), "uint16": (0, 65535)}

Shape = tuple[int, int, int]


def checked_shape(shape: Iterable[int]) -> Shape:
    values = tuple(int(size) for size in shape)
    if len(values) != 3 or min(values) < 1:
        raise InputError(f"shape is {values}: want (channels, height, width), each at least 1.")
    if math.prod(values) > MOST_PIXELS:
        raise InputError(
            f"shape is {values} (channels, height, width): an image may have {MOST_PIXELS} values."
        )
    return values


def shard_schema(shape: Shape, dtype: np.dtype[Any], labels: Mapping[str, int]) -> pa.Schema:
    """Columns of a shard; the shape is in the metadata, so that the digest covers it."""
    fields = [("name", pa.string()), ("image", pa.binary(int(np.prod(shape)) * dtype.itemsize))]
    fields += [(f"label:{name}", pa.list_(pa.float32(), width)) for name, width in labels.items()]
    fields += [("source", pa.string())]
    metadata = {"format": FORMAT, "shape": json.dumps(list(shape)), "dtype": dtype.name}
    return pa.schema([pa.field(name, kind, nullable=False) for name, kind in fields], metadata)


def read_description(file: Path) -> dict[str, Any]:
    try:
        info = json.loads(file.read_text(encoding="utf-8"))
        kind, version = info["format"], info["version"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(
            f"{file} is damaged ({type(error).__name__}: {error}): make the packed set again."
        ) from None
    if kind != FORMAT:
        raise InputError(f"{file} describes a {kind!r}: want a {FORMAT!r}.")
    if version != VERSION:
        raise InputError(
            f"{file} is of version {version}, and this program reads version {VERSION}: ingest it "
            "again."
        )
    problem = _description_problem(info)
    if problem:
        raise InputError(f"{file} is damaged ({problem}): make the packed set again.")
    return dict(info)


def _description_problem(info: Mapping[str, Any]) -> str:
    """What is wrong in a set.json of the right version, or ''."""
    try:
        shards = info["shards"]
        if info["dtype"] not in VALUE_RANGE:
            return f"dtype {info['dtype']!r}"
        if sum(shard["count"] for shard in shards) != info["count"] or not shards:
            return "the shards do not add up to the count"
        if any(Path(shard["file"]).name != shard["file"] for shard in shards):
            return "a shard lies outside the folder"
        if set_digest(shards) != info["digest"]:
            return "the digest is not that of the shards"
        if any(not isinstance(width, int) or width < 1 for width in info["labels"].values()):
            return "a label has no width"
        shard_schema(checked_shape(info["shape"]), np.dtype(info["dtype"]), info["labels"])
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
        return f"{type(error).__name__}: {error}"
    return ""


def rejects_text(rejects: Sequence[tuple[str, str]]) -> str:
    """The text of rejects.csv for (file, reason) pairs."""
    table = io.StringIO()
    # The csv module quotes a carriage return only where all is quoted, and reads it as the end of a row.
    quoted = any("\r" in text for reject in rejects for text in reject)
    quoting: Any = csv.QUOTE_ALL if quoted else csv.QUOTE_MINIMAL
    rows = [("file", "reason"), *rejects]
    csv.writer(table, lineterminator="\n", quoting=quoting).writerows(rows)
    return table.getvalue()


def file_sha256(file: Path) -> str:
    digest = hashlib.sha256()
    with open(file, "rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def set_digest(shards: Sequence[Mapping[str, Any]]) -> str:
    """The set's identity: SHA-256 over the shards' digests in order, as lower-case hex text."""
    return hashlib.sha256("".join(shard["sha256"] for shard in shards).encode()).hexdigest()
