"""The gaze estimator is the paper's network, at any width and image size."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from simgan_fast.errors import InputError
from simgan_fast.models.gaze_estimator import GazeEstimator, gaze_loss


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def paper_network() -> GazeEstimator:
    with torch.device("meta"):  # shapes only: the weights would take a gigabyte
        return GazeEstimator()


def test_layers_are_those_of_the_paper() -> None:
    layers = [layer for layer in paper_network().modules() if not isinstance(layer, GazeEstimator)]
    found = [
        (layer.out_channels, layer.kernel_size, layer.stride)
        if isinstance(layer, nn.Conv2d)
        else (layer.kernel_size, layer.stride)
        if isinstance(layer, nn.MaxPool2d)
        else (layer.in_features, layer.out_features)
        for layer in layers
    ]
    assert found == [
        (32, (3, 3), (1, 1)),
        (32, (3, 3), (1, 1)),
        (64, (3, 3), (1, 1)),
        (3, 2),
        (80, (3, 3), (1, 1)),
        (192, (3, 3), (1, 1)),
        (2, 2),
        (192 * 9 * 14, 9600),
        (9600, 1000),
        (1000, 3),
    ]


def test_parameter_counts_are_those_of_the_docstring() -> None:
    assert parameters(paper_network()) == 242_069_459
    assert parameters(paper_network().fc1) == 232_252_800
    assert parameters(GazeEstimator(width_factor=0.25, fc_width_factor=0.05)) == 2_941_143
    for count in ("242,069,459", "232,252,800", "2,941,143"):
        assert count in str(GazeEstimator.__doc__)


def test_width_factor_scales_every_hidden_width() -> None:
    model = GazeEstimator(width_factor=0.125)
    convolutions = (model.conv1, model.conv2, model.conv3, model.conv4, model.conv5)
    assert [layer.out_channels for layer in convolutions] == [4, 4, 8, 10, 24]
    assert [layer.out_features for layer in (model.fc1, model.fc2, model.fc3)] == [1200, 125, 3]
    assert GazeEstimator(width_factor=1e-6).fc2.out_features == 1


@pytest.mark.parametrize("size", [(35, 55), (36, 60), (1, 1), (2, 3), (64, 97)])
@pytest.mark.parametrize("channels", [1, 3])
def test_any_size_and_channels(size: tuple[int, int], channels: int) -> None:
    model = GazeEstimator(channels, size, 0.1, fc_width_factor=0.01)
    assert model(torch.zeros(2, channels, *size)).shape == (2, 3)
    assert model(torch.zeros(0, channels, *size)).shape == (0, 3)


def test_channels_last_gives_the_same_gaze() -> None:
    model = GazeEstimator(width_factor=0.25, fc_width_factor=0.02).double()
    images = torch.rand(3, 1, 35, 55, dtype=torch.float64)
    expected = model(images)
    for parameter in model.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(model(images), expected, rtol=1e-9, atol=1e-12)


def in_order(model: GazeEstimator) -> nn.Sequential:
    """Its layers, a ReLU after each convolution and hidden layer, as the paper has them."""
    layers: list[nn.Module] = []
    for layer in model.children():
        layers += [nn.Flatten()] if layer is model.fc1 else []
        layers += [layer] if isinstance(layer, nn.MaxPool2d) else [layer, nn.ReLU()]
    return nn.Sequential(*layers[:-1])  # none after the last


def test_gaze_and_gradients_are_those_of_the_layers_in_the_papers_order() -> None:
    model = GazeEstimator(width_factor=0.25, fc_width_factor=0.02).double()
    images = torch.rand(3, 1, 35, 55, dtype=torch.float64) * 2 - 1
    weights = list(model.parameters())
    gaze = torch.randn(3, 3, dtype=torch.float64)
    results = []
    for network in (model, in_order(model)):
        predicted = network(images)
        results.append([predicted, *torch.autograd.grad(gaze_loss(predicted, gaze), weights)])
    torch.testing.assert_close(*results, rtol=1e-9, atol=1e-12)


def test_loss_is_half_the_squared_distance_per_image() -> None:
    predicted = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0]])
    gaze = torch.tensor([[0.0, 1.0, 0.0], [0.0, 0.0, -1.0]])
    assert gaze_loss(predicted, gaze).item() == pytest.approx((2 / 2 + 0) / 2)


@pytest.mark.parametrize("seed", range(4))
def test_first_answer_is_near_the_given_gaze(seed: int) -> None:
    torch.manual_seed(seed)
    gaze = torch.tensor([0.1, 0.2, -0.9])
    model = GazeEstimator(width_factor=0.25, fc_width_factor=0.05).initialize_around(gaze)
    answers = model(torch.rand(50, 1, 35, 55) * 2 - 1)
    assert (answers - gaze).abs().max() < 1  # ten times as far without FIRST_ANSWER_SCALE
    assert answers.std(dim=0).min() > 5e-3  # torch's default: 4e-4 at most, a plateau


def test_standardise_removes_brightness_and_contrast() -> None:
    model = GazeEstimator(width_factor=0.1, fc_width_factor=0.01, standardise=True)
    images = torch.rand(3, 1, 35, 55) * 2 - 1
    torch.testing.assert_close(model(images * 0.3 + 0.2), model(images), rtol=1e-4, atol=1e-5)
    assert model(torch.zeros(1, 1, 35, 55)).isfinite().all()
    plain = GazeEstimator(width_factor=0.1, fc_width_factor=0.01)
    assert not torch.allclose(plain(images * 0.3 + 0.2), plain(images), rtol=1e-4, atol=1e-5)


def test_images_of_another_shape_are_refused() -> None:
    model = GazeEstimator(width_factor=0.1, fc_width_factor=0.01)
    for shape in ((2, 1, 36, 60), (2, 3, 35, 55), (1, 35, 55)):
        with pytest.raises(InputError, match=r"made for \[n, 1, 35, 55\]"):
            model(torch.zeros(shape))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"width_factor": 0.0}, "width_factor=0.0"),
        ({"width_factor": float("nan")}, "width_factor=nan"),
        ({"fc_width_factor": -1.0}, "fc_width_factor=-1.0"),
        ({"in_channels": 0}, "in_channels=0"),
        ({"image_size": (0, 55)}, "image_size"),
    ],
)
def test_unusable_sizes_are_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        GazeEstimator(**arguments)  # type: ignore[arg-type]
