"""WebDataset: tar files with `<key>.png` and `<key>.json`, the image and the labels of one sample."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np

from simgan_fast.data.readers.webdataset import NAME_KEY
from simgan_fast.data.writers import CheckedWriter
from simgan_fast.data.writers.codecs import PNG
from simgan_fast.errors import InputError
from simgan_fast.files import folder_written_whole, written_whole

SHARD_BYTES = 256 << 20  # of a tar file, about
LONGEST_KEY = 200  # characters


class WebDatasetWriter(CheckedWriter):
    """Writes shard-00000.tar and so on, of about 256 MiB, or of `shard_size` images. The same set gives the same bytes.

    A key is the image's name without suffix, "_" for the dots in it, as a key ends at the first dot; one that is there
    already gets a number. The JSON has the labels and, as `__name__`, the name itself.

    Raises InputError as `CheckedWriter` does, for what PNG files cannot hold, and for a label called `__name__`.
    """

    def __init__(
        self,
        out: str | Path,
        shape: Sequence[int],
        labels: Mapping[str, int] | None = None,
        dtype: str = "uint8",
        *,
        shard_size: int | None = None,
    ) -> None:
        super().__init__(out, shape, labels, dtype)
        PNG.check(self.shape, dtype)
        if NAME_KEY in self.labels:
            raise InputError(f"a label is called {NAME_KEY}, which is the image's name: rename it.")
        self._shard_size = shard_size
        self._keys: set[str] = set()
        self._shards = 0

    @contextmanager
    def _opened(self) -> Iterator[None]:
        with folder_written_whole(self.path) as self._folder, ExitStack() as self._shard:
            self._begin_shard()
            yield
            self._write_rejects(self._folder)

    def _write(
        self, images: np.ndarray, names: Sequence[str], labels: Mapping[str, np.ndarray]
    ) -> None:
        columns = {
            label: (values[:, 0] if values.shape[1] == 1 else values).tolist()  # exact as doubles
            for label, values in labels.items()
        }
        for i, (name, image) in enumerate(zip(names, PNG.encode_all(images), strict=True)):
            if self._tar.offset >= SHARD_BYTES or self._count == self._shard_size:
                self._begin_shard()
            key = self._key(name)
            content = {NAME_KEY: name} | {label: values[i] for label, values in columns.items()}
            self._add_member(f"{key}.png", image)
            self._add_member(f"{key}.json", json.dumps(content).encode())
            self._count += 1

    def _begin_shard(self) -> None:
        self._shard.close()
        file = written_whole(self._folder / f"shard-{self._shards:05d}.tar")
        tar = tarfile.open(fileobj=self._shard.enter_context(file), mode="w")  # noqa: SIM115
        self._tar = self._shard.enter_context(tar)
        self._shards += 1
        self._count = 0  # of images in this shard

    def _add_member(self, name: str, data: bytes) -> None:
        info = tarfile.TarInfo(name)  # of time 0 and owner 0
        info.size = len(data)
        self._tar.addfile(info, io.BytesIO(data))
        self._tar.members.clear()  # type: ignore[attr-defined]  # or it keeps a kilobyte of each

    def _key(self, name: str) -> str:
        stem = PNG.file_name(name)[: -len(".png")][:LONGEST_KEY].rstrip("/")
        folder, slash, file = stem.rpartition("/")
        key = f"{folder}{slash}{file.replace('.', '_')}"
        while key in self._keys:
            key += f"_{len(self._keys)}"
        self._keys.add(key)
        return key
