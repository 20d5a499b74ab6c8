"""Hugging Face data sets on a disk: what `save_to_disk` wrote, or a clone of a repository with Parquet files.

Both are Arrow tables, so the `datasets` library is not needed.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from simgan_fast.data.checks import is_name
from simgan_fast.data.readers.parquet import TableReader, table_files
from simgan_fast.errors import InputError

STATE, SPLITS = "state.json", "dataset_dict.json"
NUMBERED = re.compile(r"(.+?)-\d+-of-\d+(-\w+)?")  # train-00000-of-00002, with or without a hash


class HuggingFaceReader(TableReader):
    """One split of the data set in `folder`: what `save_to_disk` of a Dataset or DatasetDict wrote, or Parquet files.

    split: "train", "test", ...; None: the only one. image: as for `ParquetReader`, which also says what the columns
    mean. Of Parquet files the names say the split: data/train-00000-of-00001.parquet, train.parquet, train/0.parquet.

    Raises InputError for a folder that holds no such data set, or several splits where none is named.

    >>> reader = HuggingFaceReader("eyes", split="train")  # doctest: +SKIP
    """

    def __init__(
        self, folder: str | Path, split: str | None = None, image: str | None = None
    ) -> None:
        folder = Path(folder)
        if not os.path.isdir(folder):
            raise InputError(f"the folder {folder} does not exist.")
        if os.path.isfile(folder / STATE):
            files = _saved_files(folder, split)
        elif os.path.isfile(folder / SPLITS):
            splits = _names(folder / SPLITS, _load(folder / SPLITS).get("splits"))
            files = _saved_files(folder / _chosen(folder, splits, split), None)
        else:
            files = _repository_files(folder, split)
        super().__init__(folder, files, image)


def _saved_files(folder: Path, split: str | None) -> list[Path]:
    """The Arrow files that state.json names."""
    state = _load(folder / STATE)
    own = state.get("_split") or "without a name"
    if split not in (None, own):
        raise InputError(f"{folder} holds one split, {own}, and not {split}: leave it out.")
    if state.get("_indices_data_files"):
        raise InputError(
            f"{folder} selects rows by an index, as old versions wrote: load it and save it again."
        )
    entries = state.get("_data_files")
    entries = entries if isinstance(entries, list) else []
    names = [entry.get("filename") if isinstance(entry, dict) else entry for entry in entries]
    return [folder / name for name in _names(folder / STATE, names)]


def _repository_files(folder: Path, split: str | None) -> list[Path]:
    """The files of a split, by their names."""
    by_split: dict[str, list[Path]] = {}
    for file in table_files(folder):
        name = PurePosixPath(file.relative_to(folder).as_posix())
        by_split.setdefault(_split_of(name), []).append(file)
    files = by_split[_chosen(folder, list(by_split), split)]
    homes = sorted({str(file.parent) for file in files})
    if len(homes) > 1:
        raise InputError(
            f"{folder} holds several data sets ({', '.join(homes[:5])}): name one of these folders."
        )
    return files


def _split_of(name: PurePosixPath) -> str:
    """data/train-00000-of-00001.parquet, train.parquet, train/0000.parquet: all of "train"."""
    numbered = NUMBERED.fullmatch(name.stem)
    if numbered:
        return numbered[1]
    if name.parent.name not in ("", "data"):
        return name.parent.name
    return re.sub(r"[-_.]?\d+$", "", name.stem) or "train"


def _chosen(folder: Path, splits: Sequence[str], split: str | None) -> str:
    if split is None and len(splits) == 1:
        return splits[0]
    if split is None or split not in splits:
        asked = "several splits" if split is None else f"no split {split}"
        raise InputError(
            f"{folder} holds {asked}: name one of {', '.join(splits)}, as in --split {splits[0]}."
        )
    return split


def _load(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(
            f"{file} cannot be read ({error}): want what save_to_disk wrote."
        ) from None
    if not isinstance(content, dict):
        raise InputError(f"{file} is no object: want what save_to_disk wrote.")
    return content


def _names(file: Path, names: object) -> list[str]:
    """The names of files or folders that `file` lists, each beside it."""
    if not isinstance(names, list) or not names:
        raise InputError(f"{file} lists no data: want what save_to_disk wrote.")
    for name in names:
        if not isinstance(name, str) or not is_name(name) or "/" in name:
            raise InputError(f"{file} lists {name!r}: want names of what lies beside it.")
    return list(names)
