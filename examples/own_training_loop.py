"""Algorithm 1 in your own hands, on any tensors: python examples/own_training_loop.py."""

from __future__ import annotations

import torch

from simgan_fast import preset
from simgan_fast.data.feed import ResidentFeed
from simgan_fast.simulators import simulate_eyes
from simgan_fast.training.algorithm import SimGAN
from simgan_fast.training.metrics import scalars


def eyes(domain: str) -> torch.Tensor:
    return torch.cat(
        [torch.from_numpy(batch.images) for batch in simulate_eyes(512, domain=domain)]
    )


def main(steps: int = 20) -> None:
    config = preset("eyes", width=16, batch_size=8, history=64)
    synthetic = ResidentFeed(eyes("plain"), config.batch_size, seed=0, stream=0)
    real = ResidentFeed(eyes("camera"), config.batch_size, seed=0, stream=1)
    simgan = SimGAN(config, (1, 35, 55), synthetic, real)
    for _ in range(config.refiner_pretraining):
        simgan.pretrain_refiner()
    for step in range(1, steps + 1):
        metrics = simgan.step()
        if step % 5 == 0:
            print(step, {name: round(value, 3) for name, value in scalars(metrics).items()})


if __name__ == "__main__":
    main()
