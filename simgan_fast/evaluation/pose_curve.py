"""The curve of joints within a distance of the truth (figure 12 of the paper) as a chart and as a table."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from simgan_fast.charts import Line, line_chart
from simgan_fast.evaluation.curve_files import write_share_curves
from simgan_fast.evaluation.pose_metrics import CLOSE_PIXELS

TITLE, X_LABEL = "Joints within a distance of the truth", "pixels of the {unit}"
UNITS = {"input": "pck_curve", "heat map": "pck_curve_heat_map"}


def pose_curve_svg(results: Mapping[str, Any]) -> str:
    """The curves in pixels of the input as the text of an <svg> element, with an upright at 5 pixels."""
    return line_chart(
        _lines(results, "input"),
        TITLE,
        x_label=X_LABEL.format(unit="input"),
        low=0,
        high=1,
        marks=[CLOSE_PIXELS],
        percent=True,
    )


def write_pose_curve(
    results: Mapping[str, Any], path: str | Path, *, heat_map: bool = False
) -> None:
    """Write the curves of what `evaluate_pose` found to `path`, a .svg, .png or .csv file.

    A line per training set: the share, 0 to 1, of the joints within 0, 1, ... 10 pixels of the input, or with
    `heat_map` of the heat maps. The table has a row per pixel.

    >>> write_pose_curve(evaluate_pose(sets, frames), "curve.svg")  # doctest: +SKIP
    """
    unit = "heat map" if heat_map else "input"
    marks = [] if heat_map else [CLOSE_PIXELS]
    write_share_curves(
        path,
        _lines(results, unit),
        TITLE,
        x_name="pixels",
        x_label=X_LABEL.format(unit=unit),
        marks=marks,
    )


def _lines(results: Mapping[str, Any], unit: str) -> list[Line]:
    pixels = [float(pixel) for pixel in results["curve_px"]]
    return [
        Line(name, pixels, _shares(arm[UNITS[unit]], pixels))
        for name, arm in results["arms"].items()
    ]


def _shares(found: list[float], pixels: list[float]) -> list[float]:
    shares = [float(share) for share in found]
    if len(shares) != len(pixels):
        raise ValueError(f"{len(shares)} shares at {len(pixels)} distances")
    return shares
