"""Raw addresses in (`Tensor.data_ptr()`), no checks: use simgan_fast.ops. The structs in csrc/*.h give the shapes."""

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
    count: int,
    lines: int,
    width: int,
    bytes: int,
    threads: int,
    /,
) -> None: ...
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
def residual_blocks(
    sizes: list[int], weights: list[list[int]], x: int, y: int, maps: int, /
) -> None: ...
def residual_blocks_backward(
    sizes: list[int],
    weights: list[list[int]],
    grad: int,
    x: int,
    y: int,
    maps: int,
    gradients: list[int],
    /,
) -> None: ...
def patch_network(
    sizes: list[int], weights: list[list[int]], images: int, logits: int, maps: int, /
) -> None: ...
def patch_network_backward(
    sizes: list[int],
    weights: list[list[int]],
    grad: int,
    images: int,
    maps: int,
    grad_images: int,
    gradients: list[tuple[int, int]],
    /,
) -> None: ...
def release_memory() -> int: ...

class Scratch:
    """Uninitialised floats, by the buffer protocol; the memory is kept for the next object of about this size."""

    def __init__(self, floats: int) -> None: ...
    def __buffer__(self, flags: int, /) -> memoryview: ...
