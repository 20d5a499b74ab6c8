"""Train a refiner: two packed sets in, a run folder out. The algorithm itself is in `simgan_fast.training`."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from simgan_fast.config import TrainingConfig, load_config, save_config
from simgan_fast.data import open_images
from simgan_fast.data.feed import ResidentFeed, StreamFeed
from simgan_fast.data.packed import PackedSet, is_packed, open_packed
from simgan_fast.devices import device_of_process, usable_device
from simgan_fast.errors import InputError, TrainingDiverged
from simgan_fast.files import folder_locked, require_absent_or_empty, require_outside
from simgan_fast.jobs.refine import hand_encoding
from simgan_fast.jobs.selection import held_out, open_selection
from simgan_fast.memory import free_memory
from simgan_fast.models.refiner import Refiner
from simgan_fast.ops import gather_normalize, release_memory
from simgan_fast.precision import chosen_precision
from simgan_fast.progress import say
from simgan_fast.training.algorithm import SimGAN
from simgan_fast.training.graphs import graphs_for
from simgan_fast.training.processes import ALONE, Processes, processes_of, under_torchrun
from simgan_fast.training.run import Run
from simgan_fast.training.selection import Selection, best_of
from simgan_fast.training.state import (
    checkpoint_path,
    latest_checkpoint,
    latest_update,
    load_checkpoint,
)

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
    labelled: str | Path | None = None,
) -> Refiner:
    """Learn to refine `synthetic` images toward `real` ones (Shrivastava et al., CVPR 2017, Algorithm 1).

    Args:
        synthetic, real: packed sets or folders of PNG and JPEG images; folders are packed below
            `out`/data. Labels are not used, but for gaze where `config` selects by it. Several processes take packed
            sets only.
        out: new run folder: config.toml, checkpoints/, refiner/, metrics.csv, tensorboard/, samples/.
        config: settings, `preset("eyes")` if left out.
        size: (height, width) that folders are resized to. By default the synthetic images keep
            theirs, and a folder of real images is resized to it.
        device: a torch device.
        feed: "resident", both sets in the memory of the device; "stream", read from the disk as they are used; "auto",
            resident if the sets take at most half of the memory that is free, which one line on standard error tells.
        labelled: labelled real images, neither trained nor tested on, to select by gaze with.

    Returns the trained refiner, also saved as `out`/refiner; where one was selected, that one, `out`/best
    (`Refiner.from_pretrained(out)` gives the same).
    Raises InputError for unusable input, TrainingDiverged when a loss is not finite, Interrupted on
    SIGINT or SIGTERM after a checkpoint was written.

    Several processes, started by torchrun or with a process group of torch's, train one model together: each takes
    its share of every mini-batch, and the first one writes. Where they are started again with the same arguments,
    they go on from the newest checkpoint; one process under torchrun does so too, with packed sets and no selection.
    Raises ProcessLost where one of them is gone.

    >>> refiner = train("simulated", "photographs", "runs/first")  # doctest: +SKIP
    """
    config, out = config or TrainingConfig(), Path(out)
    device = device_of_process(device)
    usable_device(device)
    chosen_precision(config.precision, device, "uint8")  # InputError where there is no such
    if feed not in ("auto", *FEEDS):
        raise InputError(f"feed is {feed!r}: want one of auto, {', '.join(FEEDS)}.")
    require_outside(out, synthetic, real, *([labelled] if labelled else []))
    with processes_of(device) as processes:
        several, plain = processes.world > 1, size is None and labelled is None
        if several and not plain:
            raise InputError(
                "several processes train from packed sets, and do not select: give them neither a size nor a "
                "labelled set."
            )
        packed = is_packed(synthetic) and is_packed(real)
        begun = under_torchrun() and (out / "config.toml").is_file()
        if several or (begun and plain and packed and config.select_by == "none"):
            run = _begun_or_again(synthetic, real, out, config, device, feed, processes)
        else:
            require_absent_or_empty(out)
            with _removed_if_never_begun(out):
                run = _begun(synthetic, real, out, config, size, device, feed, labelled)
                return _finished(run)
        return _finished(run)


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

    The number of processes may be another than before. Raises InputError where `out` is no run, was written in
    another format, or its data have changed.
    """
    out, device = Path(out), device_of_process(device)
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
    labelled, labelled_digest = (origin.pop(key, None) for key in ("labelled", "labelled_digest"))
    same_labelled = (
        labelled is None or open_packed(out / labelled).info["digest"] == labelled_digest
    )
    if not same_labelled or _origin(out, synthetic_set, real_set) != origin:
        raise InputError(
            f"the images of {out} have changed since it began: restore them, or start a new run."
        )
    latest_checkpoint(out / "checkpoints")  # InputError where there is none
    with processes_of(device) as processes:
        run = _new_run(out, config, synthetic_set, real_set, device, feed, processes)
        run.selection = _selection(config, labelled, out, device, processes)
        _load_newest(run)
        return _finished(run)


