"""Parquet and Arrow files made up for the tests of their readers."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
from PIL import Image

STRUCT = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
GAZE = pa.list_(pa.float32(), 3)
LISTS = pa.list_(pa.list_(pa.uint8()))
KINDS = [
    ("x.parquet", "", {}),
    ("x.parquet", "", {"compression": "zstd", "row_group_size": 2}),
    ("x.parquet", "", {"compression": "NONE", "use_dictionary": False, "data_page_version": "2.0"}),
    ("x.parquet", "", {"write_page_checksum": True, "write_page_index": True}),
    ("x.feather", "", {}),
    ("x.feather", "", {"compression": "uncompressed"}),
    ("x.arrow", "file", {}),
    ("x.arrow", "file", {"compression": "zstd"}),
    ("x.arrow", "stream", {}),
    ("x.arrow", "stream", {"compression": "lz4"}),
]


def encoded(value: int = 0) -> bytes:
    """A grey picture of 4x5."""
    file = io.BytesIO()
    Image.fromarray(np.full((4, 5), value, np.uint8)).save(file, "PNG")
    return file.getvalue()


def images(*rows: Any) -> pa.Array:
    """Hugging Face's kind of images; a text is the path of one with bytes."""
    cells = [
        {"bytes": encoded(i), "path": row} if isinstance(row, str) else row
        for i, row in enumerate(rows)
    ]
    return pa.array(cells, STRUCT)


def table(count: int = 3, **changes: Any) -> pa.Table:
    columns = {
        "image": images(*(f"a/{i}.png" for i in range(count))),
        "gaze": pa.array([[i, 0.5, -1] for i in range(count)], GAZE),
        "pitch": pa.array([i / 4 for i in range(count)], pa.float64()),
        "text": ["x"] * count,
        "flag": [True] * count,
    }
    return pa.table({**columns, **changes})


def write(file: Path, content: pa.Table, kind: str = "", **options: Any) -> Path:
    """Write one kind of file: parquet, feather, Arrow's file or stream; by default what the suffix says."""
    kind = kind or {".parquet": "parquet", ".feather": "feather"}.get(file.suffix, "file")
    file.parent.mkdir(parents=True, exist_ok=True)
    if kind == "parquet":
        pq.write_table(content, file, **options)
    elif kind == "feather":
        pyarrow.feather.write_feather(content, str(file), **options)
    else:
        new = pa.ipc.new_stream if kind == "stream" else pa.ipc.new_file
        with new(str(file), content.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
            writer.write_table(content, max_chunksize=2)
    return file
