"""Bring data sets, in the formats they come in, to packed sets. The readers are in `simgan_fast.data.readers`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simgan_fast.data.ingest import ingest
from simgan_fast.data.packed import PackedSet
from simgan_fast.data.readers import Reader
from simgan_fast.data.readers.arrays import ArrayReader
from simgan_fast.data.readers.depth_folder import DepthFolderReader
from simgan_fast.data.readers.eye_gaze_h5 import EyeGazeH5Reader
from simgan_fast.data.readers.folder import FolderReader
from simgan_fast.data.readers.hdf5 import Hdf5Reader
from simgan_fast.data.readers.hugging_face import HuggingFaceReader
from simgan_fast.data.readers.mpiigaze import MPIIGazeH5Reader, MPIIGazeReader
from simgan_fast.data.readers.nyu_hands import NYUHandsReader
from simgan_fast.data.readers.parquet import ParquetReader
from simgan_fast.data.readers.syntheseyes import SynthesEyesReader
from simgan_fast.data.readers.unityeyes import UnityEyesReader
from simgan_fast.data.readers.unityeyes2 import UnityEyes2Reader
from simgan_fast.data.readers.webdataset import WebDatasetReader
from simgan_fast.errors import InputError
from simgan_fast.stalls import reading


@dataclass(frozen=True)
class Format:
    """A format that can be read: its reader, what it is, an example, and the reader's own options."""

    reader: Callable[..., Reader]
    what: str
    example: str
    options: tuple[str, ...] = ()


FORMATS = {
    "folder": Format(
        FolderReader,
        "PNG and JPEG files, with labels.csv (or --labels x.json) if there are labels",
        "prepare folder photographs packed --size 35x55 --channels 1",
        ("labels",),
    ),
    "npz": Format(
        ArrayReader,
        "a NumPy .npz with images and labels, or .npy with images",
        "prepare npz eyes.npz packed",
    ),
    "hdf5": Format(
        Hdf5Reader,
        "an HDF5 file with images [n, c, h, w], names and labels, as export writes it",
        "prepare hdf5 refined.h5 packed",
    ),
    "webdataset": Format(
        WebDatasetReader,
        "WebDataset's tar files, images with .json and .cls; one, or a folder of them",
        "prepare webdataset shards packed --size 35x55 --channels 1",
    ),
    "parquet": Format(
        ParquetReader,
        "Parquet, Arrow or Feather files with a column of images; one, or a folder of them",
        "prepare parquet eyes.parquet packed --image picture --size 35x55",
        ("image",),
    ),
    "hf": Format(
        HuggingFaceReader,
        "a Hugging Face data set on the disk, from save_to_disk or a clone",
        "prepare hf eyes packed --split train --size 35x55 --channels 1",
        ("split", "image"),
    ),
    "unityeyes": Format(
        UnityEyesReader,
        "UnityEyes' pairs N.jpg and N.json",
        "prepare unityeyes UnityEyes/imgs packed --size 35x55 --channels 1",
        ("crop",),
    ),
    "unityeyes2": Format(
        UnityEyes2Reader,
        "UnityEyes 2's N.json with N_<camera>.jpg, or the older N.jpg",
        "prepare unityeyes2 UnityEyes2/EER_eye_data packed --size 35x55 --channels 1",
        ("crop",),
    ),
    "syntheseyes": Format(
        SynthesEyesReader,
        "SynthesEyes' f01/f01_36_0.1963_-0.7854.png, names that tell the gaze",
        "prepare syntheseyes SynthEyes_data packed --size 35x55 --channels 1",
    ),
    "mpiigaze": Format(
        MPIIGazeReader,
        "MPIIGaze's folder with Data/Normalized; the evaluation subset where its lists are",
        "prepare mpiigaze MPIIGaze packed --size 35x55",
        ("evaluation",),
    ),
    "mpiigaze-h5": Format(
        MPIIGazeH5Reader,
        "the MPIIGaze.h5 of pytorch_mpiigaze",
        "prepare mpiigaze-h5 MPIIGaze.h5 packed --size 35x55",
    ),
    "eye-gaze-h5": Format(
        EyeGazeH5Reader,
        "gaze.h5 or real_gaze.h5 of Kaggle's 4quant/eye-gaze",
        "prepare eye-gaze-h5 gaze.h5 packed",
    ),
    "nyu-hands": Format(
        NYUHandsReader,
        "the NYU hand pose data, real or rendered depth, with joints",
        "prepare nyu-hands nyu_hand_dataset_v2 packed --kind synthdepth --size 224x224",
        ("kind", "view", "crop", "values"),
    ),
    "depth": Format(
        DepthFolderReader,
        "grey PNGs with depth of hands: 16 bits in mm, or 8 bits between two depths",
        "prepare depth frames packed --near 200 --far 900 --values paper --size 224x224",
        ("near", "far", "lowest", "crop", "values"),
    ),
}


def prepare(
    format: str,
    source: str | Path,
    out: str | Path,
    *,
    size: tuple[int, int] | None = None,
    channels: int | None = None,
    processes: int | None = None,
    **options: Any,
) -> PackedSet:
    """Read `source` and pack it into the new folder `out`, which appears whole or not at all.

    Args:
        format: one of `FORMATS`; docs/file_formats.md has what each reads.
        source: a folder or file.
        out: a new folder. Images that cannot be read are listed in its rejects.csv.
        size: (height, width) to resize to, antialiased (depth by the nearest pixel); by default images keep theirs.
        channels: 1 (grey) or 3 (RGB); by default what the images have.
        processes: how many decode; by default one per core.
        options: of the format's reader: `labels` of folder, `crop` of unityeyes and unityeyes2, `evaluation` of
            mpiigaze, `kind`, `view`, `crop` and `values` of nyu-hands, `near`, `far`, `lowest`,
            `crop` and `values` of depth, `image` of parquet and hf, `split` of hf.

    Stopped by a signal, a full disk or a power cut, it leaves the shards that are finished in `.OUT.part`, and the
    same call goes on from there, unless the source has changed.

    Returns the set. Raises InputError for an unknown format or option, and where nothing can be read.

    >>> prepare("unityeyes", "UnityEyes/imgs", "simulated", size=(35, 55), channels=1)  # doctest: +SKIP
    """
    if format not in FORMATS:
        raise InputError(f"format is {format!r}: want one of {', '.join(FORMATS)}.")
    given = {name: value for name, value in options.items() if value is not None}
    unknown = sorted(set(given) - set(FORMATS[format].options))
    if unknown:
        raise InputError(f"the format {format} takes no {unknown[0]}.")
    with reading(str(source)):
        reader = FORMATS[format].reader(source, **given)
    return ingest(
        reader,
        out,
        size=size,
        channels=channels,
        processes=processes,
        origin=" ".join([format, str(source), *(f"{k}={v}" for k, v in sorted(given.items()))]),
        sources=[source, *(given[name] for name in ("labels",) if name in given)],
    )


def formats_table() -> str:
    """All formats with an example, for people."""
    lines = []
    for name, entry in FORMATS.items():
        lines += [f"{name:<12} {entry.what}", f"{'':<12}   simgan-fast {entry.example}"]
    return "\n".join(lines)
