"""The hand pose estimator of Shrivastava et al. 2017 (section 3.2): a stacked hourglass network with two stacks.

Newell, Yang and Deng, "Stacked Hourglass Networks for Human Pose Estimation", ECCV 2016: a stem brings the image to a
quarter of its size; each hourglass goes down to a few pixels and back up, adding what it saw at every size; after each
stack stands a heat map per joint, and all of them are supervised.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from simgan_fast.errors import InputError

STRIDE = 4  # pixels of the image that are one of the heat maps: of the stem


class StackedHourglass(nn.Module):
    """Image in, heat maps of the joints out, a set of them per stack; peaks of 1 where the joints are.

    Stem: C7x7 stride 2, BN, ReLU, residual, max pool 2x2, two residuals. A stack: an hourglass, a residual, C1x1, BN,
    ReLU, and C1x1 to the heat maps; features and heat maps, by a C1x1 each, are added to what goes into the next
    stack. A residual is Newell's bottleneck (`Residual`); an hourglass takes `depth` max pools of 2x2 and as many
    nearest-neighbour enlargements.

    The paper's images of 224x224 give 224 / 4 = 56 pixels after the stem, which four halvings do not divide
    (56 / 16 = 3.5); its heat maps of 64x64 need an image of 4 x 64 = 256. So an image is padded on all sides to the
    next multiple of 4 x 2^depth: 224 to 256 by 16 pixels each. `padded` does it, with what stands for "no depth".

    The paper's network (the defaults) has 6,562,588 parameters; `width=32, depth=3` has 88,252.

    Args:
        joints: heat maps per stack.
        in_channels: 1 for depth.
        stacks: hourglasses, one after the other.
        width: channels of the hourglasses, a multiple of 4; 256 in the paper.
        depth: halvings in an hourglass; 4 in the paper.

    Raises:
        InputError: a number that cannot be; at the call, images of other channels, or of a size that is no multiple of
            4 x 2^depth.

    >>> StackedHourglass(width=32, depth=3)(torch.zeros(2, 1, 96, 96)).shape
    torch.Size([2, 2, 14, 24, 24])
    """

    def __init__(
        self,
        joints: int = 14,
        in_channels: int = 1,
        stacks: int = 2,
        width: int = 256,
        depth: int = 4,
    ) -> None:
        super().__init__()
        _check(joints, in_channels, stacks, width, depth)
        self.in_channels, self.depth = in_channels, depth
        self.stem = nn.Sequential(
            _convolution(in_channels, width // 4, 7, stride=2),
            Residual(width // 4, width // 2),
            nn.MaxPool2d(2),
            Residual(width // 2, width // 2),
            Residual(width // 2, width),
        )
        self.stacks = nn.ModuleList(
            nn.Sequential(
                Hourglass(width, depth), Residual(width, width), _convolution(width, width, 1)
            )
            for _ in range(stacks)
        )
        self.heads = nn.ModuleList(nn.Conv2d(width, joints, 1) for _ in range(stacks))
        self.merge_features = nn.ModuleList(nn.Conv2d(width, width, 1) for _ in range(stacks - 1))
        self.merge_heat_maps = nn.ModuleList(nn.Conv2d(joints, width, 1) for _ in range(stacks - 1))

    @property
    def multiple(self) -> int:
        """Height and width of an image are to be multiples of this."""
        return STRIDE << self.depth

    def forward(self, images: Tensor) -> Tensor:
        """Heat maps [n, stacks, joints, h / 4, w / 4] of images [n, channels, h, w]; the last stack's are the best."""
        if images.ndim != 4 or images.shape[1] != self.in_channels:
            raise InputError(
                f"images of shape {tuple(images.shape)} came, but this pose estimator was made for "
                f"[n, {self.in_channels}, h, w]."
            )
        if images.shape[2] % self.multiple or images.shape[3] % self.multiple:
            raise InputError(
                f"images of {images.shape[2]}x{images.shape[3]} came, but this pose estimator wants multiples of "
                f"{self.multiple}: pad them (simgan_fast.models.stacked_hourglass.padded)."
            )
        x = self.stem(images)  # [n, width, h / 4, w / 4]
        found: list[Tensor] = []
        for i, (stack, head) in enumerate(zip(self.stacks, self.heads, strict=True)):
            features = stack(x)
            found.append(head(features))
            if i + 1 < len(self.stacks):
                x = x + self.merge_features[i](features) + self.merge_heat_maps[i](found[-1])
        return torch.stack(found, dim=1)


