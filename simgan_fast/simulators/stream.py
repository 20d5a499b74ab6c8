"""What all simulators give: batches of numbered images with labels, cut from numbered blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Batch:
    """Some consecutive images [n, c, h, w] of a simulated set, their labels (each [n, k]), and the first's number."""

    images: NDArray[Any]
    labels: dict[str, NDArray[Any]]
    start: int

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self: AnyBatch, part: slice) -> AnyBatch:
        first = part.indices(len(self))[0]
        labels = {name: values[part] for name, values in self.labels.items()}
        return type(self)(self.images[part], labels, self.start + first)


AnyBatch = TypeVar("AnyBatch", bound=Batch)


def batches(
    block_of: Callable[[int], AnyBatch], block_size: int, start: int, count: int, batch_size: int
) -> Iterator[AnyBatch]:
    """Images `start` to `start + count` by `batch_size`, of blocks that hold `block_size` images each."""
    held: list[AnyBatch] = []
    for block in range(start // block_size, -(-(start + count) // block_size)):
        first = block * block_size
        held.append(block_of(block)[max(start - first, 0) : start + count - first])
        while sum(map(len, held)) >= batch_size:
            whole = _joined(held)
            yield whole[:batch_size]
            held = [whole[batch_size:]]
    if sum(map(len, held)):
        yield _joined(held)


def _joined(parts: list[AnyBatch]) -> AnyBatch:
    labels = {k: np.concatenate([part.labels[k] for part in parts]) for k in parts[0].labels}
    images = np.concatenate([part.images for part in parts])
    return type(parts[0])(images, labels, parts[0].start)
