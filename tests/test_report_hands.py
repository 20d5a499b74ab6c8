"""What was measured of hands on a report: tables and curves, and numbers of another shape as numbers."""

from __future__ import annotations

from typing import Any

import pytest
from hand_sets import toy_hands

from simgan_fast.evaluation.pose import PoseTraining, evaluate_pose
from simgan_fast.reporting.measures import measure_html

HOSTILE = "<script>&"


@pytest.fixture(scope="module")
def results() -> dict[str, Any]:
    tiny = PoseTraining(width=8, depth=1, updates=1, batch_size=4, warm_up=0)
    return evaluate_pose({HOSTILE: toy_hands(8, 0, 32)}, toy_hands(4, 1, 32), training=tiny)


def test_pose_evaluation_has_tables_and_curves(results: dict[str, Any]) -> None:
    html = measure_html(results)
    arm = results["arms"][HOSTILE]
    share = f"{100 * arm['pck_5px']['mean']:.1f} ± {100 * arm['pck_5px']['std']:.1f} %"
    assert f"<td>{share}</td>" in html and "<td>wrist, thumb&#x27;s side</td>" in html
    assert html.count("<svg") == 2 and HOSTILE not in html and "4 test images, 3 seeds" in html


def test_of_sets_without_depth_the_millimetres_are_a_dash(results: dict[str, Any]) -> None:
    arm = results["arms"][HOSTILE] | {"mean_error_mm": None}
    assert "<td>-</td>" in measure_html(results | {"arms": {"a": arm}})


@pytest.mark.parametrize(
    "change",
    [
        {"arms": {}},
        {"arms": []},
        {"arms": {"a": {}}},
        {"arms": {str(n): {} for n in range(99)}},
        {"curve_px": [0, 1]},
        {"seeds": 3},
    ],
)
def test_what_is_not_whole_is_shown_as_numbers(
    results: dict[str, Any], change: dict[str, Any]
) -> None:
    assert "<svg" not in measure_html(results | change)
