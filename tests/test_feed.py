"""The resident feed: every image once an epoch, and the position is the whole state."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from simgan_fast.data.feed import ResidentFeed
from simgan_fast.data.packed import open_packed
from simgan_fast.data.packed_writer import PackedWriter
from simgan_fast.errors import InputError


def numbered(count: int, dtype: torch.dtype = torch.uint8) -> torch.Tensor:
    """Images [n, 1, 2, 3] whose every pixel is their number."""
    return torch.arange(count).to(dtype).view(-1, 1, 1, 1).repeat(1, 1, 2, 3)


def numbers(batch: torch.Tensor) -> list[int]:
    return ((batch[:, 0, 0, 0] + 1) * 127.5).round().int().tolist()


@pytest.mark.parametrize("batch_size", [1, 7, 10, 23, 64])
def test_every_image_once_an_epoch(batch_size):
    feed = ResidentFeed(numbered(10), batch_size, seed=3, stream=0)
    drawn: list[int] = []
    while len(drawn) < 100:
        batch = feed.next()
        assert batch.shape == (batch_size, 1, 2, 3)
        drawn += numbers(batch)
    assert feed.position == len(drawn)
    epochs = [drawn[i : i + 10] for i in range(0, 100, 10)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 5  # each in its own order


def test_batches_run_on_across_the_epoch_border():
    one_by_one = ResidentFeed(numbered(10), 1, seed=3, stream=0)
    single = [numbers(one_by_one.next())[0] for _ in range(24)]
    feed = ResidentFeed(numbered(10), 8, seed=3, stream=0)
    assert [x for _ in range(3) for x in numbers(feed.next())] == single


@pytest.mark.parametrize("position", [0, 1, 9, 10, 11, 37])
def test_position_is_the_whole_state(position):
    feed = ResidentFeed(numbered(10), 4, seed=3, stream=0)
    feed.next(position)
    resumed = ResidentFeed(numbered(10), 4, seed=3, stream=0)
    resumed.position = position
    for _ in range(5):
        assert torch.equal(feed.next(), resumed.next())


@pytest.mark.parametrize("flip", [False, True])
def test_ranks_share_every_batch(flip):
    whole = ResidentFeed(numbered(10), 8, seed=3, stream=0, flip=flip)
    shares = [
        ResidentFeed(numbered(10), 2, seed=3, stream=0, flip=flip, rank=rank, world=4)
        for rank in range(4)
    ]
    for _ in range(5):
        assert torch.equal(torch.cat([share.next() for share in shares]), whole.next())


def test_seed_and_stream_change_the_order():
    orders = [
        tuple(ResidentFeed(numbered(50), 50, seed=seed, stream=stream).next_indices().tolist())
        for seed in (0, 1)
        for stream in (0, 1)
    ]
    assert len(set(orders)) == 4


def test_values_are_in_minus_one_to_one():
    images = torch.arange(256).to(torch.uint8).view(1, 1, 16, 16)
    batch = ResidentFeed(images, 1, seed=0, stream=0).next()
    assert batch.dtype == torch.float32
    torch.testing.assert_close(batch.view(-1), torch.arange(256) / 127.5 - 1, rtol=0, atol=1e-7)


def test_sixteen_bits():
    images = torch.from_numpy(np.array([0, 300, 65535], np.uint16).reshape(3, 1, 1, 1))
    feed = ResidentFeed(images, 3, seed=0, stream=0)
    assert sorted(feed.next().view(-1).tolist()) == pytest.approx([-1, 300 / 32767.5 - 1, 1])


def test_indices_are_those_of_the_images():
    feed = ResidentFeed(numbered(10), 4, seed=3, stream=0)
    again = ResidentFeed(numbered(10), 4, seed=3, stream=0)
    for _ in range(5):
        assert numbers(feed.next()) == again.next_indices().tolist()


def test_from_a_packed_set(tmp_path):
    with PackedWriter(tmp_path / "set", (1, 2, 3)) as writer:
        writer.add(numbered(10).numpy(), [str(i) for i in range(10)])
    feed = ResidentFeed(open_packed(tmp_path / "set"), 10, seed=0, stream=0)
    assert sorted(numbers(feed.next())) == list(range(10))


@pytest.mark.parametrize(
    ("images", "batch_size", "message"),
    [
        (numbered(0), 4, "no images"),
        (numbered(3), 0, "batch_size is 0"),
        (numbered(3).float(), 4, "float32"),
        (numbered(3)[0], 4, r"\[n, c, h, w\]"),
    ],
)
def test_bad_input(images, batch_size, message):
    with pytest.raises(InputError, match=message):
        ResidentFeed(images, batch_size, seed=0, stream=0)
