"""Counter-based random numbers: the same bits on every machine, and no state but a step.

`philox4x32` gives random words, `permutation` distinct random indices at O(1) each. docs/random.md specifies both;
tests/golden/random.json freezes them.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from simgan_fast._native import C
from simgan_fast.errors import InputError
from simgan_fast.ops._choose import use_native

MAX_SIZE = 2**62
_ROUNDS = 8
_MIN_BITS = 8
_WORD = 0xFFFFFFFF


def philox4x32(
    counters: Tensor | Sequence[Sequence[int]], *, key: int, impl: str = "auto"
) -> Tensor:
    """Random 32-bit words from Philox4x32-10 (Salmon et al., SC 2011).

    Args:
        counters: [n, 4] words in [0, 2^32), lowest first: one block of output for each. Any integer type.
        key: in [0, 2^64): the seed.
        impl: "auto", "native" or "reference"; all give the same bits.

    Returns:
        int64 [n, 4], words in [0, 2^32).

    >>> [hex(word) for word in philox4x32([[0, 0, 0, 0]], key=0)[0].tolist()]
    ['0x6627e8d5', '0xe169c58d', '0xbc57ac4c', '0x9b00dbd8']
    """
    counters = torch.as_tensor(counters, dtype=torch.int64).contiguous()
    if counters.ndim != 2 or counters.shape[1] != 4:
        message = f"philox4x32: counters has shape {list(counters.shape)}; it must be [n, 4]."
        raise InputError(message)
    _check_range("philox4x32", "key", key, 2**64)
    obstacle = None if counters.is_cpu else f"there is no kernel for {counters.device.type}"
    if not use_native("philox4x32", impl, obstacle):
        return _philox4x32_reference(counters, key)
    words = torch.empty_like(counters)
    C.philox4x32(counters.data_ptr(), words.data_ptr(), counters.shape[0], key)
    return words


def permutation(
    n: int,
    start: int,
    count: int,
    *,
    step: int = 0,
    stream: int = 0,
    seed: int = 0,
    impl: str = "auto",
) -> Tensor:
    """A slice of a random permutation of 0, ..., n - 1, without making the rest of it.

    Args:
        n: size of the permuted range, 1 <= n <= 2^62.
        start, count: which slice, 0 <= start, 0 <= count, start + count <= n.
        step, stream, seed: name the permutation; in [0, 2^63), [0, 2^32) and [0, 2^64). For an epoch's order let step
            be the epoch; streams 0 and 1 of a seed belong to `history_exchange`.
        impl: "auto", "native" or "reference"; all give the same numbers.

    Returns:
        int64 [count], P(start), ..., P(start + count - 1): distinct.

    Raises:
        InputError: a number outside its range.

    >>> sorted(permutation(5, 0, 5, seed=3).tolist())
    [0, 1, 2, 3, 4]
    """
    _check_permutation(n, start, count)
    for name, value, limit in (
        ("step", step, 2**63),
        ("stream", stream, 2**32),
        ("seed", seed, 2**64),
    ):
        _check_range("permutation", name, value, limit)
    if not use_native("permutation", impl, None):
        return _permutation_reference(n, start, count, step, stream, seed)
    out = torch.empty(count, dtype=torch.int64)
    C.permutation(out.data_ptr(), start, count, n, step, stream, seed)
    return out


def _check_range(op: str, name: str, value: int, limit: int) -> None:
    if not 0 <= value < limit:
        message = f"{op}: {name} is {value}; it must be from 0 to 2^{limit.bit_length() - 1} - 1."
        raise InputError(message)


def _check_permutation(n: int, start: int, count: int) -> None:
    if not 1 <= n <= MAX_SIZE:
        message = f"permutation: n is {n}; it must be from 1 to 2^62."
        raise InputError(message)
    if start < 0 or count < 0 or start + count > n:
        message = (
            f"permutation: start {start} and count {count} do not fit into n = {n}; "
            "0 <= start, 0 <= count and start + count <= n must hold."
        )
        raise InputError(message)


def _philox4x32_reference(counters: Tensor, key: int) -> Tensor:
    # int64 products wrap; & and >> still pick the right bits of them.
    a, b, c, d = counters.unbind(1)
    key_lo, key_hi = key & _WORD, key >> 32
    for _ in range(10):
        p, q = a * 0xD2511F53, c * 0xCD9E8D57
        a, b, c, d = (
            (q >> 32 & _WORD) ^ b ^ key_lo,
            q & _WORD,
            (p >> 32 & _WORD) ^ d ^ key_hi,
            p & _WORD,
        )
        key_lo, key_hi = (key_lo + 0x9E3779B9) & _WORD, (key_hi + 0xBB67AE85) & _WORD
    return torch.stack((a, b, c, d), 1)


def _feistel_round(half: Tensor, key: int) -> Tensor:
    x = half ^ key
    x = x ^ x >> 16
    x = x * 0x85EBCA6B & _WORD
    x = x ^ x >> 13
    x = x * 0xC2B2AE35 & _WORD
    return x ^ x >> 16


def _permutation_reference(
    n: int, start: int, count: int, step: int, stream: int, seed: int
) -> Tensor:
    bits = max(_MIN_BITS, (n - 1).bit_length())
    right_bits = bits - bits // 2
    left_mask, right_mask = (1 << bits // 2) - 1, (1 << right_bits) - 1
    counters = [[step & _WORD, step >> 32, stream, block] for block in range(_ROUNDS // 4)]
    keys = _philox4x32_reference(torch.tensor(counters), seed).flatten().tolist()
    out = torch.arange(start, start + count)
    walking = torch.arange(count)  # positions whose value is not yet inside [0, n)
    while len(walking) > 0:
        left, right = out[walking] >> right_bits, out[walking] & right_mask
        for even, odd in zip(keys[::2], keys[1::2], strict=True):
            left = left ^ _feistel_round(right, even) & left_mask
            right = right ^ _feistel_round(left, odd) & right_mask
        value = left << right_bits | right
        out[walking] = value
        walking = walking[value >= n]
    return out
