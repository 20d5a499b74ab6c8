"""Who works on what, without a coordinator: claim files in a folder that all workers see."""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

BEATS = 4  # in a lease


class Claims:
    """Claims on named pieces of work. A claim is a file, created by one worker alone, whose time its owner renews.

    A claim that was seen unrenewed for `lease` seconds is another's to take. The seconds are those of the observer's
    own monotonic clock: neither clocks that differ between machines nor one that jumps matter. Exclusive creation
    works on NFS too, where locks may not.

    A claim saves work and guarantees nothing: an owner that was stalled, not dead, goes on beside its successor, and
    two may take over the same claim. So pieces must come out the same whoever makes them, and appear whole.
    """

    def __init__(self, folder: Path, lease: float) -> None:
        self.folder, self.lease = folder, lease
        self._seen: dict[str, tuple[int, float]] = {}  # time of change, and since when we know it

    @contextmanager
    def held(self, name: str) -> Iterator[bool]:
        """Claim `name` for the block; yields whether it is ours. FileNotFoundError where the folder is gone."""
        file = self.folder / f"{name}.claim"
        if self._abandoned(file):
            file.unlink(missing_ok=True)
        try:
            file.touch(exist_ok=False)
        except FileExistsError:
            yield False
            return
        stop = threading.Event()
        beat = threading.Thread(target=self._renew, args=(file, stop), daemon=True)
        beat.start()
        try:
            yield True
        finally:
            stop.set()
            beat.join()
            file.unlink(missing_ok=True)

    def _abandoned(self, file: Path) -> bool:
        try:
            with open(file, "rb") as claim:  # opening makes an NFS client ask the server anew
                changed = os.fstat(claim.fileno()).st_mtime_ns
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ESTALE):  # stale: removed just then, on NFS
                raise
            self._seen.pop(file.name, None)
            return False
        now = time.monotonic()
        known, since = self._seen.setdefault(file.name, (changed, now))
        if known != changed:
            self._seen[file.name] = (changed, now)
            return False
        return now - since > self.lease

    def _renew(self, file: Path, stop: threading.Event) -> None:
        while not stop.wait(self.lease / BEATS):
            with suppress(OSError):  # the next beat may get through
                os.utime(file)
