"""residual_blocks: against float64 and plain modules, its twin, the compiler, and what it refuses."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest
import torch
from cases import BLOCK_GRADIENT, BLOCK_SHAPES, BLOCK_VALUE, relative, residual_case, trained
from torch import Tensor, nn

from simgan_fast import _native
from simgan_fast.errors import InputError
from simgan_fast.models.refiner import Refiner
from simgan_fast.ops import release_memory, residual_blocks

needs_native = pytest.mark.skipif(not _native.AVAILABLE, reason="no native part")
TILES = (4, 5, 6)


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
    layers = convolutions(16, size, 2 * blocks, padding_mode)
    x = torch.rand(2, 16, 9, 11)
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


@needs_native
@pytest.mark.parametrize("padding_mode", ["zeros", "reflect"])
@pytest.mark.parametrize("tile", TILES)
@pytest.mark.parametrize("shape", BLOCK_SHAPES, ids=str)
def test_values_and_gradients(
    shape: tuple[int, int, int, int, int], tile: int, padding_mode: str
) -> None:
    """Against float64, where no ReLU of the case stands so near its edge that rounding decides."""
    case = residual_case(shape, padding_mode)
    y, gradients = case.run(torch.float32, impl="native", tile=tile)
    assert relative(y, case.y) < BLOCK_VALUE[tile]
    for actual, expected in zip(gradients, case.gradients, strict=True):
        assert relative(actual, expected) < BLOCK_GRADIENT[tile]
    with torch.no_grad():
        assert torch.equal(case.forward(torch.float32, impl="native", tile=tile), y)


@needs_native
def test_error_of_a_trained_refiner_is_within_five_times_the_direct_one() -> None:
    """Weights as the identity start and a few large steps leave them; smooth, flat and one-hot images."""
    torch.manual_seed(3)
    start = Refiner().initialize_near_identity()
    images = torch.rand(4, 1, 35, 55) * 2 - 1
    refiner = trained(start, images)
    blocks = [block.parameters_in_order() for block in refiner._blocks()]
    blocks = [tuple(tensor.detach() for tensor in block) for block in blocks]
    one_hot = torch.zeros(1, 64, 35, 55)
    one_hot[0, 5, 17, 20] = 1
    for x in (
        torch.rand(1, 64, 35, 55),
        torch.rand(1, 64, 35, 55) * 1e-3 + 10,  # large mean, tiny variance
        one_hot,
    ):
        exact = residual_blocks(
            x.double(), [tuple(t.double() for t in block) for block in blocks], impl="reference"
        )
        direct, ours = (
            relative(residual_blocks(x, blocks, impl=impl), exact)
            for impl in ("reference", "native")
        )
        assert ours < 5 * direct


@needs_native
def test_the_same_bits_for_any_number_of_threads() -> None:
    """Also where images are fewer than threads and share them, and where some are left over."""
    results: list[list[Tensor]] = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        try:
            for images, channels in ((1, 24), (5, 24), (18, 24), (1, 64)):
                case = residual_case((images, channels, 11, 13, 1), "reflect")
                y, gradients = case.run(torch.float32, impl="native")
                results.append([y, *gradients])
        finally:
            torch.set_num_threads(1)
    for one, two, three in zip(results[:4], results[4:8], results[8:], strict=True):
        for a, b, c in zip(one, two, three, strict=True):
            assert torch.equal(a, b) and torch.equal(a, c)


@needs_native
def test_two_callers_at_once() -> None:
    case = residual_case((4, 16, 12, 14, 2), "zeros")
    expected = case.forward(torch.float32, impl="native")
    wrong = []

    def call() -> None:
        for _ in range(30):
            y, gradients = case.run(torch.float32, impl="native")
            if not torch.equal(y, expected) or not torch.equal(gradients[1], first[1]):
                wrong.append(y)

    _, first = case.run(torch.float32, impl="native")
    callers = [threading.Thread(target=call) for _ in range(3)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert not wrong


@pytest.mark.parametrize("size", [3, 7])
@pytest.mark.parametrize("layout", ["contiguous", "strided", "offset", "channels_last weights"])
def test_any_layout(impl: str, layout: str, size: int) -> None:
    case = residual_case((2, 16, 7, 9, 1), "reflect", size)
    x, blocks = case.x.float(), case.blocks(torch.float32)
    expected = residual_blocks(x, blocks, padding_mode="reflect", impl="reference")
    if layout == "strided":
        x = torch.stack((x, x), -1)[..., 0]
        w1, b1, w2, b2 = blocks[0]
        blocks = [(w1.mT.contiguous().mT, torch.stack((b1, b1), -1)[:, 0], w2, b2)]
    elif layout == "offset":  # an address that is no multiple of 8, let alone of 64
        x = torch.cat((torch.zeros(1), x.flatten()))[1:].view(x.shape)
    elif layout == "channels_last weights":
        blocks = [
            tuple(t.to(memory_format=torch.channels_last) if t.ndim == 4 else t for t in blocks[0])
        ]
    actual = residual_blocks(x, blocks, padding_mode="reflect", impl=impl)
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)


@needs_native
@pytest.mark.parametrize(("size", "tile"), [*((3, tile) for tile in TILES), (7, 4)])
def test_writes_nothing_beside_its_outputs(size: int, tile: int) -> None:
    case, sentinel, margin = residual_case((3, 24, 5, 7, 1), "reflect", size), 12345.0, 64
    n, channels, height, width, _ = case.shape
    flat = [t for block in case.blocks(torch.float32) for t in block]
    rows, columns = height, width
    if size == 3:
        rows, columns = (-(-side // tile) * tile + 2 for side in (height, width))
    counts = {
        "y": n * channels * height * width,
        "maps": n * 2 * rows * columns * 32,
        "grad_x": n * channels * height * width,
        "grad_weight": 2 * size**2 * channels**2,
        "grad_bias": 2 * channels,
    }
    out = {name: torch.full((count + 2 * margin,), sentinel) for name, count in counts.items()}
    y, maps, *gradients = (tensor[margin:-margin] for tensor in out.values())
    x = case.x.float().contiguous(memory_format=torch.channels_last)
    call = (maps, flat, False, True, tile, 2)
    _native.C.residual_blocks(x, y, *call)
    _native.C.residual_blocks_backward(x, None, y, *call, gradients)  # x: as good as any gradient
    for tensor in out.values():
        assert (tensor[:margin] == sentinel).all() and (tensor[-margin:] == sentinel).all()
        assert not (tensor[margin:-margin] == sentinel).any()


def test_nothing_in_and_nan() -> None:
    blocks = blocks_of(convolutions(16, 3, 2, "zeros"))
    assert residual_blocks(torch.rand(0, 16, 5, 5), blocks).shape == (0, 16, 5, 5)
    for value in (float("nan"), float("inf")):
        x = torch.rand(1, 16, 13, 13)
        x[0, 0, 0, 0] = value
        y = residual_blocks(x, blocks)
        assert not y[0, :, 0, 0].isfinite().all()
        # A convolution spreads it over its tile, the next one over that and the tiles beside it.
        assert y[..., 10:].isfinite().all() and y[..., 10:, :].isfinite().all()


@needs_native
def test_denormals_are_no_slow_path_and_stay_on() -> None:
    blocks = blocks_of(convolutions(16, 3, 2, "zeros"))
    y = residual_blocks(torch.full((1, 16, 8, 8), 1e-40), blocks)
    assert y.isfinite().all()
    tiny = torch.tensor([1e-40])
    assert float(tiny * 1) != 0  # no flush-to-zero left behind


@needs_native
def test_opcheck() -> None:
    ops = torch.ops.simgan_fast
    for shape in ((2, 16, 5, 6, 1), (1, 24, 9, 4, 2)):
        case = residual_case(shape, "reflect")
        weights = [tensor for block in case.blocks(torch.float32) for tensor in block]
        for x in (case.x.float(), case.x.float().to(memory_format=torch.channels_last)):
            torch.library.opcheck(ops.residual_blocks.default, (x, weights, True, 4, False))
            y, maps = ops.residual_blocks(x, weights, True, 4, True)
            arguments = (torch.rand_like(y), None, y, maps, weights, True, 4)
            torch.library.opcheck(ops.residual_blocks_backward.default, arguments)
            torch.library.opcheck(ops.residual_blocks.default, (x, weights, True, 4, True))


@pytest.mark.parametrize("backend", ["aot_eager"])
def test_compiled_equals_eager(impl: str, backend: str) -> None:
    torch.compiler.reset()
    blocks = blocks_of(convolutions(16, 3, 4, "reflect"))
    first = nn.Conv2d(1, 16, 1)

    def loss_of(x: Tensor) -> Tensor:
        return residual_blocks(first(x), blocks, padding_mode="reflect", impl=impl).square().mean()

    compiled = torch.compile(loss_of, fullgraph=True, dynamic=True, backend=backend)
    for n in (2, 3):
        x = torch.rand(n, 1, 6, 7)
        parameters = (first.weight, blocks[0][0], blocks[1][3])
        eager = torch.autograd.grad(loss_of(x), parameters)
        for actual, expected in zip(
            torch.autograd.grad(compiled(x), parameters), eager, strict=True
        ):
            torch.testing.assert_close(actual, expected)


@needs_native
def test_gradients_go_through_the_public_function() -> None:
    """opcheck does not notice a lost gradient."""
    for frozen in (False, True):
        case = residual_case((1, 16, 6, 6, 1), "zeros")
        (block,) = case.blocks(torch.float32)
        blocks = [tuple(tensor.requires_grad_(not frozen) for tensor in block)]
        x = case.x.float().requires_grad_()
        residual_blocks(x, blocks, impl="native").sum().backward()
        assert x.grad is not None and x.grad.abs().sum() > 0
        assert all((t.grad is None) == frozen for t in blocks[0])
    x = x.detach().requires_grad_()
    y = residual_blocks(x, blocks, impl="native").square().sum()
    (grad,) = torch.autograd.grad(y, x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.sum().backward()


@needs_native
def test_memory_is_kept_and_can_be_freed() -> None:
    case = residual_case((2, 16, 9, 9, 1), "zeros")
    case.forward(torch.float32, impl="native")  # keeps transformed weights
    case.run(torch.float32, impl="native")  # keeps memory for maps
    assert release_memory() > 0
    assert release_memory() == 0
    y, _ = case.run(torch.float32, impl="native")
    assert relative(y, case.y) < BLOCK_VALUE[5]


DIRECT = """
import torch
from simgan_fast.errors import InputError
from simgan_fast.ops import residual_blocks
block = (torch.rand(16, 16, 3, 3), torch.rand(16), torch.rand(16, 16, 3, 3), torch.rand(16))
x = torch.rand(1, 16, 9, 9)
try:
    auto, direct = residual_blocks(x, [block]), residual_blocks(x, [block], impl="reference")
    print(torch.equal(auto, direct), residual_blocks(x, [block], tile=6).equal(auto))
