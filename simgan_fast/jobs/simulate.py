"""Write simulated, labelled images to disk: the simulators themselves are in `simgan_fast.simulators`."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from simgan_fast.data.export import open_writer
from simgan_fast.devices import single_threads
from simgan_fast.errors import InputError
from simgan_fast.progress import Progress
from simgan_fast.simulators.eyes import EyeBatch, simulate_eyes

SUBJECTS = ("eyes",)
BATCH = 256  # images that a thread renders at a time
AHEAD = 4  # batches rendered before they are asked for


def simulate(
    subject: str,
    out: str | Path,
    *,
    count: int = 10_000,
    domain: str = "plain",
    size: tuple[int, int] = (35, 55),
    seed: int = 0,
    start: int = 0,
    format: str = "arrow",
) -> None:
    """Write images `start` to `start + count` of a simulator into `out`, which appears whole.

    Args:
        subject: "eyes" (docs/simulator.md): grey eye regions, labels `gaze`, `pupil`, `eyelids`.
        out: a new folder; of hdf5 a new file.
        domain: "plain", what a simulator gives, or "camera", which stands in for photographs where
            there are none.
        size: (height, width) in pixels.
        seed, start: image i is the same in every job of the same seed.
        format: one of `simgan_fast.data.export.FORMATS`; docs/file_formats.md has what each writes.

    Raises InputError for a subject, domain, size or count that cannot be, or an `out` that holds
    something.

    >>> simulate("eyes", "simulated", count=1000)  # doctest: +SKIP
    """
    if subject not in SUBJECTS:
        raise InputError(f"subject is {subject!r}: this version simulates {', '.join(SUBJECTS)}.")
    if count < 1:
        raise InputError(f"count is {count}: simulate at least one image.")
    first = next(simulate_eyes(1, seed=seed, size=size, domain=domain, start=start))
    labels = {name: values.shape[1] for name, values in first.labels.items()}
    writer = open_writer(
        out, format=format, shape=first.images.shape[1:], labels=labels, dtype="uint8"
    )
    with writer, Progress(count, "image", f"simulate {domain} {subject}") as progress:
        for batch in _batches(start, start + count, seed=seed, size=size, domain=domain):
            numbers = range(batch.start, batch.start + len(batch))
            names = [f"{domain}-{seed}-{number:07d}.png" for number in numbers]
            source = f"simulate {subject} {domain} seed {seed}"
            writer.add(batch.images, names, batch.labels, source=source)
            progress.update(len(names))


def _batches(start: int, end: int, **settings: Any) -> Iterator[EyeBatch]:
    """Images `start` to `end` in order, rendered by as many threads as torch has."""

    def render(first: int) -> EyeBatch:
        count = min(end, first + BATCH) - first
        return next(simulate_eyes(count, start=first, batch_size=count, **settings))

    with single_threads() as pool:
        running: deque[Future[EyeBatch]] = deque()
        for first in range(start, end, BATCH):
            running.append(pool.submit(render, first))
            if len(running) > AHEAD:
                yield running.popleft().result()
        while running:
            yield running.popleft().result()
