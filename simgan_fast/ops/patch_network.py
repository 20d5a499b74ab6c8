"""The patch discriminator's arithmetic in one op: five convolutions and a pooling (SimGAN, sections 2.2 and 3.1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from simgan_fast._native import C
from simgan_fast.errors import InputError
from simgan_fast.ops import _winograd
from simgan_fast.ops._choose import past_dispatcher, use_native
from simgan_fast.ops.residual_blocks import check_padding_mode, same_convolution

Convolution = tuple[Tensor, Tensor]
_SIZES = (3, 3, 3, 1, 1)  # of the filters
_STRIDES = (2, 2, 1, 1, 1)
_GROUP = 16  # the kernels take hidden maps of multiples of so many channels


def patch_network(
    images: Tensor,
    convolutions: Sequence[Convolution],
    *,
    padding_mode: str = "zeros",
    impl: str = "auto",
) -> Tensor:
    """Conv 3x3 stride 2, conv 3x3 stride 2, max-pool 3x3 stride 1, conv 3x3, conv 1x1, each conv with a ReLU; conv 1x1.

    The native kernel takes an image from its pixels to its logits, and a gradient back, while it is in cache. It
    convolves directly, in float32, and computes only the gradients that are asked for.

    Args:
        images: [n, c, h, w], of any float type; the native kernel takes float32 on the CPU. h and w are at least 1,
            or 5 where padding_mode is "reflect".
        convolutions: five pairs (weight, bias) as in `nn.Conv2d`: [c1, c, 3, 3], [c2, c1, 3, 3], [c3, c2, 3, 3],
            [c4, c3, 1, 1] and [classes, c4, 1, 1]. The native kernel takes c1 to c4 that are multiples of 16.
        padding_mode: "zeros" or "reflect", as in `nn.Conv2d`, of the 3x3 convolutions; the pooling looks at
            what is inside.
        impl: "auto", "native" or "reference". SIMGAN_FAST_CONV=direct makes "auto" the reference, as in
            `residual_blocks`.

    Returns:
        Logits [n, classes, ceil(h / 4), ceil(w / 4)]. NaN and infinity go on as in torch. A gradient that is to be
        differentiated again (create_graph=True) is computed by torch.

    Raises:
        InputError: shapes or types that do not fit together, or impl="native" where it cannot run.

    >>> shapes = [(96, 1, 3), (64, 96, 3), (32, 64, 3), (32, 32, 1), (2, 32, 1)]
    >>> layers = [(torch.ones(co, ci, k, k) / (ci * k * k), torch.zeros(co)) for co, ci, k in shapes]
    >>> patch_network(torch.ones(1, 1, 35, 55), layers, padding_mode="reflect").mean()
    tensor(1.0000)
    """
    flat = [tensor for pair in convolutions for tensor in pair]
    reflect = padding_mode == "reflect"
    if not (
        _winograd.usual(impl, padding_mode) and C.patch_network_fits(images, flat, reflect)
    ) and not _natively(images, convolutions, flat, padding_mode, impl):
        # The third convolution reflects maps of a quarter of the size.
        _winograd.check_for_torch("patch_network", images, flat, padding_mode, 5)
        return _patch_network_reference(images, convolutions, padding_mode)
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in (images, *flat)):
        logits: Tensor = _PatchNetwork.apply(images, reflect, *flat)  # type: ignore[no-untyped-call]
        return logits
    if past_dispatcher(images, flat):
        return _run(images, flat, reflect, None)
    logits, _ = _op(images, flat, reflect, False)
    return logits


def _natively(
    images: Tensor,
    convolutions: Sequence[Convolution],
    flat: list[Tensor],
    padding_mode: str,
    impl: str,
) -> bool:
    """Whether the native kernel takes them; says why not, and what nothing takes."""
    _check(images, convolutions, padding_mode)
    return use_native("patch_network", impl, _obstacle(images, flat, padding_mode, impl))


def _check(images: Tensor, convolutions: Sequence[Convolution], padding_mode: str) -> None:
    check_padding_mode("patch_network", padding_mode)
    if images.ndim != 4 or len(convolutions) != len(_SIZES):
        message = (
            f"patch_network: images has shape {list(images.shape)} and there are {len(convolutions)} convolutions; "
            "it must be [n, c, h, w], and five."
        )
        raise InputError(message)
    channels = images.shape[1]
    for number, ((weight, bias), size) in enumerate(zip(convolutions, _SIZES, strict=True), 1):
        shape = weight.shape
        wanted = (shape[0] if shape else 0, channels, size, size)
        if shape != wanted or bias.shape != wanted[:1] or wanted[0] == 0:
            message = (
                f"patch_network: convolution {number} has weight {list(shape)} and bias {list(bias.shape)}; "
                f"after {channels} channels it must be [c, {channels}, {size}, {size}] with bias [c]."
            )
            raise InputError(message)
        channels = shape[0]


def _obstacle(images: Tensor, flat: list[Tensor], padding_mode: str, impl: str) -> str | None:
    """Why the native kernel cannot run, or None."""
    *hidden, classes = map(len, flat[1::2])
    if classes == 0 or any(channels % _GROUP for channels in hidden):
        return f"there is no kernel for {hidden} channels, only for multiples of {_GROUP}"
    if padding_mode == "reflect" and min(images.shape[-2:]) < 5:
        return "there is no kernel for images of less than 5 pixels a side"
    return _winograd.obstacle(images, flat, _GROUP, padding_mode, impl)


def _patch_network_reference(
    images: Tensor, convolutions: Sequence[Convolution], padding_mode: str
) -> Tensor:
    x = images
    for number, (weight, bias) in enumerate(convolutions[:-1]):
        x = torch.relu(same_convolution(x, weight, bias, padding_mode, _STRIDES[number]))
        if number == 1:
            x = F.max_pool2d(x, 3, stride=1, padding=1)
    return F.conv2d(x, *convolutions[-1])


_SCHEMA = "(Tensor images, Tensor[] weights, bool reflect, bool keep) -> (Tensor, Tensor)"
_BACKWARD_SCHEMA = (
    "(Tensor grad, Tensor images, Tensor maps, Tensor[] weights, bool reflect, bool of_images, bool of_weights)"
    " -> Tensor[]"
)
torch.library.define("simgan_fast::patch_network", _SCHEMA)
torch.library.define("simgan_fast::patch_network_backward", _BACKWARD_SCHEMA)
_op = torch.ops.simgan_fast.patch_network.default
_backward_op = torch.ops.simgan_fast.patch_network_backward.default


def _half_up(size: int) -> int:
    return (size + 1) // 2


def _empty_logits(images: Tensor, weights: list[Tensor]) -> Tensor:
    n, _, height, width = images.shape
    patches = (_half_up(_half_up(height)), _half_up(_half_up(width)))
    return images.new_empty((n, weights[-2].shape[0], *patches))


def _maps_shape(images: Tensor, weights: list[Tensor], keep: bool) -> tuple[int, ...]:
    """Five padded maps an image (PatchNetwork in csrc/patch_network.h)."""
    if not keep:
        return (0,)
    n, _, height, width = images.shape
    c1, c2, c3, c4 = (weight.shape[0] for weight in weights[:-2:2])
    height, width = _half_up(height), _half_up(width)
    first = (height + 2) * (width + 2) * c1
    return (n, first + (_half_up(height) + 2) * (_half_up(width) + 2) * (2 * c2 + c3 + c4))


def _fake(
    images: Tensor, weights: list[Tensor], reflect: bool, keep: bool
) -> tuple[Tensor, Tensor]:
    maps = images.new_empty(_maps_shape(images, weights, keep))
    return _empty_logits(images, weights), maps


def _run(images: Tensor, weights: list[Tensor], reflect: bool, maps: Tensor | None) -> Tensor:
    images = images.contiguous()
    logits = _empty_logits(images, weights)
    C.patch_network(images, logits, maps, weights, reflect, torch.get_num_threads())
    return logits


def _cpu(images: Tensor, weights: list[Tensor], reflect: bool, keep: bool) -> tuple[Tensor, Tensor]:
    shape = _maps_shape(images, weights, keep)
    maps = _winograd.kept(shape) if keep else images.new_empty(0)
    return _run(images, weights, reflect, maps if keep else None), maps


def _fake_backward(
    grad: Tensor,
    images: Tensor,
    maps: Tensor,
    weights: list[Tensor],
    reflect: bool,
    of_images: bool,
    of_weights: bool,
) -> list[Tensor]:
    """Of the images, where asked for, and of weights [co, k, k, ci] and biases in turn."""
    gradients = [images.new_empty(images.shape)] if of_images else []
    if of_weights:
        for weight, bias in zip(weights[::2], weights[1::2], strict=True):
            co, ci, height, width = weight.shape
            gradients += [weight.new_empty((co, height, width, ci)), bias.new_empty((co,))]
    return gradients


def _backward_cpu(
    grad: Tensor,
    images: Tensor,
    maps: Tensor,
    weights: list[Tensor],
    reflect: bool,
    of_images: bool,
    of_weights: bool,
) -> list[Tensor]:
    grad, images, maps = grad.contiguous(), images.contiguous(), maps.contiguous()
    gradients = _fake_backward(grad, images, maps, weights, reflect, of_images, of_weights)
    of_each = list(gradients)
    to_images = of_each.pop(0) if of_images else None
    threads = torch.get_num_threads()
    C.patch_network_backward(grad, images, maps, weights, reflect, threads, to_images, of_each)
    return gradients


torch.library.register_fake("simgan_fast::patch_network", _fake)
torch.library.register_fake("simgan_fast::patch_network_backward", _fake_backward)
torch.library.impl("simgan_fast::patch_network", "CPU", _cpu)
torch.library.impl("simgan_fast::patch_network_backward", "CPU", _backward_cpu)


class _PatchNetwork(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, images: Tensor, reflect: bool, *weights: Tensor) -> Tensor:
        run = _cpu if past_dispatcher(images, weights) else _op
        logits, maps = run(images, list(weights), reflect, True)
        ctx.save_for_backward(images, maps, *weights)
        ctx.reflect = reflect
        result: Tensor = logits
        return result

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        images, maps, *weights = ctx.saved_tensors
        if torch.is_grad_enabled():
            return _differentiable_backward(grad, images, weights, ctx)
        of_images, of_weights = ctx.needs_input_grad[0], any(ctx.needs_input_grad[2:])
        run = _backward_cpu if past_dispatcher(grad, (images, *weights)) else _backward_op
        gradients = run(grad, images, maps, weights, ctx.reflect, of_images, of_weights)
        grad_images = gradients.pop(0) if of_images else None
        # Views in the layout of channels-last weights, which take them without a copy.
        of_each = [g.permute(0, 3, 1, 2) if g.ndim == 4 else g for g in gradients]
        return grad_images, None, *(of_each or [None] * len(weights))


def _differentiable_backward(
    grad: Tensor, images: Tensor, weights: list[Tensor], ctx: Any
) -> tuple[Tensor | None, ...]:
    """In plain PyTorch, for a second derivative, as a penalty on D's gradient needs it."""
    mode = "reflect" if ctx.reflect else "zeros"
    pairs = list(zip(weights[::2], weights[1::2], strict=True))
    logits = _patch_network_reference(images, pairs, mode)
    leaves = [images, *weights]
    asked = [ctx.needs_input_grad[0], *ctx.needs_input_grad[2:]]
    wanted = [leaf for leaf, needed in zip(leaves, asked, strict=True) if needed]
    gradients = iter(torch.autograd.grad(logits, wanted, grad, create_graph=True))
    of_images, *of_weights = (next(gradients) if needed else None for needed in asked)
    return of_images, None, *of_weights
