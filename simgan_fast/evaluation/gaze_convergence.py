"""When to end a training: the error on images of the training set that were held out, and the best weights so far."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from simgan_fast.errors import InputError

VALIDATION_SHARE, MOST_VALIDATION = 0.1, 1000  # of the training set
CHECK_EVERY = 100  # updates
RATES = (1.0, 0.1)  # factors of the learning rate: the second where the first has come to no more


def parted(images: Tensor, gaze: Tensor) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Images [n, c, h, w] and gaze [n, 3] in two parts: a tenth, at random but always the same, and the rest.

    >>> (held, _), (rest, _) = parted(torch.zeros(4000, 1, 2, 3), torch.zeros(4000, 3))
    >>> len(held), len(rest)
    (400, 3600)
    """
    if len(images) < 2:
        raise InputError(
            f"the training set has {len(images)} image: training until the error converges takes 2 or more, as some "
            "are held out."
        )
    order = np.random.default_rng(0).permutation(len(images))
    end = min(MOST_VALIDATION, math.ceil(VALIDATION_SHARE * len(order)))
    held, rest = (
        (torch.from_numpy(images.numpy()[rows]), torch.from_numpy(gaze.numpy()[rows]))
        for rows in (order[:end], order[end:])
    )
    return held, rest


class Convergence:
    """Follows a training by the error on held-out images, and keeps the weights that had the smallest.

    `error` measures the network, in any unit. After `patience` checks in a row that brought no smaller error the rate
    falls to a tenth, from the best weights on; after as many again the training is over.

    `rate`: factor of the learning rate. `updates`: after how many was asked last. `best`: the smallest error.
    """

    def __init__(self, network: nn.Module, error: Callable[[], float], patience: int) -> None:
        self.network, self.error, self.patience = network, error, patience
        self.rate, self.updates = RATES[0], 0
        self.best, self._best_weights = error(), self._weights()
        self._waited = 0

    def over_after(self, updates: int) -> bool:
        """Whether the training, with so many updates done, has converged; checks at every hundredth."""
        self.updates = updates
        return updates % CHECK_EVERY == 0 and self._over()

    def restore(self) -> None:
        """Give the network the weights that had the smallest error."""
        if self.updates % CHECK_EVERY:  # these have not been asked yet
            self._note()
        self.network.load_state_dict(self._best_weights)

    def _over(self) -> bool:
        self._note()
        if self._waited < self.patience:
            return False
        if self.rate == RATES[-1]:
            return True
        self.network.load_state_dict(self._best_weights)
        self.rate, self._waited = RATES[-1], 0
        return False

    def _note(self) -> None:
        error = self.error()
        if error < self.best:
            self.best, self._best_weights, self._waited = error, self._weights(), 0
        else:
            self._waited += 1

    def _weights(self) -> dict[str, Tensor]:
        return {name: weight.clone() for name, weight in self.network.state_dict().items()}
