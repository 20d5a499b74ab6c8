"""residual_blocks: the twin against plain modules, and what it refuses."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from simgan_fast.errors import InputError
from simgan_fast.ops import residual_blocks


def convolutions(channels: int, size: int, count: int, padding_mode: str) -> list[nn.Conv2d]:
    return [
        nn.Conv2d(channels, channels, size, padding="same", padding_mode=padding_mode)
        for _ in range(count)
    ]


def blocks_of(layers: list[nn.Conv2d]) -> list[tuple[Tensor, Tensor, Tensor, Tensor]]:
    pairs = zip(layers[::2], layers[1::2], strict=True)
    return [(a.weight, a.bias, b.weight, b.bias) for a, b in pairs]


@pytest.mark.parametrize("padding_mode", ["zeros", "reflect"])
@pytest.mark.parametrize(("size", "blocks"), [(3, 1), (3, 3), (7, 2)])
def test_equals_modules(size: int, blocks: int, padding_mode: str) -> None:
    layers = convolutions(6, size, 2 * blocks, padding_mode)
    x = torch.rand(2, 6, 9, 11)
    expected = x
    for first, second in zip(layers[::2], layers[1::2], strict=True):
        expected = torch.relu(expected + second(torch.relu(first(expected))))
    actual = residual_blocks(x, blocks_of(layers), padding_mode=padding_mode)
    torch.testing.assert_close(actual, expected)


def test_gradcheck() -> None:
    layers = [layer.double() for layer in convolutions(2, 3, 2, "reflect")]
    x = torch.rand(1, 2, 4, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda x, *block: residual_blocks(x, [block], padding_mode="reflect"),
        (x, *blocks_of(layers)[0]),
    )


def test_nothing_in_and_nan() -> None:
    blocks = blocks_of(convolutions(4, 3, 2, "zeros"))
    assert residual_blocks(torch.rand(0, 4, 5, 5), blocks).shape == (0, 4, 5, 5)
    x = torch.rand(1, 4, 5, 5)
    x[0, 0, 0, 0] = float("nan")
    assert residual_blocks(x, blocks)[0, 0, 0, 0].isnan()


def test_compiles_whole() -> None:
    torch.compiler.reset()
    blocks = blocks_of(convolutions(4, 3, 4, "reflect"))
    run = torch.compile(
        lambda x: residual_blocks(x, blocks, padding_mode="reflect"),
        fullgraph=True,
        dynamic=True,
        backend="aot_eager",
    )
    x = torch.rand(2, 4, 6, 7)
    torch.testing.assert_close(run(x), residual_blocks(x, blocks, padding_mode="reflect"))


def test_bad_input() -> None:
    x = torch.rand(1, 4, 5, 5)
    good = blocks_of(convolutions(4, 3, 2, "zeros"))
    even = (torch.zeros(4, 4, 2, 2), torch.zeros(4)) * 2
    for message, arguments, options in (
        (r"must be \[n, c, h, w\]", (x[0], good), {}),
        ("weights is empty", (x, []), {}),
        (r"a weight is \[4, 4, 2, 2\]", (x, [even]), {}),
        ("for 3 channels", (x[:, :3], good), {}),
        ("padding_mode is 'circular'", (x, good), {"padding_mode": "circular"}),
        ("no kernels for it", (x, good), {"impl": "native"}),
        ("impl is 'fast'", (x, good), {"impl": "fast"}),
    ):
        with pytest.raises(InputError, match=message):
            residual_blocks(*arguments, **options)
