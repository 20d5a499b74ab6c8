"""Cross-entropy of a patch discriminator: the local adversarial loss of SimGAN (section 2.2, equation 2)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from simgan_fast._native import AVAILABLE, C
from simgan_fast.errors import InputError
from simgan_fast.ops._choose import use_native

# The numbers are those of PatchReduction in csrc/patch_cross_entropy.h.
_REDUCTIONS = {"mean": 0, "sum": 1, "image": 2, "none": 3}


def patch_cross_entropy(
    logits: Tensor, target: int | Tensor, *, reduction: str = "mean", impl: str = "auto"
) -> Tensor:
    """Two-class cross-entropy of every patch, reduced.

    Class 1 is synthetic or refined, class 0 is real.

    Args:
        logits: [n, 2, h, w], of any float type; the native kernel takes float32 on the CPU.
        target: 0 or 1 for all images, or [n] of them, bool or integer.
        reduction: "none" gives [n, h, w]; "image" [n], sums over patches; "sum" the sum over all; "mean" the mean over
            images of the sum over patches, as the paper has it.
        impl: "auto", "native" or "reference".

    Returns:
        The loss, differentiable once (the reference: any number of times). NaN and infinite logits do as in
        `torch.nn.functional.cross_entropy`: NaN or +inf in a patch gives NaN, -inf in one class gives 0 or inf. The
        native kernel gives the same bits at every CPU level.

    Raises:
        InputError: wrong shapes or types, or a target that is neither 0 nor 1.

    >>> patch_cross_entropy(torch.zeros(4, 2, 9, 14), 1)  # 126 patches, log 2 each
    tensor(87.3365)
    """
    if reduction not in _REDUCTIONS:
        message = (
            f"patch_cross_entropy: reduction is {reduction!r}; "
            "it must be 'mean', 'sum', 'image' or 'none'."
        )
        raise InputError(message)
    if logits.ndim != 4 or logits.shape[1] != 2:
        message = (
            f"patch_cross_entropy: logits has shape {list(logits.shape)}; it must be [n, 2, h, w]."
        )
        raise InputError(message)
    labels, label = _labels(logits, target)
    simple = impl == "auto" and AVAILABLE and logits.is_cpu and logits.dtype is torch.float32
    if not (simple or use_native("patch_cross_entropy", impl, _obstacle(logits))):
        return _patch_cross_entropy_reference(logits, target, reduction)
    if logits.requires_grad and torch.is_grad_enabled():
        loss: Tensor = _PatchCrossEntropy.apply(logits, labels, label, reduction)
        return loss
    return _forward(logits, labels, label, reduction, False)[0]


def _labels(logits: Tensor, target: int | Tensor) -> tuple[Tensor | None, int]:
    """The target as ([n], 0) or (None, label)."""
    if not isinstance(target, Tensor):
        if target in (0, 1):
            return None, int(target)
        message = f"patch_cross_entropy: target is {target!r}; it must be 0, 1 or a tensor [n]."
        raise InputError(message)
    if target.shape != logits.shape[:1] or target.is_floating_point() or target.is_complex():
        message = (
            f"patch_cross_entropy: target is {target.dtype} {list(target.shape)}; "
            f"it must be bool or integer [{logits.shape[0]}], one label an image."
        )
        raise InputError(message)
    return target, 0


def _bad_target(image: int) -> InputError:
    return InputError(f"patch_cross_entropy: target[{image}] is neither 0 (real) nor 1 (refined).")


def _obstacle(logits: Tensor) -> str | None:
    if not logits.is_cpu:
        return f"there is no kernel for {logits.device.type}"
    if logits.dtype is not torch.float32:
        return f"there is no kernel for {logits.dtype}"
    return None


def _patch_cross_entropy_reference(
    logits: Tensor, target: int | Tensor, reduction: str
) -> Tensor:
    log_share = torch.log_softmax(logits, 1)  # [n, 2, h, w]
    if isinstance(target, Tensor):
        # On an accelerator the check would make the host wait; while tracing it would break the graph.
        if target.is_cpu and not torch.compiler.is_compiling():
            bad = ((target != 0) & (target != 1)).nonzero()
            if len(bad) > 0:
                raise _bad_target(int(bad[0, 0]))
        refined = target.view(-1, 1, 1) == 1
        loss = -torch.where(refined, log_share[:, 1], log_share[:, 0])
    else:
        loss = -log_share[:, int(target)]
    if reduction == "none":
        return loss
    images = loss.sum((1, 2))
    if reduction == "image":
        return images
    return images.mean() if reduction == "mean" else images.sum()


def _loss_shape(logits: Tensor, reduction: str) -> list[int]:
    n, _, h, w = logits.shape
    return [n, h, w] if reduction == "none" else [n] if reduction == "image" else []


torch.library.define(
    "simgan_fast::patch_cross_entropy",
    "(Tensor logits, Tensor? target, int label, str reduction, bool with_slope)"
    " -> (Tensor loss, Tensor slope)",
)
torch.library.define(
    "simgan_fast::patch_cross_entropy_backward",
    "(Tensor grad, Tensor slope, str reduction) -> Tensor",
)


@torch.library.register_fake("simgan_fast::patch_cross_entropy")
def _outputs(
    logits: Tensor, target: Tensor | None, label: int, reduction: str, with_slope: bool
) -> tuple[Tensor, Tensor]:
    n, _, h, w = logits.shape
    # slope is d loss / d (logit 1 - logit 0) of each patch: all that backward needs.
    slope = logits.new_empty((n, h, w) if with_slope else (0,))
    return logits.new_empty(_loss_shape(logits, reduction)), slope


@torch.library.impl("simgan_fast::patch_cross_entropy", "CPU")
def _cpu(
    logits: Tensor, target: Tensor | None, label: int, reduction: str, with_slope: bool
) -> tuple[Tensor, Tensor]:
    loss, slope = _outputs(logits, target, label, reduction, with_slope)
    logits = logits.contiguous()
    if target is not None:
        target = target.to(torch.int64).contiguous()
    n, _, h, w = logits.shape
    bad = C.patch_cross_entropy(
        logits.data_ptr(),
        0 if target is None else target.data_ptr(),
        label,
        loss.data_ptr(),
        slope.data_ptr() if with_slope else 0,
        n,
        h * w,
        _REDUCTIONS[reduction],
    )
    if bad >= 0:
        raise _bad_target(bad)
    return loss, slope


@torch.library.register_fake("simgan_fast::patch_cross_entropy_backward")
def _grad_logits(grad: Tensor, slope: Tensor, reduction: str) -> Tensor:
    n, h, w = slope.shape
    return slope.new_empty((n, 2, h, w))


@torch.library.impl("simgan_fast::patch_cross_entropy_backward", "CPU")
def _backward_cpu(grad: Tensor, slope: Tensor, reduction: str) -> Tensor:
    grad_logits = _grad_logits(grad, slope, reduction)
    grad, slope = grad.contiguous(), slope.contiguous()
    n, h, w = slope.shape
    C.patch_cross_entropy_backward(
        grad.data_ptr(),
        slope.data_ptr(),
        grad_logits.data_ptr(),
        n,
        h * w,
        _REDUCTIONS[reduction],
    )
    return grad_logits


_forward = torch.ops.simgan_fast.patch_cross_entropy.default
_backward = torch.ops.simgan_fast.patch_cross_entropy_backward.default


class _PatchCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, target: Tensor | None, label: int, reduction: str
    ) -> Tensor:
        loss, slope = _forward(logits, target, label, reduction, True)
        ctx.save_for_backward(slope)
        ctx.reduction = reduction
        return loss  # type: ignore[no-any-return]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        (slope,) = ctx.saved_tensors
        return _backward(grad, slope, ctx.reduction), None, None, None
