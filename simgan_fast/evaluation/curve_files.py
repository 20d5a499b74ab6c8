"""Curves as files: a chart as SVG or PNG, or a table as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from itertools import cycle
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from simgan_fast.charts import COLOURS, INK, MARK, Line, line_chart, round_values
from simgan_fast.errors import InputError
from simgan_fast.files import written_whole

SUFFIXES = (".svg", ".png", ".csv")
ACROSS, DOWN, FINE = 600, 360, 3  # pixels of a PNG, which is drawn FINE times as large and shrunk
LEFT, RIGHT, TOP, BOTTOM = 52, 16, 44, 44  # of them around the lines
GRID = "#dddddd"


def check_curve_file(path: str | Path) -> Path:
    """InputError unless `path` names a .svg, .png or .csv file."""
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(
            f"{path} cannot hold the curve: want a name that ends in {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}."
        )
    return path


def write_share_curves(
    path: str | Path,
    lines: Sequence[Line],
    title: str,
    *,
    x_name: str,
    x_label: str,
    marks: Sequence[float] = (),
) -> None:
    """Write lines of shares, 0 to 1, over one abscissa to `path`, by its suffix as `check_curve_file` has them.

    The table has a row per place on the abscissa, which its first column calls `x_name`, and a column per line.
    """
    path = check_curve_file(path)
    suffix = path.suffix.lower()
    with written_whole(path) as file:
        if suffix == ".png":
            picture = _picture(lines, title, x_label, marks)
            picture.save(file, format="PNG")
            return
        text = (
            line_chart(lines, title, x_label=x_label, low=0, high=1, marks=marks, percent=True)
            if suffix == ".svg"
            else _table(lines, x_name)
        )
        file.write(text.encode("utf-8", "replace"))


def _table(lines: Sequence[Line], x_name: str) -> str:
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow([x_name, *(line.name for line in lines)])
    places = [f"{x:g}" for x in np.asarray(lines[0].x).tolist()]
    writer.writerows(zip(places, *(np.asarray(line.y).tolist() for line in lines), strict=True))
    return table.getvalue()


def _picture(
    lines: Sequence[Line], title: str, x_label: str, marks: Sequence[float]
) -> Image.Image:
    """The chart as pixels."""
    picture = Image.new("RGB", (ACROSS * FINE, DOWN * FINE), "white")
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(13 * FINE)
    ends = np.asarray(lines[0].x, np.float64)[[0, -1]]

    def place(x: float, y: float) -> tuple[float, float]:
        across = LEFT + (x - ends[0]) / (ends[1] - ends[0]) * (ACROSS - LEFT - RIGHT)
        return across * FINE, (TOP + (1 - y) * (DOWN - TOP - BOTTOM)) * FINE

    for share in round_values(0, 1):
        pen.line([place(ends[0], share), place(ends[1], share)], GRID, FINE)
        x, y = place(ends[0], share)
        pen.text((x - 6 * FINE, y), f"{share:.0%}", INK, font, anchor="rm")
    for value in round_values(*ends):
        x, y = place(value, 0)
        pen.text((x, y + 6 * FINE), f"{value:g}", INK, font, anchor="mt")
    for mark in marks:
        pen.line([place(mark, 0), place(mark, 1)], MARK, FINE)
    left = LEFT * FINE
    for line, colour in zip(lines, cycle(COLOURS), strict=False):
        points = [place(x, y) for x, y in zip(np.asarray(line.x), np.asarray(line.y), strict=True)]
        for stroke in _strokes(points, line.dash):
            pen.line(stroke, line.colour or colour, 2 * FINE, joint="curve")
        name = "".join(c if c.isprintable() and ord(c) < 256 else "?" for c in line.name)
        pen.text((left, 26 * FINE), name, line.colour or colour, font)
        left += round(pen.textlength(name, font)) + 14 * FINE
    pen.text((LEFT * FINE, 6 * FINE), title, INK, font)
    pen.text((ACROSS * FINE / 2, (DOWN - 6) * FINE), x_label, INK, font, anchor="ms")
    return picture.reduce(FINE)


def _strokes(points: Sequence[tuple[float, float]], dash: str) -> list[list[tuple[float, float]]]:
    """The line through `points` cut into strokes: those of `dash`, lengths of stroke and gap as SVG has them."""
    if not dash:
        return [list(points)]
    stroke, gap = (float(length) * FINE for length in dash.split())
    x, y = np.array(points).T
    along = np.concatenate([[0], np.cumsum(np.hypot(np.diff(x), np.diff(y)))])
    strokes = []
    for start in np.arange(0, along[-1], stroke + gap):
        places = np.linspace(start, min(start + stroke, along[-1]), 4)
        across, down = (np.interp(places, along, values).tolist() for values in (x, y))
        strokes.append(list(zip(across, down, strict=True)))
    return strokes
