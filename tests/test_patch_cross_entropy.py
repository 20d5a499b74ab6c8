"""patch_cross_entropy against float64, torch's cross-entropy, its twin, and the compiler."""

from __future__ import annotations

import pytest
import torch
from cases import PATCH_GRADIENT, PATCH_LOSS, PATCH_SHAPES, REDUCTIONS, error, labels_of, logits_of
from torch import Tensor
from torch.nn import functional as F

from simgan_fast import _native
from simgan_fast.errors import InputError
from simgan_fast.ops import patch_cross_entropy

needs_native = pytest.mark.skipif(not _native.AVAILABLE, reason="no native part")
INFINITY = float("inf")


def exact_patches(logits: Tensor, target: int | Tensor) -> Tensor:
    """softplus of the difference in float64, [n, h, w]."""
    logits = logits.double()
    labels = torch.as_tensor(target).expand(len(logits)).view(-1, 1, 1)
    difference = (logits[:, 0] - logits[:, 1]) * (2 * labels - 1)
    return difference.clamp(min=0) + torch.log1p(torch.exp(-difference.abs()))


def exact(logits: Tensor, target: int | Tensor, reduction: str) -> Tensor:
    patches = exact_patches(logits, target)
    if reduction == "none":
        return patches
    images = patches.sum((1, 2))
    return {"image": images, "sum": images.sum(), "mean": images.mean()}[reduction]


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("shape", PATCH_SHAPES, ids=str)
@needs_native
def test_values_against_float64(shape: tuple[int, ...], reduction: str) -> None:
    logits = logits_of(shape)
    for target in (0, 1, labels_of(shape[0]), labels_of(shape[0]).bool()):
        loss = patch_cross_entropy(logits, target, reduction=reduction, impl="native")
        expected = exact(logits, target, reduction)
        if expected.isnan().any():  # the mean of no images
            assert loss.isnan().all()
            continue
        assert loss.dtype == torch.float32
        assert error(loss, expected, PATCH_LOSS.floor) < PATCH_LOSS.relative


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("shape", PATCH_SHAPES, ids=str)
@needs_native
def test_gradients_against_float64(shape: tuple[int, ...], reduction: str) -> None:
    target = labels_of(shape[0])
    logits = logits_of(shape).requires_grad_()
    exactly = logits_of(shape).double().requires_grad_()
    loss = patch_cross_entropy(logits, target, reduction=reduction)
    weights = torch.rand_like(loss) + 0.5
    if loss.numel() == 0:
        return
    (gradient,) = torch.autograd.grad((loss * weights).sum(), logits)
    (expected,) = torch.autograd.grad((exact(exactly, target, reduction) * weights).sum(), exactly)
    assert error(gradient, expected, PATCH_GRADIENT.floor) < PATCH_GRADIENT.relative


def test_no_worse_than_torch() -> None:
    logits = logits_of((64, 2, 9, 14))
    expected = exact_patches(logits, 1)
    ours = error(patch_cross_entropy(logits, 1, reduction="none"), expected, PATCH_LOSS.floor)
    theirs = F.cross_entropy(logits, torch.ones(64, 9, 14).long(), reduction="none")
    assert ours <= 2 * error(theirs, expected, PATCH_LOSS.floor)


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_gradcheck(reduction: str) -> None:
    logits = logits_of((3, 2, 2, 4), torch.float64).requires_grad_()
    for target in (1, labels_of(3)):
        assert torch.autograd.gradcheck(
            lambda x, t=target: patch_cross_entropy(x, t, reduction=reduction), logits
        )


def test_mean_is_over_images_of_sums_over_patches() -> None:
    assert patch_cross_entropy(torch.zeros(4, 2, 9, 14), 1).item() == pytest.approx(126 * 0.6931472)


# The pairs (logit of class 0, logit of class 1) that are not finite, and large ones.
SPECIAL = [
    (INFINITY, 0.0),
    (0.0, INFINITY),
    (-INFINITY, 0.0),
    (0.0, -INFINITY),
    (INFINITY, INFINITY),
    (-INFINITY, -INFINITY),
    (INFINITY, -INFINITY),
    (float("nan"), 0.0),
    (0.0, float("nan")),
    (3e38, -3e38),
    (1e4, 0.0),
    (0.0, 200.0),
    (1e-40, 0.0),
]


@pytest.mark.parametrize("target", [0, 1])
def test_infinities_and_nan_as_in_torch(impl: str, target: int) -> None:
    logits = torch.tensor(SPECIAL).T.reshape(1, 2, 1, -1).clone().requires_grad_()
    loss = patch_cross_entropy(logits, target, reduction="none", impl=impl)
    labels = torch.full((1, 1, len(SPECIAL)), target)
    expected = F.cross_entropy(logits, labels, reduction="none")
    torch.testing.assert_close(loss, expected, equal_nan=True, rtol=1e-6, atol=1e-37)
    (gradient,) = torch.autograd.grad(loss.sum(), logits, retain_graph=True)
    (torch_gradient,) = torch.autograd.grad(expected.sum(), logits)
    torch.testing.assert_close(gradient, torch_gradient, equal_nan=True, rtol=1e-6, atol=1e-37)


