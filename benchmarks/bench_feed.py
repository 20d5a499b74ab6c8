"""A shuffled batch of eyes as floats: the resident feed against PyTorch's DataLoader."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from interleaved import time_interleaved
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, TensorDataset

from simgan_fast.data.feed import ResidentFeed

COUNT, BATCH = 20_000, 512
IMAGES = torch.randint(0, 256, (COUNT, 1, 35, 55), generator=torch.Generator().manual_seed(0))
IMAGES = IMAGES.to(torch.uint8)


def normalize(batch: torch.Tensor) -> torch.Tensor:
    return batch.float().div_(127.5).sub_(1)


def endless(loader: DataLoader) -> Iterator[torch.Tensor]:
    while True:
        for (batch,) in loader:
            yield normalize(batch)


def by_item() -> Iterator[torch.Tensor]:
    """What a tutorial does: one sample after the other, then collate. The last batch is dropped."""
    return endless(DataLoader(TensorDataset(IMAGES), BATCH, shuffle=True, drop_last=True))


def by_batch() -> Iterator[torch.Tensor]:
    """The DataLoader at its best here: it indexes a whole batch at once."""
    data = TensorDataset(IMAGES)
    sampler = BatchSampler(RandomSampler(data), BATCH, drop_last=True)
    return endless(DataLoader(data, batch_size=None, sampler=sampler))


def by_hand() -> Iterator[torch.Tensor]:
    """No loader: torch.randperm and an index."""
    while True:
        for indices in torch.randperm(COUNT).split(BATCH)[: COUNT // BATCH]:
            yield normalize(IMAGES[indices])


def bench_feed(benchmark: Any, record: Callable[..., None]) -> None:
    feed = ResidentFeed(IMAGES, BATCH, seed=0, stream=0)
    rows = ResidentFeed(IMAGES, BATCH, seed=0, stream=0).next_indices()
    torch.testing.assert_close(feed.next(), normalize(IMAGES[rows]), rtol=0, atol=0)
    peers = {
        "DataLoader": by_item(),
        "DataLoader, whole batches": by_batch(),
        "randperm and index": by_hand(),
    }
    candidates = {name: peer.__next__ for name, peer in peers.items()}
    timing = time_interleaved({"ResidentFeed": feed.next} | candidates, rounds=15, seconds=0.01)
    record(f"batch {BATCH} of {COUNT}", timing, "ResidentFeed")
    benchmark.extra_info |= timing.summary("ResidentFeed")
    benchmark.pedantic(feed.next, rounds=30, warmup_rounds=3)
