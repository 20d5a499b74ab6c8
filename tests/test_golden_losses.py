"""Ten steps of Algorithm 1 with a fixed seed: the losses that every path must reproduce."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from simgan_fast import preset
from simgan_fast.config import FEATURE_TRANSFORMS
from simgan_fast.data.feed import ResidentFeed
from simgan_fast.models import refiner
from simgan_fast.ops import history_exchange as history_module
from simgan_fast.ops import patch_cross_entropy as loss_module
from simgan_fast.ops import residual_network as network_op
from simgan_fast.training import history, losses
from simgan_fast.training.algorithm import SimGAN
from simgan_fast.training.metrics import scalars

GOLDEN = Path(__file__).parent / "golden" / "losses.json"
# Measured between the native and the reference path, one and two threads, and oneDNN's AVX2 and
# AVX-512 kernels: 1.2e-7 of their value. Other processors and versions of torch may round otherwise.
TOLERANCE = 2e-5


def ten_losses(transform: str) -> list[list[float]]:
    """(refiner's loss, discriminator's loss) of ten steps on pseudo-random images."""
    random = np.random.default_rng(7)
    sets = [
        torch.from_numpy(random.integers(low, low + 128, (24, 1, 16, 20)).astype(np.uint8))
        for low in (0, 128)
    ]
    small = {"width": 8, "blocks": 2, "batch_size": 8, "history": 16}
    by = {"self_regularization": 0.2, "feature_transform": transform, "learning_rate": 1e-3}
    config = preset("eyes", **small, **by, seed=11)
    feeds = [
        ResidentFeed(images, 8, seed=11, stream=stream) for stream, images in enumerate(sets, 16)
    ]
    simgan = SimGAN(config, (1, 16, 20), feeds[0], feeds[1])
    rows = (scalars(simgan.step()) for _ in range(10))
    return [[row["loss_refiner"], row["loss_discriminator"]] for row in rows]


@pytest.mark.parametrize("transform", FEATURE_TRANSFORMS)
@pytest.mark.parametrize("impl", ["native", "reference"])
def test_ten_golden_losses(impl: str, transform: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        losses,
        "patch_cross_entropy",
        lambda *given, **named: loss_module(*given, **named, impl=impl),
    )
    monkeypatch.setattr(
        history,
        "history_exchange",
        lambda *given, **named: history_module(*given, **named, impl=impl),
    )
    monkeypatch.setattr(
        refiner,
        "residual_network",
        lambda *given, **named: network_op(*given, **named, impl=impl),
    )
    golden = json.loads(GOLDEN.read_text())[transform]
    np.testing.assert_allclose(ten_losses(transform), golden, rtol=TOLERANCE)


if __name__ == "__main__":  # python tests/test_golden_losses.py writes them anew
    found = {transform: ten_losses(transform) for transform in FEATURE_TRANSFORMS}
    GOLDEN.write_text(json.dumps(found, indent=1) + "\n")