except InputError as error:
    print(error)
"""


@needs_native
def test_the_environment_chooses_the_convolution(run_python: Callable[..., str]) -> None:
    assert run_python(DIRECT, SIMGAN_FAST_CONV="direct").split() == ["True", "True"]
    assert run_python(DIRECT, SIMGAN_FAST_CONV="winograd6").split() == ["False", "True"]
    assert run_python(DIRECT, SIMGAN_FAST_CONV="").split() == ["False", "False"]
    message = run_python(DIRECT, SIMGAN_FAST_CONV="fft").strip()
    assert message == (
        "SIMGAN_FAST_CONV is 'fft'; it must be one of direct, winograd, winograd4, winograd5, "
        "winograd6, or unset."
    )


@needs_native
@pytest.mark.parametrize(
    ("height", "width", "tile"), [(35, 55, 5), (20, 20, 5), (64, 64, 5), (16, 16, 4), (32, 32, 4)]
)
def test_the_size_chooses_the_tile(height: int, width: int, tile: int) -> None:
    x = torch.rand(1, 8, height, width)
    blocks = blocks_of(convolutions(8, 3, 2, "zeros"))
    y = [residual_blocks(x, blocks, tile=each) for each in (None, 4, 5)]
    assert torch.equal(y[0], y[tile - 3]) and not torch.equal(y[1], y[2])


def bad_inputs() -> Iterator[tuple[str, tuple[object, object], dict[str, object]]]:
    x = torch.rand(1, 4, 5, 5)
    good = blocks_of(convolutions(4, 3, 2, "zeros"))
    even = (torch.zeros(4, 4, 2, 2), torch.zeros(4)) * 2
    three, seven = (
        blocks_of(convolutions(8, 3, 2, "zeros")),
        blocks_of(convolutions(8, 7, 2, "zeros")),
    )
    yield r"must be \[n, c, h, w\]", (x[0], good), {}
    yield "weights is empty", (x, []), {}
    yield r"a weight is \[4, 4, 2, 2\]", (x, [even]), {}
    yield "for 3 channels", (x[:, :3], good), {}
    yield "padding_mode is 'circular'", (x, good), {"padding_mode": "circular"}
    yield "impl is 'fast'", (x, good), {"impl": "fast"}
    yield "tile is 3", (x, good), {"tile": 3}
    if _native.AVAILABLE:
        yield "only for multiples of 8", (x, good), {"impl": "native"}
        yield "no kernel for torch.float64", (x.double(), good), {"impl": "native"}
        yield "of different sizes", (torch.rand(1, 8, 9, 9), three + seven), {"impl": "native"}


@pytest.mark.parametrize(("message", "arguments", "options"), list(bad_inputs()))
def test_bad_input(message: str, arguments: tuple[Tensor, list], options: dict) -> None:
    with pytest.raises(InputError, match=message):
        residual_blocks(*arguments, **options)


def test_case_has_a_gradient_for_everything() -> None:
    case = residual_case((1, 8, 5, 6, 1), "zeros")
    assert all(gradient.abs().sum() > 0 for gradient in case.gradients)