class Hourglass(nn.Module):
    """[n, width, h, w] to the same, by way of h / 2^depth x w / 2^depth pixels."""

    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        self.beside = Residual(width, width)
        self.down = Residual(width, width)
        self.within = Hourglass(width, depth - 1) if depth > 1 else Residual(width, width)
        self.up = Residual(width, width)

    def forward(self, x: Tensor) -> Tensor:
        low = self.up(self.within(self.down(F.max_pool2d(x, 2))))
        beside: Tensor = self.beside(x)
        return beside + F.interpolate(low, scale_factor=2.0, mode="nearest")


class Residual(nn.Module):
    """Bottleneck of He et al. 2016 as Newell has it: BN, ReLU and C1x1, C3x3, C1x1 by half the width, and the input.

    Where the widths differ, a C1x1 brings the input to the new one.
    """

    def __init__(self, in_width: int, out_width: int) -> None:
        super().__init__()
        half = out_width // 2
        self.layers = nn.Sequential(
            nn.BatchNorm2d(in_width),
            nn.ReLU(),
            nn.Conv2d(in_width, half, 1),
            nn.BatchNorm2d(half),
            nn.ReLU(),
            nn.Conv2d(half, half, 3, padding=1),
            nn.BatchNorm2d(half),
            nn.ReLU(),
            nn.Conv2d(half, out_width, 1),
        )
        self.skip = nn.Identity() if in_width == out_width else nn.Conv2d(in_width, out_width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[n, in_width, h, w] to [n, out_width, h, w]."""
        return torch.as_tensor(self.skip(x) + self.layers(x))


def heat_map_loss(heat_maps: Tensor, targets: Tensor, visible: Tensor) -> Tensor:
    """Mean squared difference of heat maps [n, stacks, j, h, w] and targets [n, j, h, w], over all stacks.

    Maps of joints that are not `visible` [n, j] (outside of the image) do not count. 0 where none is.
    """
    squared = (heat_maps - targets[:, None]).square().mean(dim=(3, 4))  # [n, stacks, j]
    weights = visible[:, None].to(squared.dtype).expand_as(squared)
    return (squared * weights).sum() / weights.sum().clamp_min(1)


def padding_of(height: int, width: int, multiple: int) -> tuple[int, int, int, int]:
    """Pixels left, right, top and bottom that bring an image to multiples of `multiple`.

    Raises InputError where that would be more than twice the image: the hourglass has too many halvings.

    >>> padding_of(224, 224, 64)
    (16, 16, 16, 16)
    """
    if multiple > 2 * max(height, width):
        raise InputError(
            f"images of {height}x{width} would be padded to multiples of {multiple}: take fewer halvings (depth)."
        )
    across, down = -width % multiple, -height % multiple
    return across // 2, across - across // 2, down // 2, down - down // 2


def padded(images: Tensor, multiple: int, background: float) -> Tensor:
    """Images [n, c, h, w] with `background` around them, so that height and width are multiples of `multiple`."""
    return F.pad(images, padding_of(images.shape[2], images.shape[3], multiple), value=background)


def _convolution(in_width: int, out_width: int, size: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_width, out_width, size, stride, padding=size // 2),
        nn.BatchNorm2d(out_width),
        nn.ReLU(),
    )


def _check(joints: int, in_channels: int, stacks: int, width: int, depth: int) -> None:
    for name, value in (
        ("joints", joints),
        ("in_channels", in_channels),
        ("stacks", stacks),
        ("depth", depth),
    ):
        if value < 1:
            raise InputError(f"{name} is {value}: it must be at least 1.")
    if width < 4 or width % 4:
        raise InputError(f"width is {width}: it must be a multiple of 4, at least 4.")
