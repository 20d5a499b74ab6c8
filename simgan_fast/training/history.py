"""The history of refined images that keeps the discriminator from forgetting (paper 2.3)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from simgan_fast.ops.history_exchange import DRAW_STREAM, REPLACE_STREAM, history_exchange
from simgan_fast.ops.random import permutation
from simgan_fast.training.processes import Group

FILLING_STREAM = (
    2  # streams 0 and 1 of the permutation belong to the op: slots drawn, slots replaced
)


class History:
    """B refined images [capacity, c, h, w] on the training device.

    Every exchange returns as many old images as it is given fresh ones, drawn uniformly without
    repetition, and then puts the fresh ones in random slots. While it fills, fresh images are
    appended first and the draw is from what is there, so that the first exchange already works. All
    randomness comes from (seed, counter): the state is `images`, `filled` and `counter`.
    """

    def __init__(
        self,
        capacity: int,
        image_shape: tuple[int, ...],
        *,
        seed: int,
        device: torch.device | str = "cpu",
    ):
        # numpy asks the system for huge pages where torch does not: an exchange with 51,200 eyes
        # takes 234 instead of 270 us, as the rows lie on fewer pages than the TLB can hold.
        self.images = torch.from_numpy(np.zeros((capacity, *image_shape), np.float32)).to(device)
        self.filled = 0
        self.counter = torch.zeros(1, dtype=torch.int64, device=device)
        self.seed = seed

    @property
    def full(self) -> bool:
        """Whether every slot holds a refined image."""
        return self.filled == len(self.images)

    def exchange(self, fresh: Tensor) -> Tensor:
        """Give m fresh refined images [m, c, h, w], get m old ones; needs m <= capacity."""
        fresh = fresh.detach().contiguous()
        if self.full:
            return history_exchange(self.images, fresh, self.counter, seed=self.seed)
        room = min(len(fresh), len(self.images) - self.filled)
        self.images[self.filled : self.filled + room] = fresh[:room]
        self.filled += room
        step = int(self.counter)
        rows = permutation(
            self.filled, 0, len(fresh), step=step, stream=FILLING_STREAM, seed=self.seed
        )
        self.counter += 1
        return self.images[rows.to(self.images.device)]

    def kept(self) -> Tensor:
        """The images of all filled slots, in order: [filled, c, h, w]."""
        return self.images[: self.filled]

    def restore(self, images: Tensor, counter: Tensor) -> None:
        """Take `kept()` and `counter` of an earlier history of the same capacity."""
        self.filled = len(images)
        self.images[: self.filled] = images
        self.counter.copy_(counter)


class SharedHistory(History):
    """The same history, its slots dealt out to the processes of a run: slot s lies with the process s % world.

    What is drawn and what is replaced is the same for any number of processes, in the order of rank. `exchange` takes
    and gives each process's share, `kept` gives all images to the first process, `restore` takes all images.
    """

    def __init__(
        self,
        capacity: int,
        image_shape: tuple[int, ...],
        *,
        seed: int,
        processes: Group,
        device: torch.device | str = "cpu",
    ):
        super().__init__(-(-capacity // processes.world), image_shape, seed=seed, device=device)
        self.capacity, self.processes = capacity, processes

    @property
    def full(self) -> bool:
        return self.filled == self.capacity

    def exchange(self, fresh: Tensor) -> Tensor:
        fresh = self.processes.gathered(fresh.detach().contiguous())
        if self.full:
            drawn = self._read(self._random_slots(len(fresh), DRAW_STREAM))
            self._write(self._random_slots(len(fresh), REPLACE_STREAM), fresh)
        else:
            room = min(len(fresh), self.capacity - self.filled)
            self._write(torch.arange(self.filled, self.filled + room), fresh)
            self.filled += room
            drawn = self._read(self._random_slots(len(fresh), FILLING_STREAM))
        self.counter += 1
        return drawn.chunk(self.processes.world)[self.processes.rank]

    def kept(self) -> Tensor:
        shares = self.processes.collected(self.images)
        if not shares:
            return self.images[:0]
        return torch.stack(shares, 1).flatten(0, 1)[: self.filled]

    def restore(self, images: Tensor, counter: Tensor) -> None:
        super().restore(images[self.processes.rank :: self.processes.world], counter)
        self.filled = len(images)

    def _random_slots(self, count: int, stream: int) -> Tensor:
        return permutation(
            self.filled, 0, count, step=int(self.counter), stream=stream, seed=self.seed
        )

    def _own(self, slots: Tensor) -> tuple[Tensor, Tensor]:
        """Which of `slots` lie here, and where in `images`."""
        here = (slots % self.processes.world == self.processes.rank).nonzero().flatten()
        places = slots[here] // self.processes.world
        return here.to(self.images.device), places.to(self.images.device)

    def _read(self, slots: Tensor) -> Tensor:
        here, places = self._own(slots)
        images = self.images.new_zeros(len(slots), *self.images.shape[1:])
        images[here] = self.images[places]
        return self.processes.sum_(images)  # each from the one process that has it

    def _write(self, slots: Tensor, images: Tensor) -> None:
        here, places = self._own(slots)
        self.images[places] = images[here]
