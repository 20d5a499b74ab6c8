"""The paper's networks as anybody would write them: the peers' side of the benchmarks, nothing of simgan_fast in it."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class PlainBlock(nn.Module):
    """relu(x + conv2(relu(conv1(x))))."""

    def __init__(self, width: int, size: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, size, padding=size // 2)
        self.conv2 = nn.Conv2d(width, width, size, padding=size // 2)

    def forward(self, x: Tensor) -> Tensor:
        """[n, width, h, w] to the same."""
        return F.relu(x + self.conv2(F.relu(self.conv1(x))))


class PlainRefiner(nn.Module):
    """Parameters have the names and shapes of simgan_fast.Refiner's, padding is zeros, as all peers do best."""

    def __init__(self, width: int = 64, blocks: int = 4, size: int = 3) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, width, size, padding=size // 2)
        self.blocks = nn.Sequential(*(PlainBlock(width, size) for _ in range(blocks)))
        self.last = nn.Conv2d(width, 1, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Images [n, 1, h, w] to the same."""
        return torch.tanh(self.last(self.blocks(F.relu(self.first(images)))))


class PlainDiscriminator(nn.Module):
    """Images [n, 1, h, w] to logits [n, 2, ceil(h/4), ceil(w/4)], as simgan_fast's with zero padding."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 96, 3, stride=2, padding=1)
        self.conv2 = nn.Conv2d(96, 64, 3, stride=2, padding=1)
        self.conv3 = nn.Conv2d(64, 32, 3, padding=1)
        self.conv4 = nn.Conv2d(32, 32, 1)
        self.conv5 = nn.Conv2d(32, 2, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Logits of every patch."""
        x = F.max_pool2d(F.relu(self.conv2(F.relu(self.conv1(images)))), 3, stride=1, padding=1)
        return self.conv5(F.relu(self.conv4(F.relu(self.conv3(x)))))


class PlainHandDiscriminator(nn.Module):
    """The paper's for hands: images [n, 1, h, w] to logits [n, 2, ceil(h/32), ceil(w/32)], with zero padding."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 96, 7, stride=4, padding=3)
        self.conv2 = nn.Conv2d(96, 64, 5, stride=2, padding=2)
        self.conv3 = nn.Conv2d(64, 32, 3, stride=2, padding=1)
        self.conv4 = nn.Conv2d(32, 32, 1)
        self.conv5 = nn.Conv2d(32, 2, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Logits of every patch."""
        x = F.max_pool2d(F.relu(self.conv2(F.relu(self.conv1(images)))), 3, stride=2, padding=1)
        return self.conv5(F.relu(self.conv4(F.relu(self.conv3(x)))))
