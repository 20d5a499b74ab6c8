"""What `evaluate ... --json` and the demos measured, as HTML; numbers of other programs too."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from simgan_fast.errors import InputError
from simgan_fast.evaluation.gaze_curve import baseline_name, curve_svg
from simgan_fast.reporting.any_numbers import numbers_html
from simgan_fast.reporting.hand_measures import hands_demo_html, pose_html
from simgan_fast.reporting.html_parts import MOST_SETS, number, paragraph, plus_minus, table

MOST_BYTES = 64 << 20  # of a file of numbers
SHARE = "within_7_deg"
SCORES = ("mean_error_deg", SHARE, "mean_error_without_offset_deg")


def read_measure(path: str | Path) -> dict[str, Any]:
    """The numbers in the JSON file `path`; InputError where it is none, or too large."""
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path} is not there: name a file that evaluate --json wrote.")
    if path.stat().st_size > MOST_BYTES:
        raise InputError(f"{path} is larger than {MOST_BYTES >> 20} MiB: a report shows less.")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"{path} is not JSON ({type(error).__name__}): name a file that evaluate --json wrote."
        ) from None
    if not isinstance(content, dict):
        raise InputError(
            f"{path} holds a {type(content).__name__}: want numbers by name, as evaluate --json writes."
        )
    return content


def measure_html(content: Mapping[str, Any]) -> str:
    """`content` as tables: evaluations of gaze and pose with their curves, of all else what numbers are in it."""
    for known in (_gaze, _demo, pose_html, hands_demo_html):
        try:
            return known(content)
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
            continue  # of another kind, or not whole
    return numbers_html(content)


def _gaze(results: Mapping[str, Any]) -> str:
    """The table and the curves of `evaluate gaze`."""
    if len(results["arms"]) > MOST_SETS:
        raise ValueError("too many lines for a chart")
    head = ("trained on", "images", "mean error, deg", "within 7 deg", "without offset, deg")
    rows = []
    for name, arm in results["arms"].items():
        scores = [plus_minus(arm[score], score == SHARE) for score in SCORES]
        rows.append((name, number(arm["images"]), *scores))
        for method, found in results.get("baselines", {}).get(name, {}).items():
            scores = [_score(found[score], score == SHARE) for score in SCORES]
            rows.append((f"{name}, {baseline_name(method, found)}", "", *scores))
    note = (
        f"{results['test_images']} test images, {len(results['seeds'])} seeds. Always predicting the mean direction "
        f"of the test labels: {results['constant_error_deg']:.2f} degrees. Without offset: after a constant error, "
        "found with the test labels, is taken off."
    )
    return f'{table(head, rows)}<div class="charts">{curve_svg(results)}</div>{paragraph(note)}'


def _demo(summary: Mapping[str, Any]) -> str:
    """A demo's summary.json in two sentences: the table is that of its gaze evaluation."""
    errors, spread = summary["gaze_error_deg"], summary["gaze_error_deg_std"]
    by_set = [
        f"{plus_minus({'mean': error, 'std': spread[name]})} trained on {name}"
        for name, error in errors.items()
    ]
    return paragraph(
        f"Refining changed the gaze error by {errors['refined'] / errors['synthetic'] - 1:+.1%}: it is, in degrees, "
        f"{', '.join(by_set)}. Refined {summary['refine_images_per_second']:,.0f} images/s, mean change "
        f"{summary['mean_abs_change']:.3f} of a range of 2."
    )


def _score(value: float, percent: bool) -> str:
    return f"{100 * value:.1f} %" if percent else f"{value:.2f}"
