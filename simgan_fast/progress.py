"""How far a long job is: a bar on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from tqdm import tqdm

SECONDS_BETWEEN_LINES = 15.0


def say(text: str) -> None:
    """A line about what is done, on standard error."""
    tqdm.write(text, file=sys.stderr)


class Progress:
    """Counts `unit`s up to `total`, with rate and time left.

    `quiet_for`: seconds in which nothing is shown, for what is mostly over by then.

    >>> with Progress(1000, "image", "refine") as progress:
    ...     progress.update(1000)
    """

    def __init__(
        self, total: int, unit: str, label: str, done: int = 0, *, quiet_for: float = 0.0
    ) -> None:
        self.total, self.unit, self.label = total, unit, label
        self.quiet_for = quiet_for
        self.first = self.done = done
        self._note = ""
        self._start = self._last_line = time.monotonic()
        self._bar: tqdm[None] | None = None
        if sys.stderr.isatty():
            self._bar = tqdm(
                total=total,
                initial=done,
                unit=unit,
                desc=label,
                dynamic_ncols=True,
                delay=quiet_for,
            )
            # In place of the wall clock, which may be set: the bar would stand still until it is caught up with.
            self._bar._time = time.monotonic
            self._bar.start_t = self._bar.last_print_t = self._start

    def update(self, count: int) -> None:
        """Say that `count` more are done."""
        self.done += count
        if self._bar is not None:
            self._bar.update(count)
        elif time.monotonic() - self._last_line > max(SECONDS_BETWEEN_LINES, self.quiet_for):
            self._line()

    def note(self, text: str) -> None:
        """Show `text` (losses, say) behind the rate."""
        self._note = text
        if self._bar is not None:
            self._bar.set_postfix_str(text, refresh=False)

    def _line(self) -> None:
        now = time.monotonic()
        rate = (self.done - self.first) / max(now - self._start, 1e-9)
        left = (self.total - self.done) / rate if rate > 0 else 0.0
        self._last_line = now
        text = f"{self.label}: {self.done}/{self.total} {self.unit}, {rate:.1f} {self.unit}/s"
        text += f", {left:.0f} s left" if left > 0 else f", {now - self._start:.1f} s"
        print(f"{text} {self._note}".rstrip(), file=sys.stderr, flush=True)

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.close()
        elif kind is None and time.monotonic() - self._start >= self.quiet_for:
            self._line()
