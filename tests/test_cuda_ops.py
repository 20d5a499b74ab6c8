"""The ops on CUDA tensors: on a GPU where there is one, else on fake tensors, which have shapes and devices only."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import pytest
import torch
from cases import (
    EXCHANGES,
    NO_GPU,
    PATCH_GRADIENT,
    PATCH_LOSS,
    PATCH_SHAPES,
    REDUCTIONS,
    error,
    labels_of,
    logits_of,
    needs_gpu,
)
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from simgan_fast import _native
from simgan_fast.errors import InputError
from simgan_fast.models.refiner import Refiner
from simgan_fast.ops import (
    _choose,
    gather_normalize,
    history_exchange,
    patch_cross_entropy,
    residual_blocks,
    residual_network,
)


@pytest.fixture
def pretended(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if there were a GPU and the kernels."""
    monkeypatch.setattr(_native, "cuda_obstacle", lambda _=0: None)


@pytest.mark.usefixtures("pretended")
def test_shapes_types_and_devices_on_fake_tensors() -> None:
    with FakeTensorMode():
        images = torch.empty(9, 1, 35, 55, dtype=torch.uint8, device="cuda")
        rows = torch.empty(4, dtype=torch.int64, device="cuda")
        batch = gather_normalize(images, rows, dtype=torch.bfloat16, impl="native")
        assert batch.is_cuda and batch.dtype == torch.bfloat16 and batch.shape == (4, 1, 35, 55)
        buffer, fresh = (torch.empty(n, 1, 35, 55, device="cuda") for n in (8, 3))
        counter = torch.empty(1, dtype=torch.int64, device="cuda")
        drawn = torch.ops.simgan_fast.history_exchange(buffer, fresh, counter, 0)
        assert drawn.is_cuda and drawn.shape == (3, 1, 35, 55)
        logits = torch.empty(4, 2, 9, 14, dtype=torch.bfloat16, device="cuda")
        loss = patch_cross_entropy(logits, 1, impl="native")
        assert loss.is_cuda and loss.dtype == torch.float32 and loss.shape == ()
        backward = torch.ops.simgan_fast.patch_cross_entropy_backward
        gradient = backward(loss, logits, None, 1, "mean")
        assert gradient.is_cuda and gradient.dtype == torch.bfloat16


def blocks(
    channels: int, dtype: torch.dtype, device: str = "cuda", size: int = 3
) -> list[tuple[torch.Tensor, ...]]:
    """Two residual blocks' weights."""

    def parameter(*shape: int) -> torch.Tensor:
        return (torch.randn(*shape, device=device) * 0.2 / channels**0.5).to(dtype)

    square = (channels, channels, size, size)
    return [
        (parameter(*square), parameter(channels), parameter(*square), parameter(channels))
        for _ in range(2)
    ]


@pytest.mark.usefixtures("pretended")
@pytest.mark.parametrize(("dtype", "planes"), [(torch.bfloat16, 1), (torch.float32, 3)], ids=str)
@pytest.mark.parametrize("size", [3, 7])
def test_residual_blocks_on_fake_tensors(size: int, dtype: torch.dtype, planes: int) -> None:
    with FakeTensorMode():
        x = torch.empty(2, 32, 9, 7, dtype=dtype, device="cuda")
        weights = blocks(32, torch.float32, size=size)
        y = residual_blocks(x, weights, padding_mode="reflect", impl="native")
        assert y.shape == x.shape and y.dtype == dtype and y.is_cuda
        assert y.is_contiguous(memory_format=torch.channels_last)
        # The op itself: autograd does not run on such tensors where there is no GPU.
        maps = torch.empty(3, 2, 9, 7, planes * 32, dtype=torch.bfloat16, device="cuda")
        flat = [tensor for block in weights for tensor in block]
        backward = torch.ops.simgan_fast.residual_blocks_backward
        grad_x, weight, bias = backward(y, x, y, maps, flat, True, 4)
        assert grad_x.shape == x.shape and grad_x.dtype == dtype and grad_x.is_cuda
        assert weight.shape == (4, 32, size, size, 32) and weight.dtype == torch.float32
        assert bias.shape == (4, 32) and bias.is_cuda


