"""DistributedDataParallel over two processes on the CPU (gloo): python examples/data_parallel.py.

Each process sees half of a batch; the gradients are those of the whole one. In earnest `torchrun` starts the processes.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.nn.parallel import DistributedDataParallel

from simgan_fast import Refiner

PROCESSES = 2


def pretraining_loss(refiner: torch.nn.Module, images: torch.Tensor) -> torch.Tensor:
    return (refiner(images) - images).abs().mean()


def worker(rank: int, meeting_file: str) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)  # the same weights and batch everywhere
    dist.init_process_group(
        "gloo", init_method=f"file://{meeting_file}", rank=rank, world_size=PROCESSES
    )
    # Gradients come channels-last, and DistributedDataParallel likes parameters in the same order.
    refiner = Refiner(width=16, blocks=2).to(memory_format=torch.channels_last)
    images = torch.rand(8, 1, 35, 55) * 2 - 1
    whole = torch.autograd.grad(pretraining_loss(refiner, images), list(refiner.parameters()))

    parallel = DistributedDataParallel(refiner)
    pretraining_loss(parallel, images.chunk(PROCESSES)[rank]).backward()
    for parameter, gradient in zip(refiner.parameters(), whole, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)
    print(f"process {rank}: the gradients of the whole batch", flush=True)
    dist.destroy_process_group()


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        mp.spawn(worker, (str(Path(folder) / "meeting"),), nprocs=PROCESSES)


if __name__ == "__main__":
    main()
