"""The CUDA kernels of the refiner's ends on the emulator, against convolutions in float64 of what they stored."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from emulated import SCHEDULES, assert_laid_out_alike
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F

from simgan_fast.models.refiner import Refiner
from simgan_fast.ops import _blocks_cuda, _network_cuda, _winograd

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="g++ is not installed")
OP = sys.modules["simgan_fast.ops.residual_network"]  # the name is that of the function, too
BF16_ULP = 2.0**-8  # half the distance of two neighbours, relative
SUM = 2e-6  # sums of float32, relative to the largest value

# n, c_in, c, h, w, c_out: one pixel; channels in three groups of 16, rows that are no whole run, splits of which the
# last is shorter; three channels in, one out, a side of two; two tiles across, of an odd width; more rows than a tile;
# two groups of 64 channels; a side of three, where a pixel has reflections on both sides, in colour; the paper's eyes.
SHAPES = [
    (1, 1, 16, 1, 1, 1),
    (9, 1, 48, 5, 9, 3),
    (2, 3, 16, 2, 3, 1),
    (1, 3, 16, 6, 57, 3),
    (1, 1, 16, 57, 8, 1),
    (1, 1, 128, 3, 5, 3),
    (3, 3, 64, 3, 3, 3),
    (1, 1, 64, 35, 55, 1),
]
EYES = SHAPES[-1]


@dataclass
class Run:
    """What goes in, and what the kernels made of it."""

    images: Tensor
    weights: list[Tensor]
    reflect: bool
    tanh: bool
    y: Tensor
    maps: Tensor

    def read(self, number: int) -> Tensor:
        """What convolution `number` read, [n, c, h, w]; -1: the last one."""
        return self.maps[number - 1 if number > 0 else number].permute(0, 3, 1, 2)

    def backward(self, grad: Tensor, of_images: bool = True) -> tuple[Tensor, ...]:
        y = self.y if self.tanh else None
        return _network_cuda.backward(
            grad, self.images, self.maps, self.weights, self.reflect, 4, y, of_images
        )


def bf16(*shape: int, scale: float = 1.0) -> Tensor:
    return (torch.randn(shape) * scale).bfloat16()


def run(
    shape: tuple[int, ...], reflect: bool, tanh: bool = True, dtype: torch.dtype = torch.float32
) -> Run:
    """One block between the ends; its weights are numbers of bfloat16, those of the ends float32."""
    n, c_in, c, h, w, c_out = shape
    torch.manual_seed(sum(shape))
    block = [
        part.float() for _ in range(2) for part in (bf16(c, c, 3, 3, scale=0.2 / c**0.5), bf16(c))
    ]
    first, last = torch.randn(c, c_in, 3, 3) * 0.5, torch.randn(c_out, c, 1, 1) / c
    weights = [*block, first, torch.randn(c), last, torch.randn(c_out)]
    images = torch.randn(n, c_in, h, w).to(dtype)
    return Run(
        images,
        weights,
        reflect,
        tanh,
        *_network_cuda.forward(images, weights, reflect, 4, True, tanh),
    )


def padded(x: Tensor, reflect: bool) -> Tensor:
    return F.pad(x.double(), (1,) * 4, mode="reflect" if reflect else "constant")


def assert_stored(stored: Tensor, exact: Tensor) -> None:
    """`stored` is `exact` summed in float32 and rounded to bfloat16 once."""
    within = BF16_ULP * exact.abs() + SUM * exact.abs().max()
    assert ((stored.double() - exact).abs() <= within).all()


def assert_near(actual: Tensor, exact: Tensor) -> None:
    assert actual.shape == exact.shape
    assert (actual.double() - exact).norm() <= SUM * exact.norm().clamp(min=1e-30)


def cases() -> list[Any]:
    wide_enough = [shape for shape in SHAPES[:-1] if min(shape[3:5]) > 1]  # eyes take long
    return [(shape, False) for shape in SHAPES] + [(shape, True) for shape in wide_enough]


def schedules(shape: tuple[int, ...]) -> Sequence[tuple[int, bool]]:
    return SCHEDULES if shape[0] * shape[2] ** 2 * shape[3] * shape[4] < 50000 else SCHEDULES[-1:]


@pytest.mark.parametrize(("shape", "reflect"), cases(), ids=str)
def test_values(emulator: Any, shape: tuple[int, ...], reflect: bool) -> None:
    """Also the same bits under every schedule, and without maps that are kept."""
    tanh = shape[2] != 48
    emulator.set_schedule(*schedules(shape)[0], 5)
    made = run(shape, reflect, tanh)
    first, first_bias, last, last_bias = (tensor.double() for tensor in made.weights[-4:])
    assert_stored(made.read(1), F.conv2d(padded(made.images, reflect), first, first_bias).relu())
    refined = F.conv2d(made.read(-1).double(), last, last_bias)
    assert_stored(made.y, refined.tanh() if tanh else refined)
    for order, greedy in schedules(shape)[1:]:
        emulator.set_schedule(order, greedy, 5)
        again = run(shape, reflect, tanh)
        assert torch.equal(again.y, made.y) and torch.equal(again.maps, made.maps)
    alone, maps = _network_cuda.forward(made.images, made.weights, reflect, 4, False, tanh)
    assert torch.equal(alone, made.y) and maps.numel() == 0


def exact_gradients(made: Run, grad: Tensor) -> list[Tensor]:
    """As `backward` gives them; those of the first convolution of what the emulated blocks hand to it."""
    incoming = grad.double() * (1 - made.y.double().square() if made.tanh else 1)
    x = made.read(-1).double()
    last = made.weights[-2].double()
    of_x = torch.einsum("nohw,oc->nchw", incoming, last[..., 0, 0]) * (x > 0)
    of_last = torch.einsum("nohw,nchw->oc", incoming, x)[:, None, None]
    # The blocks have tests of their own: the row of them takes over what the last convolution left.
    of_first_map, *of_blocks = _blocks_cuda.backward(
        of_x.bfloat16(),
        made.read(1),
        made.read(-1),
        made.maps[1:-1],
        made.weights[:-4],
        made.reflect,
        4,
    )
    given = (of_first_map * (made.read(1) > 0)).double()
    images = made.images.double().requires_grad_()
    first, bias = (tensor.double().requires_grad_() for tensor in made.weights[-4:-2])
    y = F.conv2d(padded(images, made.reflect), first, bias)
    of_images, of_first, of_bias = torch.autograd.grad(y, (images, first, bias), given)
    of_first = of_first.permute(0, 2, 3, 1)
    return [of_images, *of_blocks, of_first, of_bias, of_last, incoming.sum((0, 2, 3))]


@pytest.mark.parametrize(("shape", "reflect"), cases(), ids=str)
def test_every_gradient(emulator: Any, shape: tuple[int, ...], reflect: bool) -> None:
    n, _, _, h, w, c_out = shape
    tanh = shape[2] != 48
    made, grad = run(shape, reflect, tanh), bf16(n, c_out, h, w)
    results = []
    for order, greedy in schedules(shape):
        emulator.set_schedule(order, greedy, 5)
        results.append(made.backward(grad))
    for other in results[1:]:
        assert all(map(torch.equal, other, results[0]))  # the same bits
    of_images, of_weight, of_bias, *of_ends = results[0]
    exact_images, exact_weight, exact_bias, *exact_ends = exact_gradients(made, grad)
    # Of what the last convolution leaves a value that lies between two bfloat16 may be rounded to the other one.
    for found, exact in ((of_weight, exact_weight), (of_bias, exact_bias)):
        assert (found - exact).norm() <= 1e-3 * exact.norm()
    of_first, of_first_bias, of_last, of_last_bias = of_ends
    assert_near(of_last, exact_ends[2])
    assert_near(of_last_bias, exact_ends[3])
    for found, exact in zip(
        (of_images, of_first, of_first_bias), (exact_images, *exact_ends[:2]), strict=True
    ):
        assert found.shape == exact.shape and found.dtype == torch.float32
        assert (found - exact).norm() <= 1e-3 * exact.norm().clamp(min=1e-30)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
@pytest.mark.parametrize("of_images", [False, True], ids=["weights", "images"])
def test_the_public_function_and_its_gradients(
    emulator: Any, monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, of_images: bool
) -> None:
    """CPU tensors take the way of CUDA tensors, through autograd; images and weights of either type."""
    monkeypatch.setattr(_blocks_cuda, "takes", lambda _: True)
    monkeypatch.setattr(_blocks_cuda, "dtype", lambda _: torch.bfloat16)  # autocast, for float32
    monkeypatch.setattr(OP, "_op", _network_cuda.forward)
    monkeypatch.setattr(OP, "_backward_op", _network_cuda.backward)
    made = run((2, 3, 16, 5, 9, 1), True, dtype=dtype)
    made.weights = [tensor.to(dtype) for tensor in made.weights]
    made = Run(
        made.images,
        made.weights,
        True,
        True,
        *_network_cuda.forward(made.images, made.weights, True, 4, True, True),
    )
    memory = torch.zeros(made.images.numel() + 1, dtype=dtype)
    images = memory[1:].view(made.images.shape).copy_(made.images).requires_grad_(of_images)
    leaves = [tensor.clone().requires_grad_() for tensor in made.weights]
    leaves[4] = made.weights[4].contiguous(memory_format=torch.channels_last).requires_grad_()
    first, last = tuple(leaves[-4:-2]), tuple(leaves[-2:])
    grad = bf16(2, 1, 5, 9)

    def call() -> Tensor:
        y: Tensor = OP.residual_network(
            images,
            first,
            [tuple(leaves[:4])],
            last,
            padding_mode="reflect",
            impl="native",
            tanh=True,
        )
        return y

    y = call()
    assert torch.equal(y, made.y) and y.dtype == torch.bfloat16
    found = torch.autograd.grad(y, [*([images] if of_images else []), *leaves], grad)
    of_x, weight, bias, *ends = made.backward(grad, of_images)
    ends = [tensor.permute(0, 3, 1, 2) if tensor.ndim == 4 else tensor for tensor in ends]
    expected = [*([of_x] if of_images else []), *_winograd.unpacked(weight, bias), *ends]
    assert all(each.dtype == dtype for each in found)
    assert all(map(torch.equal, found, expected))
    with torch.no_grad():
        assert torch.equal(call(), made.y)


def test_images_and_gradients_of_bfloat16(emulator: Any) -> None:
    """The same as of float32 with the same values, rounded."""
    whole = run((2, 1, 16, 5, 9, 3), False)
    images, grad = whole.images.bfloat16(), bf16(2, 3, 5, 9)
    results = []
    for dtype in (torch.float32, torch.bfloat16):
        given = images.to(dtype)
        outputs = _network_cuda.forward(given, whole.weights, False, 4, True, True)
        results.append((*outputs, *Run(given, whole.weights, False, True, *outputs).backward(grad)))
    (y, maps, of_images, *rest), (half_y, half_maps, half_of_images, *half_rest) = results
    assert all(map(torch.equal, (y, maps, *rest), (half_y, half_maps, *half_rest)))
    assert half_of_images.dtype == torch.bfloat16
    assert torch.equal(half_of_images, of_images.bfloat16())


def test_impulses(emulator: Any) -> None:
    """One pixel of one image channel: every tap of the first convolution alone."""
    h, w, c = 3, 4, 16
    images = torch.zeros(3 * h * w, 3, h, w)
    for i in range(len(images)):
        images[i, i % 3, i // 3 // w, i // 3 % w] = 1
    weights = [torch.zeros(c, c, 3, 3), torch.zeros(c)] * 2
    weights += [torch.randn(c, 3, 3, 3), torch.zeros(c), torch.ones(1, c, 1, 1), torch.zeros(1)]
    for reflect in (False, True):
        _, maps = _network_cuda.forward(images, weights, reflect, 4, True, False)
        exact = F.conv2d(padded(images, reflect), weights[4].double()).relu()
        if not reflect:  # a reflection adds taps up
            assert torch.equal(maps[0].permute(0, 3, 1, 2), exact.bfloat16())
        assert_stored(maps[0].permute(0, 3, 1, 2), exact)


def test_nan_goes_through(emulator: Any) -> None:
    made = run((1, 1, 16, 5, 6, 1), False)
    made.images[0, 0, 2, 2] = torch.nan
    y, maps = _network_cuda.forward(made.images, made.weights, False, 4, True, True)
    assert maps[0, 0, 1:4, 1:4].isnan().all() and not maps[0, 0, :, 5].isnan().any()
    assert y[0, 0, 1:4, 1:4].isnan().all()
    grad = torch.ones_like(y)
    grads = _network_cuda.backward(grad, made.images, maps, made.weights, False, 4, y)
    assert all(grad.isnan().any() for grad in grads[3:])


def test_bytes(emulator: Any) -> None:
    """What the network asks for beyond its blocks: the map once in each direction, twice with its ReLU's gate."""
    h, w, c, tiles = 9, 55, 64, 2  # of five rows, so that two rows are read twice
    made = run((1, 1, c, h, w, 1), False)
    network, weights, read = emulator.counters(), made.weights[:4], (made.read(1), made.read(-1))

    def beyond(what: str) -> int:
        return int(network[what] - blocks[what])

    emulator.reset_counters()
    _blocks_cuda.forward(read[0], weights, False, 4, True)
    blocks = emulator.counters()
    pixels = h * w
    of_thread = 4 * 8  # bytes: the biases of the first convolution, the last one's weights
    size, images, last_blocks = 2 * pixels * c, 4 * (h + 2) * w, 2
    assert beyond("bytes_written") == size + 2 * pixels
    first = images + tiles * (4 * 9 * c + 128 * of_thread)
    assert beyond("bytes_read") == first + size + last_blocks * 256 * of_thread + 4 * pixels
    assert beyond("launches") == 2

    emulator.reset_counters()
    made.backward(bf16(1, 1, h, w), of_images=False)
    network = emulator.counters()
    made.backward(bf16(1, 1, h, w))
    twice = emulator.counters()
    emulator.reset_counters()
    _blocks_cuda.backward(read[1], *read, made.maps[1:-1], weights, False, 4)
    blocks = emulator.counters()
    # The blocks alone begin with a pass of three maps, which the last convolution's gradient makes unnecessary.
    # Both gradients of weights are of one split, whose part is read again and written as the sum.
    parts = 4 * (c + 1) + 4 * 10 * c
    assert beyond("bytes_written") == 2 * parts
    last = size + 2 * 2 * pixels + 256 * of_thread
    assert beyond("bytes_read") == last + 2 * size + images + parts - 2 * size
    assert beyond("launches") == 3
    # The gradient of the images: the rows around its two tiles are read twice, too.
    of_images = {what: twice[what] - 2 * network[what] for what in twice}
    assert of_images["bytes_read"] == size // h * (h + 2) + tiles * 4 * 9 * c
    assert of_images["bytes_written"] == 4 * pixels and of_images["launches"] == 1


