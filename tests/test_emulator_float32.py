"""Float32 by the CUDA kernels of the refiner on the emulator, against float64: as near to it as torch's own float32."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from emulated import SCHEDULES, assert_laid_out_alike, load_mistaken
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F

from simgan_fast.ops import _blocks_cuda, _network_cuda, residual_blocks, residual_network

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="g++ is not installed")
BLOCKS = sys.modules["simgan_fast.ops.residual_blocks"]  # the names are those of functions, too
NETWORK = sys.modules["simgan_fast.ops.residual_network"]
ULP = 2.0**-23

# Side of the filters; n, c, h, w, blocks; padding. One pixel; more tiles than blocks; three groups of 16 channels, two
# blocks; 64 channels; two tiles across, of an odd width; images of the paper's eyes; each filter's smallest side.
CASES = [
    (3, (1, 16, 1, 1, 1), "zeros"),
    (3, (7, 16, 3, 5, 1), "reflect"),
    (3, (1, 48, 5, 7, 2), "zeros"),
    (3, (1, 64, 9, 11, 1), "reflect"),
    (3, (1, 64, 2, 3, 1), "zeros"),
    (3, (1, 16, 6, 57, 1), "zeros"),
    (3, (1, 16, 35, 55, 1), "reflect"),
    (7, (1, 16, 1, 1, 1), "zeros"),
    (7, (2, 16, 4, 5, 2), "reflect"),
    (7, (1, 48, 5, 4, 1), "zeros"),
    (7, (1, 64, 4, 5, 1), "zeros"),
    (7, (1, 16, 10, 33, 1), "reflect"),
]
# n, c_in, c, h, w, c_out; padding; tanh.
NETWORKS = [
    ((3, 1, 16, 1, 1, 1), "zeros", True),
    ((5, 3, 48, 2, 3, 1), "reflect", True),
    ((1, 1, 64, 5, 9, 3), "reflect", False),
    ((1, 3, 16, 6, 57, 3), "zeros", True),
    ((1, 1, 128, 3, 5, 1), "zeros", True),
]


@contextmanager
def pretended(patch: pytest.MonkeyPatch) -> Iterator[None]:
    """CPU tensors take the way of CUDA tensors."""
    with patch.context() as context:
        context.setattr(_blocks_cuda, "takes", lambda _: True)
        for module, cuda in ((BLOCKS, _blocks_cuda), (NETWORK, _network_cuda)):
            context.setattr(module, "_op", cuda.forward)
            context.setattr(module, "_backward_op", cuda.backward)
        yield


def drawn(*shape: int, scale: float = 1.0) -> Tensor:
    return torch.randn(shape) * scale


def inner(c: int, size: int, blocks: int = 1) -> list[Tensor]:
    """Weights and biases of residual blocks."""
    convolution = (c, c, size, size), (c,)
    scale = 0.9 / size / c**0.5
    return [
        part
        for _ in range(2 * blocks)
        for part in (drawn(*convolution[0], scale=scale), drawn(*convolution[1], scale=0.3))
    ]


def in_fours(flat: Sequence[Tensor]) -> list[tuple[Tensor, ...]]:
    return [tuple(flat[i : i + 4]) for i in range(0, len(flat), 4)]


def results(op: Callable[..., Tensor], tensors: Sequence[Tensor], grad: Tensor) -> list[Tensor]:
    """What op(*tensors) gives, and the gradients of all."""
    leaves = [tensor.detach().to(grad.dtype).requires_grad_() for tensor in tensors]
    y = op(*leaves)
    return [y.detach(), *torch.autograd.grad(y, leaves, grad)]


def assert_near(found: Sequence[Tensor], theirs: Sequence[Tensor], exact: Sequence[Tensor]) -> None:
    """At most twice as far from `exact` as torch's, in the 2-norm and at worst; two ulps are allowed."""
    for i, (mine, their, wanted) in enumerate(zip(found, theirs, exact, strict=True)):
        assert mine.dtype == torch.float32 and mine.shape == wanted.shape
        for norm in (2, torch.inf):
            errors = [torch.linalg.vector_norm(each - wanted, norm) for each in (mine, their)]
            least = 2 * ULP * torch.linalg.vector_norm(wanted, norm)
            assert errors[0] <= 2 * errors[1] + least, (i, norm, errors, least)


