"""Train a refiner: two packed sets in, a run folder out. The algorithm itself is in `simgan_fast.training`."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from simgan_fast.config import TrainingConfig, load_config, save_config
from simgan_fast.data import open_images
from simgan_fast.data.feed import ResidentFeed, StreamFeed
from simgan_fast.data.packed import PackedSet, open_packed
from simgan_fast.devices import usable_device
from simgan_fast.errors import InputError
from simgan_fast.files import require_absent_or_empty
from simgan_fast.memory import free_memory
from simgan_fast.models.refiner import Refiner
from simgan_fast.ops import gather_normalize, release_memory
from simgan_fast.progress import say
from simgan_fast.training.algorithm import SimGAN
from simgan_fast.training.run import Run
from simgan_fast.training.state import latest_checkpoint, load_checkpoint

SYNTHETIC_STREAM, REAL_STREAM = 16, 17  # of the keyed permutation; the history has streams 0 to 2
FEEDS: dict[str, type[ResidentFeed] | type[StreamFeed]] = {
    "resident": ResidentFeed,
    "stream": StreamFeed,
}
SAMPLES = 10  # images in a row of the sample grid


def train(
    synthetic: str | Path,
    real: str | Path,
    out: str | Path,
    config: TrainingConfig | None = None,
    *,
    size: tuple[int, int] | None = None,
    device: str = "cpu",
    feed: str = "auto",
) -> Refiner:
    """Learn to refine `synthetic` images toward `real` ones (Shrivastava et al., CVPR 2017, Algorithm 1).

    Args:
        synthetic, real: packed sets or folders of PNG and JPEG images; folders are packed below
            `out`/data. Labels are not used.
        out: new run folder: config.toml, checkpoints/, refiner/, metrics.csv, tensorboard/, samples/.
        config: settings, `preset("eyes")` if left out.
        size: (height, width) that folders are resized to. By default the synthetic images keep
            theirs, and a folder of real images is resized to it.
        device: a torch device.
        feed: "resident", both sets in the memory of the device; "stream", read from the disk as they are used; "auto",
            resident if the sets take at most half of the memory that is free, which one line on standard error tells.

    Returns the trained refiner, also saved as `out`/refiner (`Refiner.from_pretrained(out)`).
    Raises InputError for unusable input, TrainingDiverged when a loss is not finite, Interrupted on
    SIGINT or SIGTERM after a checkpoint was written.

    >>> refiner = train("simulated", "photographs", "runs/first")  # doctest: +SKIP
    """
    config, out = config or TrainingConfig(), Path(out)
    where = usable_device(device)
    if feed not in ("auto", *FEEDS):
        raise InputError(f"feed is {feed!r}: want one of auto, {', '.join(FEEDS)}.")
    require_absent_or_empty(out)
    existed = out.exists()
    try:
        synthetic_set = open_images(synthetic, size=size, cache=out / "data" / "synthetic")
        real_set = _open_like(synthetic_set, real, out / "data" / "real")
        if feed == "auto":
            feed = _chosen_feed([synthetic_set, real_set], where)
        origin = {**_origin(out, synthetic_set, real_set), "feed": feed}
        out.mkdir(parents=True, exist_ok=True)
        save_config(out / "config.toml", config, origin)
    except BaseException:  # nothing was trained yet: leave no half-made run behind
        shutil.rmtree(out / "data" if existed else out, ignore_errors=True)
        raise
    return _finished(_new_run(out, config, synthetic_set, real_set, device, feed))


def train_or_resume(
    synthetic: str | Path,
    real: str | Path,
    out: str | Path,
    config: TrainingConfig,
    *,
    device: str = "cpu",
) -> None:
    """`train`, or `resume` where `out` has a checkpoint of it already: for jobs that go on where they stopped."""
    out = Path(out)
    if any((out / "checkpoints").glob("update-*.safetensors")):
        resume(out, device=device)
    else:
        shutil.rmtree(out, ignore_errors=True)  # killed before its first one: nothing to keep
        train(synthetic, real, out, config, device=device)


def resume(out: str | Path, *, device: str = "cpu") -> Refiner:
    """Go on with the run in `out` from its newest checkpoint, bit for bit on the CPU.

    Raises InputError where `out` is no run, was written in another format, or its data have
    changed.
    """
    out = Path(out)
    usable_device(device)
    config, origin = load_config(out / "config.toml")
    try:
        synthetic_set, real_set = (
            open_packed(out / origin["synthetic"]),
            open_packed(out / origin["real"]),
        )
    except KeyError as error:
        raise InputError(
            f"{out}/config.toml does not say where the {error} images are: restore it."
        ) from None
    feed = origin.pop("feed", "resident")  # runs from before there was another have none
    if feed not in FEEDS:
        raise InputError(f"{out}/config.toml has the feed {feed!r}: restore it.")
    if _origin(out, synthetic_set, real_set) != origin:
        raise InputError(
            f"the images of {out} have changed since it began: restore them, or start a new run."
        )
    run = _new_run(out, config, synthetic_set, real_set, device, feed)
    run.done |= load_checkpoint(latest_checkpoint(out / "checkpoints"), run.simgan)
    return _finished(run)


def _finished(run: Run) -> Refiner:
    try:
        return run.finish()
    finally:
        release_memory()  # a training step's, kept between steps


def _new_run(
    out: Path,
    config: TrainingConfig,
    synthetic: PackedSet,
    real: PackedSet,
    device: str,
    feed: str,
) -> Run:
    kind = FEEDS[feed]
    feeds = [
        kind(
            images,
            config.batch_size,
            seed=config.seed,
            stream=stream,
            device=device,
            flip=config.flip == "on",
        )
        for images, stream in ((synthetic, SYNTHETIC_STREAM), (real, REAL_STREAM))
    ]
    samples = (_samples(synthetic, device), _samples(real, device))
    return Run(out, SimGAN(config, synthetic.shape, feeds[0], feeds[1], device=device), samples)


def _samples(images: PackedSet, device: str) -> Tensor:
    """The first images, from the first on again where there are fewer than SAMPLES."""
    first = torch.from_numpy(np.array(images.images(0, SAMPLES))).to(device)
    return gather_normalize(first, torch.arange(SAMPLES, device=device) % len(first))


def _chosen_feed(sets: Sequence[PackedSet], device: torch.device) -> str:
    """ "resident" where the sets take at most half of the free memory, else "stream"; says which and why."""
    needed = sum(images.nbytes for images in sets)
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else free_memory()
    feed = "resident" if needed <= free / 2 else "stream"
    amounts = [f"{amount / 2**20:,.0f} MiB" for amount in (needed, free)]
    say(f"feed: {feed}, as the images take {amounts[0]} and {amounts[1]} are free on {device}")
    return feed


def _open_like(synthetic: PackedSet, real: str | Path, cache: Path) -> PackedSet:
    """Open the real images in the shape of the synthetic ones, resizing where they are a folder."""
    channels, height, width = synthetic.shape
    real_set = open_images(real, size=(height, width), channels=channels, cache=cache)
    if real_set.shape != synthetic.shape or real_set.dtype != synthetic.dtype:
        raise InputError(
            f"real images are {real_set.dtype} {real_set.shape}, synthetic ones {synthetic.dtype} {synthetic.shape} "
            "(channels, height, width): make both sets alike."
        )
    return real_set


def _origin(out: Path, synthetic: PackedSet, real: PackedSet) -> dict[str, str]:
    """Where the two sets lie, relative to the run where they are below it, and what they held."""
    origin = {}
    for name, images in (("synthetic", synthetic), ("real", real)):
        path = images.path.resolve()
        below = path.is_relative_to(out.resolve())
        origin[name] = str(path.relative_to(out.resolve()) if below else path)
        origin[f"{name}_digest"] = images.info["digest"]
    return origin
