"""The gaze estimator of Shrivastava et al. 2017 (section 3.1): five convolutions, three fully connected layers."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from simgan_fast.errors import InputError

CONV_WIDTHS = (32, 32, 64, 80, 192)
FC_WIDTHS = (9600, 1000)
FIRST_ANSWER_SCALE = 0.1  # of the last layer's weights: the first predictions differ a little


def scaled_width(width: int, factor: float) -> int:
    """`width` times `factor`, rounded, at least 1."""
    return max(1, round(width * factor))


def half_up(pixels: int) -> int:
    """Pixels left of `pixels` by a 'same' pooling of stride 2."""
    return (pixels + 1) // 2


class GazeEstimator(nn.Module):
    """Grey eye image in, 3-D gaze vector out, trained with half the squared Euclidean distance.

    Layers: C3x3-32, C3x3-32, C3x3-64, max pool 3x3 stride 2, C3x3-80, C3x3-192, max pool 2x2
    stride 2, FC 9600, FC 1000, FC 3, with a ReLU after every layer but the last. Convolutions and
    pools are 'same', so 35 x 55 (height x width) is 9 x 14 before the first fully connected layer.
    The paper's network (`width_factor=1`) has 242,069,459 parameters, 232,252,800 of them in that
    layer: 4 GB with Adam's state. With `width_factor=0.25, fc_width_factor=0.05` it has 2,941,143.

    Args:
        in_channels: 1 for grey, 3 for colour.
        image_size: (height, width) in pixels of the images it will be given.
        width_factor: times every hidden width, of convolutions and fully connected layers.
        fc_width_factor: another factor for the two hidden fully connected layers, which hold nearly
            all parameters; None: `width_factor`.
        standardise: bring each image to zero mean and unit variance first. The paper does not.

    Raises:
        InputError: a size or factor is not positive; at the call, the images are of another shape.

    >>> estimator = GazeEstimator(width_factor=0.25)
    >>> estimator(torch.zeros(2, 1, 35, 55)).shape
    torch.Size([2, 3])
    """

    def __init__(
        self,
        in_channels: int = 1,
        image_size: tuple[int, int] = (35, 55),
        width_factor: float = 1.0,
        *,
        fc_width_factor: float | None = None,
        standardise: bool = False,
    ) -> None:
        super().__init__()
        fc_factor = width_factor if fc_width_factor is None else fc_width_factor
        _require_positive(in_channels, image_size, width_factor, fc_factor)
        self.in_channels, self.image_size = in_channels, (image_size[0], image_size[1])
        self.standardise = standardise
        c1, c2, c3, c4, c5 = (scaled_width(width, width_factor) for width in CONV_WIDTHS)
        f1, f2 = (scaled_width(width, fc_factor) for width in FC_WIDTHS)
        height, width = (half_up(half_up(pixels)) for pixels in image_size)
        self.conv1 = nn.Conv2d(in_channels, c1, 3, padding=1)
        self.conv2 = nn.Conv2d(c1, c2, 3, padding=1)
        self.conv3 = nn.Conv2d(c2, c3, 3, padding=1)
        self.pool1 = nn.MaxPool2d(3, stride=2, padding=1)
        self.conv4 = nn.Conv2d(c3, c4, 3, padding=1)
        self.conv5 = nn.Conv2d(c4, c5, 3, padding=1)
        self.pool2 = nn.MaxPool2d(2, stride=2, ceil_mode=True)
        self.fc1 = nn.Linear(c5 * height * width, f1)
        self.fc2 = nn.Linear(f1, f2)
        self.fc3 = nn.Linear(f2, 3)

    def forward(self, images: Tensor) -> Tensor:
        """Gaze vectors [n, 3], not normalised, of float images [n, c, h, w] in [-1, 1]."""
        if tuple(images.shape[1:]) != (self.in_channels, *self.image_size):
            raise InputError(
                f"images of shape {tuple(images.shape)} came, but this gaze estimator was made for "
                f"[n, {self.in_channels}, {self.image_size[0]}, {self.image_size[1]}]: resize them."
            )
        x = _standardised(images) if self.standardise else images
        # After one channel torch takes channels first, and then converts in every layer that follows.
        x = self.conv1(x).contiguous(memory_format=torch.channels_last)
        x = F.relu(self.conv2(F.relu(x)))
        # ReLU and maximum may change places, and a quarter of the pixels is left after the pools.
        x = F.relu(self.pool1(self.conv3(x)))  # [n, 64, 18, 28] at the paper's size
        x = self.conv5(F.relu(self.conv4(x)))
        x = F.relu(self.pool2(x).flatten(1))  # [n, 192 * 9 * 14]
        x = F.relu(self.fc2(F.relu(self.fc1(x))))
        return torch.as_tensor(self.fc3(x))

    @torch.no_grad()
    def initialize_around(self, gaze: Tensor) -> GazeEstimator:
        """Start from He's initialisation, with `gaze` [3] as nearly the answer to every image.

        torch's default shrinks the signal in each of the eight layers: the estimator then begins
        with many updates on a plateau, and narrow ones do not always leave it.
        """
        for layer in self.children():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                if layer.bias is not None:
                    layer.bias.zero_()
        self.fc3.weight *= FIRST_ANSWER_SCALE
        self.fc3.bias.copy_(gaze)
        return self


def gaze_loss(predicted: Tensor, gaze: Tensor) -> Tensor:
    """Half the squared Euclidean distance of [n, 3] vectors, averaged over the images."""
    return (predicted - gaze).square().sum(dim=1).mean() / 2


def _standardised(images: Tensor) -> Tensor:
    """Images with zero mean and unit variance each; the floor of 1/255 keeps a flat image finite."""
    centred = images - images.mean(dim=(1, 2, 3), keepdim=True)
    deviation = centred.square().mean(dim=(1, 2, 3), keepdim=True).sqrt()
    return centred / deviation.clamp_min(1 / 255)


def _require_positive(
    in_channels: int, image_size: tuple[int, int], width_factor: float, fc_factor: float
) -> None:
    if in_channels < 1 or len(image_size) != 2 or min(image_size) < 1:
        raise InputError(
            f"in_channels={in_channels} and image_size={image_size} came: the gaze estimator needs at least "
            "one channel and a (height, width) of at least one pixel."
        )
    if not (width_factor > 0 and fc_factor > 0):
        raise InputError(
            f"width_factor={width_factor} and fc_width_factor={fc_factor} came: both must be above 0 "
            "(1 is the paper's network)."
        )