def check(
    emulator: Any,
    patch: pytest.MonkeyPatch,
    op: Callable[[str], Callable[..., Tensor]],
    tensors: Sequence[Tensor],
    grad: Tensor,
    schedules: Sequence[tuple[int, bool]],
) -> None:
    """op(impl)(*tensors) and its gradients: near to float64, and the same bits under every schedule."""
    found = []
    for order, greedy in schedules:
        emulator.set_schedule(order, greedy, 5)
        with pretended(patch):
            found.append(results(op("native"), tensors, grad))
    for other in found[1:]:
        assert all(map(torch.equal, other, found[0]))
    theirs, exact = (results(op("reference"), tensors, each) for each in (grad, grad.double()))
    assert_near(found[0], theirs, exact)


def blocks_by(impl: str, padding_mode: str) -> Callable[..., Tensor]:
    return lambda x, *flat: residual_blocks(x, in_fours(flat), padding_mode=padding_mode, impl=impl)


@pytest.mark.parametrize(("size", "shape", "padding_mode"), CASES, ids=str)
def test_blocks(
    emulator: Any,
    monkeypatch: pytest.MonkeyPatch,
    size: int,
    shape: tuple[int, ...],
    padding_mode: str,
) -> None:
    torch.manual_seed(sum(shape))
    n, c, h, w, blocks = shape
    tensors = [drawn(n, c, h, w), *inner(c, size, blocks)]
    small = n * c * h * w * size**2 < 20000
    schedules = SCHEDULES if small else SCHEDULES[-1:]
    by = partial(blocks_by, padding_mode=padding_mode)
    check(emulator, monkeypatch, by, tensors, drawn(n, c, h, w), schedules)


@pytest.mark.parametrize(("shape", "padding_mode", "tanh"), NETWORKS, ids=str)
def test_network(
    emulator: Any,
    monkeypatch: pytest.MonkeyPatch,
    shape: tuple[int, ...],
    padding_mode: str,
    tanh: bool,
) -> None:
    torch.manual_seed(sum(shape))
    n, c_in, c, h, w, c_out = shape
    ends = [drawn(c, c_in, 3, 3, scale=0.5), drawn(c), drawn(c_out, c, 1, 1, scale=1 / c)]
    tensors = [drawn(n, c_in, h, w), *inner(c, 3), *ends, drawn(c_out)]

    def by(impl: str) -> Callable[..., Tensor]:
        return lambda images, *flat: residual_network(
            images,
            flat[4:6],
            [flat[:4]],
            flat[6:],
            padding_mode=padding_mode,
            impl=impl,
            tanh=tanh,
        )

    # Of one sign, lest the gradient of the last bias be a small difference of large sums.
    grad = torch.rand(n, c_out, h, w)
    check(emulator, monkeypatch, by, tensors, grad, SCHEDULES if c == 16 else SCHEDULES[-1:])


def joined(maps: Tensor) -> Tensor:
    """Maps [..., h, w, 3 c] as the values that they stand for [..., c, h, w]."""
    high, middle, low = maps.double().chunk(3, dim=-1)
    return (high + middle + low).movedim(-1, -3)


def magnitudes(*shape: int, least: float, most: float) -> Tensor:
    return drawn(*shape) * 10 ** (torch.rand(shape) * (most - least) + least)


def hard(what: str, size: int) -> tuple[Tensor, list[Tensor], Tensor]:
    """x, weights of a block, and a gradient."""
    shape, filters = (2, 16, 6, 7), (16, 16, size, size)
    x, weights, grad = torch.zeros(shape), inner(16, size), drawn(*shape)
    if what == "mean":
        x, grad = 1000 + drawn(*shape, scale=1e-3), 100 + drawn(*shape, scale=1e-3)
    elif what == "one-hot":
        x[0, 3, 2, 2] = 1
    else:
        x, grad = (magnitudes(*shape, least=-20, most=most) for most in (12, 10))
        weights[::2] = [magnitudes(*filters, least=-20, most=2) for _ in range(2)]
        weights[1::2] = [torch.zeros(16)] * 2
    return x, weights, grad


