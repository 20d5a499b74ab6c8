"""Write simulated, labelled images to disk: the simulators themselves are in `simgan_fast.simulators`."""

from __future__ import annotations

from pathlib import Path

from simgan_fast.data.export import open_writer
from simgan_fast.errors import InputError
from simgan_fast.progress import Progress
from simgan_fast.simulators.eyes import simulate_eyes

SUBJECTS = ("eyes",)


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
    """Write images `start` to `start + count` of a simulator into the new folder `out`, which appears whole.

    Args:
        subject: "eyes" (docs/simulator.md): grey eye regions, labels `gaze`, `pupil`, `eyelids`.
        out: a new folder.
        domain: "plain", what a simulator gives, or "camera", which stands in for photographs where
            there are none.
        size: (height, width) in pixels.
        seed, start: image i is the same in every job of the same seed.
        format: "arrow" (a packed set) or "png" (a folder of PNG files and labels.csv).

    Raises InputError for a subject, domain, size or count that cannot be, or an `out` that holds
    something.

    >>> simulate("eyes", "simulated", count=1000)  # doctest: +SKIP
    """
    if subject not in SUBJECTS:
        raise InputError(f"subject is {subject!r}: this version simulates {', '.join(SUBJECTS)}.")
    if count < 1:
        raise InputError(f"count is {count}: simulate at least one image.")
    batches = simulate_eyes(count, seed=seed, size=size, domain=domain, start=start)
    first = next(batches)
    labels = {name: values.shape[1] for name, values in first.labels.items()}
    writer = open_writer(
        out, format=format, shape=first.images.shape[1:], labels=labels, dtype="uint8"
    )
    with writer, Progress(count, "image", f"simulate {domain} {subject}") as progress:
        number, batch = start, first
        while True:
            names = [
                f"{domain}-{seed}-{index:07d}.png"
                for index in range(number, number + len(batch.images))
            ]
            writer.add(
                batch.images, names, batch.labels, source=f"simulate {subject} {domain} seed {seed}"
            )
            progress.update(len(names))
            number += len(names)
            following = next(batches, None)
            if following is None:
                return
            batch = following
