"""Files and folders that appear whole or not at all."""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import math
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from simgan_fast.errors import InputError

LOCK_FILE = ".lock"

_log = logging.getLogger(__name__)


def _sync(path: str | Path) -> None:
    """Make a file's content, or a rename in a folder, survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _usual_mode(path: str | Path) -> None:
    """Give a file made by tempfile (private) the mode that a plain open would have given."""
    umask = os.umask(0)
    os.umask(umask)
    os.chmod(path, 0o666 & ~umask)


@contextmanager
def written_whole(path: str | Path, mode: str = "wb") -> Iterator[IO[Any]]:
    """Open a temporary file beside `path`; on success sync it and rename it to `path`.

    On an exception (no space left, a signal) the temporary file is removed and an older `path`
    stays as it was.
    """
    with path_written_whole(path) as part, open(part, mode) as file:
        yield file


@contextmanager
def path_written_whole(path: str | Path) -> Iterator[Path]:
    """The same for what opens its file by name: yield the temporary file's path."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    os.close(descriptor)
    try:
        yield Path(name)
        _sync(name)
        _usual_mode(name)
        os.replace(name, path)
        _sync(path.parent)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def write_json(path: str | Path, content: Any) -> None:
    """Write a JSON file of `content`, whole or not at all; null stands for NaN and infinity, which JSON has not."""
    with written_whole(path, "w") as file:
        json.dump(_finite(content), file, indent=1, allow_nan=False)


def _finite(content: Any) -> Any:
    if isinstance(content, float):
        return content if math.isfinite(content) else None
    if isinstance(content, dict):
        return {name: _finite(value) for name, value in content.items()}
    return [_finite(value) for value in content] if isinstance(content, list | tuple) else content


@contextmanager
def folder_written_whole(path: str | Path) -> Iterator[Path]:
    """Yield the empty folder `.NAME.part` beside `path`; on success rename it to `path`, else remove it.

    `path` must be absent or an empty folder (`require_absent_or_empty`). What a killed process left in `.NAME.part` is
    removed. Raises InputError while another process has it.
    """
    with folder_resumable(path, lambda: False) as part:
        for left in part.iterdir():
            if left.name != LOCK_FILE:
                shutil.rmtree(left) if left.is_dir() else left.unlink()
        yield part


@contextmanager
def folder_resumable(
    path: str | Path, keep: Callable[[], bool], notes: str = LOCK_FILE
) -> Iterator[Path]:
    """Yield the folder `.NAME.part` beside `path`, with whatever is in it; on success rename it to `path`.

    Where the block does not end well it stays if `keep()`, but for an InputError; and after a SIGKILL. `notes`: a file
    in it for who goes on, removed once the folder is in its place. Raises InputError while another process has it.
    """
    path = Path(path)
    require_absent_or_empty(path)
    part = path.with_name(f".{path.name}.part")
    part.mkdir(parents=True, exist_ok=True)
    complaint = f"{path} is being made by another process just now."
    with ExitStack() as unlocked, folder_locked(part, complaint):
        try:
            yield part
            (part / LOCK_FILE).unlink()
            os.replace(part, path)  # replaces an empty folder too
            # Only now: killed in between, all would be done again.
            (path / notes).unlink(missing_ok=True)
            _sync(path.parent)
        except BaseException as failure:
            if isinstance(failure, InputError) or not keep():
                shutil.rmtree(part, ignore_errors=True)
                # NFS keeps the lock, which is open, under another name until it is closed, and the folder with it.
                unlocked.callback(_remove_if_empty, part)
            raise


def _remove_if_empty(folder: Path) -> None:
    with suppress(OSError):
        folder.rmdir()


_locked: set[Path] = set()  # by this process, which its own lock would not stop


@contextmanager
def folder_locked(folder: Path, complaint: str) -> Iterator[None]:
    """Keep `folder` for this caller; InputError(`complaint`) while another has it. The lock goes with its process.

    Where a file system has no locks (some mounts of NFS and Lustre) that is logged, and nothing keeps others away.
    """
    key = folder.resolve()
    if key in _locked:  # closing the file once more would lose the lock
        raise InputError(complaint)
    with open(folder / LOCK_FILE, "w") as lock:
        try:
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # of this process, not of its copies
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN):  # what POSIX has for a lock of another
                raise InputError(complaint) from None
            _log.warning(
                "%s cannot be locked (%s): see to it that nothing else writes there.", folder, error
            )
        _locked.add(key)
        try:
            yield
        finally:
            _locked.discard(key)


def remove_leftovers(folder: str | Path) -> None:
    """Remove what a killed process left of files that `written_whole` was to make in `folder`."""
    for part in Path(folder).glob(".*.part"):
        part.unlink(missing_ok=True)


def require_absent_or_empty(path: str | Path) -> None:
    """Raise InputError unless `path` can be made anew without touching anything."""
    path = Path(path)
    if path.exists() and path.samefile(os.curdir):
        raise InputError(f"{path} is the folder you are in: name a new folder.")
    if path.is_dir() and not any(path.iterdir()):
        return
    if path.exists() or path.is_symlink():
        raise InputError(
            f"{path} already exists and is not empty: name a new folder, or remove it."
        )


def require_output_file(file: Path, read: Iterable[Path] = ()) -> None:
    """Raise InputError, before any work, where `file` cannot be written, or is or lies in what is read.

    Folders above it may be absent: they are made when it is written.
    """
    if file.is_dir():
        raise InputError(f"{file} is a folder: name a file.")
    above = next(parent for parent in file.absolute().parents if parent.exists())
    if not above.is_dir():
        raise InputError(f"{file} cannot be written: {above} is no folder.")
    if not os.access(above, os.W_OK | os.X_OK):
        raise InputError(f"{file} cannot be written: {above} takes no files of yours.")
    require_outside(file, *read)


def require_outside(out: str | Path, *read: str | Path) -> None:
    """Raise InputError where `out`, which is to be written, is or lies in what is `read`.

    What a folder of images has in it, at whatever depth, is part of the set.
    """
    for path in map(Path, read):
        if Path(out).resolve().is_relative_to(path.resolve()):
            what = f"the set {path}" if path.is_dir() else str(path)
            raise InputError(
                f"{out} would lie in {what}, which is read: name a place outside of it."
            )


def move_folder(folder: Path, path: Path) -> None:
    """Rename `folder` to `path`, which is absent or empty, for good; OSError where it is not."""
    os.replace(folder, path)
    _sync(path.parent)