def _begun(
    synthetic: str | Path,
    real: str | Path,
    out: Path,
    config: TrainingConfig,
    size: tuple[int, int] | None,
    device: str,
    feed: str,
    labelled: str | Path | None,
) -> Run:
    """A new run of one process."""
    synthetic_set = open_images(synthetic, size=size, cache=out / "data" / "synthetic")
    real_set = _open_like(synthetic_set, real, out / "data" / "real")
    synthetic_set, real_set, chosen_by = held_out(config, synthetic_set, real_set, labelled, out)
    if feed == "auto":
        feed = _chosen_feed([synthetic_set, real_set], torch.device(device))
    origin = {**_origin(out, synthetic_set, real_set), **chosen_by, "feed": feed}
    out.mkdir(parents=True, exist_ok=True)
    save_config(out / "config.toml", config, origin)
    run = _new_run(out, config, synthetic_set, real_set, device, feed, ALONE)
    run.selection = _selection(config, chosen_by.get("labelled"), out, device, ALONE)
    return run


@contextmanager
def _removed_if_never_begun(out: Path) -> Iterator[None]:
    """Where the block fails before the first checkpoint, remove what it has made in `out`, new or empty before.

    Its name is free again then. What has diverged stays, with its numbers to look at.
    """
    existed = out.exists()
    try:
        yield
    except BaseException as failure:
        begun = latest_update(out / "checkpoints") >= 0
        if out.exists() and not begun and not isinstance(failure, TrainingDiverged):
            with suppress(InputError), folder_locked(out, ""):  # unless another trains there now
                for path in out.iterdir() if existed else [out]:
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
        raise


def _selection(
    config: TrainingConfig, labelled: str | None, out: Path, device: str, processes: Processes
) -> Selection | None:
    """What measures the run's refiners, if anything does: one process."""
    if config.select_by != "none" and processes.world > 1:
        raise InputError(
            f"select_by is {config.select_by!r}: several processes cannot select yet, use one, or select_by 'none'."
        )
    return open_selection(config, labelled, out, device)


def _begun_or_again(
    synthetic: str | Path,
    real: str | Path,
    out: Path,
    config: TrainingConfig,
    device: str,
    feed: str,
    processes: Processes,
) -> Run:
    """A run of processes that torchrun has started: a new one, or the same where it starts them again, perhaps fewer.

    The first process packs no folders while the others wait: they would give up.
    """
    _selection(config, None, out, device, processes)  # refuses
    synthetic_set, real_set = open_packed(synthetic), open_packed(real)
    _require_alike(synthetic_set, real_set)
    origin = _origin(out, synthetic_set, real_set)
    if processes.most((out / "config.toml").is_file()):  # the same for all, whoever writes it when
        begun, began_from = load_config(out / "config.toml")
        kept = began_from.pop("feed", "resident")
        if (begun, began_from) != (config, origin) or feed not in ("auto", kept):
            raise InputError(
                f"{out} is a run with other settings or images: name a new folder, or go on with --resume."
            )
        feed = kept
    else:
        require_absent_or_empty(out)
        if feed == "auto":
            mine = _chosen_feed([synthetic_set, real_set], torch.device(device), processes.first)
            feed = "stream" if processes.most(mine == "stream") else "resident"
        if processes.first:
            out.mkdir(parents=True, exist_ok=True)
            save_config(out / "config.toml", config, {**origin, "feed": feed})
    run = _new_run(out, config, synthetic_set, real_set, device, feed, processes)
    _load_newest(run)
    return run


def _load_newest(run: Run) -> None:
    """Go on from the newest checkpoint that one of the processes sees, or from nothing where there is none."""
    folder = run.folder / "checkpoints"
    update = run.processes.most(latest_update(folder))
    if update >= 0:
        run.done |= load_checkpoint(checkpoint_path(folder, update), run.simgan)


