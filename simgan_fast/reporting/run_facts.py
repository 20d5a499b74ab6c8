"""What a run folder says about its run, finished or not."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import zip_longest
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from simgan_fast.config import PRESETS, TrainingConfig, load_config
from simgan_fast.data.packed import is_packed
from simgan_fast.data.packed_format import SET_FILE, read_description
from simgan_fast.errors import InputError
from simgan_fast.training.logging import COLUMNS
from simgan_fast.training.selection import LOG as SELECTION_LOG
from simgan_fast.training.selection import best_of

MOST_BYTES = 100 << 20  # of a table: a million logged updates

Columns = dict[str, NDArray[np.float64]]


@dataclass(frozen=True)
class ImageSet:
    """One side of a run. `problem` says why the rest is not known; `shape` is (channels, height, width)."""

    side: str
    path: str
    digest: str
    images: int = 0
    shape: tuple[int, ...] = ()
    dtype: str = ""
    problem: str = ""


@dataclass(frozen=True)
class PhaseTime:
    """One part of a run: updates done of `total`, and what is known of the time they took."""

    name: str
    done: int
    total: int
    seconds: float | None
    images_per_second: float | None
    feed_share: float | None  # of the time, that went into waiting for images


@dataclass(frozen=True)
class RunFacts:
    """What `run_facts` found.

    `preset`: the one with the fewest other settings; `changed`: the names of those. `update`: the last one that was
    logged, of `total`. `checkpoint`: the update of the newest one. `metrics`: a column [rows] per number of
    metrics.csv, NaN where it is empty. `warnings`: (update, text). `samples`: (update, file), in order.
    `selection`: (update, value) of each measurement of the refiner; `selected`: those of the best, which is kept.
    """

    folder: Path
    config: TrainingConfig
    preset: str
    changed: list[str]
    sets: list[ImageSet]
    feed: str
    update: int
    total: int
    checkpoint: int | None
    finished: bool
    metrics: Columns
    phases: list[PhaseTime]
    warnings: list[tuple[int, str]]
    samples: list[tuple[int, Path]]
    selection: list[tuple[int, float]]
    selected: tuple[int, float] | None


def run_facts(folder: str | Path) -> RunFacts:
    """Gather what the run folder `folder` holds; no weights are read, and no images but their description.

    Raises InputError where it is no run folder, of another version, or a file of it is damaged.

    >>> run_facts("runs/first").update  # doctest: +SKIP
    1610
    """
    folder = Path(folder)
    config, origin = load_config(folder / "config.toml")
    phase, metrics = _metrics(folder / "metrics.csv")
    updates = metrics["update"]
    update, totals = int(updates.max()) if len(updates) else 0, _totals(config)
    checkpoint = max((n for n, _ in _numbered(folder / "checkpoints", "safetensors")), default=None)
    preset, changed = nearest_preset(config)
    return RunFacts(
        folder=folder,
        config=config,
        preset=preset,
        changed=changed,
        sets=[_image_set(folder, side, origin) for side in ("synthetic", "real")],
        feed=str(origin.get("feed", "")),
        update=max(update, checkpoint or 0),
        total=sum(totals.values()),
        checkpoint=checkpoint,
        finished=checkpoint == sum(totals.values()) and (folder / "refiner").is_dir(),
        metrics=metrics,
        phases=_phase_times(phase, metrics, totals, max(update, checkpoint or 0)),
        warnings=_warnings(folder / "warnings.csv"),
        samples=_numbered(folder / "samples", "png"),
        selection=[
            (int(row["update"]), _number(row.get("value"))) for row in _rows(folder / SELECTION_LOG)
        ],
        selected=best_of(folder),
    )


def nearest_preset(config: TrainingConfig) -> tuple[str, list[str]]:
    """The preset from which `config` differs in the fewest settings, and the names of those.

    >>> nearest_preset(TrainingConfig(seed=3))
    ('eyes', ['seed'])
    """
    settings = asdict(config)
    changes = {
        name: [key for key, value in asdict(preset).items() if value != settings[key]]
        for name, preset in PRESETS.items()
    }
    nearest = min(changes, key=lambda name: len(changes[name]))
    return nearest, changes[nearest]


def _totals(config: TrainingConfig) -> dict[str, int]:
    return {
        "pretrain_refiner": config.refiner_pretraining,
        "pretrain_discriminator": config.discriminator_pretraining,
        "train": config.steps,
    }


def _image_set(folder: Path, side: str, origin: Mapping[str, object]) -> ImageSet:
    path, digest = (str(origin.get(name, "")) for name in (side, f"{side}_digest"))
    if not path or not is_packed(folder / path):
        return ImageSet(side, path, digest, problem="no longer there")
    try:
        found = read_description(folder / path / SET_FILE)
    except (InputError, OSError, RecursionError) as error:
        return ImageSet(side, path, digest, problem=str(error))
    problem = "" if found["digest"] == digest else "changed since the run began"
    return ImageSet(
        side, path, digest, int(found["count"]), tuple(found["shape"]), found["dtype"], problem
    )


def _metrics(path: Path) -> tuple[list[str], Columns]:
    """The phase of each row, and the other columns; rows that are not whole are left out."""
    rows = list(_rows(path))
    numbers = [name for name in COLUMNS if name != "phase"]
    values = [[_number(row.get(name)) for name in numbers] for row in rows]
    table = np.array(values, np.float64).reshape(len(rows), len(numbers))
    return [row.get("phase") or "" for row in rows], dict(zip(numbers, table.T, strict=True))


def _warnings(path: Path) -> list[tuple[int, str]]:
    return [(int(row["update"]), row.get("warning") or "") for row in _rows(path)]


def _rows(path: Path) -> Iterator[dict[str, str]]:
    """The rows of a table that have an update, none where there is no file."""
    if not path.is_file():
        return
    if path.stat().st_size > MOST_BYTES:
        raise InputError(f"{path} is larger than {MOST_BYTES >> 20} MiB: shorten it.")
    try:
        with path.open(newline="", encoding="utf-8", errors="replace") as file:
            for row in csv.DictReader(file):
                if re.fullmatch(r"[0-9]{1,15}", row.get("update") or ""):
                    yield row
    except csv.Error as error:
        raise InputError(f"{path} is damaged ({error}): restore it or move it away.") from None


def _number(text: str | None) -> float:
    try:
        return float(text or "nan")
    except ValueError:
        return float("nan")


def _numbered(folder: Path, suffix: str) -> list[tuple[int, Path]]:
    """Files update-N.`suffix` by their N."""
    files = (path.name for path in folder.glob(f"update-*.{suffix}") if path.is_file())
    found = (re.fullmatch(rf"update-([0-9]+)\.{suffix}", name) for name in files)
    return sorted((int(name[1]), folder / name[0]) for name in found if name)


def _phase_times(
    phase: list[str], metrics: Columns, totals: Mapping[str, int], update: int
) -> list[PhaseTime]:
    """Times of each phase. `seconds` begins at 0 again where a run was resumed, so the parts are added up."""
    times, before = [], 0
    for name, total in totals.items():
        ends = _last_rows([i for i, other in enumerate(phase) if other == name], metrics["seconds"])
        seconds, rates, feed = (
            metrics[column][ends] for column in ("seconds", "images_per_second", "feed_seconds")
        )
        spent = float(seconds.sum()) if len(ends) else float("nan")
        rate = float((rates * seconds).sum()) / spent if spent else float("nan")
        share = float(feed.sum()) / spent if spent and len(ends) else float("nan")
        done = min(max(update - before, 0), total)
        times.append(PhaseTime(name, done, total, *map(_known, (spent, rate, share))))
        before += total
    return times


def _last_rows(rows: list[int], seconds: NDArray[np.float64]) -> list[int]:
    """The last of `rows` before each in which the clock was set back, and the last of all."""
    return [
        row
        for row, after in zip_longest(rows, rows[1:])
        if after is None or seconds[after] < seconds[row]
    ]


def _known(value: float) -> float | None:
    return value if np.isfinite(value) else None
