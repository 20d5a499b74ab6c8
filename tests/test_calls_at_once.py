"""The look at tensors that lets a usual call past the checks in Python: it takes what they take, and nothing else."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from simgan_fast import InputError, _native
from simgan_fast.ops import (
    _winograd,
    history_exchange,
    patch_cross_entropy,
    patch_network,
    residual_blocks,
    residual_network,
)

needs_native = pytest.mark.skipif(not _native.AVAILABLE, reason="no native part")

C, H, W = 16, 6, 7
PATCH_SIZES = [(32, 1, 3), (16, 32, 3), (48, 16, 3), (16, 48, 1), (2, 16, 1)]
Tensors = list[Tensor]
Call = Callable[[Tensor, Tensors, str], Tensor]


def pairs(sizes: list[tuple[int, int, int]]) -> Tensors:
    return [t for co, ci, k in sizes for t in (torch.randn(co, ci, k, k) / ci / k, torch.randn(co))]


def in_pairs(flat: Tensors) -> list[tuple[Tensor, Tensor]]:
    return list(zip(flat[::2], flat[1::2], strict=True))


def blocks(x: Tensor, flat: Tensors, impl: str) -> Tensor:
    return residual_blocks(x, [tuple(flat)], padding_mode="reflect", impl=impl)  # type: ignore[list-item]


def network(x: Tensor, flat: Tensors, impl: str) -> Tensor:
    inner, (first, last) = [tuple(flat[:-4])], in_pairs(flat[-4:])
    return residual_network(x, first, inner, last, padding_mode="reflect", impl=impl)  # type: ignore[arg-type]


def patches(x: Tensor, flat: Tensors, impl: str) -> Tensor:
    return patch_network(x, in_pairs(flat), padding_mode="reflect", impl=impl)


def blocks_fit(x: Tensor, flat: Tensors) -> bool:
    return _native.C.residual_blocks_fit(x, flat, False, True)


def network_fits(x: Tensor, flat: Tensors) -> bool:
    return _native.C.residual_blocks_fit(x, flat, True, True)


def patches_fit(x: Tensor, flat: Tensors) -> bool:
    return _native.C.patch_network_fits(x, flat, True)


INNER = [(C, C, 3)] * 2
OPS: dict[str, tuple[Call, Callable[[Tensor, Tensors], bool], int, list[tuple[int, int, int]]]] = {
    "residual_blocks": (blocks, blocks_fit, C, INNER),
    "residual_network": (network, network_fits, 1, [*INNER, (C, 1, 3), (1, C, 1)]),
    "patch_network": (patches, patches_fit, 1, PATCH_SIZES),
}


class Other(Tensor):
    """A tensor that may mean something else."""


CHANGES: dict[str, Callable[[Tensor], Tensor]] = {
    "double": lambda t: t.double(),
    "bfloat16": lambda t: t.bfloat16(),
    "integers": lambda t: t.int(),
    "complex": lambda t: t.to(torch.complex64),
    "one more": lambda t: torch.cat([t, t[:1]]),
    "one row less": lambda t: t[..., :-1],
    "a dimension more": lambda t: t[None],
    "a dimension less": lambda t: t[0],
    "none of them": lambda t: t[:0],
    "a subclass": lambda t: t.as_subclass(Other),
    "meta": lambda t: t.to("meta"),
    "sparse": lambda t: t.to_sparse(),
}


@needs_native
@pytest.mark.parametrize("name", OPS)
def test_only_what_the_checks_let_pass(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    call, fits, channels, sizes = OPS[name]
    x, flat = torch.randn(2, channels, H, W), pairs(sizes)
    assert fits(x, flat) and fits(nn.Parameter(x), [nn.Parameter(t) for t in flat])
    assert not fits(x, flat[:-1]) and not fits(x, flat[2:]) and not fits(x, [])
    assert not fits(x, [*flat[:-1], None])  # type: ignore[list-item]
    assert not fits(x[..., :1], flat)  # nothing to reflect
    monkeypatch.setattr(_winograd, "usual", lambda *_: False)  # what follows is for the checks
    for place in range(len(flat) + 1):
        for change, changed in CHANGES.items():
            given = [x, *flat]
            given[place] = changed(given[place])
            if not fits(given[0], given[1:]):
                continue
            # Images may be more, or smaller.
            assert place == 0 and change in ("one more", "one row less"), (place, change)
            call(given[0], given[1:], "native")
    with pytest.raises(InputError):
        call(x.double(), flat, "native")


@needs_native
@pytest.mark.parametrize("name", OPS)
def test_views_are_read_as_they_are_meant(name: str) -> None:
    """Any strides, and the views that torch reads with their sign turned."""
    call, fits, channels, sizes = OPS[name]
    x, flat = torch.randn(2, channels, H, W), pairs(sizes)
    expected = call(x, flat, "reference")
    spread = [torch.stack([t, t], -1)[..., 0] for t in flat]
    assert fits(x, spread) and spread[1].stride() == (2,)
    negative = [torch._neg_view(-t) for t in flat]
    x_negative = torch._neg_view(-x)
    for given in ((x, spread), (x, negative), (x_negative, flat), (x_negative, negative)):
        torch.testing.assert_close(call(*given, "native"), expected, rtol=1e-4, atol=1e-5)
    flat = [t.requires_grad_() for t in flat]
    gradients = torch.autograd.grad(call(x, flat, "reference").sum(), flat)
    for given in (x, x_negative):
        found = torch.autograd.grad(call(given, flat, "native").sum(), flat)
        for one, other in zip(found, gradients, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


@needs_native
@pytest.mark.parametrize("reduction", ["mean", "image"])
def test_the_loss_of_a_view_with_its_sign_turned(reduction: str) -> None:
    logits = torch.randn(2, 2, 3, 3)
    turned = torch._neg_view(-logits)
    assert turned.is_neg() and torch.equal(turned, logits)
    results = []
    for given, impl in ((logits, "reference"), (turned, "native")):
        given.requires_grad_()
        loss = patch_cross_entropy(given, 1, reduction=reduction, impl=impl)
        results.append((loss.detach(), *torch.autograd.grad(loss.sum(), given)))
    torch.testing.assert_close(results[1], results[0])


@needs_native
def test_the_history_takes_a_view_with_its_sign_turned() -> None:
    fresh = torch.rand(8, 1, 2, 2) + 1
    buffer, counter = torch.zeros(32, 1, 2, 2), torch.zeros(1, dtype=torch.int64)
    history_exchange(buffer, torch._neg_view(-fresh), counter, impl="native")
    assert (buffer >= 0).all() and buffer.any()


@needs_native
def test_the_native_part_takes_float_tensors_alone() -> None:
    x, flat = torch.randn(1, C, H, W), pairs(INNER)
    y = torch.empty_like(x)
    for wrong in (3, None, x.double(), x.to("meta")):
        with pytest.raises(TypeError, match="float32 tensors"):
            _native.C.residual_blocks(wrong, y, None, flat, False, True, 4, 1)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="number of weights"):
        _native.C.residual_blocks(x, y, None, flat[:2], False, True, 4, 1)
