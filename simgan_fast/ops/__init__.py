"""The operations that have, or will have, native kernels: each with a twin in plain PyTorch.

`impl="auto"` takes the kernel where there is one, "native" insists on it, "reference" takes the twin.
"""

from __future__ import annotations

from simgan_fast.ops._winograd import release_memory
from simgan_fast.ops.gather_normalize import gather_normalize, to_uint8, to_uint16
from simgan_fast.ops.history_exchange import history_exchange
from simgan_fast.ops.patch_cross_entropy import patch_cross_entropy
from simgan_fast.ops.patch_network import patch_network
from simgan_fast.ops.random import permutation, philox4x32
from simgan_fast.ops.residual_blocks import residual_blocks
from simgan_fast.ops.residual_network import residual_network

__all__ = [
    "gather_normalize",
    "history_exchange",
    "patch_cross_entropy",
    "patch_network",
    "permutation",
    "philox4x32",
    "release_memory",
    "residual_blocks",
    "residual_network",
    "to_uint8",
    "to_uint16",
]