def test_nan_reaches_every_sum(impl: str) -> None:
    logits = logits_of((3, 2, 9, 14))
    logits[1, 0, 8, 13] = float("nan")
    assert patch_cross_entropy(logits, 1, impl=impl).isnan()
    images = patch_cross_entropy(logits, 1, reduction="image", impl=impl)
    assert images.isnan().tolist() == [False, True, False]


@needs_native
def test_twice_the_same_bits() -> None:
    def run() -> tuple[Tensor, Tensor]:
        logits = logits_of((33, 2, 9, 14)).requires_grad_()
        loss = patch_cross_entropy(logits, labels_of(33))
        return loss.detach(), torch.autograd.grad(loss, logits)[0]

    for first, second in zip(run(), run(), strict=True):
        assert torch.equal(first, second)


@needs_native
@pytest.mark.parametrize("patches", [1, 15, 16, 17, 126, 1025])
def test_writes_nothing_outside(patches: int) -> None:
    margin, sentinel, images = 64, 12345.0, 3
    logits = logits_of((images, 2, 1, patches))
    loss, gradient, early_gradient = (
        torch.full((size * images * patches + 2 * margin,), sentinel) for size in (1, 2, 2)
    )
    head = (logits.data_ptr(), 0, 1, images, patches, 3)
    grad = torch.ones(images, patches)
    offset = margin * 4
    _native.C.patch_cross_entropy(
        *head, loss.data_ptr() + offset, early_gradient.data_ptr() + offset
    )
    _native.C.patch_cross_entropy_backward(*head, grad.data_ptr(), gradient.data_ptr() + offset)
    assert torch.equal(gradient, early_gradient)
    for outer in (loss, gradient):
        assert (outer[:margin] == sentinel).all() and (outer[-margin:] == sentinel).all()
        assert not (outer[margin:-margin] == sentinel).any()


OPCHECKED = [(4, 2, 9, 14), (3, 2, 3, 5), (0, 2, 9, 14), (2, 2, 0, 3)]


@needs_native
@pytest.mark.parametrize("shape", OPCHECKED, ids=str)
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_opcheck(shape: tuple[int, ...], reduction: str) -> None:
    if reduction == "mean" and shape[0] == 0:
        pytest.skip("the mean of no images is NaN, and opcheck compares NaN as unequal")
    ops = torch.ops.simgan_fast
    plain = logits_of(shape)
    spread = logits_of((*shape[:3], shape[3] * 2))[..., ::2]
    last = plain.to(memory_format=torch.channels_last)
    for logits in (plain, spread, last):
        for labels in (None, labels_of(shape[0])):
            arguments = (logits, labels, 1, reduction)
            torch.library.opcheck(ops.patch_cross_entropy.default, arguments)
            grad = torch.rand_like(ops.patch_cross_entropy(*arguments))
            torch.library.opcheck(ops.patch_cross_entropy_backward.default, (grad, *arguments))


@pytest.mark.parametrize("layout", ["channels_last", "strided", "offset"])
def test_any_strides(impl: str, layout: str) -> None:
    plain = logits_of((4, 2, 9, 14))
    other = {
        "channels_last": lambda: plain.to(memory_format=torch.channels_last),
        "strided": lambda: torch.stack((plain, plain), -1)[..., 0],
        "offset": lambda: torch.cat((plain[:1], plain))[1:],
    }[layout]()
    results = []
    for given in (plain, other):
        logits = given.detach().requires_grad_()
        loss = patch_cross_entropy(logits, 0, impl=impl)
        results.append((loss.detach(), torch.autograd.grad(loss, logits)[0]))
    torch.testing.assert_close(results[0], results[1], rtol=1e-6, atol=0)


def test_gradient_flows_through_the_public_function(impl: str) -> None:
    weight = torch.nn.Parameter(torch.tensor(2.0))
    loss = patch_cross_entropy(logits_of((2, 2, 9, 14)) * weight, 1, impl=impl)
    loss.backward()
    assert weight.grad is not None and weight.grad.abs() > 0
    # Frozen for the refiner's step: no gradient asked, none kept.
    with torch.no_grad():
        assert not patch_cross_entropy(logits_of((2, 2, 9, 14)) * weight, 1).requires_grad


