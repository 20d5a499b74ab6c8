"""Refiner and discriminators: the paper's shapes, any size and channels, weights that move freely."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from simgan_fast import (
    GlobalDiscriminator,
    HandPatchDiscriminator,
    InputError,
    PatchDiscriminator,
    Refiner,
    preset,
)
from simgan_fast.models.discriminator import probability_refined
from simgan_fast.training.algorithm import make_models


def count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def test_sizes_are_the_papers() -> None:
    assert count(Refiner()) == 296_129
    assert count(PatchDiscriminator()) == 75_906
    assert PatchDiscriminator()(torch.zeros(2, 1, 35, 55)).shape == (2, 2, 9, 14)
    shapes = {name: tuple(tensor.shape) for name, tensor in Refiner().state_dict().items()}
    assert shapes["first.weight"] == (64, 1, 3, 3)
    assert shapes["blocks.3.conv2.weight"] == (64, 64, 3, 3)
    assert shapes["last.weight"] == (1, 64, 1, 1)


@pytest.mark.parametrize("shape", [(1, 1, 35, 55), (3, 3, 16, 9), (2, 5, 7, 40), (0, 1, 35, 55)])
@pytest.mark.parametrize("padding_mode", ["reflect", "zeros"])
def test_any_size_and_channels(shape: tuple[int, int, int, int], padding_mode: str) -> None:
    images = torch.rand(shape) * 2 - 1
    refined = Refiner(shape[1], width=16, blocks=2, padding_mode=padding_mode)(images)  # type: ignore[arg-type]
    assert refined.shape == images.shape
    assert refined.abs().max() <= 1 if refined.numel() else True
    logits = PatchDiscriminator(shape[1], padding_mode)(images)  # type: ignore[arg-type]
    assert logits.shape == (shape[0], 2, (shape[2] + 3) // 4, (shape[3] + 3) // 4)
    assert GlobalDiscriminator(shape[2:], shape[1])(images).shape == (shape[0], 2, 1, 1)  # type: ignore[arg-type]


def test_images_too_small_for_the_discriminator_are_refused() -> None:
    with pytest.raises(InputError, match="5 a side"):
        PatchDiscriminator()(torch.zeros(1, 1, 4, 55))


class PlainBlock(nn.Module):
    """The paper's residual block in nothing but torch."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(x + self.conv2(torch.relu(self.conv1(x))))


def test_weights_move_to_plain_layers() -> None:
    refiner = Refiner(width=16, blocks=2, padding_mode="zeros")
    names = ["first", "relu", "blocks.0", "blocks.1", "last", "tanh"]
    plain = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), PlainBlock(16), PlainBlock(16), nn.Conv2d(16, 1, 1), nn.Tanh()
    )  # fmt: skip
    for name, layer in zip(names, plain, strict=True):
        prefix = f"{name}."
        found = {
            key[len(prefix) :]: value
            for key, value in refiner.state_dict().items()
            if key.startswith(prefix)
        }
        layer.load_state_dict(found)
    images = torch.rand(3, 1, 20, 31) * 2 - 1
    torch.testing.assert_close(refiner(images), plain(images))


def test_global_and_local_discriminators_share_all_but_the_last_layer() -> None:
    local, whole = PatchDiscriminator(), GlobalDiscriminator((35, 55))
    shared = {name: value for name, value in local.state_dict().items() if "conv5" not in name}
    assert whole.load_state_dict(shared, strict=False).missing_keys == [
        "conv5.weight",
        "conv5.bias",
    ]


def test_probability_is_that_of_class_1() -> None:
    logits = torch.tensor([0.0, 2.0]).view(1, 2, 1, 1)
    torch.testing.assert_close(probability_refined(logits), torch.softmax(logits, 1)[:, 1])


def test_saved_refiner_is_read_back(tmp_path: Path) -> None:
    refiner = Refiner(3, width=8, blocks=1, padding_mode="zeros")
    refiner.save_pretrained(tmp_path)
    loaded = Refiner.from_pretrained(tmp_path)
    assert loaded.config == refiner.config
    images = torch.rand(1, 3, 9, 9)
    assert torch.equal(loaded(images), refiner(images))
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "README.md",
        "config.json",
        "model.safetensors",
    ]


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("config.json", b"{"),
        ("config.json", b"[]"),
        ("config.json", json.dumps({"width": 16}).encode()),
        ("config.json", json.dumps({"depth": 16}).encode()),
        ("model.safetensors", b"short"),
    ],
)
def test_damaged_refiner_is_refused(tmp_path: Path, file: str, content: bytes) -> None:
    Refiner(width=8, blocks=1).save_pretrained(tmp_path)
    (tmp_path / file).write_bytes(content)
    with pytest.raises(InputError, match="damaged"):
        Refiner.from_pretrained(tmp_path)


def test_identity_start_keeps_colours_apart() -> None:
    torch.manual_seed(0)
    refiner = Refiner(3, width=16, blocks=2).initialize_near_identity()
    images = torch.rand(2, 3, 12, 12) * 2 - 1
    assert float((refiner(images) - images).detach().abs().mean()) < 0.2
    with pytest.raises(InputError, match="width"):
        Refiner(3, width=4).initialize_near_identity()


def test_sizes_are_the_papers_for_hands() -> None:
    config = preset("hands-paper")
    with torch.device("meta"):
        refiner, discriminator = make_models(config, (1, 224, 224))
        assert discriminator(torch.zeros(2, 1, 224, 224)).shape == (2, 2, 7, 7)
        assert refiner(torch.zeros(2, 1, 224, 224)).shape == (2, 1, 224, 224)
    assert (count(refiner), count(discriminator)) == (4_018_625, 178_050)
    layers = [layer for layer in discriminator.children() if isinstance(layer, nn.Conv2d)]
    assert [(layer.out_channels, layer.kernel_size[0], layer.stride[0]) for layer in layers] == [
        (96, 7, 4),
        (64, 5, 2),
        (32, 3, 2),
        (32, 1, 1),
        (2, 1, 1),
    ]
    assert refiner.first.kernel_size == refiner.blocks[9].conv2.kernel_size == (7, 7)  # type: ignore[union-attr]


def test_a_decision_on_hands_sees_71_pixels() -> None:
    discriminator = HandPatchDiscriminator(padding_mode="zeros")
    for layer in discriminator.children():
        nn.init.constant_(layer.weight, 1e-3)  # type: ignore[arg-type]
        nn.init.constant_(layer.bias, 1.0)  # type: ignore[arg-type]
    images = torch.rand(30, 1, 160, 160, requires_grad=True)
    discriminator(images)[:, 0, 2, 2].sum().backward()
    assert images.grad is not None
    seen = (images.grad != 0).any(0)[0]  # the pooling looks at one place of each window only
    for axis in (0, 1):
        field = torch.nonzero(seen.any(axis)).flatten()
        assert int(field[-1] - field[0]) + 1 == 71
    with pytest.raises(InputError, match="17 a side"):
        discriminator(torch.zeros(1, 1, 16, 40))
    assert discriminator(torch.zeros(1, 1, 17, 40)).shape == (1, 2, 1, 2)
