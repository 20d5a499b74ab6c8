"""Training and refining by two processes of one core each, against one of them: the same work, in turns.

Run it as `python -m pytest benchmarks/bench_processes.py -s` on two quiet cores. A turn of one process is
followed by one of both; a ratio is the median over the rounds.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from interleaved import write_results

from simgan_fast import Refiner, keep_freed_memory, preset, refine_shared
from simgan_fast.data import packed_writer
from simgan_fast.data.feed import ResidentFeed
from simgan_fast.training.algorithm import SimGAN
from simgan_fast.training.processes import ALONE, Group, Processes

SHAPE = (1, 35, 55)
BATCHES = (32, 128, 512)  # of all processes together
TURN = 512  # images of a turn of training, about
REFINED, SHARD = 8192, 256  # images of a turn of refining, and of a shard
ROUNDS = 5


@pytest.mark.timeout(1800)
def bench_processes(results_folder: Path | None) -> None:
    command = [sys.executable, __file__]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=1800)
    cases = json.loads(done.stdout)
    for name, case in cases.items():
        print(f"\n    {name:32s} {case}", end="")
    if results_folder:
        write_results("processes", cases, results_folder)


Turn = Callable[[int], object]  # is given the number of the round


def compared(images: int, alone: Turn, both: Turn) -> dict[str, float]:
    """Images a second of one process and of two, and the ratio; the second process only takes part in `both`."""
    one, two = [], []
    for number in range(1 + ROUNDS):
        for turn, seconds in ((alone, one), (both, two)):
            dist.barrier()
            began = time.perf_counter()
            if turn is both or dist.get_rank() == 0:
                turn(number)
            seconds.append(time.perf_counter() - began)
    del one[0], two[0]  # warmed up
    return {
        "one_process": round(images / statistics.median(one), 1),
        "two_processes": round(images / statistics.median(two), 1),
        "ratio": round(statistics.median(a / b for a, b in zip(one, two, strict=True)), 3),
    }


def training(batch: int) -> dict[str, float]:
    images = torch.randint(0, 256, (2048, *SHAPE), dtype=torch.uint8)
    config = preset("eyes", batch_size=batch)
    updates = max(1, TURN // batch)

    def steps(processes: Processes) -> Turn:
        def feed(stream: int) -> ResidentFeed:
            share, rank, world = processes.share(batch), processes.rank, processes.world
            return ResidentFeed(images, share, seed=0, stream=stream, rank=rank, world=world)

        simgan = SimGAN(config, SHAPE, feed(16), feed(17), processes=processes)

        def turn(_: int) -> None:
            for _ in range(updates):
                simgan.step()
                processes.most(0)  # as a run asks whether it is to stop

        return turn

    per_step = batch * (config.refiner_updates + config.discriminator_updates)
    return compared(updates * per_step, steps(ALONE), steps(Group("cpu")))


def refining(folder: Path) -> dict[str, float]:
    """All that a worker does, but for starting Python."""
    packed_writer.SHARD_BYTES = SHARD * int(np.prod(SHAPE))
    if dist.get_rank() == 0:
        Refiner().save_pretrained(folder / "refiner")
        images = np.random.default_rng(0).integers(0, 256, (REFINED, *SHAPE)).astype(np.uint8)
        with packed_writer.PackedWriter(folder / "set", SHAPE) as writer:
            writer.add(images, [str(i) for i in range(REFINED)])
    dist.barrier()

    def into(name: str) -> Turn:
        return lambda number: refine_shared(
            folder / "refiner", folder / "set", folder / f"{name}-{number}", lease=2.0
        )

    return compared(REFINED, into("alone"), into("both"))


def main() -> None:
    torch.set_num_threads(1)
    keep_freed_memory()
    cores = sorted(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as folder:
        second = os.fork()
        rank = int(second == 0)
        os.sched_setaffinity(0, {cores[rank]})
        dist.init_process_group("gloo", f"file://{folder}/store", rank=rank, world_size=2)
        cases = {f"training, mini-batches of {batch}": training(batch) for batch in BATCHES}
        cases["refining"] = refining(Path(folder))
        dist.barrier()
        dist.destroy_process_group()
        if rank == 1:
            os._exit(0)
        os.waitpid(second, 0)
    print(json.dumps(cases))


if __name__ == "__main__":
    main()