def _finished(run: Run) -> Refiner:
    try:
        refiner = run.finish()
        if best_of(run.folder) is None:
            return refiner
        return Refiner.from_pretrained(run.folder).to(next(refiner.parameters()).device)
    finally:
        release_memory()  # a training step's, kept between steps


def _new_run(
    out: Path,
    config: TrainingConfig,
    synthetic: PackedSet,
    real: PackedSet,
    device: str,
    feed: str,
    processes: Processes,
) -> Run:
    kind = FEEDS[feed]
    feeds = [
        kind(
            images,
            2 * processes.share(config.batch_size // 2),
            seed=config.seed,
            stream=stream,
            device=device,
            flip=config.flip == "on",
            rank=processes.rank,
            world=processes.world,
        )
        for images, stream in ((synthetic, SYNTHETIC_STREAM), (real, REAL_STREAM))
    ]
    samples = (_samples(synthetic, device), _samples(real, device))
    precision = chosen_precision(config.precision, device, synthetic.dtype)
    graphs = graphs_for(torch.device(device), processes.world)
    simgan = SimGAN(
        config,
        synthetic.shape,
        feeds[0],
        feeds[1],
        device,
        processes,
        precision=precision,
        graphs=graphs,
    )
    return Run(out, simgan, samples)


def _samples(images: PackedSet, device: str) -> Tensor:
    """The first images, from the first on again where there are fewer than SAMPLES."""
    first = torch.from_numpy(np.array(images.images(0, SAMPLES))).to(device)
    return gather_normalize(first, torch.arange(SAMPLES, device=device) % len(first))


def _chosen_feed(sets: Sequence[PackedSet], device: torch.device, aloud: bool = True) -> str:
    """ "resident" where the sets take at most half of the free memory, else "stream"; says which and why."""
    needed = sum(images.nbytes for images in sets)
    if device.type == "cpu":  # each of torchrun's processes on this machine has its own
        needed *= int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else free_memory()
    feed = "resident" if needed <= free / 2 else "stream"
    amounts = [f"{amount / 2**20:,.0f} MiB" for amount in (needed, free)]
    if aloud:
        say(f"feed: {feed}, as the images take {amounts[0]} and {amounts[1]} are free on {device}")
    return feed


def _open_like(synthetic: PackedSet, real: str | Path, cache: Path) -> PackedSet:
    """Open the real images in the shape of the synthetic ones, resizing where they are a folder."""
    channels, height, width = synthetic.shape
    real_set = open_images(real, size=(height, width), channels=channels, cache=cache)
    _require_alike(synthetic, real_set)
    return real_set


def _require_alike(synthetic: PackedSet, real: PackedSet) -> None:
    if real.shape != synthetic.shape or real.dtype != synthetic.dtype:
        raise InputError(
            f"real images are {real.dtype} {real.shape}, synthetic ones {synthetic.dtype} {synthetic.shape} "
            "(channels, height, width): make both sets alike."
        )
    _require_one_encoding(synthetic, real)


def _require_one_encoding(synthetic: PackedSet, real: PackedSet) -> None:
    """InputError for depth of hands, which has the label `centre`, that is plain millimetres or of two encodings."""
    if not all("centre" in images.labels for images in (synthetic, real)):
        return
    found = {"synthetic": hand_encoding(synthetic), "real": hand_encoding(real)}
    for name, encoding in found.items():
        if encoding == "millimetres":
            raise InputError(
                f"the {name} images are plain millimetres, of which a whole hand spans 0.3 % of the range: make both "
                "sets with --values paper, or both with metric."
            )
    if None not in found.values() and found["synthetic"] != found["real"]:
        raise InputError(
            f"the synthetic images are in the encoding {found['synthetic']} and the real ones in {found['real']}: make "
            "both with the same --values."
        )


def _origin(out: Path, synthetic: PackedSet, real: PackedSet) -> dict[str, str]:
    """Where the two sets lie, relative to the run where they are below it, and what they held."""
    origin = {}
    for name, images in (("synthetic", synthetic), ("real", real)):
        path = images.path.resolve()
        below = path.is_relative_to(out.resolve())
        origin[name] = str(path.relative_to(out.resolve()) if below else path)
        origin[f"{name}_digest"] = images.info["digest"]
    return origin