def test_fakes_have_the_shapes_and_strides_of_the_real_ones(emulator: Any) -> None:
    made = run((2, 3, 16, 3, 5, 1), True)
    real = [made.y, made.maps, *made.backward(bf16(2, 1, 3, 5))]
    with FakeTensorMode():
        images = torch.empty(2, 3, 3, 5, device="cuda")
        weights = [torch.empty(t.shape, device="cuda") for t in made.weights]
        y, maps = OP._fake(images, weights, True, 4, True, True)
        fakes = [y, maps, *OP._fake_backward(y, images, maps, weights, True, 4, y, True)]
    assert_laid_out_alike(fakes, real)


def test_ends_of_seven_are_of_torch_and_the_blocks_between_them_of_the_kernels(
    emulator: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CPU tensors take the way of CUDA tensors; as near to float64 as torch's own bfloat16 is."""
    blocks = sys.modules["simgan_fast.ops.residual_blocks"]
    monkeypatch.setattr(blocks, "_op", _blocks_cuda.forward)
    monkeypatch.setattr(blocks, "_backward_op", _blocks_cuda.backward)
    refiner = Refiner(width=16, blocks=1, kernel_size=7)
    images, grad = torch.randn(2, 1, 5, 9), torch.randn(2, 1, 5, 9)

    def results(dtype: torch.dtype, on_cuda: bool) -> list[Tensor]:
        refiner.to(dtype)
        monkeypatch.setattr(_blocks_cuda, "takes", lambda _: on_cuda)
        y = refiner(images.to(dtype))
        return [y, *torch.autograd.grad(y, list(refiner.parameters()), grad.to(dtype))]

    found = results(torch.bfloat16, True)
    # Forward: weights in their order and two convolutions. Backward: that, the gradient of the second sum, and for each
    # convolution two for what it read, as padding reflects, and two for its weight.
    assert emulator.counters()["launches"] == 3 + 2 + 2 * (2 + 2)
    theirs, exact = results(torch.bfloat16, False), results(torch.float64, False)
    for mine, their, wanted in zip(found, theirs, exact, strict=True):
        errors = [((each - wanted).norm() / wanted.norm()).item() for each in (mine, their)]
        assert errors[0] < 1.5 * errors[1] + 1e-3, errors