@pytest.mark.parametrize("size", [3, 7])
@pytest.mark.parametrize("what", ["mean", "magnitudes", "one-hot"])
def test_blocks_of_what_is_hard(
    emulator: Any, monkeypatch: pytest.MonkeyPatch, what: str, size: int
) -> None:
    x, weights, grad = hard(what, size)
    by = partial(blocks_by, padding_mode="zeros")
    check(emulator, monkeypatch, by, [x, *weights], grad, SCHEDULES[-1:])


@pytest.mark.parametrize("size", [3, 7])
@pytest.mark.parametrize("what", ["mean", "magnitudes"])
def test_a_convolution_of_what_is_hard(emulator: Any, what: str, size: int) -> None:
    """Errors of what the second convolution reads, each as a part of the sum of its products without their signs."""
    x, weights, _ = hard(what, size)
    weights[1] = torch.zeros(16)
    if what == "magnitudes":  # to the ends of what can be multiplied
        x, weights[0] = x * 1e8, weights[0] * 1e14
    _, maps = _blocks_cuda.forward(x, weights, False, 4, True)
    padding = size // 2
    exact = F.conv2d(x.double(), weights[0].double(), padding=padding).relu()
    theirs = F.conv2d(x, weights[0], padding=padding).relu()
    of_all = F.conv2d(x.double().abs(), weights[0].double().abs(), padding=padding)
    mine, their = (((each - exact).abs() / of_all).max() for each in (joined(maps[0]), theirs))
    assert mine <= 2 * their + ULP


def test_every_float_fits_into_planes(emulator: Any) -> None:
    """Blocks of nothing give x back, exactly: between 1e-33 and 3.39e38, and zero."""
    x = torch.tensor([0, 1e-33, 1 + ULP, 2 - ULP, 1.00390625, 3.38e38, 0.1, 1 / 3])
    x = torch.cat([x, magnitudes(16 * 20 - len(x), least=-32, most=37).abs()]).view(1, 16, 4, 5)
    nothing = [torch.zeros_like(part) for part in inner(16, 3)]
    y, _ = _blocks_cuda.forward(x, nothing, False, 4, False)
    assert torch.equal(y, x)


