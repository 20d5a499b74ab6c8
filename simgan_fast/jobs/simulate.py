"""Write simulated, labelled images to disk: the simulators themselves are in `simgan_fast.simulators`."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from simgan_fast.data.export import open_writer
from simgan_fast.devices import single_threads
from simgan_fast.errors import InputError
from simgan_fast.progress import Progress
from simgan_fast.simulators.eyes import simulate_eyes
from simgan_fast.simulators.hands import simulate_hands
from simgan_fast.simulators.stream import Batch

SIMULATORS: dict[str, Callable[..., Iterator[Batch]]] = {
    "eyes": simulate_eyes,
    "hands": simulate_hands,
}
SUBJECTS = tuple(SIMULATORS)
OF_HANDS = ("views", "poses", "crop", "values", "skeleton")  # options that eyes do not have
BATCH = 192  # images that a thread renders at a time: whole blocks of eyes, and of hands from three views
AHEAD = 4  # batches rendered before they are asked for


def simulate(
    subject: str,
    out: str | Path,
    *,
    count: int = 10_000,
    domain: str = "plain",
    size: tuple[int, int] | None = None,
    seed: int = 0,
    start: int = 0,
    format: str = "arrow",
    **options: Any,
) -> None:
    """Write images `start` to `start + count` of a simulator into `out`, which appears whole.

    Args:
        subject: "eyes" (docs/simulator.md): grey eye regions, labels `gaze`, `pupil`, `eyelids`; or "hands"
            (docs/hand_simulator.md): 16-bit depth, labels `joints`, `joints_xyz`, `centre`, `box`, `frame`, `view`.
        out: a new folder; of hdf5 a new file.
        domain: "plain", what a simulator gives, or "camera", which stands in for photographs where
            there are none.
        size: (height, width) in pixels; by default 35x55 of eyes, 224x224 of hands, and 480x640 of hands that
            are not cropped.
        seed, start: image i is the same in every job of the same seed.
        format: one of `simgan_fast.data.export.FORMATS`; docs/file_formats.md has what each writes.
        options: of hands, those of OF_HANDS, as `simulate_hands` takes them.

    Raises InputError for a subject, domain, size, option or count that cannot be, or an `out` that holds
    something.

    >>> simulate("eyes", "simulated", count=1000)  # doctest: +SKIP
    """
    if subject not in SUBJECTS:
        raise InputError(f"subject is {subject!r}: this version simulates {', '.join(SUBJECTS)}.")
    if count < 1:
        raise InputError(f"count is {count}: simulate at least one image.")
    if options and subject != "hands":
        raise InputError(
            f"{', '.join(options)}: only hands have that, and the subject is {subject}."
        )
    if unknown := sorted(options.keys() - OF_HANDS):
        raise InputError(
            f"{', '.join(unknown)}: no option of hands, which are {', '.join(OF_HANDS)}."
        )
    settings = {"seed": seed, "domain": domain, **options, **({"size": size} if size else {})}
    simulator = SIMULATORS[subject]
    first = next(simulator(1, start=start, **settings))
    labels = {name: values.shape[1] for name, values in first.labels.items()}
    shape, dtype = first.images.shape[1:], first.images.dtype.name
    writer = open_writer(out, format=format, shape=shape, labels=labels, dtype=dtype)
    with writer, Progress(count, "image", f"simulate {domain} {subject}") as progress:
        for batch in _batches(simulator, start, start + count, settings):
            names = _names(batch, f"{domain}-{seed}", options.get("views", 1))
            source = f"simulate {subject} {domain} seed {seed}"
            writer.add(batch.images, names, batch.labels, source=source)
            progress.update(len(names))


def _names(batch: Batch, prefix: str, views: int) -> list[str]:
    """By number; of several views the pose's number and the view's, as the NYU hands have both."""
    numbers = range(batch.start, batch.start + len(batch))
    if views == 1:
        return [f"{prefix}-{number:07d}.png" for number in numbers]
    return [f"{prefix}-{number // views:07d}-{number % views + 1}.png" for number in numbers]


def _batches(
    simulator: Callable[..., Iterator[Batch]], start: int, end: int, settings: dict[str, Any]
) -> Iterator[Batch]:
    """Images `start` to `end` in order, rendered by as many threads as torch has."""

    def render(first: int) -> Batch:
        count = min(end, first + BATCH) - first
        return next(simulator(count, start=first, batch_size=count, **settings))

    with single_threads() as pool:
        running: deque[Future[Batch]] = deque()
        for first in range(start, end, BATCH):
            running.append(pool.submit(render, first))
            if len(running) > AHEAD:
                yield running.popleft().result()
        while running:
            yield running.popleft().result()
