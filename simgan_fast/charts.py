"""Line charts as SVG: a picture in a report, or a file of its own."""

from __future__ import annotations

import html
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle

import numpy as np
from numpy.typing import ArrayLike, NDArray

WIDTH, HEIGHT = 480, 180  # of the view box, which a viewer scales, and of the lines in it
LEFT, RIGHT, TITLE, BOTTOM = 58, 14, 26, 40  # room around them for ticks, title and axis
LEGEND, CHARACTER, SWATCH = (
    18,
    7.2,
    32,
)  # height of a row of names; room for a letter, and for a bit of line
LONGEST = 50  # letters of a name that are shown
MOST_POINTS = 400  # of a line: more are not seen at this size, and make the file large
LARGEST = 1e30  # what is beyond has no place on an axis, and is a gap as NaN is
COLOURS = ("#1f6fb4", "#d1570f", "#2b8a4b", "#8a4fa8", "#a3333d", "#5c5c5c")
INK, FAINT = "#333", "#ddd"
MARK = "#a3333d"

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Line:
    """One line: values `y` over ascending `x`, both [n]; where y is not finite, or beyond 1e30, there is a gap.

    `smooth`: values on either side that each is the mean with; the line as it came stays, faint. `dash`: lengths, as
    "6 4". `colour`: by default the next one of COLOURS.
    """

    name: str
    x: ArrayLike
    y: ArrayLike
    smooth: int = 0
    dash: str = ""
    colour: str = ""


@dataclass(frozen=True)
class Area:
    """A strip between two values, of the ordinate or, with `across`, of the abscissa."""

    low: float
    high: float
    colour: str = "#e8f3ea"
    across: bool = False


def line_chart(
    lines: Sequence[Line],
    title: str,
    *,
    x_label: str,
    low: float | None = None,
    high: float | None = None,
    areas: Sequence[Area] = (),
    marks: Sequence[float] = (),
    percent: bool = False,
) -> str:
    """Draw `lines` over one another; returns the text of an <svg> element, whole as a file too.

    Args:
        lines: drawn in the order of COLOURS, named below the title.
        title, x_label: any text; it is escaped.
        low, high: ends of the ordinate; by default what the lines need.
        areas: strips behind the lines.
        marks: places on the abscissa that get a dotted upright.
        percent: whether values, 0 to 1, are written as percentages.

    >>> line_chart([Line("error", [0, 1], [3, 2])], "Error", x_label="update")[:4]
    '<svg'
    """
    shown = [_Shown(line, colour) for line, colour in zip(lines, cycle(COLOURS), strict=False)]
    frame = _Frame(shown, low, high)
    first, last = frame.x_ends
    inner = [*(_area(area, frame) for area in areas), _grid(frame)]
    inner += [_upright(x, frame) for x in marks if first <= x <= last]
    inner += [path for line in shown for path in line.paths(frame)]
    legend, top = _legend(shown)
    parts = [
        f'<text x="8" y="20" font-size="15" font-weight="600">{html.escape(title)}</text>',
        legend,
        f'<g transform="translate({LEFT} {top})">',
        # an inner <svg> cuts off what lies outside of the axes
        f'<svg width="{frame.width}" height="{HEIGHT}">{"".join(inner)}</svg>',
        _axes(frame, percent),
        f'<text x="{frame.width / 2:g}" y="{HEIGHT + 34}" text-anchor="middle">',
        f"{html.escape(x_label)}</text></g>",
    ]
    size = f"{WIDTH} {top + HEIGHT + BOTTOM}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size}" role="img" '
        f'aria-label="{html.escape(title)}" font-family="system-ui, sans-serif" font-size="13" '
        f'fill="{INK}"><rect width="100%" height="100%" fill="#fff"/>{"".join(parts)}</svg>'
    )


def round_values(low: float, high: float, about: int = 5) -> list[float]:
    """Values from `low` to `high`, multiples of 1, 2 or 5 times a power of ten, roughly `about` of them.

    >>> round_values(0, 3110)
    [0.0, 1000.0, 2000.0, 3000.0]
    """
    rough = (high - low) / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(k * step, 12 - math.floor(math.log10(step))) for k in range(first, last + 1)]


class _Shown:
    """A line's points, and their means where it is to be smooth."""

    def __init__(self, line: Line, colour: str) -> None:
        self.name = line.name if len(line.name) <= LONGEST else f"{line.name[: LONGEST - 1]}…"
        dash = f' stroke-dasharray="{html.escape(line.dash)}"' if line.dash else ""
        self.style = (
            f'fill="none" stroke="{html.escape(line.colour or colour)}" stroke-linecap="round" '
            f'stroke-linejoin="round"{dash}'
        )
        self.x, self.raw = np.asarray(line.x, np.float64), np.asarray(line.y, np.float64)
        self.raw = np.where(np.abs(self.raw) < LARGEST, self.raw, np.nan)
        self.mean = _running_mean(self.raw, line.smooth) if line.smooth else self.raw

    def paths(self, frame: _Frame) -> Iterator[str]:
        if self.mean is not self.raw:
            yield f'<path d="{frame.path(self.x, self.raw)}" {self.style} opacity="0.2"/>'
        yield f'<path d="{frame.path(self.x, self.mean)}" {self.style} stroke-width="2"/>'


