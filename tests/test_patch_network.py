"""patch_network: against float64 and torch, at every CPU level, and the discriminator that is made of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from cases import PATCH_NETWORK_SHAPES, patch_network_case
from torch import Tensor
from torch.nn import functional as F

from simgan_fast import _native
from simgan_fast.errors import InputError
from simgan_fast.models.discriminator import PatchDiscriminator
from simgan_fast.ops import patch_network

needs_native = pytest.mark.skipif(not _native.AVAILABLE, reason="no native part")

# Run at every CPU level in a process of its own.
EVERY_SHAPE = """
import sys
sys.path.insert(0, sys.argv[1])
import torch
from cases import PATCH_NETWORK_GRADIENT, PATCH_NETWORK_SHAPES, PATCH_NETWORK_VALUE
from cases import patch_network_case, relative
from simgan_fast import _native
checked = 0
for shape in PATCH_NETWORK_SHAPES:
    for padding_mode in ("zeros", "reflect"):
        case = patch_network_case(shape, padding_mode)
        before = None
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            logits, gradients = case.run(torch.float32, impl="native")
            errors = [relative(a, b) for a, b in zip(gradients, case.gradients, strict=True)]
            assert relative(logits, case.logits) < PATCH_NETWORK_VALUE, (shape, padding_mode)
            assert max(errors) < PATCH_NETWORK_GRADIENT, (shape, padding_mode, errors)
            result = [logits, *gradients]
            if before is not None:
                assert all(torch.equal(a, b) for a, b in zip(result, before, strict=True))
            before = result
            with torch.no_grad():
                images, *weights = (t.float() for t in (case.images, *case.weights))
                assert torch.equal(case.forward(images, weights, impl="native"), logits)
            checked += len(errors)
