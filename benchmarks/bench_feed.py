"""A shuffled batch of eyes as floats: from memory, from the disk, and decoded anew as peers do."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from interleaved import time_interleaved
from PIL import Image
from torch.utils.data import BatchSampler, DataLoader, Dataset, RandomSampler, TensorDataset

from simgan_fast.data import PackedSet, PackedWriter, open_packed
from simgan_fast.data.feed import ResidentFeed, StreamFeed

COUNT, BATCH = 20_000, 512
SHARD = 4_000
SHAPE = (1, 35, 55)
ROUNDS, SECONDS = 7, 0.3


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> PackedSet:
    """20,000 images with as much in them as eyes have, in five shards."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (COUNT, 1, 7, 11)).astype(np.uint8)
    folder = tmp_path_factory.mktemp("feed")
    with PackedWriter(folder / "set", SHAPE, shard_size=SHARD) as writer:
        writer.add(coarse.repeat(5, 2).repeat(5, 3), [str(i) for i in range(COUNT)])
    return open_packed(folder / "set")


@pytest.fixture(scope="module")
def files(images: PackedSet) -> list[str]:
    """The same as JPEG files."""
    folder = images.path.parent / "files"
    folder.mkdir()
    for i, (pixels,) in enumerate(images.images()):
        Image.fromarray(pixels).save(folder / f"{i}.jpg", quality=92)
    return [str(folder / f"{i}.jpg") for i in range(COUNT)]


def normalize(batch: torch.Tensor) -> torch.Tensor:
    return batch.float().div_(127.5).sub_(1)


def shuffled() -> Iterator[torch.Tensor]:
    while True:
        yield from torch.randperm(COUNT).split(BATCH)[: COUNT // BATCH]


def endless(loader: DataLoader) -> Iterator[torch.Tensor]:
    while True:
        for batch in loader:
            yield normalize(batch[0] if isinstance(batch, list) else batch)


def compare(
    benchmark: Any, record: Callable[..., None], case: str, ours: Any, peers: dict[str, Any]
) -> None:
    name = type(ours).__name__
    for peer, draw in peers.items():
        batch = draw()
        assert batch.shape == (BATCH, *SHAPE) and -1 <= batch.min() < batch.max() <= 1, peer
    # Long turns: who fetches ahead must not live on what it fetched while others were timed.
    timing = time_interleaved({name: ours.next} | peers, rounds=ROUNDS, seconds=SECONDS)
    record(case, timing, name)
    benchmark.extra_info |= timing.summary(name)
    benchmark.pedantic(ours.next, rounds=30, warmup_rounds=3)


# Images that are in memory, or mapped into it


def bench_resident_feed(benchmark: Any, record: Callable[..., None], images: PackedSet) -> None:
    resident = images.load()
    mapped = np.load(as_npy(images), mmap_mode="r")
    mapped_tensor = torch.from_numpy(np.load(as_npy(images), mmap_mode="c"))
    rows, more_rows, by_hand = shuffled(), shuffled(), shuffled()

    def numpy_index() -> torch.Tensor:
        batch = mapped[next(rows).numpy()].astype(np.float32)
        batch /= 127.5
        batch -= 1
        return torch.from_numpy(batch)

    data = TensorDataset(resident)
    whole = BatchSampler(RandomSampler(data), BATCH, drop_last=True)
    peers = {
        "numpy, memory map": numpy_index,
        "torch, memory map": lambda: normalize(mapped_tensor[next(more_rows)]),
        "torch, in memory": lambda: normalize(resident[next(by_hand)]),
        "DataLoader": endless(DataLoader(data, BATCH, shuffle=True, drop_last=True)).__next__,
        "DataLoader, whole batches": endless(
            DataLoader(data, batch_size=None, sampler=whole)
        ).__next__,
    }
    feed = ResidentFeed(images, BATCH, seed=0, stream=0)
    again = ResidentFeed(images, BATCH, seed=0, stream=0).next_indices()
    torch.testing.assert_close(feed.next(), normalize(resident[again]), rtol=0, atol=0)
    compare(benchmark, record, f"batch {BATCH} of {COUNT}, in memory", feed, peers)


def as_npy(images: PackedSet) -> Path:
    file = images.path.parent / "images.npy"
    if not file.exists():
        np.save(file, images.load().numpy())
    return file


# Files that are decoded in every epoch


class JpegFiles(Dataset[np.ndarray]):
    def __init__(self, files: list[str]) -> None:
        self.files = files

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, i: int) -> np.ndarray:
        with Image.open(self.files[i]) as image:
            return np.array(image)[None]


