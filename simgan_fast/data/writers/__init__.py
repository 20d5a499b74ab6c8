"""What the writers of sets share. A format is a module beside this one with a class that fulfils `CheckedWriter`.

`simgan_fast.data.export` lists them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import TracebackType

import numpy as np

from simgan_fast.data.checks import checked_images, checked_labels, checked_name, checked_widths
from simgan_fast.data.packed_format import REJECTS_FILE, VALUE_RANGE, checked_shape, rejects_text
from simgan_fast.errors import InputError


class CheckedWriter(ABC):
    """Checks what is added and gathers the rejects; `_opened` and `_write` are left to the format.

    `out`: where the set goes. `shape`: (channels, height, width). `labels`: how many float32 values each label has.
    `dtype`: "uint8" or "uint16". The output appears when the `with` block ends well, or not at all.

    Raises InputError for a shape or dtype that no set has, for images or labels that are not as was said, a name that
    comes twice or is no relative path, and for a set without images.
    """

    def __init__(
        self,
        out: str | Path,
        shape: Sequence[int],
        labels: Mapping[str, int] | None = None,
        dtype: str = "uint8",
    ) -> None:
        self.path = Path(out)
        self.shape = checked_shape(shape)
        self.labels = checked_widths(labels or {})
        if dtype not in VALUE_RANGE:
            raise InputError(f"dtype is {dtype!r}: a set holds uint8 or uint16.")
        self.dtype = np.dtype(dtype)
        self._names: set[str] = set()
        self._rejects: list[tuple[str, str]] = []
        self._context = self._not_empty()

    @abstractmethod
    def _opened(self) -> AbstractContextManager[None]:
        """Begin the output; when the block ends well finish it, else remove it."""

    @abstractmethod
    def _write(
        self, images: np.ndarray, names: Sequence[str], labels: Mapping[str, np.ndarray]
    ) -> None:
        """Write checked images [m, c, h, w], m > 0, names [m] and labels (each float32 [m, k])."""

    def __enter__(self) -> CheckedWriter:
        self._context.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._context.__exit__(kind, error, trace)

    def add(
        self,
        images: np.ndarray,
        names: Sequence[str],
        labels: Mapping[str, np.ndarray] | None = None,
        source: str | Sequence[str] = "",  # noqa: ARG002  (a packed set alone has a place for it)
    ) -> None:
        """Write `images` [m, c, h, w] under `names` [m] with `labels` (each [m, k])."""
        images = checked_images(images, self.shape, self.dtype, names)
        columns = checked_labels(labels or {}, self.labels, names)
        for name in names:
            if checked_name(name) in self._names:
                raise InputError(
                    f"the name {name!r} comes twice: names identify images, so rename one of them."
                )
            self._names.add(name)
        if names:
            self._write(images, names, columns)

    def reject(self, file: str, reason: str) -> None:
        """List `file` among the rejects: it is not in the set, for `reason`."""
        self._rejects.append((file, reason))

    @contextmanager
    def _not_empty(self) -> Iterator[None]:
        with self._opened():
            yield
            if not self._names:
                raise InputError(f"no image was added to {self.path}: a set holds at least one.")

    def _write_rejects(self, folder: Path) -> None:
        """Write rejects.csv, if something was rejected."""
        if self._rejects:
            (folder / REJECTS_FILE).write_text(rejects_text(self._rejects), encoding="utf-8")
