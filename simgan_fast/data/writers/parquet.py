"""Parquet files as Hugging Face's `datasets` lays them out: a column of PNG files, and one for each label."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from simgan_fast.data.writers import CheckedWriter
from simgan_fast.data.writers.codecs import PNG
from simgan_fast.errors import InputError
from simgan_fast.files import folder_written_whole, written_whole

SHARD_BYTES = 256 << 20  # of images
ROWS = 256  # of a row group, which is read as a whole
IMAGE = "image"


class ParquetWriter(CheckedWriter):
    """Writes train-00000.parquet and so on, of about 256 MiB; by that name `load_dataset` knows a training set.

    `image` is a struct of `bytes`, a PNG file, and `path`, the image's name; a label is a float32, or a list of them.

    Raises InputError as `CheckedWriter` does, for what PNG files cannot hold, and for a label called `image`.
    """

    def __init__(
        self,
        out: str | Path,
        shape: Sequence[int],
        labels: Mapping[str, int] | None = None,
        dtype: str = "uint8",
    ) -> None:
        super().__init__(out, shape, labels, dtype)
        PNG.check(self.shape, dtype)
        if IMAGE in self.labels:
            raise InputError(f"a label is called {IMAGE!r}, as the images are: rename it.")
        self._schema = _schema(self.labels)
        self._shards = 0

    @contextmanager
    def _opened(self) -> Iterator[None]:
        with folder_written_whole(self.path) as self._folder, ExitStack() as self._shard:
            self._begin_shard()
            yield
            self._write_rejects(self._folder)

    def _begin_shard(self) -> None:
        import pyarrow.parquet

        self._shard.close()
        file = written_whole(self._folder / f"train-{self._shards:05d}.parquet")
        writer = pyarrow.parquet.ParquetWriter(
            self._shard.enter_context(file), self._schema, compression="none", use_dictionary=False
        )
        self._table = self._shard.enter_context(writer)
        self._shards += 1
        self._bytes = 0

    def _write(
        self, images: np.ndarray, names: Sequence[str], labels: Mapping[str, np.ndarray]
    ) -> None:
        for start in range(0, len(names), ROWS):
            if self._bytes >= SHARD_BYTES:
                self._begin_shard()
            rows = slice(start, start + ROWS)
            files = list(PNG.encode_all(images[rows]))
            kinds = self._schema.field(IMAGE).type
            columns = [pa.StructArray.from_arrays([files, names[rows]], fields=list(kinds))]
            for label, values in labels.items():
                numbers = pa.array(values[rows].reshape(-1))
                kind = self._schema.field(label).type
                is_list = pa.types.is_fixed_size_list(kind)
                columns.append(
                    pa.FixedSizeListArray.from_arrays(numbers, type=kind) if is_list else numbers
                )
            self._table.write_batch(pa.RecordBatch.from_arrays(columns, schema=self._schema))
            self._bytes += sum(map(len, files))


def _schema(labels: Mapping[str, int]) -> pa.Schema:
    """The columns, and in the metadata what `datasets` makes of them."""
    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    number: dict[str, Any] = {"dtype": "float32", "_type": "Value"}
    fields = [pa.field(IMAGE, image)]
    features: dict[str, Any] = {IMAGE: {"_type": "Image"}}
    for label, width in labels.items():
        kind = pa.float32() if width == 1 else pa.list_(pa.float32(), width)
        several = {"feature": number, "length": width, "_type": "Sequence"}
        fields.append(pa.field(label, kind))
        features[label] = number if width == 1 else several
    return pa.schema(fields, {"huggingface": json.dumps({"info": {"features": features}})})