def dali_files(files: list[str]) -> Callable[[], torch.Tensor]:
    dali = importlib.import_module("nvidia.dali")
    fn, types = dali.fn, dali.types
    pipeline = dali.Pipeline(BATCH, num_threads=torch.get_num_threads(), device_id=None)
    with pipeline:
        data, _ = fn.readers.file(files=files, random_shuffle=True, initial_fill=4096)
        pixels = fn.decoders.image(data, output_type=types.GRAY)
        pipeline.set_outputs(
            fn.crop_mirror_normalize(pixels, mean=[127.5], std=[127.5], output_layout="CHW")
        )
    pipeline.build()
    return lambda: torch.from_numpy(np.array(pipeline.run()[0].as_array()))


def bench_decoding_peers(
    benchmark: Any, record: Callable[..., None], images: PackedSet, files: list[str]
) -> None:
    simplejpeg = importlib.import_module("simplejpeg")
    rows = shuffled()

    def loop() -> torch.Tensor:
        pixels = [
            simplejpeg.decode_jpeg(Path(files[i]).read_bytes(), "GRAY") for i in next(rows).tolist()
        ]
        return normalize(torch.from_numpy(np.stack(pixels)[..., 0][:, None]))

    workers = len(os.sched_getaffinity(0))
    loader = DataLoader(
        JpegFiles(files),
        BATCH,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        persistent_workers=True,
    )
    peers = {
        "DALI": dali_files(files),
        f"DataLoader, Pillow, {workers} workers": endless(loader).__next__,
        "simplejpeg loop": loop,
    }
    feed = ResidentFeed(images, BATCH, seed=0, stream=0)
    compare(benchmark, record, f"batch {BATCH} of {COUNT}, against decoding", feed, peers)


# Shards on the disk


def dali_shards(images: PackedSet) -> Callable[[], torch.Tensor]:
    """Windows of the shards through a DALI pipeline: gathered by numpy, scaled by DALI."""
    dali = importlib.import_module("nvidia.dali")
    fn = dali.fn
    rng = np.random.default_rng(0)

    def windows() -> Iterator[np.ndarray]:
        while True:
            for shard in rng.permutation(COUNT // SHARD):
                pixels = images.images(shard * SHARD, (shard + 1) * SHARD)
                order = rng.permutation(SHARD)
                for first in range(0, SHARD - BATCH + 1, BATCH):
                    yield pixels[order[first : first + BATCH]].transpose(0, 2, 3, 1)

    source = windows()
    pipeline = dali.Pipeline(BATCH, num_threads=torch.get_num_threads(), device_id=None)
    with pipeline:
        pixels = fn.external_source(source=lambda: next(source), layout="HWC")
        pipeline.set_outputs(
            fn.crop_mirror_normalize(pixels, mean=[127.5], std=[127.5], output_layout="CHW")
        )
    pipeline.build()
    return lambda: torch.from_numpy(np.array(pipeline.run()[0].as_array()))


def bench_stream_feed(benchmark: Any, record: Callable[..., None], images: PackedSet) -> None:
    """Windows of one shard, so that a batch in eight begins another: more often than in real sets."""
    size = SHARD * int(np.prod(SHAPE))
    feed = StreamFeed(images, BATCH, seed=0, stream=0, window_bytes=size)
    case = f"batch {BATCH} of {COUNT}, from shards of {SHARD}"
    compare(benchmark, record, case, feed, {"DALI": dali_shards(images)})
