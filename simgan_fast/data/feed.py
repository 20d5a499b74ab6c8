"""Batches from a set that is held in memory, on the device that trains."""

from __future__ import annotations

import torch

from simgan_fast.data.packed import PackedSet
from simgan_fast.errors import InputError
from simgan_fast.ops.gather_normalize import gather_normalize
from simgan_fast.ops.random import permutation


class ResidentFeed:
    """Endless shuffled batches; each epoch is one keyed permutation of the set, so every image
    comes once an epoch.

    Batches run on across the border of two epochs: none is short, and no image is dropped. A batch
    may be larger than the set. The images drawn depend on (`seed`, `stream`, `position`) and on
    nothing else, so setting `position` is all it takes to resume.

    `images`: uint8 or uint16 [n, c, h, w], or a PackedSet, which is loaded whole. `batch_size`: at
    least 1. `seed`, `stream`: the permutation's key; two feeds of one seed take different streams.
    `device`: where the images lie and the batches appear. Raises InputError for an empty set.

    >>> feed = ResidentFeed(torch.zeros(10, 1, 35, 55, dtype=torch.uint8), 4, seed=0, stream=0)
    >>> feed.next().shape, feed.position
    (torch.Size([4, 1, 35, 55]), 4)
    """

    def __init__(
        self,
        images: torch.Tensor | PackedSet,
        batch_size: int,
        *,
        seed: int,
        stream: int,
        device: str | torch.device = "cpu",
    ) -> None:
        if isinstance(images, PackedSet):
            images = images.load()
        if images.ndim != 4 or images.dtype not in (torch.uint8, torch.uint16):
            raise InputError(
                f"images are {images.dtype} {list(images.shape)}: want uint8 or uint16 [n, c, h, "
                "w]."
            )
        if len(images) == 0:
            raise InputError("the set has no images: a feed needs at least one.")
        if batch_size < 1:
            raise InputError(f"batch_size is {batch_size}: want at least 1.")
        self.images = images.to(device)
        self.batch_size = batch_size
        self.seed = seed
        self.stream = stream
        self.position = 0  # images drawn so far

    def __len__(self) -> int:
        return len(self.images)

    def next(self, count: int | None = None) -> torch.Tensor:
        """Draw the next `count` (default `batch_size`): float32 [count, c, h, w] in [-1, 1]."""
        return gather_normalize(self.images, self.next_indices(count))

    def next_indices(self, count: int | None = None) -> torch.Tensor:
        """Draw as `next` does, but return the rows, int64 [count]: to gather labels too, say."""
        count = self.batch_size if count is None else count
        parts = [torch.empty(0, dtype=torch.int64)]
        while count > 0:
            epoch, start = divmod(self.position, len(self))
            part = min(count, len(self) - start)
            parts.append(
                permutation(len(self), start, part, step=epoch, stream=self.stream, seed=self.seed)
            )
            self.position += part
            count -= part
        return torch.cat(parts).to(self.images.device)
