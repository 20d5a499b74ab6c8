"""The public Python functions on arguments of any type, rank, shape, strides and values.

Either what the plain PyTorch twin gives, or one sentence; and where the twin has an answer, so has the native kernel.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from fuzz.driver import Case, Make, checked_sentence
from torch import Tensor

from simgan_fast import InputError, Refiner, preset, refine_array
from simgan_fast.config import PRESETS, TrainingConfig, from_dict
from simgan_fast.ops.gather_normalize import gather_normalize, to_uint8, to_uint16
from simgan_fast.ops.history_exchange import history_exchange
from simgan_fast.ops.patch_cross_entropy import patch_cross_entropy
from simgan_fast.ops.patch_network import patch_network
from simgan_fast.ops.random import permutation, philox4x32
from simgan_fast.ops.residual_blocks import residual_blocks
from simgan_fast.ops.residual_network import residual_network
from simgan_fast.simulators.eyes import simulate_eyes
from simgan_fast.simulators.hands import simulate_hands
from simgan_fast.training.history import History

Op = Callable[..., Any]
FLOATS = [torch.float32] * 6 + [torch.float64, torch.float16, torch.bfloat16]
OTHERS = [torch.uint8, torch.int64, torch.bool, torch.uint16, torch.int8, torch.complex64]
NUMBERS = [0, 1, -1, 2, 3, 7, 2**31, 2**62, 2**63, 2**64, -(2**63), 10**30]
SPECIAL = [float("nan"), float("inf"), -float("inf"), 1e-42, 3.4e38, -0.0]


def strange(random: Random) -> bool:
    """Whether to do what does not fit: once in 16."""
    return random.random() < 1 / 16


def number(random: Random, least: int, most: int) -> int:
    return random.choice(NUMBERS) if strange(random) else random.randint(least, most)


def tensor(
    random: Random, shape: Sequence[int], dtypes: Sequence[torch.dtype] = FLOATS, scale: float = 1.0
) -> Tensor:
    """Any strides, mostly `shape` and one of `dtypes`."""
    shape = list(shape)
    if strange(random):
        at = random.randrange(len(shape) + 1)
        shape[at : at + random.randint(0, 1)] = [random.randint(0, 4)] * random.randint(0, 2)
    dtype = random.choice(OTHERS) if strange(random) else random.choice(dtypes)
    generator = torch.Generator().manual_seed(random.getrandbits(32))
    if dtype.is_floating_point or dtype.is_complex:
        values = torch.randn(shape, generator=generator, dtype=torch.float32) * scale
        if random.random() < 0.1 and values.numel():
            values.view(-1)[random.randrange(values.numel())] = random.choice(SPECIAL)
        values = values.to(dtype)
    else:
        values = torch.randint(0, 256, shape, generator=generator).to(dtype)
    values = restrided(random, values)
    if strange(random):
        values = values.to("meta")
    return values.requires_grad_(values.is_floating_point() and random.random() < 0.2)


def restrided(random: Random, x: Tensor) -> Tensor:
    """The same numbers, or some of them, in another place in memory."""
    how = random.randrange(8)
    if how == 0 and x.ndim >= 2:
        return x.transpose(-1, -2).contiguous().transpose(-1, -2)
    if how == 1 and x.ndim == 4:
        return x.contiguous(memory_format=torch.channels_last)
    if how == 2 and x.ndim >= 1 and x.dtype is not torch.uint16:
        return torch.stack((x, x), -1)[..., 1]
    if how == 3 and x.ndim >= 1 and x.shape[0] > 0:
        return x[:1].expand(x.shape)
    if how == 4 and x.ndim >= 1:
        memory = torch.empty(x.numel() + 1, dtype=x.dtype)[1:]  # aligned as its elements, no more
        return memory.view(x.shape).copy_(x)
    return x


def outcome(run: Callable[[], Any]) -> Any:
    """What it gives, or the InputError or TypeError that it raises."""
    try:
        return run()
    except (InputError, TypeError) as error:
        checked_sentence(error)
        return error


def close(found: Tensor, expected: Tensor, tolerance: float) -> None:
    assert found.shape == expected.shape
    assert found.dtype == expected.dtype
    if found.is_meta or not found.is_floating_point():
        assert found.is_meta or torch.equal(found, expected)
        return
    found, expected = found.detach().double(), expected.detach().double()
    usual = expected.abs() < 1e30
    found, expected = found[usual], expected[usual]
    scale = max(1.0, float(expected.abs().max())) if expected.numel() else 1.0
    assert bool(((found - expected).abs() <= tolerance * scale).all()), (found, expected)


def as_the_twin(op: Op, *arguments: Any, tolerance: float = 0.0, **options: Any) -> None:
    """What `op` makes of the arguments is what its reference makes of them."""
    found = outcome(lambda: op(*arguments, **options))
    expected = outcome(lambda: op(*arguments, **options, impl="reference"))
    if isinstance(expected, Exception) or isinstance(found, Exception):
        assert isinstance(found, Exception) and isinstance(expected, Exception), (found, expected)
        return
    if tolerance < 1e-4 or ordinary(
        arguments
    ):  # convolutions may spread NaN and infinity over a tile
        close(found, expected, tolerance)
    if found.requires_grad and not found.is_meta:
        outcome(lambda: found.sum().backward())


def ordinary(values: Any) -> bool:
    """Whether all tensors in it hold finite numbers that are not huge."""
    if isinstance(values, Tensor):
        return values.is_meta or bool((values.detach().double().abs() < 1e30).all())
    return all(map(ordinary, values)) if isinstance(values, (tuple, list)) else True


def sized(random: Random, most: int) -> int:
    return random.choice((0, 1, random.randint(1, most)))


def losses(random: Random) -> None:
    n, h, w = random.randint(0, 4), random.randint(0, 5), random.randint(0, 9)
    logits = tensor(random, (n, 2, h, w))
    target: Any = random.randint(0, 1)
    if random.random() < 0.5:
        target = torch.randint(0, 2, (n,)).to(random.choice((torch.int64, torch.bool, torch.int32)))
    if strange(random):
        target = random.choice((2, -1, None, "real", 0.5, torch.full((n,), 2), torch.rand(n)))
    reduction = "median" if strange(random) else random.choice(("mean", "sum", "image", "none"))
    tolerance = 1e-5 if logits.dtype in (torch.float32, torch.float64) else 2e-2
    as_the_twin(patch_cross_entropy, logits, target, reduction=reduction, tolerance=tolerance)


def histories(random: Random) -> None:
    slots, rest = random.randint(0, 9), [random.randint(0, 4) for _ in range(random.randint(0, 3))]
    dtype = [random.choice(FLOATS + OTHERS)]
    buffer = tensor(random, (slots, *rest), dtype).detach()
    fresh = tensor(random, (random.randint(0, slots + 1), *rest), dtype)
    if strange(random):
        fresh = buffer[: len(fresh)] if buffer.ndim and fresh.ndim else buffer
    counter = torch.tensor([number(random, 0, 2**40) % 2**63])
    if strange(random):
        counter = random.choice(
            (torch.tensor([-1]), torch.tensor(3), torch.zeros(1), torch.zeros(2))
        )
    seed = number(random, 0, 2**63 - 1)
    twin, twins_counter = buffer.clone(), counter.clone()
    found = outcome(lambda: history_exchange(buffer, fresh, counter, seed=seed))
    if isinstance(found, Exception):
        return
    expected = outcome(
        lambda: history_exchange(twin, fresh, twins_counter, seed=seed, impl="reference")
    )
    if isinstance(expected, Exception):  # of a negative counter, which only it can see
        assert buffer.is_meta or int(counter) <= 0, expected
        return
    for one, other in ((found, expected), (buffer, twin)):
        assert one.is_meta or torch.equal(one.nan_to_num(), other.nan_to_num())
    assert counter.is_meta or torch.equal(counter, twins_counter)


def history_buffers(random: Random) -> None:
    capacity, shape = random.randint(1, 6), (1, random.randint(1, 3), random.randint(1, 4))
    history = History(capacity, shape, seed=random.getrandbits(20))
    given = 0
    for _ in range(random.randint(1, 5)):
        count = random.randint(1, capacity)
        fresh = torch.full((count, *shape), float(given + 1))
        drawn = history.exchange(restrided(random, fresh))
        given += count
        assert drawn.shape == (count, *shape) and bool((drawn >= 1).all())
        assert len(history.kept()) == min(capacity, given)


def batches(random: Random) -> None:
    available, c = random.randint(0, 4), random.randint(0, 3)
    h, w, n = random.randint(0, 5), random.randint(0, 7), random.randint(0, 5)
    images = tensor(random, (available, c, h, w), (torch.uint8, torch.uint16))
    indices = torch.tensor(
        [number(random, 0, max(0, available - 1)) % 2**63 for _ in range(n)], dtype=torch.int64
    )
    flips = None if random.random() < 0.5 else torch.rand(n) < 0.5
    if strange(random):
        indices = indices.to(random.choice((torch.int32, torch.float32))).unsqueeze(0)
    if strange(random):
        flips = random.choice((torch.zeros(n), torch.zeros(n + 1, dtype=torch.bool)))
    dtype = random.choice((torch.float32, torch.bfloat16, torch.float32, torch.float16))
    as_the_twin(gather_normalize, images, restrided(random, indices), flips, dtype=dtype)


def bytes_again(random: Random) -> None:
    for op, dtype in ((to_uint8, torch.uint8), (to_uint16, torch.uint16)):
        x = tensor(random, [random.randint(0, 4) for _ in range(random.randint(0, 4))])
        found = outcome(partial(op, x))
        assert isinstance(found, Exception) or (found.dtype == dtype and found.shape == x.shape)


def randoms(random: Random) -> None:
    n = number(random, 1, 400)
    start = number(random, 0, max(0, min(n, 400) - 1))
    count = min(2000, number(random, 0, max(0, min(n, 400) - start)))
    options = {name: number(random, 0, 2**32 - 1) for name in ("step", "stream", "seed")}
    as_the_twin(permutation, n, start, count, **options)
    counters = [[number(random, 0, 2**32 - 1) for _ in range(4)] for _ in range(2)]
    if max(map(max, counters)) < 2**32 and min(map(min, counters)) >= 0:
        as_the_twin(philox4x32, counters, key=number(random, 0, 2**64 - 1))


def _block(random: Random, channels: int, size: int, dtypes: Sequence[torch.dtype]) -> Any:
    shapes = [(channels, channels, size, size), (channels,)] * 2
    return tuple(tensor(random, shape, dtypes, scale=0.1) for shape in shapes)


def _options(random: Random) -> dict[str, Any]:
    mode = "circular" if strange(random) else random.choice(("zeros", "reflect"))
    return {"padding_mode": mode, "tile": random.choice((None, 4, 5, 6, 4, 5, 6, 4, 5, 6, 3))}


def _residual(random: Random) -> tuple[list[torch.dtype], int, int, tuple[int, int, int]]:
    channels = random.choice((8, 16, 24, 3, 8, 16))
    nhw = (sized(random, 3), sized(random, 9), sized(random, 9))
    return [random.choice(FLOATS)], channels, random.choice((3, 3, 3, 7, 5)), nhw


def blocks(random: Random) -> None:
    dtypes, channels, size, (n, h, w) = _residual(random)
    x = tensor(random, (n, channels, h, w), dtypes)
    weights = [_block(random, channels, size, dtypes) for _ in range(random.choice((1, 1, 2, 0)))]
    tolerance = 1e-4 if dtypes[0] in (torch.float32, torch.float64) else 1e-1
    as_the_twin(residual_blocks, x, weights, **_options(random), tolerance=tolerance)


def networks(random: Random) -> None:
    dtypes, channels, size, (n, h, w) = _residual(random)
    c_in, c_out = random.randint(0, 3), random.randint(0, 3)
    images = tensor(random, (n, c_in, h, w), dtypes)
    first = (
        tensor(random, (channels, c_in, size, size), dtypes, 0.1),
        tensor(random, (channels,), dtypes),
    )
    last = (tensor(random, (c_out, channels, 1, 1), dtypes, 0.1), tensor(random, (c_out,), dtypes))
    weights = [_block(random, channels, size, dtypes) for _ in range(random.choice((1, 1, 2, 0)))]
    tolerance = 1e-4 if dtypes[0] in (torch.float32, torch.float64) else 1e-1
    as_the_twin(
        residual_network, images, first, weights, last, **_options(random), tolerance=tolerance
    )


def discriminators(random: Random) -> None:
    dtypes, before = [random.choice(FLOATS)], random.randint(1, 3)
    images = tensor(
        random, (sized(random, 2), before, sized(random, 12), sized(random, 12)), dtypes
    )
    layers = []
    for size in (3, 3, 3, 1, 1):
        after = random.choice((16, 16, 32, 5)) if len(layers) < 4 else random.randint(0, 3)
        weight = tensor(random, (after, before, size, size), dtypes, 0.2)
        layers.append((weight, tensor(random, (after,), dtypes)))
        before = after
    if strange(random):
        layers.pop()
    mode = "circular" if strange(random) else random.choice(("zeros", "reflect"))
    tolerance = 1e-4 if dtypes[0] in (torch.float32, torch.float64) else 1e-1
    as_the_twin(patch_network, images, layers, padding_mode=mode, tolerance=tolerance)


def arrays(folder: Path) -> Case:
    refiners = [Refiner(c, width=8, blocks=1, kernel_size=k).eval() for c in (1, 3) for k in (3, 7)]

    def case(random: Random) -> None:
        refiner = random.choice(refiners)
        channels = refiner.config.in_channels
        shape = [sized(random, 2), sized(random, 9), sized(random, 9), channels][
            random.randint(0, 1) : random.randint(3, 4)
        ]
        images: Any = tensor(random, shape, (torch.uint8, torch.uint16, torch.float32), 0.2)
        if images.is_floating_point() and not strange(random):
            images = images.detach().clamp(-1, 1)
        if not images.is_meta and random.random() < 0.5:
            images = images.detach().to(
                torch.float32 if images.dtype == torch.bfloat16 else images.dtype
            )
            images = images.numpy()
            if images.ndim and random.random() < 0.3:
                images = images[::-1]
            if random.random() < 0.1:
                images = images.astype(images.dtype.newbyteorder(">"))
        if strange(random):
            images = random.choice((None, [[0]], "eyes", 3, np.array([None]), np.array("a")))
        size = random.choice((64, 1, 2)) if not strange(random) else random.choice((0, -1))
        found = outcome(lambda: refine_array(images, refiner, batch_size=size))
        if not isinstance(found, Exception):
            assert found.shape == images.shape and type(found) is type(images)

    return case


def run_settings(random: Random) -> None:
    names = list(TrainingConfig.__dataclass_fields__)
    values = [*NUMBERS, *SPECIAL, 0.5, "adam", "off", "local", "", None, True, [], {}, b"x", 1j]
    chosen = {random.choice([*names, "speed"]): random.choice(values) for _ in range(3)}
    found = outcome(lambda: from_dict(chosen))
    assert isinstance(found, (TrainingConfig, Exception))
    name = random.choice([*PRESETS, "", "eye"])
    outcome(lambda: preset(name, **{random.choice(names): random.choice(values)}))


def simulators(random: Random) -> None:
    options: dict[str, Any] = {
        "seed": number(random, 0, 99),
        "size": (number(random, 15, 24), number(random, 15, 24)),
        "domain": random.choice(("plain", "camera", "plain", "moon")),
        "start": random.choice((0, 1, 15, 16, 17, -1)),
        "batch_size": number(random, 1, 5),
    }
    simulate = random.choice((simulate_eyes, simulate_hands))
    if simulate is simulate_hands:
        options["views"] = random.choice((1, 2, 3, 0, 4))
        options["poses"] = random.choice(("all", "none"))
        options["crop"] = random.choice(("box", "box", "none", "all"))
        options["skeleton"] = random.random() < 0.5
    count = random.choice((0, 1, 3, -1))
    found = outcome(lambda: list(simulate(count, **options)))
    if not isinstance(found, Exception):
        assert sum(map(len, found)) == count
        assert all(np.isfinite(label).all() for part in found for label in part.labels.values())


def _only(case: Case, folder: Path) -> Case:
    torch.set_num_threads(1)
    return case


PLAIN: dict[str, Case] = {
    "patch_cross_entropy": losses,
    "history_exchange": histories,
    "history": history_buffers,
    "gather_normalize": batches,
    "to_integers": bytes_again,
    "random": randoms,
    "residual_blocks": blocks,
    "residual_network": networks,
    "patch_network": discriminators,
    "settings": run_settings,
    "simulators": simulators,
}
TARGETS: dict[str, Make] = {f"api-{name}": partial(_only, case) for name, case in PLAIN.items()}
TARGETS["api-refine_array"] = arrays