@needs_native
def test_backward_twice_with_retained_graph() -> None:
    logits = logits_of((2, 2, 9, 14)).requires_grad_()
    loss = patch_cross_entropy(logits, 1, impl="native")
    (first,) = torch.autograd.grad(loss, logits, retain_graph=True)
    before = first.clone()
    (second,) = torch.autograd.grad(loss * 3, logits)
    assert torch.equal(first, before)
    torch.testing.assert_close(second, 3 * first)


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_second_derivative(reduction: str) -> None:
    """As a gradient penalty needs it: the native loss must not lose it in silence."""
    second = []
    for impl in ("auto", "reference"):
        logits = logits_of((3, 2, 2, 4)).requires_grad_()
        loss = patch_cross_entropy(logits, labels_of(3), reduction=reduction, impl=impl)
        weights = torch.arange(loss.numel()).view(loss.shape) + 1.0
        (first,) = torch.autograd.grad((loss * weights).sum(), logits, create_graph=True)
        second.append(torch.autograd.grad((first**2).sum(), logits)[0])
    torch.testing.assert_close(*second, rtol=1e-5, atol=1e-6)


@needs_native
def test_logits_changed_before_backward_are_noticed() -> None:
    logits = (logits_of((2, 2, 9, 14)).requires_grad_() * 1).contiguous()
    loss = patch_cross_entropy(logits, 1, reduction="image").sum()
    logits.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@needs_native
def test_gradient_of_a_mean_is_that_of_the_logits_it_saw() -> None:
    leaf = logits_of((2, 2, 9, 14)).requires_grad_()
    (expected,) = torch.autograd.grad(patch_cross_entropy(leaf, 1), leaf)
    logits = (leaf * 1).contiguous()
    loss = patch_cross_entropy(logits, 1)
    logits.mul_(2)
    loss.backward()
    torch.testing.assert_close(leaf.grad, expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_compiled_equals_eager(reduction: str) -> None:
    torch.compiler.reset()
    layer = torch.nn.Conv2d(3, 2, 1)

    def loss_of(x: Tensor, labels: Tensor) -> Tensor:
        maps = patch_cross_entropy(layer(x), labels, reduction=reduction)
        return (maps * 2).sum() + patch_cross_entropy(layer(x), 1)

    compiled = torch.compile(loss_of, fullgraph=True, dynamic=True, backend="aot_eager")
    with torch._dynamo.config.patch(error_on_recompile=True):
        for n, h, w in ((4, 9, 14), (6, 7, 5)):
            x, labels = torch.rand(n, 3, h, w), labels_of(n)
            eager = torch.autograd.grad(loss_of(x, labels), layer.weight)
            torch.testing.assert_close(
                torch.autograd.grad(compiled(x, labels), layer.weight), eager
            )
            torch.testing.assert_close(compiled(x, labels), loss_of(x, labels))


@needs_native
def test_fake_tensors_do_not_reach_the_kernel() -> None:
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode():
        logits = torch.empty(4, 2, 9, 14, requires_grad=True)
        loss = patch_cross_entropy(logits, 1, reduction="image")
        loss.sum().backward()
    assert loss.shape == (4,) and logits.grad.shape == logits.shape


@pytest.mark.parametrize(
    ("logits", "arguments", "message"),
    [
        (torch.zeros(4, 3, 9, 14), {"target": 1}, r"logits has shape \[4, 3, 9, 14\]"),
        (torch.zeros(4, 2, 9), {"target": 1}, r"must be \[n, 2, h, w\]"),
        (torch.zeros(4, 2, 9, 14), {"target": 2}, "target is 2; it must be 0, 1"),
        (torch.zeros(4, 2, 9, 14), {"target": torch.zeros(3).long()}, "one label an image"),
        (torch.zeros(4, 2, 9, 14), {"target": torch.zeros(4)}, "torch.float32"),
        (torch.zeros(4, 2, 9, 14), {"target": torch.tensor([0, 1, 2, 0])}, r"target\[2\]"),
        (torch.zeros(4, 2, 9, 14), {"target": 1, "reduction": "batch"}, "reduction is 'batch'"),
        (torch.zeros(4, 2, 9, 14), {"target": 1, "impl": "fast"}, "impl is 'fast'"),
    ],
)
def test_bad_input(logits: Tensor, arguments: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        patch_cross_entropy(logits, **arguments)


def test_bad_labels_on_both_ways(impl: str) -> None:
    with pytest.raises(InputError, match=r"target\[1\] is neither"):
        patch_cross_entropy(torch.zeros(2, 2, 3, 3), torch.tensor([0, -1]), impl=impl)


@needs_native
def test_native_insisted_on_where_there_is_none() -> None:
    with pytest.raises(InputError, match=r"no kernel for torch.float64"):
        patch_cross_entropy(torch.zeros(1, 2, 3, 3).double(), 1, impl="native")