print(_native.cpu_level(), checked)
"""


@needs_native
@pytest.mark.parametrize("level", ["baseline", "avx2", "avx512"])
def test_values_and_gradients(run_python: Callable[..., str], level: str) -> None:
    if level not in _native.cpu_levels():
        pytest.skip(f"this processor does not run {level}")
    printed = run_python(EVERY_SHAPE, str(Path(__file__).parent), SIMGAN_FAST_CPU=level)
    name, checked = printed.split()
    assert name == level and int(checked) == 3 * 2 * 11 * len(PATCH_NETWORK_SHAPES)


def torch_logits(discriminator: PatchDiscriminator, images: Tensor) -> Tensor:
    """The layers of the discriminator, one after the other."""
    x = F.relu(discriminator.conv1(images))
    x = F.max_pool2d(F.relu(discriminator.conv2(x)), 3, stride=1, padding=1)
    x = F.relu(discriminator.conv4(F.relu(discriminator.conv3(x))))
    logits: Tensor = discriminator.conv5(x)
    return logits


@pytest.mark.parametrize("padding_mode", ["zeros", "reflect"])
@pytest.mark.parametrize("channels_last", [False, True])
def test_the_discriminator_is_its_layers(padding_mode: str, channels_last: bool) -> None:
    discriminator = PatchDiscriminator(2, padding_mode)
    images = torch.rand(3, 2, 35, 55) * 2 - 1
    if channels_last:
        discriminator = discriminator.to(memory_format=torch.channels_last)
        images = images.to(memory_format=torch.channels_last)
    images.requires_grad_()
    leaves = [images, *discriminator.parameters()]
    results = []
    for run in (discriminator, lambda x: torch_logits(discriminator, x)):
        logits = run(images)
        results.append((logits, torch.autograd.grad(logits.square().sum(), leaves)))
    torch.testing.assert_close(results[0][0], results[1][0], rtol=1e-5, atol=1e-6)
    for ours, theirs in zip(results[0][1], results[1][1], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=float(1e-5 * theirs.abs().max()))


@needs_native
def test_only_the_gradients_that_are_asked_for() -> None:
    discriminator = PatchDiscriminator()
    images = torch.rand(4, 1, 9, 11)
    discriminator(images).sum().backward()
    assert images.grad is None and discriminator.conv1.weight.grad is not None
    expected = {name: p.grad.clone() for name, p in discriminator.named_parameters()}
    discriminator.zero_grad(set_to_none=True)
    discriminator.requires_grad_(False)
    images.requires_grad_()
    discriminator(images).sum().backward()
    alone = images.grad
    assert alone is not None and all(p.grad is None for p in discriminator.parameters())
    discriminator.requires_grad_(True)
    images.grad = None
    discriminator(images).sum().backward()
    assert torch.equal(images.grad, alone)
    for name, parameter in discriminator.named_parameters():
        assert torch.equal(parameter.grad, expected[name])


@needs_native
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_goes_on(value: float) -> None:
    discriminator = PatchDiscriminator()
    images = torch.rand(2, 1, 35, 55)
    clean = discriminator(images)
    images[0, 0, 20, 20] = value
    logits, expected = discriminator(images), torch_logits(discriminator, images)
    assert torch.equal(logits[1], clean[1]), "the other image is as before"
    assert torch.equal(logits.isnan(), expected.isnan()) and logits.isnan().any()


@needs_native
def test_ties_of_the_pooling_go_to_the_first() -> None:
    """Constant images: all pixels inside are as large as their neighbours."""
    discriminator = PatchDiscriminator()
    for parameter in discriminator.parameters():
        parameter.data.abs_()  # nothing is lost in a ReLU
    leaves = [torch.ones(1, 1, 21, 26, requires_grad=True)]
    gradients = [
        torch.autograd.grad((run(leaves[0]) * torch.arange(42.0).view(6, 7)).sum(), leaves)[0]
        for run in (discriminator, lambda x: torch_logits(discriminator, x))
    ]
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=float(1e-5 * gradients[1].abs().max()))


@needs_native
def test_writes_nothing_outside() -> None:
    """Memory of the exact sizes with sentinels around it, all of it written."""
    n, c, height, width, channels, sentinel = 3, 2, 9, 14, (32, 16, 48, 16, 3), 7e7
    h1, w1, h2, w2 = 5, 7, 3, 4

    def guarded(size: int) -> Tensor:
        return torch.full((size + 128,), sentinel)

    weights, sizes, before = [], [3, 3, 3, 1, 1], c
    for after, size in zip(channels, sizes, strict=True):
        weights += [torch.rand(after, before, size, size) - 0.5, torch.rand(after)]
        before = after
    images = torch.rand(n, c, height, width)
    kept = (h1 + 2) * (w1 + 2) * 32 + (h2 + 2) * (w2 + 2) * (16 + 48 + 16 + 16)
    logits, maps, grad_images = (guarded(n * s) for s in (3 * h2 * w2, kept, c * height * width))
    gradients = [guarded(tensor.numel()) for tensor in weights]

    def inside(outer: Tensor) -> Tensor:
        return outer[64:-64]

    _native.C.patch_network(images, inside(logits), inside(maps), weights, True, 2)
    _native.C.patch_network_backward(
        torch.rand(n, 3, h2, w2),
        images,
        inside(maps),
        weights,
        True,
        2,
        inside(grad_images),
        [inside(gradient) for gradient in gradients],
    )
    for outer in (logits, maps, grad_images, *gradients):
        assert (outer[:64] == sentinel).all() and (outer[-64:] == sentinel).all()
        assert not (outer[64:-64] == sentinel).any()


@needs_native
def test_opcheck() -> None:
    ops = torch.ops.simgan_fast
    case = patch_network_case((2, 1, 6, 9, 16, 32, 16, 16, 2), "reflect")
    images, weights = case.images.float(), [tensor.float() for tensor in case.weights]
    for keep in (False, True):
        torch.library.opcheck(ops.patch_network.default, (images, weights, True, keep))
    logits, maps = ops.patch_network(images, weights, True, True)
    for asked in ((True, True), (True, False), (False, True)):
        arguments = (torch.rand_like(logits), images, maps, weights, True, *asked)
        torch.library.opcheck(ops.patch_network_backward.default, arguments)


def test_compiled_equals_eager() -> None:
    torch.compiler.reset()
    discriminator = PatchDiscriminator()

    def loss_of(x: Tensor) -> Tensor:
        loss: Tensor = discriminator(x).square().mean()
        return loss

    compiled = torch.compile(loss_of, fullgraph=True, dynamic=True, backend="aot_eager")
    parameters = list(discriminator.parameters())
    for n, height in ((2, 9), (3, 12)):
        x = torch.rand(n, 1, height, 10)
        eager = torch.autograd.grad(loss_of(x), parameters)
        for actual, expected in zip(
            torch.autograd.grad(compiled(x), parameters), eager, strict=True
        ):
            torch.testing.assert_close(actual, expected)


@needs_native
def test_exports_as_one_node() -> None:
    discriminator = PatchDiscriminator().eval()
    x = torch.rand(2, 1, 9, 13)
    with torch.no_grad():
        program = torch.export.export(discriminator, (x,))
    nodes = [str(node.target) for node in program.graph.nodes]
    assert nodes.count("simgan_fast.patch_network.default") == 1
    torch.testing.assert_close(program.module()(x), discriminator(x))


@needs_native
def test_second_derivative() -> None:
    """As a penalty on D's gradient needs it."""
    discriminator = PatchDiscriminator()
    parameters = list(discriminator.parameters())
    seconds = []
    for run in (discriminator, lambda x: torch_logits(discriminator, x)):
        images = torch.linspace(-1, 1, 90).view(1, 1, 9, 10).sin().requires_grad_()
        (first,) = torch.autograd.grad(run(images).square().sum(), images, create_graph=True)
        penalty = (first.square().sum() - 1) ** 2
        seconds.append(torch.autograd.grad(penalty, parameters, allow_unused=True))
    for ours, theirs in zip(*seconds, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("shape", [(0, 1, 35, 55), (2, 1, 3, 9)], ids=str)
def test_no_image_and_a_small_one(shape: tuple[int, ...]) -> None:
    discriminator = PatchDiscriminator(padding_mode="zeros")
    convolutions = [(layer.weight, layer.bias) for layer in discriminator.children()]
    images = torch.rand(shape)
    logits = patch_network(images, convolutions)
    torch.testing.assert_close(logits, torch_logits(discriminator, images), rtol=1e-5, atol=1e-6)


def test_odd_channels_take_torch() -> None:
    case = patch_network_case((1, 1, 6, 7, 8, 12, 4, 2, 2), "zeros")
    images, *weights = (t.float() for t in (case.images, *case.weights))
    torch.testing.assert_close(
        case.forward(images, weights), case.logits.float(), rtol=1e-4, atol=1e-5
    )
    with pytest.raises(InputError, match="only for multiples of 16"):
        case.forward(images, weights, impl="native")


def test_bad_input(impl: str) -> None:
    case = patch_network_case((1, 1, 6, 7, 16, 16, 16, 16, 2), "zeros")
    images, *weights = (t.float() for t in (case.images, *case.weights))
    with pytest.raises(InputError, match="and five"):
        case.forward(images, weights[:-2], impl=impl)
    with pytest.raises(InputError, match="and five"):
        case.forward(images[0], weights, impl=impl)
    with pytest.raises(InputError, match=r"convolution 2 has weight \[16, 8, 3, 3\]"):
        case.forward(images, [*weights[:2], weights[2][:, :8], *weights[3:]], impl=impl)
    with pytest.raises(InputError, match="convolution 1 has weight"):
        case.forward(images.expand(1, 2, 6, 7), weights, impl=impl)
    case.padding_mode = "circular"
    with pytest.raises(InputError, match="padding_mode is 'circular'"):
        case.forward(images, weights, impl=impl)
