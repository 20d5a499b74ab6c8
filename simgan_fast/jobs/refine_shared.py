"""Refine one set by any number of processes that see the same folder, on one machine or many, without a coordinator."""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import json
import os
import random
import shutil
import tempfile
import time
from collections import deque
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from safetensors.torch import save

from simgan_fast.claims import Claims
from simgan_fast.data.packed import PackedSet, is_packed, open_packed
from simgan_fast.data.packed_format import (
    REJECTS_FILE,
    SET_FILE,
    read_description,
    rejects_text,
    set_digest,
)
from simgan_fast.data.packed_writer import PackedWriter, images_per_shard
from simgan_fast.devices import usable_device
from simgan_fast.errors import InputError
from simgan_fast.files import move_folder, require_absent_or_empty, require_outside, written_whole
from simgan_fast.jobs.refine import (
    PLAUSIBLE,
    RefineResult,
    hand_encoding,
    refined_batches,
    require_batch_size,
    require_channels,
)
from simgan_fast.models.refiner import Refiner, read_refiner
from simgan_fast.precision import chosen_precision
from simgan_fast.progress import Progress

LEASE = 60.0  # seconds
JOB_FILE = "job.json"
TRIES = 16  # shards in a row that are not to be had, before a worker lists them anew or waits
SEALED = "sealed"  # the claim on putting all together
CACHED = 60.0  # seconds for which a file system may remember that something was not there: acdirmax of NFS


def refine_shared(
    refiner: Refiner | str | Path,
    source: str | Path,
    out: str | Path,
    *,
    batch_size: int = 64,
    device: str = "cpu",
    precision: str = "auto",
    lease: float = LEASE,
) -> RefineResult:
    """Do a share of refining the packed set `source` into the packed set `out`, and return when all of it is done.

    Every process that is called with the same arguments takes shards that no other has, until none is left; the last
    one seals the set. They may join, leave and be killed at any time: what is finished stays in a hidden folder
    beside `out`, and a call that finds `out` done does nothing. Shards and set.json are those of
    `refine(..., format="arrow")`, byte for byte, where the processors are alike; job.json is added, which tells what
    the set was made from.

    Args:
        refiner, batch_size, device, precision: as `refine` has them.
        source: a packed set.
        out: a new folder, on a file system that all processes see.
        lease: seconds without a sign of life after which the shard of another process is taken over.

    Returns what this process did. Raises InputError for unusable input, and an `out` that holds something else.

    >>> refine_shared("runs/first", "simulated", "refined")  # doctest: +SKIP
    """
    usable_device(device)
    require_batch_size(batch_size)
    require_outside(out, source)
    refiner = read_refiner(refiner)
    if not lease > 0:
        raise InputError(f"lease is {lease}: it must be more than 0 seconds.")
    images, out = open_packed(source), Path(out)
    require_channels(refiner, images, source)
    precision = chosen_precision(precision, device, images.dtype)
    job = _job(refiner, images, batch_size, precision)
    key = hashlib.sha256(json.dumps(job).encode()).hexdigest()[:16]
    work = out.with_name(f".{out.name}.{key}.part")  # other arguments, another folder
    with _unless_finished(out):
        require_absent_or_empty(out)
        work.mkdir(parents=True, exist_ok=True)
    share = _Share(refiner, images, work, batch_size, device, precision)
    began = time.monotonic()
    with Progress(len(images), "image", "refine") as progress:
        claims = Claims(work, lease)
        with _unless_finished(out, CACHED):
            _make_all(share, claims, out, progress)
            pause = _Pause(lease)
            while not _finished(out):
                with claims.held(SEALED) as ours:
                    if ours:
                        _seal(share, out, job)
                if not ours:
                    pause()
    if _read_job(out) != job:
        raise InputError(f"{out} was made from other images or otherwise: name a new folder.")
    _remove(work)
    seconds = time.monotonic() - began
    return RefineResult(share.done, share.done / seconds, share.change / max(share.done, 1))


