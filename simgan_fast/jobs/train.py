"""Train a refiner: two packed sets in, a run folder out. The algorithm itself is in `simgan_fast.training`."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch

from simgan_fast.config import TrainingConfig, load_config, save_config
from simgan_fast.data import open_images
from simgan_fast.data.feed import ResidentFeed
from simgan_fast.data.packed import PackedSet, open_packed
from simgan_fast.devices import usable_device
from simgan_fast.errors import InputError
from simgan_fast.files import require_absent_or_empty
from simgan_fast.models.refiner import Refiner
from simgan_fast.ops import gather_normalize, release_memory
from simgan_fast.training.algorithm import SimGAN
from simgan_fast.training.run import Run
from simgan_fast.training.state import latest_checkpoint, load_checkpoint

SYNTHETIC_STREAM, REAL_STREAM = 16, 17  # of the keyed permutation; the history has streams 0 to 2
SAMPLES = 10  # images in a row of the sample grid


def train(
    synthetic: str | Path,
    real: str | Path,
    out: str | Path,
    config: TrainingConfig | None = None,
    *,
    size: tuple[int, int] | None = None,
    device: str = "cpu",
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

    Returns the trained refiner, also saved as `out`/refiner (`Refiner.from_pretrained(out)`).
    Raises InputError for unusable input, TrainingDiverged when a loss is not finite, Interrupted on
    SIGINT or SIGTERM after a checkpoint was written.

    >>> refiner = train("simulated", "photographs", "runs/first")  # doctest: +SKIP
    """
    config, out = config or TrainingConfig(), Path(out)
    usable_device(device)
    require_absent_or_empty(out)
    existed = out.exists()
    try:
        synthetic_set = open_images(synthetic, size=size, cache=out / "data" / "synthetic")
        real_set = _open_like(synthetic_set, real, out / "data" / "real")
        out.mkdir(parents=True, exist_ok=True)
        save_config(out / "config.toml", config, _origin(out, synthetic_set, real_set))
    except BaseException:  # nothing was trained yet: leave no half-made run behind
        shutil.rmtree(out / "data" if existed else out, ignore_errors=True)
        raise
    return _finished(_new_run(out, config, synthetic_set, real_set, device))


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
    if _origin(out, synthetic_set, real_set) != origin:
        raise InputError(
            f"the images of {out} have changed since it began: restore them, or start a new run."
        )
    run = _new_run(out, config, synthetic_set, real_set, device)
    run.done |= load_checkpoint(latest_checkpoint(out / "checkpoints"), run.simgan)
    return _finished(run)


def _finished(run: Run) -> Refiner:
    try:
        return run.finish()
    finally:
        release_memory()  # a training step's, kept between steps


def _new_run(
    out: Path, config: TrainingConfig, synthetic: PackedSet, real: PackedSet, device: str
) -> Run:
    feeds = (
        ResidentFeed(
            synthetic, config.batch_size, seed=config.seed, stream=SYNTHETIC_STREAM, device=device
        ),
        ResidentFeed(real, config.batch_size, seed=config.seed, stream=REAL_STREAM, device=device),
    )
    first = torch.arange(SAMPLES, device=device)
    samples = [gather_normalize(feed.images, first % len(feed)) for feed in feeds]
    simgan = SimGAN(config, synthetic.shape, *feeds, device=device)
    return Run(out, simgan, (samples[0], samples[1]))


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
