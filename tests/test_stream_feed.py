"""The stream feed: every image once an epoch whatever the windows, and the position is the whole state."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from simgan_fast.data import PackedSet, PackedWriter, open_packed
from simgan_fast.data.feed import ResidentFeed, StreamFeed, flips_of
from simgan_fast.errors import InputError

SHARDS = (8, 8, 8, 8, 5)  # images
COUNT = sum(SHARDS)
IMAGE = 2 * 3  # bytes


@pytest.fixture
def images(tmp_path: Path) -> PackedSet:
    """Images [37, 1, 2, 3] whose every pixel is their number, in five shards."""
    with PackedWriter(tmp_path / "set", (1, 2, 3), shard_size=SHARDS[0]) as writer:
        pixels = np.arange(COUNT, dtype=np.uint8).reshape(-1, 1, 1, 1).repeat(2, 2).repeat(3, 3)
        writer.add(pixels, [str(i) for i in range(COUNT)])
    return open_packed(tmp_path / "set")


def numbers(batch: torch.Tensor) -> list[int]:
    return ((batch[:, 0, 0, 0] + 1) * 127.5).round().int().tolist()


@pytest.mark.parametrize("shards", [1, 2, 3, 5, 100])
@pytest.mark.parametrize("batch_size", [1, 7, 37, 50])
def test_every_image_once_an_epoch(images: PackedSet, shards: int, batch_size: int) -> None:
    window = shards * SHARDS[0] * IMAGE
    feed = StreamFeed(images, batch_size, seed=3, stream=1, window_bytes=window)
    drawn: list[int] = []
    while len(drawn) < 6 * COUNT:
        batch = feed.next()
        assert batch.shape == (batch_size, 1, 2, 3) and batch.dtype == torch.float32
        drawn += numbers(batch)
    assert feed.position == len(drawn)
    epochs = [drawn[i : i + COUNT] for i in range(0, 6 * COUNT, COUNT)]
    assert all(sorted(epoch) == list(range(COUNT)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 6


def test_a_window_holds_no_more_than_it_may(images: PackedSet) -> None:
    """Of windows of two shards, the images of an epoch come from two shards, then from two others, then from one."""
    feed = StreamFeed(images, COUNT, seed=0, stream=0, window_bytes=2 * SHARDS[0] * IMAGE)
    shard = [number // SHARDS[0] for number in numbers(feed.next())]
    changes = [i for i in range(1, COUNT) if {*shard[:i]}.isdisjoint(shard[i:])]
    assert len(changes) == 2 and len({*shard[: changes[0]]}) <= 2
    assert len({*shard[changes[0] : changes[1]]}) <= 2
    assert shard != sorted(shard)


def test_shards_larger_than_the_window_come_one_by_one(images: PackedSet) -> None:
    feed = StreamFeed(images, COUNT, seed=0, stream=0, window_bytes=1)
    shard = [number // SHARDS[0] for number in numbers(feed.next())]
    assert sum(a != b for a, b in pairwise(shard)) == len(SHARDS) - 1
    held = sum(len(future.result()) for future in feed.windows._read_or_reading.values())
    assert held <= 2 * SHARDS[0], "that one and the next are in memory"


@pytest.mark.parametrize("flip", [False, True])
def test_one_window_gives_the_batches_of_the_resident_feed(images: PackedSet, flip: bool) -> None:
    stream = StreamFeed(images, 9, seed=5, stream=17, flip=flip)
    resident = ResidentFeed(images, 9, seed=5, stream=17, flip=flip)
    assert len(stream) == len(resident) == COUNT
    for _ in range(12):
        assert torch.equal(stream.next(), resident.next())


@pytest.mark.parametrize("position", [0, 1, 16, 36, 37, 38, 74, 200])
@pytest.mark.parametrize("world", [1, 2])
def test_position_is_the_whole_state(images: PackedSet, position: int, world: int) -> None:
    options = {"seed": 3, "stream": 0, "flip": True, "window_bytes": 17 * IMAGE, "world": world}
    feed, resumed = (StreamFeed(images, 4, **options) for _ in range(2))
    while feed.position < position:
        feed.next(1)
    resumed.next(11)
    resumed.position = position
    for _ in range(15):
        assert torch.equal(feed.next(), resumed.next())


@pytest.mark.parametrize("world", [2, 3, 5])
def test_ranks_share_every_epoch(images: PackedSet, world: int) -> None:
    feeds = [
        StreamFeed(images, 1, seed=1, stream=0, window_bytes=1, rank=rank, world=world)
        for rank in range(world)
    ]
    for _ in range(3):
        epoch: list[int] = []
        for feed in feeds:
            _, ends = feed.windows._plan(feed.windows._epoch + (feed.position > 0))
            size = ends[-1]
            epoch += numbers(feed.next(size))
        assert sorted(epoch) == list(range(COUNT))


def test_seed_and_stream_change_the_order(images: PackedSet) -> None:
    orders = {
        tuple(numbers(StreamFeed(images, COUNT, seed=seed, stream=stream, window_bytes=60).next()))
        for seed in (0, 1)
        for stream in (0, 1)
    }
    assert len(orders) == 4


def test_the_next_window_is_read_ahead(images: PackedSet, monkeypatch: pytest.MonkeyPatch) -> None:
    feed = StreamFeed(images, 1, seed=0, stream=0, window_bytes=1)
    feed.next()
    assert len(feed.windows._read_or_reading) == 2
    for future in feed.windows._read_or_reading.values():
        future.result(timeout=10)
    monkeypatch.setattr(feed.windows.images, "read_shards", None)  # what is there needs no reading
    _, ends = feed.windows._plan(0)
    assert len(feed.next(ends[0])) == ends[0], "the last one comes from the second window"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size is 0"),
        ({"rank": 2, "world": 2}, "rank is 2 of 2"),
        ({"world": 6}, "has 5 shards, and 6 processes"),
        ({"stream": 4096}, "stream is 4096"),
    ],
)
def test_bad_input(images: PackedSet, options: dict[str, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        StreamFeed(images, **{"batch_size": 4, "seed": 0, "stream": 0, **options})


# Flips


def test_half_of_the_images_are_mirrored() -> None:
    flips = flips_of(2**33, 4000, seed=7, stream=16)
    assert 1850 < int(flips.sum()) < 2150
    assert not torch.equal(flips, flips_of(2**33, 4000, seed=8, stream=16))
    assert not torch.equal(flips, flips_of(2**33, 4000, seed=7, stream=17))
    assert torch.equal(flips[1000:], flips_of(2**33 + 1000, 3000, seed=7, stream=16))


def test_a_flip_mirrors_left_to_right() -> None:
    image = torch.arange(6, dtype=torch.uint8).view(1, 1, 2, 3)
    plain = ResidentFeed(image, 40, seed=0, stream=0).next()
    mirrored = ResidentFeed(image, 40, seed=0, stream=0, flip=True).next()
    flips = flips_of(0, 40, seed=0, stream=0)
    assert torch.equal(mirrored, torch.where(flips.view(-1, 1, 1, 1), plain.flip(3), plain))
    assert 5 < int(flips.sum()) < 35
