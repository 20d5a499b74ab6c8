"""The stacked hourglass has Newell's shape, at any width and depth, and says which images it takes."""

from __future__ import annotations

import pytest
import torch

from simgan_fast.errors import InputError
from simgan_fast.models.stacked_hourglass import (
    Hourglass,
    Residual,
    StackedHourglass,
    heat_map_loss,
    padded,
    padding_of,
)


def count(model: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def test_parameter_counts_are_those_of_the_docstring() -> None:
    with torch.device("meta"):
        paper, small = StackedHourglass(), StackedHourglass(width=32, depth=3)
    for model, stated in ((paper, "6,562,588"), (small, "88,252")):
        assert f"{count(model):,}" == stated
        assert stated in str(StackedHourglass.__doc__)


def test_the_papers_images_give_its_heat_maps() -> None:
    with torch.device("meta"):
        network, images = StackedHourglass(), torch.zeros(2, 1, 224, 224)
        assert network.multiple == 64
        assert network(padded(images, 64, 0.0)).shape == (2, 2, 14, 64, 64)
        with pytest.raises(InputError, match=r"224x224 came.*multiples of 64: pad them"):
            network(images)


def test_an_hourglass_goes_down_by_its_depth() -> None:
    seen = []
    network = StackedHourglass(joints=3, width=8, depth=3).eval()
    for module in network.modules():
        if isinstance(module, Residual):
            module.register_forward_hook(lambda _, __, y: seen.append(y.shape[-1]))
    assert network(torch.zeros(1, 1, 64, 64)).shape == (1, 2, 3, 16, 16)
    assert sum(isinstance(module, Hourglass) for module in network.modules()) == 2 * 3
    assert (min(seen), seen.count(2)) == (2, 2 * 3)  # 16 / 2^3: down, within and up of each stack
    assert seen[:3] == [32, 16, 16]  # the stem


def test_all_stacks_are_supervised_and_the_second_sees_the_first() -> None:
    network = StackedHourglass(joints=2, width=8, depth=1)
    found = network(torch.randn(2, 1, 16, 16))
    heat_map_loss(found, torch.zeros(2, 2, 4, 4), torch.ones(2, 2, dtype=torch.bool)).backward()
    assert all(
        parameter.grad is not None and parameter.grad.isfinite().all()
        for parameter in network.parameters()
    )
    network.zero_grad()
    network(torch.randn(2, 1, 16, 16))[:, 1].square().sum().backward()
    assert network.heads[0].weight.grad.abs().max() > 0  # by way of merge_heat_maps


def test_the_loss_leaves_out_joints_that_are_not_seen() -> None:
    heat_maps = torch.zeros(1, 2, 3, 4, 4)
    targets = torch.stack([torch.full((4, 4), float(v)) for v in (1, 2, 30)])[None]
    seen = torch.tensor([[True, True, False]])
    assert heat_map_loss(heat_maps, targets, seen).item() == pytest.approx((1 + 4) / 2)
    assert heat_map_loss(heat_maps, targets, ~seen).item() == pytest.approx(900)
    assert heat_map_loss(heat_maps, targets, seen & False).item() == 0


def test_padding_is_around_the_image() -> None:
    assert padding_of(224, 224, 64) == (16, 16, 16, 16)
    assert padding_of(96, 65, 32) == (15, 16, 0, 0)
    result = padded(torch.ones(1, 1, 30, 32), 32, 0.25)
    assert result.shape == (1, 1, 32, 32)
    assert (result[..., 1:31, :] == 1).all() and (result[..., [0, 31], :] == 0.25).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"joints": 0}, "joints is 0"),
        ({"in_channels": 0}, "in_channels is 0"),
        ({"stacks": 0}, "stacks is 0"),
        ({"depth": 0}, "depth is 0"),
        ({"width": 30}, "multiple of 4"),
        ({"width": 0}, "multiple of 4"),
    ],
)
def test_unusable_sizes_are_refused(arguments: dict[str, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        StackedHourglass(**arguments)


def test_images_of_other_channels_are_refused() -> None:
    with pytest.raises(InputError, match=r"made for \[n, 1, h, w\]"):
        StackedHourglass(width=8, depth=1)(torch.zeros(1, 3, 16, 16))
