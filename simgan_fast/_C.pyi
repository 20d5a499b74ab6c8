"""Tensors or their addresses (`Tensor.data_ptr()`) in, no checks of shapes: use simgan_fast.ops.

The structs in csrc/*.h give the shapes.
"""

from torch import Tensor

def cpu_level() -> str: ...
def cpu_levels() -> list[str]: ...
def patch_cross_entropy(
    logits: int,
    target: int,
    label: int,
    images: int,
    patches: int,
    reduction: int,
    loss: int,
    grad_logits: int,
    /,
) -> int: ...
def patch_cross_entropy_backward(
    logits: int,
    target: int,
    label: int,
    images: int,
    patches: int,
    reduction: int,
    grad: int,
    grad_logits: int,
    /,
) -> None: ...
def scale(x: int, factor: int, count: int, /) -> None: ...
def gather_normalize(
    images: int,
    indices: int,
    flips: int,
    out: int,
    available: int,
    count: int,
    lines: int,
    width: int,
    bytes: int,
    threads: int,
    /,
) -> bool: ...
def history_exchange(
    buffer: int,
    fresh: int,
    drawn: int,
    counter: int,
    slots: int,
    rows: int,
    row_bytes: int,
    seed: int,
    threads: int,
    /,
) -> None: ...
def permutation(
    out: int, start: int, count: int, size: int, step: int, stream: int, seed: int, /
) -> None: ...
def philox4x32(counters: int, out: int, count: int, key: int, /) -> None: ...
def residual_blocks_fit(x: Tensor, weights: list[Tensor], ends: bool, reflect: bool, /) -> bool: ...
def residual_blocks(
    x: Tensor,
    y: Tensor,
    maps: Tensor | None,
    weights: list[Tensor],
    ends: bool,
    reflect: bool,
    tile: int,
    threads: int,
    /,
) -> None: ...
def residual_blocks_backward(
    grad: Tensor,
    x: Tensor | None,
    y: Tensor | None,
    maps: Tensor,
    weights: list[Tensor],
    ends: bool,
    reflect: bool,
    tile: int,
    threads: int,
    gradients: list[Tensor | None],
    /,
) -> None: ...
def patch_network_fits(images: Tensor, weights: list[Tensor], reflect: bool, /) -> bool: ...
def patch_network(
    images: Tensor,
    logits: Tensor,
    maps: Tensor | None,
    weights: list[Tensor],
    reflect: bool,
    threads: int,
    /,
) -> None: ...
def patch_network_backward(
    grad: Tensor,
    images: Tensor,
    maps: Tensor,
    weights: list[Tensor],
    reflect: bool,
    threads: int,
    grad_images: Tensor | None,
    gradients: list[Tensor],
    /,
) -> None: ...
def release_memory() -> int: ...

class Scratch:
    """Uninitialised floats, by the buffer protocol; the memory is kept for the next object of about this size."""

    def __init__(self, floats: int) -> None: ...
    def __buffer__(self, flags: int, /) -> memoryview: ...
