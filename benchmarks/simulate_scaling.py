"""What stragglers and failures cost where many processes refine or train: a simulation, not a measurement.

Run it as `python benchmarks/simulate_scaling.py`; it prints the tables of docs/scaling.md. Efficiency is the time that
as many healthy processes would need that never wait, over the time that these need.
"""

from __future__ import annotations

import heapq
import random
from dataclasses import dataclass
from itertools import count

HOUR = 3600.0
SHARD_IMAGES = (16 << 20) // (35 * 55)
SHARD_SECONDS = SHARD_IMAGES * 0.191 / 128  # 128 eyes take one core 191 ms
STEP_SECONDS = 0.272 / 32  # a step of 32 eyes on one core: 178 ms for R, 69 for D, 24 to refine
GRADIENT_BYTES = 1_184_516, 303_624  # of the refiner, of the discriminator
IMAGE_BYTES = 4 * 35 * 55
LEASE = 60.0


@dataclass(frozen=True)
class Trouble:
    """What is not as it should be. Seconds, but for the shares."""

    jitter: float = 0.0  # standard deviation of each piece's time, as a share of it
    slow: float = 0.0  # share of the workers, one at least, that take `slowness` times as long
    slowness: float = 3.0
    life: float = float("inf")  # mean time until a worker fails
    replaced: float = (
        120.0  # until another is there in its place, or until all of a training run are back
    )


HEALTHY = Trouble()
TROUBLES = {
    "none": HEALTHY,
    "each piece +- 10 %": Trouble(jitter=0.1),
    "5 % of the workers, one at least, 3 times slower": Trouble(jitter=0.1, slow=0.05),
    "a worker fails every 24 hours": Trouble(jitter=0.1, life=24 * HOUR),
    "both": Trouble(jitter=0.1, slow=0.05, life=24 * HOUR),
    "a worker fails every hour": Trouble(jitter=0.1, life=HOUR),
}


def refining(workers: int, shards: int, trouble: Trouble, seed: int = 0) -> float:
    """The efficiency of refining `shards` shards by claims.

    A shard whose worker died is another's a lease after the last unclaimed one was taken, or after the death where that
    is later: workers that pass by it before have seen it once at most.
    """
    draw, order = random.Random(seed), count()
    events: list[tuple[float, int, str, bool]] = []  # time, order, what, whether of a slow worker
    unclaimed, orphans, waiting, finished, now = shards, 0, 0, 0, 0.0
    idle: list[bool] = []

    def plan(time: float, what: str, slow: bool = False) -> None:
        heapq.heappush(events, (time, next(order), what, slow))

    def work(slow: bool) -> None:
        taken = SHARD_SECONDS * (trouble.slowness if slow else 1.0)
        taken *= max(0.1, draw.gauss(1.0, trouble.jitter))
        life = draw.expovariate(1.0) * trouble.life
        plan(now + min(taken, life), "done" if taken < life else "died", slow)

    for worker in range(workers):
        plan(0.0, "free", worker < trouble.slow * workers)
    while finished < shards:
        now, _, what, slow = heapq.heappop(events)
        if what == "died":
            plan(now + trouble.replaced, "free", slow)
            if unclaimed:
                waiting += 1
            else:
                plan(now + LEASE, "orphan")
        elif what == "orphan":
            orphans += 1
            if idle:
                orphans -= 1
                work(idle.pop())
        else:
            finished += what == "done"
            if unclaimed:
                unclaimed -= 1
                work(slow)
                if not unclaimed:
                    for _ in range(waiting):
                        plan(now + LEASE, "orphan")
            elif orphans:
                orphans -= 1
                work(slow)
            else:
                idle.append(slow)
    return shards * SHARD_SECONDS / (workers * now)


def exchange_seconds(workers: int, batch: int, bandwidth: float, latency: float) -> float:
    """The exchanges of a training step: two gradients, fresh images to all, drawn images summed; as rings do them."""
    images = batch // 2 * IMAGE_BYTES
    summed = (*GRADIENT_BYTES, images)
    rounds = 2 * len(summed) + 1
    moved = (2 * sum(summed) + images) * (workers - 1) / workers
    return moved / bandwidth + rounds * (workers - 1) * latency


def training(
    workers: int,
    batch: int,
    trouble: Trouble,
    *,
    updates: int = 20_000,
    kept: int = 100,
    seed: int = 0,
) -> float:
    """The efficiency of training in step, a checkpoint every `kept` updates, over 10 Gbit/s with 50 us of latency."""
    draw = random.Random(seed)
    slow = trouble.slowness if trouble.slow > 0 else 1.0
    exchange = exchange_seconds(workers, batch, 1.25e9, 50e-6) if workers > 1 else 0.0
    share = batch / workers * STEP_SECONDS
    now, update, fails = 0.0, 0, draw.expovariate(1.0) * trouble.life / workers
    while update < updates:
        slowest = max(draw.gauss(1.0, trouble.jitter) for _ in range(workers)) * slow
        now += share * max(slowest, 0.1) + exchange
        update += 1
        if now > fails:
            now += trouble.replaced
            update -= update % kept
            fails = now + draw.expovariate(1.0) * trouble.life / workers
    return updates * share / now


def main() -> None:
    print("Refining: efficiency by number of workers and shards a worker\n")
    cases = [(8, 16), (64, 16), (64, 128), (1024, 16), (1024, 128)]
    print("| trouble | " + " | ".join(f"{w} x {s}" for w, s in cases) + " |")
    print("|---" * (1 + len(cases)) + "|")
    for name, trouble in TROUBLES.items():
        values = [refining(w, w * s, trouble) for w, s in cases]
        print(f"| {name} | " + " | ".join(f"{value:.2f}" for value in values) + " |")
    print("\nTraining, mini-batches of 512: efficiency by number of processes\n")
    worlds = (2, 4, 8, 16, 32, 64)
    print("| trouble | " + " | ".join(map(str, worlds)) + " |")
    print("|---" * (1 + len(worlds)) + "|")
    for name, trouble in TROUBLES.items():
        values = [training(world, 512, trouble) for world in worlds]
        print(f"| {name} | " + " | ".join(f"{value:.2f}" for value in values) + " |")


if __name__ == "__main__":
    main()