@pytest.mark.parametrize("reflect", [False, True])
@pytest.mark.parametrize(("size", "channels"), [(3, 16), (3, 64), (7, 16)])
def test_impulses(emulator: Any, size: int, channels: int, reflect: bool) -> None:
    """One pixel of one channel gives every tap, and one of the gradient the map around: all 24 bits of each."""
    h, w = size // 2 + 2, 4
    x = torch.zeros(1, channels, h, w)
    x[0, 5, 1, 2] = 1
    weights = [drawn(channels, channels, size, size), torch.zeros(channels)] * 2
    y, maps = _blocks_cuda.forward(x, weights, reflect, 4, True)
    around = [size // 2] * 4
    padded = F.pad(x, around, mode="reflect" if reflect else "constant")
    exact = F.conv2d(padded.double(), weights[0].double()).relu()
    if not reflect:  # a reflection adds taps up
        assert torch.equal(joined(maps[0]), exact)
    output = int(y.amax((0, 2, 3)).argmax())
    y[0, output, 1, 2] = 1  # let it through
    grad = torch.zeros_like(x)
    grad[0, output, 1, 2] = 1
    _, weight, bias = _blocks_cuda.backward(grad, x, y, maps, weights, reflect, 4)
    hidden = F.pad(joined(maps[0]), around, mode="reflect" if reflect else "constant")
    seen = hidden[0, :, 1 : 1 + size, 2 : 2 + size]
    assert torch.equal(weight[1, output].permute(2, 0, 1).double(), seen)
    assert torch.equal(bias[1], (torch.arange(channels) == output).float())


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_nan_and_infinity(emulator: Any, value: float) -> None:
    """What torch makes NaN or infinite is so here, and nothing that they do not reach; infinities may become NaN."""
    x, weights = drawn(1, 16, 5, 6).abs(), inner(16, 3)
    _, before = _blocks_cuda.forward(x, weights, False, 4, True)
    x[0, 3, 2, 1] = value
    y, maps = _blocks_cuda.forward(x, weights, False, 4, True)
    hidden = F.conv2d(x, weights[0], weights[1], padding=1).relu()
    assert not joined(maps[0])[~hidden.isfinite()].isfinite().any()
    assert torch.equal(maps[0, ..., 3:, :], before[0, ..., 3:, :])  # columns out of reach
    assert y[..., :5].isnan().any() and y[..., 5].isfinite().all()
    grads = _blocks_cuda.backward(torch.ones_like(x), x, y, maps, weights, False, 4)
    assert not grads[1].isfinite().all()


def test_products_are_six_times_as_many(emulator: Any) -> None:
    """And no two rows share a bank."""
    x, weights = drawn(1, 64, 5, 9), inner(64, 3)
    counts = []
    for dtype in (torch.bfloat16, torch.float32):
        emulator.reset_counters()
        moved = [part.to(dtype) for part in weights]
        y, maps = _blocks_cuda.forward(x.to(dtype), moved, False, 4, True)
        _blocks_cuda.backward(y, x.to(dtype), y, maps, moved, False, 4)
        counts.append(emulator.counters())
    # Of biases, two of 64 channels over 5 rows of 16 pixels, three times: each plane of the gradient once.
    of_biases = 2 * 4 * 5
    assert counts[1]["mma"] - 3 * of_biases == 6 * (counts[0]["mma"] - of_biases)
    assert all(each["ldmatrix_wavefronts"] == 4 * each["ldmatrix"] for each in counts)


def test_fakes_have_the_shapes_and_strides_of_the_real_ones(emulator: Any) -> None:
    x, weights, images = drawn(2, 16, 4, 5), inner(16, 3, 2), drawn(2, 1, 4, 5)
    ends = [drawn(16, 1, 3, 3), drawn(16), drawn(3, 16, 1, 1), drawn(3)]

    def both(blocks: Any, network: Any, tensors: list[Tensor]) -> list[Tensor]:
        x, images, *flat = tensors
        y, maps = blocks[0](x, flat[:-4], True, 4, True)
        refined, kept = network[0](images, flat, True, 4, True, True, True)
        return [
            *(y, maps, refined, kept),
            *blocks[1](y, x, y, maps, flat[:-4], True, 4),
            *network[1](refined, images, kept, flat, True, 4, refined, True),
        ]

    tensors = [x, images, *weights, *ends]
    blocks, network = ((each.forward, each.backward) for each in (_blocks_cuda, _network_cuda))
    real = both(blocks, network, tensors)
    with FakeTensorMode():
        moved = [torch.empty(tensor.shape, device="cuda") for tensor in tensors]
        blocks, network = ((each._fake, each._fake_backward) for each in (BLOCKS, NETWORK))
        fakes = both(blocks, network, moved)
    assert_laid_out_alike(fakes, real)


# Each with the case that sees it.
MISTAKES = {
    "sums by the tensor core": (
        (7, (1, 64, 4, 5, 1), "zeros"),
        "maps.h",
        "if constexpr (kPlanes == 1) {",
        "if constexpr (true) {",
    ),
    "two planes of weights": (
        CASES[1],
        "convolution.h",
        "to_planes(simt::to_float(value), 0.0f, planes);",
        "to_planes(simt::to_float(value), 0.0f, planes); planes[kPlanes / 2 * 2] *= kPlanes == 1;",
    ),
    "two planes of a map": (
        CASES[1],
        "maps.h",
        "left(low, simt::low",
        "plane == 2 ? 0 : left(low, simt::low",
    ),
    "biases of one plane of the gradient": (
        CASES[1],
        "weight_gradient.h",
        "counts ? work.bias",
        "counts && round % kRounds > 4 ? work.bias",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_planted_mistake_is_seen(
    emulator: Any,  # for what else it pretends
    emulated_kernels: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    mistake: str,
) -> None:
    case, *change = MISTAKES[mistake]
    mistaken = load_mistaken(monkeypatch, tmp_path, emulated_kernels, *change)
    with pytest.raises(AssertionError):
        test_blocks(mistaken, monkeypatch, *case)
