"""residual_blocks and residual_network with 7x7 filters: Fourier transforms of tiles, at every CPU level."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from cases import network_case, relative, residual_case, trained
from torch import Tensor

from simgan_fast import _native
from simgan_fast.errors import InputError
from simgan_fast.models.refiner import Refiner
from simgan_fast.ops import release_memory, residual_blocks

pytestmark = pytest.mark.skipif(not _native.AVAILABLE, reason="no native part")

# Run at every CPU level in a process of its own. Reflection needs sides of more than 3.
EVERY_SHAPE = """
import sys
sys.path.insert(0, sys.argv[1])
import torch
from cases import SEVEN_GRADIENT, SEVEN_SHAPES, SEVEN_VALUE, network_case, relative, residual_case
from simgan_fast import _native
values, gradients = [], []
cases = [residual_case(s, mode, 7) for s in SEVEN_SHAPES for mode in ("zeros", "reflect")]
cases += [residual_case((2, 8, 1, 3, 1), "zeros", 7), network_case((1, 1, 16, 1, 2, 1, 1), "zeros", 7)]
cases += [network_case((3, 2, 24, 11, 17, 3, 2), mode, 7) for mode in ("zeros", "reflect")]
for case in cases:
    y, found = case.run(torch.float32, impl="native")
    values.append(relative(y, case.y))
    gradients += [relative(a, b) for a, b in zip(found, case.gradients, strict=True)]
    with torch.no_grad():
        assert torch.equal(case.forward(torch.float32, impl="native"), y), case.shape
assert max(values) < SEVEN_VALUE and max(gradients) < SEVEN_GRADIENT, (values, gradients)
print(_native.cpu_level(), max(values), max(gradients))
"""


@pytest.mark.parametrize("level", ["baseline", "avx2", "avx512"])
def test_values_and_gradients(run_python: Callable[..., str], level: str) -> None:
    """Against float64, where no ReLU of a case stands so near its edge that rounding decides."""
    if level not in _native.cpu_levels():
        pytest.skip(f"this processor does not run {level}")
    printed = run_python(EVERY_SHAPE, str(Path(__file__).parent), SIMGAN_FAST_CPU=level)
    assert printed.split()[0] == level


def test_error_of_a_trained_refiner_is_within_five_times_the_direct_one() -> None:
    """Weights as the identity start and a few large steps leave them; smooth, flat and one-hot maps."""
    torch.manual_seed(3)
    start = Refiner(blocks=1, kernel_size=7).initialize_near_identity()
    images = torch.rand(2, 1, 24, 31) * 2 - 1
    refiner = trained(start, images)
    block = [tensor.detach() for tensor in refiner._blocks()[0].parameters_in_order()]
    one_hot = torch.zeros(1, 64, 24, 31)
    one_hot[0, 5, 17, 20] = 1
    for x in (
        torch.rand(1, 64, 24, 31),
        torch.rand(1, 64, 24, 31) * 1e-3 + 10,  # large mean, tiny variance
        one_hot,
    ):
        exact = _value_and_gradients(x.double(), [t.double() for t in block], "reference")
        ours, direct = (_value_and_gradients(x, block, impl) for impl in ("native", "reference"))
        for a, b, c in zip(ours, direct, exact, strict=True):
            assert relative(a, c) < 5 * relative(b, c)


def _value_and_gradients(x: Tensor, block: list[Tensor], impl: str) -> list[Tensor]:
    leaves = [tensor.clone().requires_grad_() for tensor in (x, *block)]
    y = residual_blocks(leaves[0], [tuple(leaves[1:])], padding_mode="reflect", impl=impl)
    return [y.detach(), *torch.autograd.grad(y.square().sum(), leaves)]


def test_the_same_bits_for_any_number_of_threads() -> None:
    """Of few tiles and of several groups of them."""
    cases = [residual_case(s, "reflect", 7) for s in ((1, 24, 33, 41, 1), (130, 8, 11, 6, 1))]
    cases.append(network_case((3, 1, 16, 24, 11, 1, 1), "reflect", 7))
    results: list[list[Tensor]] = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            for case in cases:
                y, gradients = case.run(torch.float32, impl="native")
                results.append([y, *gradients])
    finally:
        torch.set_num_threads(1)
    for one, two, three in zip(results[:3], results[3:6], results[6:], strict=True):
        for a, b, c in zip(one, two, three, strict=True):
            assert torch.equal(a, b) and torch.equal(a, c)


def test_nan_and_infinity_stay_in_the_tiles_that_read_them() -> None:
    case = residual_case((1, 16, 23, 41, 1), "zeros", 7)
    expected = case.forward(torch.float32, impl="native")
    for value in (float("nan"), float("inf")):
        x = case.x.float()
        x[0, 0, 2, 2] = value
        y = case.forward(torch.float32, x, impl="native")
        assert not y[0, :, :9, :9].isfinite().any()  # two convolutions reach 6 pixels
        assert torch.equal(y[..., 30:], expected[..., 30:])  # the tiles that they read, 20


def test_subnormal_numbers() -> None:
    case = residual_case((1, 16, 12, 12, 1), "zeros", 7)
    y = case.forward(torch.float32, torch.full((1, 16, 12, 12), 1e-40), impl="native")
    zero = case.forward(torch.float32, torch.zeros(1, 16, 12, 12), impl="native")
    torch.testing.assert_close(y, zero, rtol=1e-6, atol=0)


def test_working_memory_does_not_grow_with_the_batch() -> None:
    """Of refining; of training it is torch's, as it keeps maps of all images."""
    case = residual_case((1, 8, 33, 33, 1), "zeros", 7)
    release_memory()
    bytes_kept = []
    for images in (64, 128):  # of 16 tiles
        with torch.no_grad():
            case.forward(torch.float32, case.x.float().expand(images, -1, -1, -1), impl="native")
        bytes_kept.append(release_memory())
    assert bytes_kept[0] == bytes_kept[1] > 0


def test_opcheck() -> None:
    ops = torch.ops.simgan_fast
    case = network_case((2, 1, 16, 5, 6, 1, 1), "reflect", 7)
    images, weights = case.x.float(), [tensor.float() for tensor in case.weights]
    for keep in (False, True):
        torch.library.opcheck(ops.residual_network.default, (images, weights, True, 4, keep))
    y, maps = ops.residual_network(images, weights, True, 4, True)
    arguments = (torch.rand_like(y), images, maps, weights, True, 4)
    torch.library.opcheck(ops.residual_network_backward.default, arguments)


def test_strict_mode_is_torchs_convolution(run_python: Callable[..., str]) -> None:
    script = """
import torch
from simgan_fast.ops import residual_blocks
block = (torch.rand(16, 16, 7, 7), torch.rand(16)) * 2
x = torch.rand(1, 16, 9, 9)
print(*(torch.equal(residual_blocks(x, [block]), residual_blocks(x, [block], impl=impl))
        for impl in ("reference", "native")))
"""
    assert run_python(script, SIMGAN_FAST_CONV="direct").split() == ["True", "False"]


def test_sides_that_reflection_cannot_fill_are_refused() -> None:
    case = residual_case((1, 8, 4, 4, 1), "zeros", 7)
    with pytest.raises(InputError, match="at least 4 pixels a side"):
        residual_blocks(case.x.float()[..., :3], case.blocks(torch.float32), padding_mode="reflect")
