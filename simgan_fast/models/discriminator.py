"""The discriminators: one decision per patch (the paper's local loss) and one per image (its ablation)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from simgan_fast.errors import InputError
from simgan_fast.models.refiner import PaddingMode
from simgan_fast.ops import patch_network

# Pixels: reflection padding needs more of a map than it adds, and layers with strides make it smaller.
SMALLEST_SIDE, SMALLEST_HAND = 5, 17


class PatchDiscriminator(nn.Module):
    """Images [n, c, h, w] in [-1, 1] to raw logits [n, 2, ceil(h/4), ceil(w/4)] per patch (paper 2.2 and 3.1).

    Class 1 is refined (the paper's D is the probability of being synthetic), class 0 is real.
    Conv3x3-96 s2, conv3x3-64 s2, max-pool 3x3 s1, conv3x3-32, conv1x1-32, conv1x1-2, ReLU after
    each convolution but the last; 75,906 parameters for grey images. 35x55 images give 9x14 patches
    with a receptive field of 23x23 pixels.
    """

    def __init__(self, in_channels: int = 1, padding_mode: PaddingMode = "reflect") -> None:
        super().__init__()
        self.padding_mode = padding_mode
        self.conv1 = nn.Conv2d(in_channels, 96, 3, stride=2, padding=1, padding_mode=padding_mode)
        self.conv2 = nn.Conv2d(96, 64, 3, stride=2, padding=1, padding_mode=padding_mode)
        self.conv3 = nn.Conv2d(64, 32, 3, padding=1, padding_mode=padding_mode)
        self.conv4 = nn.Conv2d(32, 32, 1)
        self.conv5 = nn.Conv2d(32, 2, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Logits of `images`, one pair per patch."""
        _require_size(images)
        convolutions: list[tuple[Tensor, Tensor]] = []
        for layer in (self.conv1, self.conv2, self.conv3, self.conv4, self.conv5):
            assert layer.bias is not None
            convolutions.append((layer.weight, layer.bias))
        return patch_network(images, convolutions, padding_mode=self.padding_mode)


class GlobalDiscriminator(PatchDiscriminator):
    """The same convolutions, then one fully connected decision: logits [n, 2, 1, 1] (paper 3.3, Figure 8)."""

    def __init__(
        self,
        image_size: tuple[int, int],
        in_channels: int = 1,
        padding_mode: PaddingMode = "reflect",
    ) -> None:
        super().__init__(in_channels, padding_mode)
        map_size = tuple((side + 3) // 4 for side in image_size)
        self.conv5 = nn.Conv2d(32, 2, (map_size[0], map_size[1]))

    def forward(self, images: Tensor) -> Tensor:
        """Logits of `images`, one pair per image; by torch's convolutions."""
        _require_size(images)
        x = functional.relu(self.conv1(images))
        x = functional.relu(self.conv2(x))
        x = functional.max_pool2d(x, 3, stride=1, padding=1)
        x = functional.relu(self.conv4(functional.relu(self.conv3(x))))
        logits: Tensor = self.conv5(x)
        return logits


class HandPatchDiscriminator(nn.Module):
    """The paper's for hands (appendix): images [n, c, h, w] in [-1, 1] to logits [n, 2, ceil(h/32), ceil(w/32)].

    Conv7x7-96 s4, conv5x5-64 s2, max-pool 3x3 s2, conv3x3-32 s2, conv1x1-32, conv1x1-2, ReLU after each convolution
    but the last; 178,050 parameters for depth. 224x224 images give 7x7 patches with a receptive field of 71x71 pixels.
    It is plain PyTorch; classes are those of `PatchDiscriminator`.

    >>> HandPatchDiscriminator()(torch.zeros(2, 1, 224, 224)).shape
    torch.Size([2, 2, 7, 7])
    """

    def __init__(self, in_channels: int = 1, padding_mode: PaddingMode = "reflect") -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, 96, 7, stride=4, padding=3, padding_mode=padding_mode)
        self.conv2 = nn.Conv2d(96, 64, 5, stride=2, padding=2, padding_mode=padding_mode)
        self.conv3 = nn.Conv2d(64, 32, 3, stride=2, padding=1, padding_mode=padding_mode)
        self.conv4 = nn.Conv2d(32, 32, 1)
        self.conv5 = nn.Conv2d(32, 2, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Logits of `images`, one pair per patch."""
        _require_size(images, SMALLEST_HAND)
        x = functional.relu(self.conv2(functional.relu(self.conv1(images))))
        x = functional.max_pool2d(x, 3, stride=2, padding=1)
        x = functional.relu(self.conv4(functional.relu(self.conv3(x))))
        logits: Tensor = self.conv5(x)
        return logits


def _require_size(images: Tensor, least: int = SMALLEST_SIDE) -> None:
    if min(images.shape[-2:]) < least:
        raise InputError(
            f"images are {images.shape[-2]}x{images.shape[-1]} pixels: the discriminator needs {least} a side."
        )


@torch.no_grad()
def probability_refined(logits: Tensor) -> Tensor:
    """Probability [n, h, w] of being refined from logits [n, 2, h, w]."""
    return torch.sigmoid(logits[:, 1] - logits[:, 0])