class _Share:
    """What one process makes of the set: shard i as a packed set of its own, `folder(i)`."""

    def __init__(
        self,
        refiner: Refiner,
        images: PackedSet,
        work: Path,
        batch_size: int,
        device: str,
        precision: str,
    ) -> None:
        self.refiner, self.images, self.work = refiner, images, work
        self.batch_size, self.device, self.precision = batch_size, device, precision
        self.full = images_per_shard(images.shape, images.dtype)
        self.shards = -(-len(images) // self.full)
        self.done, self.change = 0, 0.0

    def folder(self, shard: int) -> Path:
        return self.work / f"shard-{shard:05d}"

    def size(self, shards: Collection[int]) -> int:
        """How many images some shards have: all but the last shard of the set are full."""
        lacking = self.shards * self.full - len(self.images)
        return len(shards) * self.full - lacking * (self.shards - 1 in shards)

    def unfinished(self) -> deque[int]:
        """The shards that are not there, in random order: workers that start together part ways."""
        there = set(os.listdir(self.work))
        left = [i for i in range(self.shards) if self.folder(i).name not in there]
        random.shuffle(left)
        return deque(left)

    def make(self, shard: int) -> None:
        images, first = self.images, shard * self.full
        last = first + self.size([shard])
        labels = {name: values.shape[1] for name, values in images.labels.items()}
        folder = _made_alone(self.folder(shard))
        with PackedWriter(
            self.folder(shard), images.shape, labels, images.dtype, folder=folder
        ) as writer:
            # Whole batches of the set, cut to the shard: another batch might round otherwise.
            batches = refined_batches(
                self.refiner,
                images,
                self.batch_size,
                self.device,
                self.precision,
                start=first - first % self.batch_size,
                stop=last,
            )
            for start, refined, moved in batches:
                rows = slice(max(start, first), min(start + len(refined), last))
                mine = refined[rows.start - start : rows.stop - start]
                batch_labels = {name: values[rows] for name, values in images.labels.items()}
                writer.add(mine, images.names[rows], batch_labels)
                self.change += moved * len(mine) / len(refined)
        self.done += last - first


def _make_all(share: _Share, claims: Claims, out: Path, progress: Progress) -> None:
    """Make shards that nobody else has claimed, until all are finished, or the whole set is.

    A worker tries shards in an order of its own, and lists the folder again when it finds many finished by others: so
    the looks of all workers together grow little faster than the number of shards.
    """
    left, found, claimed = share.unfinished(), 0, 0  # found finished and found claimed, in a row
    pause = _Pause(claims.lease)
    while left and not _finished(out):
        shard = left.popleft()
        if _finished(share.folder(shard)):
            found += 1
        elif _claimed_and_made(share, shard, claims):
            found, claimed, pause = 0, 0, _Pause(claims.lease)
        else:
            claimed += 1
            left.append(shard)
        if found == TRIES:
            left, found = share.unfinished(), 0
        if claimed >= min(TRIES, len(left)) > 0:
            claimed = 0
            pause()
        progress.update(len(share.images) - share.size(left) - progress.done)


def _claimed_and_made(share: _Share, shard: int, claims: Claims) -> bool:
    with claims.held(share.folder(shard).name) as ours:
        if ours and not _finished(share.folder(shard)):
            with _unless_finished(share.folder(shard)):
                share.make(shard)
        return ours


def _seal(share: _Share, out: Path, job: dict[str, Any]) -> None:
    """Put the shards together, and move the set to `out` in one step."""
    with _unless_finished(out), _made_alone(share.work / SEALED, to=out) as folder:
        _assemble(share, folder, job)


@contextmanager
def _made_alone(path: Path, to: Path | None = None) -> Iterator[Path]:
    """Yield a new folder beside `path` that no other worker has, and rename it to `to` (`path`) in the end.

    OSError where another was there first. What a killed worker leaves goes with the folder that all work in.
    """
    own = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent))
    try:
        yield own
        own.chmod(path.parent.stat().st_mode)  # mkdtemp's are private
        move_folder(own, to or path)
    except BaseException:
        _remove(own)
        raise


def _remove(folder: Path) -> None:
    """Remove what may be gone already; where files are far away, rmtree raises that it is (ESTALE) all the same."""
    with suppress(OSError):
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _unless_finished(folder: Path, patience: float = 0) -> Iterator[None]:
    """What fails in the block is no failure if `folder` is finished: another worker was there first.

    `patience`: seconds in which that may still come to light, where what was to be worked on is gone.
    """
    try:
        yield
    except (OSError, InputError) as error:
        gone = isinstance(error, OSError) and error.errno in (errno.ENOENT, errno.ESTALE)
        end = time.monotonic() + patience * gone
        while not _finished(folder):
            if time.monotonic() >= end:
                raise
            time.sleep(0.2)


def _finished(folder: Path) -> bool:
    """Whether the packed set `folder` is there, on a file system that may remember what was not there."""
    with suppress(OSError):
        os.close(os.open(folder.parent, os.O_RDONLY))  # makes an NFS client ask the server anew
    return is_packed(folder)


class _Pause:
    """Waits longer each time it is called: many workers wait for the last few."""

    def __init__(self, lease: float) -> None:
        self.seconds, self.most = 0.1, lease / 4

    def __call__(self) -> None:
        time.sleep(min(self.seconds, self.most))
        self.seconds *= 2


def _assemble(share: _Share, folder: Path, job: dict[str, Any]) -> None:
    shards, description = [], {}
    for shard in range(share.shards):
        description = read_description(share.folder(shard) / SET_FILE)
        (written,) = description["shards"]
        file = f"shard-{shard:05d}.arrow"
        _link(share.folder(shard) / written["file"], folder / file)
        shards.append({**written, "file": file})
    description |= {"count": len(share.images), "shards": shards, "digest": set_digest(shards)}
    texts = {
        REJECTS_FILE: rejects_text(share.images.rejects),
        JOB_FILE: json.dumps(job, indent=1) + "\n",
        SET_FILE: json.dumps(description, indent=1) + "\n",
    }
    for name, text in texts.items():
        with written_whole(folder / name) as sink:
            sink.write(text.encode())


def _link(file: Path, to: Path) -> None:
    """A second name for a file; a copy on file systems that have no second names."""
    try:
        os.link(file, to)
    except OSError:
        with written_whole(to) as sink, open(file, "rb") as stream:
            shutil.copyfileobj(stream, sink)


def _job(refiner: Refiner, images: PackedSet, batch_size: int, precision: str) -> dict[str, Any]:
    """What the output depends on."""
    weights = {name: tensor.cpu().contiguous() for name, tensor in refiner.state_dict().items()}
    values = hand_encoding(images)
    return {
        "refiner": dataclasses.asdict(refiner.config),
        "weights_sha256": hashlib.sha256(save(weights)).hexdigest(),
        "source_digest": images.info["digest"],
        "batch_size": batch_size,
        "precision": precision,
        "images_per_shard": images_per_shard(images.shape, images.dtype),
    } | ({"plausible_depth": values} if values in PLAUSIBLE else {})


def _read_job(out: Path) -> Any:
    try:
        return json.loads((out / JOB_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
