"""Files and folders that appear whole or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from simgan_fast.errors import InputError


def _sync_folder(folder: Path) -> None:
    """Make a rename in `folder` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _usual_mode(path: str | Path, created: int) -> None:
    """Give a file or folder made by tempfile (private) the mode that a plain open would have given."""
    umask = os.umask(0)
    os.umask(umask)
    os.chmod(path, created & ~umask)


@contextmanager
def written_whole(path: str | Path, mode: str = "wb") -> Iterator[IO[Any]]:
    """Open a temporary file beside `path`; on success sync it and rename it to `path`.

    On an exception (no space left, a signal) the temporary file is removed and an older `path`
    stays as it was.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    try:
        with os.fdopen(descriptor, mode) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        _usual_mode(name, 0o666)
        os.replace(name, path)
        _sync_folder(path.parent)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


@contextmanager
def folder_written_whole(path: str | Path) -> Iterator[Path]:
    """Yield a temporary folder beside `path`; on success rename it to `path`, else remove it.

    `path` must be absent or an empty folder (`require_absent_or_empty`).
    """
    path = Path(path)
    require_absent_or_empty(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent))
    try:
        yield temporary
        _usual_mode(temporary, 0o777)
        os.replace(temporary, path)  # replaces an empty folder too
        _sync_folder(path.parent)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def require_absent_or_empty(path: str | Path) -> None:
    """Raise InputError unless `path` can be made anew without touching anything."""
    path = Path(path)
    if path.is_dir() and not any(path.iterdir()):
        return
    if path.exists() or path.is_symlink():
        raise InputError(
            f"{path} already exists and is not empty: name a new folder, or remove it."
        )
