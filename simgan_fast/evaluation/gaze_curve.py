"""The cumulative error curve of gaze evaluation (figure 7 of the paper) as a chart and as a table."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import cycle
from pathlib import Path
from typing import Any

from simgan_fast.charts import COLOURS, Line, line_chart
from simgan_fast.evaluation.curve_files import write_share_curves
from simgan_fast.evaluation.gaze_metrics import CLOSE_DEGREES

TITLE, X_LABEL = "Test images within an angle of the truth", "angle, degrees"
DASHES = {"nearest": "7 5", "ridge": "1 5"}  # a set's baselines have its colour


def curve_lines(results: Mapping[str, Any]) -> list[Line]:
    """A line per training set and baseline in what `evaluate_gaze` found: shares, 0 to 1, over degrees."""
    degrees = [float(degree) for degree in results["curve_degrees"]]
    lines = []
    for (name, arm), colour in zip(results["arms"].items(), cycle(COLOURS), strict=False):
        lines.append(Line(name, degrees, _shares(arm, degrees), colour=colour))
        for method, found in results.get("baselines", {}).get(name, {}).items():
            dash = DASHES.get(method, "3 3")
            label = f"{name}, {baseline_name(method, found)}"
            lines.append(Line(label, degrees, _shares(found, degrees), dash=dash, colour=colour))
    return lines


def curve_svg(results: Mapping[str, Any]) -> str:
    """The curves as the text of an <svg> element, with an upright at 7 degrees."""
    return line_chart(
        curve_lines(results),
        TITLE,
        x_label=X_LABEL,
        low=0,
        high=1,
        marks=[CLOSE_DEGREES],
        percent=True,
    )


def baseline_name(method: str, found: Mapping[str, Any]) -> str:
    """A baseline as people read it.

    >>> baseline_name("nearest", {"chosen": 8.0}), baseline_name("ridge", {"chosen": 0.1})
    ('8 nearest', 'ridge 0.1')
    """
    chosen = f"{found['chosen']:g}"
    return f"{chosen} nearest" if method == "nearest" else f"{method} {chosen}"


def write_curve(results: Mapping[str, Any], path: str | Path) -> None:
    """Write the curves of what `evaluate_gaze` found to `path`, a .svg, .png or .csv file.

    The table has a row per degree, with the share, 0 to 1, of the test images within it for each training set.

    >>> write_curve(evaluate_gaze(sets, photographs), "curve.svg")  # doctest: +SKIP
    """
    write_share_curves(
        path, curve_lines(results), TITLE, x_name="degrees", x_label=X_LABEL, marks=[CLOSE_DEGREES]
    )


def _shares(found: Mapping[str, Any], degrees: list[float]) -> list[float]:
    shares = [float(share) for share in found["cumulative_curve"]]
    if len(shares) != len(degrees):
        raise ValueError(f"{len(shares)} shares at {len(degrees)} angles")
    return shares
