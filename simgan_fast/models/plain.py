"""A refiner in nothing but torch's own layers: for exporters, other runtimes, and programs without simgan_fast."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn

from simgan_fast.models.refiner import Refiner


class PlainBlock(nn.Module):
    """relu(x + conv2(relu(conv1(x))))."""

    def __init__(self, conv1: nn.Conv2d, conv2: nn.Conv2d) -> None:
        super().__init__()
        self.conv1, self.conv2 = conv1, conv2

    def forward(self, x: Tensor) -> Tensor:
        """[n, c, h, w] to the same."""
        return torch.relu(x + self.conv2(torch.relu(self.conv1(x))))


def plain_refiner(refiner: Refiner) -> nn.Sequential:
    """The same function as `refiner`, as an nn.Sequential of Conv2d, ReLU and Tanh; slower, and without our ops.

    Its weights are a copy, under the same names: `refiner.load_state_dict(plain.state_dict())` takes them back. It
    exports to ONNX (`torch.onnx.export`) with standard operators alone.

    >>> plain = plain_refiner(Refiner(width=8, blocks=1))
    >>> [type(layer).__name__ for layer in plain]
    ['Conv2d', 'ReLU', 'Sequential', 'Conv2d', 'Tanh']
    """
    shape = refiner.config

    def convolution(c_in: int, c_out: int) -> nn.Conv2d:
        k = shape.kernel_size
        # Numbers, not "same": exporters know them.
        return nn.Conv2d(c_in, c_out, k, padding=k // 2, padding_mode=shape.padding_mode)

    blocks = [
        PlainBlock(convolution(shape.width, shape.width), convolution(shape.width, shape.width))
        for _ in range(shape.blocks)
    ]
    plain = nn.Sequential(
        OrderedDict(
            first=convolution(shape.in_channels, shape.width),
            relu=nn.ReLU(),
            blocks=nn.Sequential(*blocks),
            last=nn.Conv2d(shape.width, shape.in_channels, 1),
            tanh=nn.Tanh(),
        )
    )
    plain.load_state_dict(refiner.state_dict())
    return plain.to(next(refiner.parameters()).device).train(refiner.training)
