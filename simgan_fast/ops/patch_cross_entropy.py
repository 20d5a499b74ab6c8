"""Cross-entropy of a patch discriminator: the local adversarial loss of SimGAN (section 2.2, equation 2)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from simgan_fast import _native
from simgan_fast._native import AVAILABLE, C
from simgan_fast.errors import InputError
from simgan_fast.ops._choose import past_dispatcher, place, use_native

# The numbers are those of PatchReduction in csrc/patch_cross_entropy.h.
_REDUCTIONS = {"mean": 0, "sum": 1, "image": 2, "none": 3}


def patch_cross_entropy(
    logits: Tensor, target: int | Tensor, *, reduction: str = "mean", impl: str = "auto"
) -> Tensor:
    """Two-class cross-entropy of every patch, reduced.

    Class 1 is synthetic or refined, class 0 is real.

    Args:
        logits: [n, 2, h, w], of any float type; the kernels take float32, and on CUDA bfloat16 as well.
        target: 0 or 1 for all images, or [n] of them, bool or integer.
        reduction: "none" gives [n, h, w]; "image" [n], sums over patches; "sum" the sum over all; "mean" the mean over
            images of the sum over patches, as the paper has it.
        impl: "auto", "native" or "reference".

    Returns:
        The loss, float32 where logits are of a half type. NaN and infinite logits do as in
        `torch.nn.functional.cross_entropy`: NaN or +inf in a patch gives NaN, -inf in one class gives 0 or inf.

    Raises:
        InputError: wrong shapes or types, or a target that is neither 0 nor 1.

    >>> patch_cross_entropy(torch.zeros(4, 2, 9, 14), 1)  # 126 patches, log 2 each
    tensor(87.3365)
    """
    labels, label = _checked(logits, target, reduction)
    simple = impl == "auto" and AVAILABLE and logits.is_cpu and logits.dtype is torch.float32
    if not (simple or use_native("patch_cross_entropy", impl, _obstacle(logits), logits.device)):
        return _patch_cross_entropy_reference(logits, target, reduction)
    if logits.requires_grad and torch.is_grad_enabled():
        apply = _apply_at_once if past_dispatcher(logits) else _PatchCrossEntropy.apply
        loss: Tensor = apply(logits, labels, label, reduction)
        return loss
    return _forward(logits, labels, label, reduction)


def _checked(logits: Tensor, target: int | Tensor, reduction: str) -> tuple[Tensor | None, int]:
    """The target as ([n], 0) or (None, label)."""
    if reduction not in _REDUCTIONS:
        message = (
            f"patch_cross_entropy: reduction is {reduction!r}; "
            "it must be 'mean', 'sum', 'image' or 'none'."
        )
        raise InputError(message)
    shape = logits.shape
    if len(shape) != 4 or shape[1] != 2:
        message = f"patch_cross_entropy: logits has shape {list(shape)}; it must be [n, 2, h, w]."
        raise InputError(message)
    if not logits.is_floating_point():
        message = f"patch_cross_entropy: logits are {logits.dtype}; they must be of a float type."
        raise InputError(message)
    if isinstance(target, Tensor):
        return _checked_labels(logits, target), 0
    if target in (0, 1):
        return None, int(target)
    message = f"patch_cross_entropy: target is {target!r}; it must be 0, 1 or a tensor [n]."
    raise InputError(message)


def _checked_labels(logits: Tensor, target: Tensor) -> Tensor:
    images = logits.shape[0]
    if target.device != logits.device:
        message = (
            f"patch_cross_entropy: target is on {target.device} and logits on {logits.device}; "
            "move target there."
        )
        raise InputError(message)
    if target.shape != (images,) or target.is_floating_point() or target.is_complex():
        message = (
            f"patch_cross_entropy: target is {target.dtype} {list(target.shape)}; "
            f"it must be bool or integer [{images}], one label an image."
        )
        raise InputError(message)
    return target


def _bad_target(image: int) -> InputError:
    return InputError(f"patch_cross_entropy: target[{image}] is neither 0 (real) nor 1 (refined).")


def _obstacle(logits: Tensor) -> str | None:
    if logits.dtype is torch.float32 or (logits.is_cuda and logits.dtype is torch.bfloat16):
        return None
    return f"there is no kernel for {logits.dtype} on {logits.device.type}"


def _loss_dtype(logits: Tensor) -> torch.dtype:
    # Sums over patches and images outgrow the 8 bits of bfloat16.
    return torch.float32 if logits.dtype in (torch.bfloat16, torch.float16) else logits.dtype


def _patch_cross_entropy_reference(logits: Tensor, target: int | Tensor, reduction: str) -> Tensor:
    log_share = torch.log_softmax(logits, 1, dtype=_loss_dtype(logits))  # [n, 2, h, w]
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


_SCHEMA = "(Tensor logits, Tensor? target, int label, str reduction) -> Tensor"
_BACKWARD_SCHEMA = (
    "(Tensor grad, Tensor logits, Tensor? target, int label, str reduction) -> Tensor"
)
torch.library.define("simgan_fast::patch_cross_entropy", _SCHEMA)
torch.library.define("simgan_fast::patch_cross_entropy_backward", _BACKWARD_SCHEMA)
_op = torch.ops.simgan_fast.patch_cross_entropy.default
_backward_op = torch.ops.simgan_fast.patch_cross_entropy_backward.default


def _empty_loss(logits: Tensor, target: Tensor | None, label: int, reduction: str) -> Tensor:
    n, _, h, w = logits.shape
    return logits.new_empty(
        (n, h, w) if reduction == "none" else (n,) if reduction == "image" else (),
        dtype=_loss_dtype(logits),
    )


def _cpu(logits: Tensor, target: Tensor | None, label: int, reduction: str) -> Tensor:
    return _loss_and_gradient(logits, target, label, reduction, None)


def _loss_and_gradient(
    logits: Tensor, target: Tensor | None, label: int, reduction: str, gradient: Tensor | None
) -> Tensor:
    loss = _empty_loss(logits, target, label, reduction)
    logits = logits.contiguous()
    if target is not None:
        target = target.to(torch.int64).contiguous()
    n, _, h, w = logits.shape
    bad = C.patch_cross_entropy(
        logits.data_ptr(),
        0 if target is None else target.data_ptr(),
        label,
        n,
        h * w,
        _REDUCTIONS[reduction],
        loss.data_ptr(),
        0 if gradient is None else gradient.data_ptr(),
    )
    if bad >= 0:
        raise _bad_target(bad)
    return loss


def _empty_gradient(
    grad: Tensor, logits: Tensor, target: Tensor | None, label: int, reduction: str
) -> Tensor:
    return torch.empty_like(logits, memory_format=torch.contiguous_format)


def _backward_cpu(
    grad: Tensor, logits: Tensor, target: Tensor | None, label: int, reduction: str
) -> Tensor:
    grad, logits = grad.contiguous(), logits.contiguous()
    gradient = torch.empty_like(logits)  # laid out as _empty_gradient has it
    if target is not None:
        target = target.to(torch.int64).contiguous()
    n, _, h, w = logits.shape
    C.patch_cross_entropy_backward(
        logits.data_ptr(),
        0 if target is None else target.data_ptr(),
        label,
        n,
        h * w,
        _REDUCTIONS[reduction],
        grad.data_ptr(),
        gradient.data_ptr(),
    )
    return gradient


def _cuda(logits: Tensor, target: Tensor | None, label: int, reduction: str) -> Tensor:
    loss = _empty_loss(logits, target, label, reduction)
    logits, target, arguments = _cuda_arguments(logits, target, label, reduction)
    where = place(logits)
    sums = torch.empty(len(logits), dtype=torch.float64, device=logits.device)
    ticket = _ticket(logits.device, where)
    _native.CUDA.patch_cross_entropy(
        *where, *arguments, loss.data_ptr(), sums.data_ptr(), ticket.data_ptr()
    )
    return loss


def _backward_cuda(
    grad: Tensor, logits: Tensor, target: Tensor | None, label: int, reduction: str
) -> Tensor:
    grad = grad.contiguous()
    logits, target, arguments = _cuda_arguments(logits, target, label, reduction)
    gradient = torch.empty_like(logits)
    _native.CUDA.patch_cross_entropy_backward(
        *place(logits), *arguments, grad.data_ptr(), gradient.data_ptr()
    )
    return gradient


def _cuda_arguments(
    logits: Tensor, target: Tensor | None, label: int, reduction: str
) -> tuple[Tensor, Tensor | None, tuple[int, ...]]:
    """What forward and backward have in common, with the tensors whose addresses it has."""
    logits = logits.contiguous()
    if target is not None:
        target = target.to(torch.int64).contiguous()
    n, _, h, w = logits.shape
    address = 0 if target is None else target.data_ptr()
    bf16 = logits.dtype is torch.bfloat16
    arguments = (logits.data_ptr(), bf16, address, label, n, h * w, _REDUCTIONS[reduction])
    return logits, target, arguments


# Of each device and stream a zero by which blocks find out who is last; each launch leaves it zero.
_tickets: dict[tuple[int, int], Tensor] = {}


def _ticket(device: torch.device, where: tuple[int, int]) -> Tensor:
    if (ticket := _tickets.get(where)) is None:
        ticket = torch.zeros(1, dtype=torch.int32, device=device)
        # What is made during capture is zero when the graph runs, and not before.
        if not (device.type == "cuda" and torch.cuda.is_current_stream_capturing()):
            _tickets[where] = ticket
    return ticket


torch.library.register_fake("simgan_fast::patch_cross_entropy", _empty_loss)
torch.library.register_fake("simgan_fast::patch_cross_entropy_backward", _empty_gradient)
torch.library.impl("simgan_fast::patch_cross_entropy", "CPU", _cpu)
torch.library.impl("simgan_fast::patch_cross_entropy_backward", "CPU", _backward_cpu)
torch.library.impl("simgan_fast::patch_cross_entropy", "CUDA", _cuda)
torch.library.impl("simgan_fast::patch_cross_entropy_backward", "CUDA", _backward_cuda)


def _forward(logits: Tensor, target: Tensor | None, label: int, reduction: str) -> Tensor:
    run = (_cpu if logits.is_cpu else _cuda) if past_dispatcher(logits) else _op
    loss: Tensor = run(logits, target, label, reduction)
    return loss


def _differentiable_gradient(
    grad: Tensor, logits: Tensor, target: Tensor | None, label: int, reduction: str
) -> Tensor:
    """The gradient in plain PyTorch, for a second derivative (create_graph=True)."""
    labels = label if target is None else target.view(-1, 1, 1).to(logits.dtype)
    if reduction == "mean":
        grad = grad / logits.shape[0]
    elif reduction == "image":
        grad = grad.view(-1, 1, 1)
    slope = grad * (torch.softmax(logits, 1, dtype=_loss_dtype(logits))[:, 1] - labels)
    return torch.stack((-slope, slope), 1).to(logits.dtype)


class _PatchCrossEntropy(torch.autograd.Function):
    # On the CPU the gradient of a mean or sum is computed on the way, up to the factor that arrives with `backward`:
    # the exponential serves both. It is handed over once; a second backward computes it again from the logits.
    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, target: Tensor | None, label: int, reduction: str
    ) -> Tensor:
        ctx.save_for_backward(logits, target)
        ctx.label, ctx.reduction, ctx.gradient = label, reduction, None
        if logits.is_cpu and reduction in ("mean", "sum") and past_dispatcher(logits):
            logits = logits.contiguous()
            ctx.gradient = torch.empty_like(logits)
            return _loss_and_gradient(logits, target, label, reduction, ctx.gradient)
        return _forward(logits, target, label, reduction)

    # Not @once_differentiable: it costs 2.3 us of the 21 that forward and backward of a batch of 32 take, and drops a
    # second derivative in silence where the incoming gradient is a constant.
    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        gradient, ctx.gradient = ctx.gradient, None
        if gradient is not None and past_dispatcher(grad) and not torch.is_grad_enabled():
            C.scale(gradient.data_ptr(), grad.data_ptr(), gradient.numel())
            return gradient, None, None, None
        run: Callable[..., Tensor] = _backward_op
        if past_dispatcher(grad, ctx.saved_tensors[:1]):
            native = _backward_cpu if grad.is_cpu else _backward_cuda
            run = _differentiable_gradient if torch.is_grad_enabled() else native
        return run(grad, *ctx.saved_tensors, ctx.label, ctx.reduction), None, None, None


# Function.apply looks for functorch transforms first: another 1.3 us.
_apply_at_once = getattr(
    super(torch.autograd.Function, _PatchCrossEntropy),
    "apply",
    _PatchCrossEntropy.apply,
)