@contextmanager
def bf16_autocast() -> Iterator[None]:
    """As torch.autocast, which itself would look for a GPU."""
    enabled, dtype = torch.is_autocast_enabled("cuda"), torch.get_autocast_dtype("cuda")
    try:
        torch.set_autocast_dtype("cuda", torch.bfloat16)
        torch.set_autocast_enabled("cuda", True)
        yield
    finally:
        torch.set_autocast_enabled("cuda", enabled)
        torch.set_autocast_dtype("cuda", dtype)


@pytest.mark.usefixtures("pretended")
def test_residual_blocks_take_the_type_of_autocast() -> None:
    with bf16_autocast(), FakeTensorMode():
        x = torch.empty(2, 32, 9, 7, device="cuda")
        y = residual_blocks(x, blocks(32, torch.float32), impl="native")
        assert y.dtype == torch.bfloat16


def ends(
    channels: int, dtype: torch.dtype, images: int = 1, size: int = 3, device: str = "cuda"
) -> tuple[tuple[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]:
    """A first and a last convolution, of `images` channels of the images."""
    first = torch.randn(channels, images, size, size, device=device) * 0.5
    last = torch.randn(images, channels, 1, 1, device=device) / channels
    biases = (torch.randn(each, device=device).to(dtype) for each in (channels, images))
    return (first.to(dtype), next(biases)), (last.to(dtype), next(biases))


@pytest.mark.usefixtures("pretended")
def test_residual_network_on_fake_tensors() -> None:
    with FakeTensorMode():
        first, last = ends(32, torch.float32, images=3)
        inner = blocks(32, torch.float32)
        for dtype, cast in (
            (torch.float32, True),
            (torch.bfloat16, True),
            (torch.float32, False),
        ):
            images = torch.empty(2, 3, 9, 7, dtype=dtype, device="cuda")
            with bf16_autocast() if cast else nullcontext():
                y = residual_network(images, first, inner, last, impl="native", tanh=True)
            of_maps, planes = (torch.bfloat16, 1) if cast else (torch.float32, 3)
            assert y.shape == images.shape and y.dtype == of_maps and y.is_cuda
            # The op itself: autograd does not run on such tensors where there is no GPU.
            maps = torch.empty(5, 2, 9, 7, planes * 32, dtype=torch.bfloat16, device="cuda")
            flat = [tensor for part in (*inner, first, last) for tensor in part]
            backward = torch.ops.simgan_fast.residual_network_backward
            gradients = backward(y, images, maps, flat, True, 4, y, True)
            assert gradients[0].dtype == dtype and gradients[0].shape == images.shape
            assert all(each.dtype == torch.float32 and each.is_cuda for each in gradients[1:])
            shapes = [tuple(each.shape) for each in gradients[1:]]
            assert shapes[2:] == [(32, 3, 3, 3), (32,), (3, 1, 1, 32), (3,)]


@pytest.mark.usefixtures("pretended")
@pytest.mark.parametrize(
    ("channels", "images", "size", "dtype", "reason"),
    [
        (
            32,
            1,
            3,
            torch.float16,
            r"torch\.float16 on cuda, only for torch\.bfloat16, torch\.float32",
        ),
        (32, 2, 3, torch.bfloat16, "2 to 2 channels on cuda, only for 1 and 3"),
        (32, 1, 7, torch.bfloat16, "ends with 7x7 filters on cuda, only for 3x3"),
        (24, 1, 3, torch.bfloat16, "24 channels on cuda"),
    ],
    ids=str,
)
def test_what_residual_network_leaves_to_the_twin(
    channels: int,
    images: int,
    size: int,
    dtype: torch.dtype,
    reason: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_choose, "_said", set())
    with FakeTensorMode(), caplog.at_level("INFO", "simgan_fast.ops"):
        x = torch.empty(2, images, 9, 7, dtype=dtype, device="cuda")
        first, last = ends(channels, dtype, images, size)
        inner = blocks(channels, dtype, size=size)
        with pytest.raises(InputError, match=rf"impl='native' cannot run here: .*{reason}"):
            residual_network(x, first, inner, last, impl="native")
        for _ in range(2):
            assert residual_network(x, first, inner, last, tanh=True).dtype == dtype
    said = [text for text in caplog.messages if text.startswith("residual_network: plain PyTorch")]
    assert len(said) == 1 and re.search(reason, said[0])


class Called(TorchDispatchMode):
    """The names of the ops that are called."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(str(func))
        return func(*args, **(kwargs or {}))


@pytest.mark.usefixtures("pretended")
def test_a_refiner_of_seven_has_its_blocks_natively() -> None:
    """torch's convolutions make the ends, bfloat16 by autocast, and the blocks between them stay this package's op."""
    with FakeTensorMode():
        refiner = Refiner(width=32, blocks=2, kernel_size=7)
        state = refiner.state_dict().items()
        moved = {name: torch.empty(each.shape, device="cuda") for name, each in state}
        images = torch.empty(2, 1, 9, 7, device="cuda")
        with bf16_autocast(), torch.no_grad(), Called() as called:
            y = torch.func.functional_call(refiner, moved, images)
    assert y.shape == images.shape and y.dtype == torch.bfloat16 and y.is_cuda
    ours = [name for name in called.names if name.startswith("simgan_fast")]
    assert ours == ["simgan_fast.residual_blocks.default"]
    assert called.names.count("aten.convolution.default") == 2


@pytest.mark.usefixtures("pretended")
@pytest.mark.parametrize(
    ("shape", "dtype", "of_weights", "size", "reason"),
    [
        ((2, 32, 9, 7), torch.float16, torch.float16, 3, r"torch\.float16 on cuda, only for"),
        ((2, 32, 9, 7), torch.bfloat16, torch.float16, 3, r"weights of torch\.float16"),
        ((2, 32, 9, 7), torch.float32, torch.bfloat16, 3, r"weights of torch\.bfloat16"),
        ((2, 24, 9, 7), torch.bfloat16, torch.float32, 3, "24 channels on cuda"),
        ((2, 24, 9, 7), torch.bfloat16, torch.float32, 7, "24 channels on cuda"),
        ((0, 32, 9, 7), torch.bfloat16, torch.float32, 3, "images of 9x7, 0 of them"),
    ],
    ids=str,
)
def test_what_residual_blocks_leave_to_the_twin(
    shape: tuple[int, ...], dtype: torch.dtype, of_weights: torch.dtype, size: int, reason: str
) -> None:
    with FakeTensorMode():
        x = torch.empty(shape, dtype=dtype, device="cuda")
        weights = blocks(shape[1], of_weights, size=size)
        with pytest.raises(InputError, match=rf"impl='native' cannot run here: .*{reason}"):
            residual_blocks(x, weights, impl="native")
        if dtype is of_weights:
            assert residual_blocks(x, weights).shape == shape
        elsewhere = blocks(shape[1], of_weights, device="cpu", size=size)
        with pytest.raises(InputError, match="impl='native' cannot run here"):
            residual_blocks(x, elsewhere, impl="native")


def test_why_there_is_no_kernel_is_said() -> None:
    if NO_GPU is None:
        pytest.skip("there is one")
    with FakeTensorMode():
        logits = torch.empty(4, 2, 9, 14, device="cuda")
        with pytest.raises(InputError, match=r"impl='native' cannot run here: .*CUDA"):
            patch_cross_entropy(logits, 1, impl="native")


@needs_gpu
@pytest.mark.parametrize(("slots", "rows", "trailing", "dtype"), EXCHANGES, ids=str)
def test_history_exchange_on_a_gpu(
    slots: int, rows: int, trailing: tuple[int, ...], dtype: torch.dtype
) -> None:
    before, fresh = ((torch.rand(n, *trailing) * 200).to(dtype) for n in (slots, rows))
    buffers = [before.clone(), before.cuda()]
    counters = [torch.tensor([9]), torch.tensor([9]).cuda()]
    drawn = [
        history_exchange(buffer, fresh.to(buffer.device), counter, seed=5, impl=impl)
        for buffer, counter, impl in zip(buffers, counters, ("reference", "native"), strict=True)
    ]
    for pair in (buffers, counters, drawn):
        assert torch.equal(pair[0], pair[1].cpu())


@needs_gpu
@pytest.mark.parametrize("out", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16], ids=str)
@pytest.mark.parametrize("shape", [(5, 1, 35, 55), (3, 3, 2, 1), (2, 2, 3, 257)], ids=str)
def test_gather_normalize_on_a_gpu(
    shape: tuple[int, ...], dtype: torch.dtype, out: torch.dtype
) -> None:
    images = torch.randint(0, 256 if dtype is torch.uint8 else 65536, shape).to(dtype)
    indices, flips = torch.tensor([len(images) - 1, 0, 0]), torch.tensor([True, False, True])
    expected = gather_normalize(images, indices, flips, dtype=out, impl="reference")
    moved = (each.cuda() for each in (images, indices, flips))
    assert torch.equal(gather_normalize(*moved, dtype=out, impl="native").cpu(), expected)


@needs_gpu
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("shape", PATCH_SHAPES[:-2], ids=str)
def test_patch_cross_entropy_on_a_gpu(shape: tuple[int, ...], reduction: str) -> None:
    for dtype, rounding in ((torch.float32, 0.0), (torch.bfloat16, 2.0**-8)):
        logits = logits_of(shape, dtype).cuda().requires_grad_()
        exact = logits.detach().double().requires_grad_()
        labels = labels_of(shape[0]).cuda()
        loss = patch_cross_entropy(logits, labels, reduction=reduction, impl="native")
        expected = patch_cross_entropy(exact, labels, reduction=reduction, impl="reference")
        (gradient,) = torch.autograd.grad(loss.sum(), logits)
        (slope,) = torch.autograd.grad(expected.sum(), exact)
        loss, expected = loss.detach(), expected.detach()
        assert error(loss, expected, PATCH_LOSS.floor) < PATCH_LOSS.relative
        assert error(gradient, slope, PATCH_GRADIENT.floor) < PATCH_GRADIENT.relative + rounding


# How much farther from float64 than torch's own, by a factor and beyond that.
ALLOWED = {torch.bfloat16: (1.5, 1e-3), torch.float32: (5.0, 1e-6)}


# 64 channels and others, more tiles than a GPU has room for, an odd width of two tiles; 7x7: the paper's hands.
@needs_gpu
@pytest.mark.parametrize("own", list(ALLOWED), ids=str)
@pytest.mark.parametrize("padding_mode", ["zeros", "reflect"])
@pytest.mark.parametrize(
    ("size", "shape"),
    [
        (3, (96, 64, 35, 55)),
        (3, (3, 80, 7, 9)),
        (3, (2, 128, 12, 57)),
        (3, (5, 16, 2, 3)),
        (7, (2, 64, 224, 224)),
        (7, (3, 80, 7, 9)),
        (7, (2, 128, 12, 57)),
        (7, (50, 16, 4, 5)),
    ],
    ids=str,
)
def test_residual_blocks_on_a_gpu(
    size: int, shape: tuple[int, ...], padding_mode: str, own: torch.dtype
) -> None:
    """Twice the same bits, and as near to float64 as torch's own are, in float32 without TF32."""
    weights = blocks(shape[1], own, size=size)
    x = torch.randn(shape, device="cuda").relu().to(own).requires_grad_()
    incoming = torch.randn(shape, device="cuda").to(own)

    def results(dtype: torch.dtype, impl: str) -> list[torch.Tensor]:
        leaf = x.detach().to(dtype).requires_grad_()
        moved = [tuple(t.detach().to(dtype).requires_grad_() for t in block) for block in weights]
        y = residual_blocks(leaf, moved, padding_mode=padding_mode, impl=impl)
        flat = [tensor for block in moved for tensor in block]
        return [y.detach(), *torch.autograd.grad(y, [leaf, *flat], incoming.to(dtype))]

    found, again = results(own, "native"), results(own, "native")
    assert all(map(torch.equal, found, again))
    exact = results(torch.float64, "reference")
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        theirs = results(own, "reference")
    for mine, their, wanted in zip(found, theirs, exact, strict=True):
        errors = [((each - wanted).norm() / wanted.norm()).item() for each in (mine, their)]
        assert errors[0] < ALLOWED[own][0] * errors[1] + ALLOWED[own][1], errors
    flat = [tensor.detach() for block in weights for tensor in block]
    ops, reflect = torch.ops.simgan_fast, padding_mode == "reflect"
    torch.library.opcheck(ops.residual_blocks.default, (x.detach(), flat, reflect, 4, True))


# Images of one channel and of three, more tiles than a GPU has room for, other than 64 channels, an odd width of two.
@needs_gpu
@pytest.mark.parametrize("own", list(ALLOWED), ids=str)
@pytest.mark.parametrize("padding_mode", ["zeros", "reflect"])
@pytest.mark.parametrize(
    ("images", "channels"),
    [((96, 1, 35, 55), 64), ((3, 3, 7, 57), 48), ((5, 3, 2, 3), 64), ((2, 1, 12, 9), 128)],
    ids=str,
)
def test_residual_network_on_a_gpu(
    images: tuple[int, ...], channels: int, padding_mode: str, own: torch.dtype
) -> None:
    """Twice the same bits, and as near to float64 as torch's own are; float32 images, for bfloat16 under autocast."""
    first, last = ends(channels, torch.float32, images[1])
    parts = [*blocks(channels, torch.float32), first, last]
    x, incoming = (torch.randn(images, device="cuda").bfloat16() for _ in range(2))

    def results(dtype: torch.dtype, impl: str, casts: bool) -> list[torch.Tensor]:
        leaf = x.to(dtype).requires_grad_()
        moved = [tuple(t.detach().to(dtype).requires_grad_() for t in part) for part in parts]
        with torch.autocast("cuda", torch.bfloat16, enabled=casts):
            y = residual_network(
                leaf,
                moved[-2],
                moved[:-2],
                moved[-1],
                padding_mode=padding_mode,
                impl=impl,
                tanh=True,
            )
        flat = [tensor for part in moved for tensor in part]
        return [y.detach(), *torch.autograd.grad(y, [leaf, *flat], incoming.to(y.dtype))]

    casts = own is torch.bfloat16
    found, again = (results(torch.float32, "native", casts) for _ in range(2))
    assert found[0].dtype == own and found[1].dtype == torch.float32
    assert all(map(torch.equal, found, again))
    exact = results(torch.float64, "reference", False)
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        theirs = results(torch.float32, "reference", casts)
    for mine, their, wanted in zip(found, theirs, exact, strict=True):
        errors = [((each - wanted).norm() / wanted.norm()).item() for each in (mine, their)]
        assert errors[0] < ALLOWED[own][0] * errors[1] + ALLOWED[own][1], errors
    flat = [tensor.detach() for part in parts for tensor in part]
    op, reflect = torch.ops.simgan_fast.residual_network.default, padding_mode == "reflect"
    torch.library.opcheck(op, (x.float(), flat, reflect, 4, True, True, not casts))


@needs_gpu
def test_a_captured_graph_goes_on_by_itself() -> None:
    """Three replays are three steps, on a stream that is not the default one."""
    fresh = torch.rand(16, 1, 35, 55).cuda()
    start = torch.rand(64, 1, 35, 55).cuda()
    buffer, counter = start.clone(), torch.zeros(1, dtype=torch.int64, device="cuda")
    history_exchange(buffer.clone(), fresh, counter.clone())  # modules are loaded before capture
    patch_cross_entropy(logits_of((4, 2, 9, 14)).cuda(), 1)
    graph = torch.cuda.CUDAGraph()
    logits = logits_of((4, 2, 9, 14)).cuda()
    with torch.cuda.graph(graph):
        drawn = history_exchange(buffer, fresh, counter, seed=3)
        loss = patch_cross_entropy(logits, 1)
    expected, steps = start.clone(), torch.zeros(1, dtype=torch.int64, device="cuda")
    for _ in range(3):
        graph.replay()
        twin = history_exchange(expected, fresh, steps, seed=3, impl="reference")
        assert torch.equal(drawn, twin)
        assert loss.item() == pytest.approx(float(patch_cross_entropy(logits, 1, impl="reference")))
    assert torch.equal(buffer, expected) and counter.item() == 3


@needs_gpu
@pytest.mark.parametrize("kernel_size", [3, 7])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_refiner_in_a_captured_graph(kernel_size: int, dtype: torch.dtype) -> None:
    refiner = Refiner(1, 64, 2, kernel_size).cuda().to(dtype).eval()
    first, second = (torch.rand(4, 1, 35, 55).cuda().to(dtype) * 2 - 1 for _ in range(2))
    images, stream, graph = first.clone(), torch.cuda.Stream(), torch.cuda.CUDAGraph()
    with torch.no_grad():
        expected = refiner(second)
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):  # modules are loaded, and cuDNN has chosen, before capture
                refiner(images)
        torch.cuda.current_stream().wait_stream(stream)
        with torch.cuda.graph(graph):
            refined = refiner(images)
    images.copy_(second)
    graph.replay()
    torch.testing.assert_close(refined, expected)


LAUNCH = """
import torch
from simgan_fast import _native
try:
    _native.CUDA.history_exchange(0, 0, 4096, 4096, 4096, 4096, 4096, 8, 4, 16, 0)
except RuntimeError as error:
    print(error)
"""


@needs_gpu
def test_an_error_surfaces_at_its_op(run_python: Callable[..., str]) -> None:
    assert run_python(LAUNCH, SIMGAN_FAST_SYNC="1").startswith("history_exchange: CUDA says")
