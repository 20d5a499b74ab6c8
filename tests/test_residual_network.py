"""residual_network: against float64 and its composition, at every CPU level, and its kept weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from cases import BLOCK_GRADIENT, BLOCK_VALUE, network_case, relative
from torch import Tensor

from simgan_fast import _native
from simgan_fast.errors import InputError
from simgan_fast.models.refiner import Refiner
from simgan_fast.ops import release_memory, residual_network

needs_native = pytest.mark.skipif(not _native.AVAILABLE, reason="no native part")

# Run at every CPU level in a process of its own.
EVERY_SHAPE = """
import sys
sys.path.insert(0, sys.argv[1])
import torch
from cases import BLOCK_GRADIENT, BLOCK_VALUE, NETWORK_SHAPES, network_case, relative
from simgan_fast import _native
from simgan_fast.ops._winograd import tile_for
checked = 0
for shape in NETWORK_SHAPES:
    for padding_mode in ("zeros", "reflect"):
        case = network_case(shape, padding_mode)
        for threads in (1, 2):
            torch.set_num_threads(threads)
            y, gradients = case.run(torch.float32, impl="native")
            errors = [relative(a, b) for a, b in zip(gradients, case.gradients, strict=True)]
            tile = tile_for(case.x)
            assert relative(y, case.y) < BLOCK_VALUE[tile], (shape, padding_mode, relative(y, case.y))
            assert max(errors) < BLOCK_GRADIENT[tile], (shape, padding_mode, errors)
            with torch.no_grad():
                assert torch.equal(case.forward(torch.float32, impl="native"), y)
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
    assert name == level and int(checked) > 100


def test_equals_its_composition(impl: str) -> None:
    case = network_case((2, 1, 16, 9, 11, 1, 2), "reflect")
    y = case.forward(torch.float32, impl=impl)
    torch.testing.assert_close(y, case.y.float(), rtol=1e-5, atol=1e-5)


@needs_native
def test_gradient_of_the_images_too() -> None:
    case = network_case((2, 3, 16, 7, 9, 2, 1), "reflect")
    images = case.x.float().requires_grad_()
    exact = case.x.clone().requires_grad_()
    for x, dtype in ((images, torch.float32), (exact, torch.float64)):
        case.forward(dtype, images=x).backward(case.incoming.to(dtype))
    assert images.grad is not None and exact.grad is not None
    assert relative(images.grad, exact.grad) < BLOCK_GRADIENT[5]


@needs_native
def test_changed_weights_are_noticed() -> None:
    """Transformed weights are kept between calls, whoever changes the weights, and however."""
    case = network_case((1, 1, 16, 8, 8, 1, 1), "zeros")
    release_memory()
    for change in range(3):
        y = case.forward(torch.float32, impl="native")
        again = case.forward(torch.float32, impl="native")
        assert torch.equal(y, again)
        exact = case.forward(torch.float64, impl="reference")
        assert relative(y, exact) < BLOCK_VALUE[4]
        tensor = case.weights[0 if change < 2 else 2]
        tensor.data[0, 0, 1, 1] += 0.5  # behind autograd's back


@needs_native
def test_opcheck() -> None:
    ops = torch.ops.simgan_fast
    case = network_case((2, 1, 16, 5, 6, 1, 1), "reflect")
    images, weights = case.x.float(), [tensor.float() for tensor in case.weights]
    for keep in (False, True):
        torch.library.opcheck(ops.residual_network.default, (images, weights, True, 4, keep))
    y, maps = ops.residual_network(images, weights, True, 4, True)
    arguments = (torch.rand_like(y), images, maps, weights, True, 4)
    torch.library.opcheck(ops.residual_network_backward.default, arguments)


def test_compiled_equals_eager() -> None:
    torch.compiler.reset()
    refiner = Refiner(width=16, blocks=2)

    def loss_of(x: Tensor) -> Tensor:
        loss: Tensor = refiner(x).square().mean()
        return loss

    compiled = torch.compile(loss_of, fullgraph=True, dynamic=True, backend="aot_eager")
    parameters = list(refiner.parameters())
    for n in (2, 3):
        x = torch.rand(n, 1, 6, 7)
        eager = torch.autograd.grad(loss_of(x), parameters)
        for actual, expected in zip(
            torch.autograd.grad(compiled(x), parameters), eager, strict=True
        ):
            torch.testing.assert_close(actual, expected)


@needs_native
def test_exports_as_one_node(tmp_path: Path) -> None:
    refiner = Refiner(width=16, blocks=2).eval()
    x = torch.rand(2, 1, 8, 9)
    with torch.no_grad():
        program = torch.export.export(refiner, (x,))
        nodes = [str(node.target) for node in program.graph.nodes]
        assert nodes.count("simgan_fast.residual_network.default") == 1
        torch.export.save(program, tmp_path / "refiner.pt2")
        again = torch.export.load(tmp_path / "refiner.pt2").module()
        torch.testing.assert_close(again(x), refiner(x))


def test_bad_input(impl: str) -> None:
    case = network_case((1, 1, 16, 5, 5, 1, 1), "zeros")
    first, blocks, last = case.parts(torch.float32)
    x = case.x.float()
    for message, arguments in (
        ("first is", (x.expand(1, 2, 5, 5), first, blocks, last)),
        (
            "a weight is|other channels",
            (x, first, [(*blocks[0][:3], blocks[0][3][:-1])], last),
        ),  # a short bias
        ("last is", (x, first, blocks, (last[0][:, :8], last[1]))),
        (r"must be \[n, c_in, h, w\]", (x[0], first, blocks, last)),
    ):
        with pytest.raises(InputError, match=message):
            residual_network(*arguments, impl=impl)
    with pytest.raises(InputError, match="padding_mode is"):
        residual_network(x, first, blocks, last, padding_mode="circular")
    with pytest.raises(InputError, match="weights is empty"):
        residual_network(x, first, [], last)