class _Frame:
    """From values to places inside the axes."""

    width = WIDTH - LEFT - RIGHT

    def __init__(self, shown: Sequence[_Shown], low: float | None, high: float | None) -> None:
        x = np.concatenate([line.x for line in shown]) if shown else np.zeros(0)
        self.x_ends = _apart(float(x.min()), float(x.max())) if len(x) else (0.0, 1.0)
        values = np.concatenate([np.zeros(0), *(_extent(line) for line in shown)])
        lowest, highest = (values.min(), values.max()) if len(values) else (0.0, 1.0)
        room = 0.06 * (highest - lowest)
        self.y_ends = _apart(
            float(lowest - room) if low is None else low,
            float(highest + room) if high is None else high,
        )

    def x(self, values: Array | float) -> Array:
        return self.width * _share(values, self.x_ends)

    def y(self, values: Array | float) -> Array:
        return HEIGHT * (1 - _share(values, self.y_ends))

    def path(self, x: Array, y: Array) -> str:
        """The `d` of a path; it starts anew behind a gap, with a dot so that a lone point is seen."""
        rows = np.unique(np.linspace(0, len(x) - 1, min(len(x), MOST_POINTS)).round().astype(int))
        across, down = self.x(x[rows]), self.y(y[rows])
        parts, drawing = [], False
        for left, top in zip(across, down, strict=True):
            if math.isnan(top):
                drawing = False
                continue
            top = min(max(top, -9 * HEIGHT), 9 * HEIGHT)  # noqa: PLW2901
            parts.append(f"L{left:.1f} {top:.1f}" if drawing else f"M{left:.1f} {top:.1f}h0")
            drawing = True
        return "".join(parts)


def _extent(line: _Shown) -> Array:
    """Smallest and largest of what must be seen: all means, and all values but for a hundredth at either end."""
    mean, raw = (values[~np.isnan(values)] for values in (line.mean, line.raw))
    if not len(mean):
        return mean
    return np.concatenate([mean, np.quantile(raw, [0.01, 0.99])])


def _running_mean(values: Array, reach: int) -> Array:
    """Mean of the finite values within `reach` places; NaN stays where nothing came."""
    known = ~np.isnan(values)
    sums, counts = (
        np.concatenate([[0.0], np.cumsum(column)])
        for column in (np.where(known, values, 0.0), known.astype(float))
    )
    rows = np.arange(len(values))
    first, last = np.maximum(rows - reach, 0), np.minimum(rows + reach + 1, len(values))
    with np.errstate(invalid="ignore", divide="ignore"):
        mean: Array = (sums[last] - sums[first]) / (counts[last] - counts[first])
    return np.where(known, mean, np.nan)


def _apart(low: float, high: float) -> tuple[float, float]:
    """The two as ends of an axis: not the same, and a span that floats can divide."""
    span = max(abs(low), abs(high), 1e-9)
    return (low, high) if high - low > 1e-9 * span else (low - span / 10, high + span / 10)


def _share(values: Array | float, ends: tuple[float, float]) -> Array:
    return (np.asarray(values, np.float64) - ends[0]) / (ends[1] - ends[0])


def _legend(lines: Sequence[_Shown]) -> tuple[str, int]:
    """The names, each behind a bit of its line, in as many rows as they need; and where these end."""
    parts, x, y = [], 8.0, TITLE
    for line in lines:
        wide = SWATCH + CHARACTER * len(line.name)
        if x > 8 and x + wide > WIDTH:
            x, y = 8.0, y + LEGEND
        parts.append(
            f'<path d="M{x + 1:g} {y + 9}h20" {line.style} stroke-width="2.5"/>'
            f'<text x="{x + 27:g}" y="{y + 13}">{html.escape(line.name)}</text>'
        )
        x += wide + 8
    return "".join(parts), y + LEGEND + 8


def _grid(frame: _Frame) -> str:
    levels = (float(frame.y(value)) for value in round_values(*frame.y_ends))
    return "".join(f'<path d="M0 {y:.1f}h{frame.width}" stroke="{FAINT}"/>' for y in levels)


def _axes(frame: _Frame, percent: bool) -> str:
    """The abscissa, and the values at both axes; (0, 0) is the upper left end of the lines' room."""
    parts = [f'<path d="M0 {HEIGHT}h{frame.width}" stroke="{INK}"/>']
    for value in round_values(*frame.y_ends):
        y, text = float(frame.y(value)), f"{value:.0%}" if percent else f"{value:,.6g}"
        parts.append(f'<text x="-6" y="{y + 4:.1f}" text-anchor="end">{text}</text>')
    for value in round_values(*frame.x_ends):
        x = float(frame.x(value))
        parts.append(
            f'<path d="M{x:.1f} {HEIGHT}v4" stroke="{INK}"/>'
            f'<text x="{x:.1f}" y="{HEIGHT + 17}" text-anchor="middle">{value:,.6g}</text>'
        )
    return "".join(parts)


def _area(area: Area, frame: _Frame) -> str:
    if area.across:
        left, right = (float(frame.x(value)) for value in (area.low, area.high))
        top, bottom = 0.0, float(HEIGHT)
    else:
        left, right = 0.0, float(frame.width)
        top, bottom = (float(frame.y(value)) for value in (area.high, area.low))
    return (
        f'<rect x="{left:.1f}" y="{top:.1f}" width="{right - left:.1f}" '
        f'height="{bottom - top:.1f}" fill="{area.colour}"/>'
    )


def _upright(x: float, frame: _Frame) -> str:
    return f'<path d="M{float(frame.x(x)):.1f} 0v{HEIGHT}" stroke="{MARK}" stroke-dasharray="2 3"/>'
