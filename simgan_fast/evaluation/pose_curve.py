"""The curve of joints within a distance of the truth (figure 12 of the paper) as a chart and as a table."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from simgan_fast.charts import Line
from simgan_fast.evaluation.curve_files import write_share_curves
from simgan_fast.evaluation.pose_metrics import CLOSE_PIXELS

TITLE = "Joints within a distance of the truth"
UNITS = {"input": "pck_curve", "heat map": "pck_curve_heat_map"}


def write_pose_curve(
    results: Mapping[str, Any], path: str | Path, *, heat_map: bool = False
) -> None:
    """Write the curves of what `evaluate_pose` found to `path`, a .svg, .png or .csv file.

    A line per training set: the share, 0 to 1, of the joints within 0, 1, ... 10 pixels of the input, or with
    `heat_map` of the heat maps. The table has a row per pixel.

    >>> write_pose_curve(evaluate_pose(sets, frames), "curve.svg")  # doctest: +SKIP
    """
    unit = "heat map" if heat_map else "input"
    pixels = [float(pixel) for pixel in results["curve_px"]]
    lines = [Line(name, pixels, arm[UNITS[unit]]) for name, arm in results["arms"].items()]
    marks = [] if heat_map else [CLOSE_PIXELS]
    write_share_curves(
        path, lines, TITLE, x_name="pixels", x_label=f"pixels of the {unit}", marks=marks
    )
