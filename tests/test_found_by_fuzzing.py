"""What random cases (`make fuzz`) found: each of these was another exception, or a message without an end."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from test_training import small_simgan

from simgan_fast import InputError, Refiner, _native, refine_array
from simgan_fast.config import load_config
from simgan_fast.data.packed import open_packed
from simgan_fast.data.packed_writer import PackedWriter
from simgan_fast.ops.history_exchange import history_exchange
from simgan_fast.ops.patch_cross_entropy import patch_cross_entropy
from simgan_fast.ops.patch_network import patch_network
from simgan_fast.ops.residual_blocks import residual_blocks
from simgan_fast.ops.residual_network import residual_network
from simgan_fast.training.state import load_checkpoint, save_checkpoint

C = 8
BLOCK = (torch.zeros(C, C, 3, 3), torch.zeros(C)) * 2
FIRST, LAST = (torch.zeros(C, 1, 3, 3), torch.zeros(C)), (torch.zeros(1, C, 1, 1), torch.zeros(1))
LAYERS = [
    (torch.zeros(16, c, k, k), torch.zeros(16))
    for c, k in ((1, 3), (16, 3), (16, 3), (16, 1), (16, 1))
]


def test_settings_nested_a_thousand_deep(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(f"a = {'[' * 5000}")
    with pytest.raises(InputError, match="damaged"):
        load_config(tmp_path / "config.toml")


@pytest.mark.parametrize(
    "changes",
    [
        {"done": {"training": "3"}},
        {"done": None},
        {"synthetic_position": "3"},
        {"real_position": -1},
        [],
    ],
)
def test_a_checkpoint_with_other_numbers(tmp_path: Path, changes: object) -> None:
    simgan = small_simgan()
    path = save_checkpoint(tmp_path, simgan, {"training": 3})
    with safe_open(path, framework="pt") as file:
        numbers = json.loads(file.metadata()["simgan_fast"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    numbers = {**numbers, **changes} if isinstance(changes, dict) else changes
    save_file(tensors, path, {"simgan_fast": json.dumps(numbers)})
    with pytest.raises(InputError, match=r"does not fit|not a whole checkpoint"):
        load_checkpoint(path, simgan)


@pytest.mark.parametrize(
    "changes",
    [
        {"padding_mode": "wrap"},
        {"width": 10**12},
        {"blocks": 10**9},
        {"kernel_size": 5},
        {"width": "2"},
    ],
)
def test_a_refiner_with_another_config(tmp_path: Path, changes: dict[str, object]) -> None:
    Refiner(width=2, blocks=1).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | changes))
    with pytest.raises(InputError, match="damaged refiner"):
        Refiner.from_pretrained(tmp_path)


def test_a_refiner_whose_config_is_nested_a_thousand_deep(tmp_path: Path) -> None:
    Refiner(width=2, blocks=1).save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text("[" * 100_000)
    with pytest.raises(InputError, match="damaged refiner"):
        Refiner.from_pretrained(tmp_path)


@pytest.mark.parametrize("changes", [{"shape": [1, 10**6, 10**6]}, {"labels": {"gaze": 10**30}}])
def test_a_packed_set_of_sizes_beyond_all_bounds(
    tmp_path: Path, changes: dict[str, object]
) -> None:
    with PackedWriter(tmp_path / "set", (1, 3, 4)) as writer:
        writer.add(np.zeros((2, 1, 3, 4), np.uint8), ["a", "b"])
    file = tmp_path / "set" / "set.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    with pytest.raises(InputError, match="damaged"):
        open_packed(tmp_path / "set")


def test_a_set_json_nested_a_thousand_deep(tmp_path: Path) -> None:
    (tmp_path / "set.json").write_text("[" * 100_000)
    with pytest.raises(InputError, match="damaged"):
        open_packed(tmp_path)


def test_targets_on_another_device_than_the_logits() -> None:
    with pytest.raises(InputError, match="on meta"):
        patch_cross_entropy(
            torch.zeros(1, 2, 3, 3), torch.zeros(1, dtype=torch.int64, device="meta")
        )


def test_logits_of_integers() -> None:
    with pytest.raises(InputError, match="float type"):
        patch_cross_entropy(torch.zeros(1, 2, 3, 3, dtype=torch.int8), 1)


@pytest.mark.parametrize("dtype", [torch.uint16, torch.uint32, torch.uint64])
def test_a_history_of_unsigned_numbers(dtype: torch.dtype, impl: str) -> None:
    buffer, counter = torch.arange(8).to(dtype), torch.zeros(1, dtype=torch.int64)
    drawn = history_exchange(buffer, torch.full((4,), 60_000).to(dtype), counter, impl=impl)
    kept = buffer.to(torch.int64).tolist()
    assert kept.count(60_000) == 4
    assert len(set(drawn.to(torch.int64).tolist())) == 4


def test_a_history_with_a_negative_counter(impl: str) -> None:
    with pytest.raises(InputError, match="negative"):
        history_exchange(torch.zeros(3, 2), torch.ones(1, 2), torch.tensor([-1]), impl=impl)


def _blocks(x: torch.Tensor, mode: str, impl: str) -> torch.Tensor:
    return residual_blocks(x.expand(-1, C, -1, -1), [BLOCK], padding_mode=mode, impl=impl)


def _network(x: torch.Tensor, mode: str, impl: str) -> torch.Tensor:
    return residual_network(x, FIRST, [BLOCK], LAST, padding_mode=mode, impl=impl)


def _patches(x: torch.Tensor, mode: str, impl: str) -> torch.Tensor:
    return patch_network(x, LAYERS, padding_mode=mode, impl=impl)


@pytest.mark.parametrize("op", [_blocks, _network, _patches])
@pytest.mark.parametrize(
    ("x", "mode", "said"),
    [
        (torch.zeros(1, 1, 0, 6), "zeros", "at least one"),
        (torch.zeros(1, 1, 6, 1), "reflect", "pixels a side"),
        (torch.zeros(1, 1, 6, 6, dtype=torch.float64), "zeros", "of one type"),
        (torch.zeros(1, 1, 6, 6, device="meta"), "zeros", "on one device"),
    ],
)
def test_images_that_no_convolution_takes(
    op: Callable[..., torch.Tensor], x: torch.Tensor, mode: str, said: str
) -> None:
    with pytest.raises(InputError, match=said):
        op(x, mode, "auto")


def test_convolutions_without_channels() -> None:
    nothing = (torch.zeros(0, C, 1, 1), torch.zeros(0))
    with pytest.raises(InputError, match="last is"):
        residual_network(torch.zeros(1, 1, 6, 6), FIRST, [BLOCK], nothing)
    with pytest.raises(InputError, match="convolution 5"):
        patch_network(
            torch.zeros(1, 1, 6, 6), [*LAYERS[:4], (torch.zeros(0, 16, 1, 1), torch.zeros(0))]
        )


def test_arrays_without_pixels_or_numbers() -> None:
    refiner = Refiner(width=8, blocks=1)
    with pytest.raises(InputError, match="at least one"):
        refine_array(np.zeros((1, 0), np.uint8), refiner)
    with pytest.raises(InputError, match="meta"):
        refine_array(torch.zeros(2, 6, 6, device="meta"), refiner)
    assert refine_array(np.zeros((0, 6, 6), np.uint8), refiner).shape == (0, 6, 6)


@pytest.mark.skipif(not _native.AVAILABLE, reason=f"no _C: {_native.MISSING}")
def test_the_gradient_of_no_patches_reads_no_memory() -> None:
    logits = torch.zeros(2, 2, 0, 5, requires_grad=True)
    patch_cross_entropy(logits, 1, reduction="image", impl="native").sum().backward()
    assert logits.grad is not None and logits.grad.shape == logits.shape
