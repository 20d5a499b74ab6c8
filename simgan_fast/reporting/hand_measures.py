"""What was measured of hands, as HTML: `evaluate pose --json`, the edge noise of sets, and the demo of hands."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from simgan_fast.evaluation.pose_curve import pose_curve_svg
from simgan_fast.evaluation.pose_metrics import PAPER_SIDE
from simgan_fast.reporting.html_parts import MOST_SETS, number, paragraph, plus_minus, table

# Score -> its column, and whether it is a share; the last is None where the set does not tell depth.
SCORES = {
    "pck_5px": ("within 5 px", True),
    "mean_error_px": ("mean error, px", False),
    "auc": ("AUC", True),
    "mean_error_mm": ("mean error, mm", False),
}
EDGES = {
    "silhouette_gradient": ("gradient at silhouettes", False),
    "rim_share": ("rim", True),
    "dropout_rate": ("dropouts", True),
    "hole_rate": ("holes", True),
}


def pose_html(results: Mapping[str, Any]) -> str:
    """Tables and curves of `evaluate pose`; KeyError, TypeError or the like where that is not what came."""
    arms = results["arms"]
    if not 0 < len(arms) <= MOST_SETS:
        raise ValueError("no lines for a chart, or too many")
    head = ("trained on", "images", *(name for name, _ in SCORES.values()))
    rows = [
        (
            name,
            number(arm["images"]),
            *(
                plus_minus(arm[score], share) if arm[score] else "-"
                for score, (_, share) in SCORES.items()
            ),
        )
        for name, arm in arms.items()
    ]
    joints = [
        (joint, *(_percent(arm["per_joint"][joint]["pck_5px"]) for arm in arms.values()))
        for joint in next(iter(arms.values()))["per_joint"]
    ]
    note = (
        f"{results['test_images']} test images, {len(results['seeds'])} seeds. Pixels are those of images {PAPER_SIDE} "
        "wide; mm are across the line of sight, at the true depth."
    )
    return (
        f'{table(head, rows)}<div class="charts">{pose_curve_svg(results)}</div>{paragraph(note)}'
        f"{table(('within 5 px', *arms), joints)}"
    )


def hands_demo_html(summary: Mapping[str, Any]) -> str:
    """A demo of hands' summary.json in two sentences, and its edge noise as a table."""
    shares, spread = summary["pck_5px"], summary["pck_5px_std"]
    by_set = [
        f"{plus_minus({'mean': share, 'std': spread[name]}, True)} trained on {name}"
        for name, share in shares.items()
    ]
    gained = 100 * (shares["refined"] - shares["synthetic"])
    text = (
        f"Refining changed the share of joints within 5 pixels by {gained:+.1f} points: "
        f"it is {', '.join(by_set)}. Refined {summary['refine_images_per_second']:,.0f} images/s, mean change "
        f"{summary['mean_abs_change']:.3f} of a range of 2."
    )
    head = ("edges of", *(name for name, _ in EDGES.values()))
    rows = [
        (
            name,
            *(
                _percent(noise[measure]) if share else f"{noise[measure]:.3f}"
                for measure, (_, share) in EDGES.items()
            ),
        )
        for name, noise in summary["edge_noise"].items()
    ]
    return paragraph(text) + table(head, rows)


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.2f} %"
