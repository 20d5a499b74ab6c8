"""From JPEG files to pixels of one shape: ingest, which also checks, labels, hashes and writes, against bare loops.

20,000 files of 35x55, and 2,000 of 480x640 of which the eye is cropped and resized to 35x55. Ingest ends with a set on
the disk, the peers with an array in memory: they check no file, and keep no labels. Where the eye is in a large file
they read in its annotation, as ingest does and with its code; those in brackets are told. Each figure is a whole set,
by rounds that take turns; DALI is imported and the peer's pipelines are built before.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from image_folders import annotation
from interleaved import time_interleaved
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from simgan_fast import simulate
from simgan_fast.data.ingest import ingest
from simgan_fast.data.packed import PackedSet, open_packed
from simgan_fast.data.readers import Reader
from simgan_fast.data.readers.folder import FolderReader
from simgan_fast.data.readers.unityeyes import UnityEyesReader

pytestmark = pytest.mark.timeout(900)

SMALL, LARGE = 20_000, 2_000
SHAPE = (35, 55)
BATCH, ROUNDS = 256, 9
WORKERS = 2

Box = tuple[int, int, int, int]


@pytest.fixture(scope="module", autouse=True)
def _keep_freed_memory() -> None:
    """Not here: a set is packed once, by processes that are forked, and would have the tables of what peers left."""


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eyes of the simulator, 1.3 KB each."""
    folder = tmp_path_factory.mktemp("small")
    simulate("eyes", folder / "set", count=SMALL, domain="camera")
    files = folder / "files"
    files.mkdir()
    for i, (pixels,) in enumerate(open_packed(folder / "set").images()):
        Image.fromarray(pixels).save(files / f"{i}.jpg", quality=92)
    return files


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pairs as UnityEyes writes them, colour, 90 KB each: a hundred eyes over and over."""
    folder = tmp_path_factory.mktemp("large")
    simulate("eyes", folder / "set", count=100, domain="camera", size=(480, 640))
    files = folder / "imgs"
    files.mkdir()
    eyes = open_packed(folder / "set").images()[:, 0]
    for i in range(LARGE):
        eye = eyes[i % len(eyes)]
        colour = np.stack([eye, np.roll(eye, 3, 0), np.roll(eye, 5, 1)], -1)
        Image.fromarray(colour).save(files / f"{i + 1}.jpg", quality=92)
        (files / f"{i + 1}.json").write_text(json.dumps(annotation()))
    return files


def decode(data: bytes, box: Box | None) -> np.ndarray:
    """Grey, cropped and resized, by simplejpeg and Pillow."""
    simplejpeg = importlib.import_module("simplejpeg")
    pixels = simplejpeg.decode_jpeg(data, "GRAY")[..., 0]
    if box is None:
        return pixels
    part = Image.fromarray(pixels).crop(box)
    return np.asarray(part.resize(SHAPE[::-1], Image.Resampling.BILINEAR))


def simplejpeg_loop(files: Sequence[str], boxes: Sequence[Box] | None) -> np.ndarray:
    images = np.empty((len(files), *SHAPE), np.uint8)
    for i, file in enumerate(files):
        images[i] = decode(Path(file).read_bytes(), boxes[i] if boxes else None)
    return images


class PillowFiles(Dataset[np.ndarray]):
    """What a tutorial has, but for the grey that JPEG holds anyway."""

    def __init__(self, files: Sequence[str], boxes: Sequence[Box] | None) -> None:
        self.files, self.boxes = files, boxes

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, i: int) -> np.ndarray:
        with Image.open(self.files[i]) as image:
            image.draft("L", None)
            grey = image.convert("L")
        if self.boxes:
            grey = grey.crop(self.boxes[i]).resize(SHAPE[::-1], Image.Resampling.BILINEAR)
        return np.array(grey)


def data_loader(files: Sequence[str], boxes: Sequence[Box] | None) -> np.ndarray:
    loader = DataLoader(PillowFiles(files, boxes), BATCH, num_workers=WORKERS)
    return np.concatenate([batch.numpy() for batch in loader])


class DaliFiles:
    """A pipeline on the CPU: reader, decoder, crop and resize."""

    def __init__(self, files: Sequence[str], boxes: Sequence[Box] | None) -> None:
        self.count = len(files)
        dali = importlib.import_module("nvidia.dali")
        fn, types = dali.fn, dali.types
        self.pipeline = dali.Pipeline(BATCH, num_threads=WORKERS, device_id=None)
        with self.pipeline:
            data, label = fn.readers.file(
                files=list(files), labels=list(range(self.count)), name="files", pad_last_batch=True
            )
            images = fn.decoders.image(data, output_type=types.GRAY)
            if boxes:
                left, top, right, bottom = boxes[0]
                assert set(boxes) == {boxes[0]}, "one crop for all files"
                images = images[top:bottom, left:right]
                images = fn.resize(images, size=SHAPE, interp_type=types.INTERP_LINEAR)
            self.pipeline.set_outputs(images, label)
        self.pipeline.build()

    def __call__(self) -> np.ndarray:
        images = np.empty((self.count, *SHAPE), np.uint8)
        for _ in range(-(-self.count // BATCH)):
            pixels, labels = self.pipeline.run()
            images[labels.as_array()[:, 0]] = pixels.as_array()[..., 0]
        return images


def compare(
    benchmark: Any,
    record: Callable[..., None],
    case: str,
    ours: Callable[[], PackedSet],
    others: dict[str, Callable[[], PackedSet]],
    files: Sequence[str],
    find: Callable[[], list[Box]] | None,
) -> None:
    boxes = find() if find else None
    dali = DaliFiles(files, boxes)
    peers: dict[str, Callable[[], np.ndarray]] = {
        "simplejpeg loop": lambda: simplejpeg_loop(files, find and find()),
        "DataLoader, Pillow, 2 workers": lambda: data_loader(files, find and find()),
        "DALI, 2 threads": lambda: (find and find(), dali())[1],
    }
    if find:
        peers["(DALI, told the crops)"] = dali
    expected = ours().images()[:, 0]
    for name, peer in peers.items():
        difference = np.abs(peer().astype(int) - expected)
        assert difference.mean() < 1.5, f"{name} gives other images"  # a uint8 resize rounds twice
    timing = time_interleaved({"ingest": ours, **peers, **others}, rounds=ROUNDS, seconds=1e-9)
    record(case, timing, "ingest")
    benchmark.extra_info |= timing.summary("ingest")
    benchmark.pedantic(ours, rounds=1)


def packed_by(reader: Reader, folder: Path, **options: Any) -> PackedSet:
    """Ingest into another folder each time."""
    out = folder / str(len(list(folder.iterdir())))
    return ingest(reader, out, sources=[reader.title], **options)


def bench_small_files(
    benchmark: Any, record: Callable[..., None], small: Path, tmp_path: Path
) -> None:
    files = [str(small / f"{i}.jpg") for i in range(SMALL)]
    compare(
        benchmark,
        record,
        f"{SMALL} files of 35x55",
        lambda: packed_by(FolderReader(small), tmp_path, channels=1),
        {},
        files,
        None,
    )


def bench_crops_of_large_files(
    benchmark: Any, record: Callable[..., None], large: Path, tmp_path: Path
) -> None:
    reader = UnityEyesReader(large)

    def find() -> list[Box]:
        return [
            reader.annotations.labels_and_box(annotation, (480, 640))[1]
            for _, _, annotation in reader.entries
        ]

    def packed() -> PackedSet:
        return packed_by(UnityEyesReader(large), tmp_path, size=SHAPE, channels=1)

    def packed_without_dali() -> PackedSet:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("simgan_fast.data.ingest.WORTH_DALI", 10**9)
            return packed()

    compare(
        benchmark,
        record,
        f"{LARGE} files of 480x640, the eye to 35x55",
        packed,
        {"(ingest without DALI)": packed_without_dali},
        [str(file) for _, file, _ in reader.entries],
        find,
    )
