"""What was logged as training went on, as charts."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from simgan_fast.charts import Area, Line, line_chart
from simgan_fast.reporting.html_parts import paragraph
from simgan_fast.reporting.run_facts import RunFacts

PRETRAINING = "#eeeeee"
SMOOTH = 40  # the bold line is the mean over a fortieth of the curve on either side
MOST_MARKS = 100  # warnings on a chart
NOTE = "Bold: running means. Green: the healthy range (docs/guide.md). Grey: pretraining. Dotted uprights: warnings."


def curves(run: RunFacts) -> str:
    """Losses, decisions and changes over the updates of `run`, with a note on what is drawn."""
    logged = run.metrics
    if not len(logged["update"]):
        return paragraph("Nothing was logged yet.")
    weighted = run.config.self_regularization * logged["self_regularization"]
    charts = [
        _chart(
            run,
            "Losses",
            {"refiner": logged["loss_refiner"], "discriminator": logged["loss_discriminator"]},
        ),
        _chart(
            run,
            "Refiner's loss in its two parts",
            {"adversarial": logged["adversarial"], "lambda x self-regularisation": weighted},
        ),
        _chart(
            run,
            "Patches that the discriminator judges rightly",
            {"refined": logged["accuracy_refined"], "real": logged["accuracy_real"]},
            healthy=(0.5, 0.8),
            high=1.0,
        ),
        _chart(run, "Mean change of a pixel, of 2", {"|R(x) - x|": logged["mean_abs_change"]}),
        _chart(
            run,
            "Diversity of the refined images",
            {"their differences against those of synthetic ones": logged["diversity"]},
            healthy=(0.5, 2.0),
        ),
        _chart(
            run,
            "Spread of the discriminator's decisions",
            {"standard deviation over patches": logged["decision_spread"]},
            healthy=(0.05, 0.5),
        ),
    ]
    if run.selection:
        charts.append(_selection(run))
    return f'<div class="charts">{"".join(charts)}</div>{paragraph(NOTE)}'


def _selection(run: RunFacts) -> str:
    """The measure that the best refiner is chosen by, over the updates."""
    updates, values = np.array(run.selection, np.float64).T
    names = {"realism": "KID", "gaze": "mean gaze error, degrees"}
    by = run.config.select_by
    return line_chart(
        [Line(names.get(by, by), updates, values)],
        f"Selection by {by}, on images held out from training",
        x_label="update",
    )


def _chart(
    run: RunFacts,
    title: str,
    columns: Mapping[str, NDArray[np.float64]],
    *,
    healthy: tuple[float, float] | None = None,
    high: float | None = None,
) -> str:
    """`columns` over the updates; an ordinate that ends at 1 is in percent."""
    update, config = run.metrics["update"], run.config
    pretraining = config.refiner_pretraining + config.discriminator_pretraining
    areas = [Area(0, pretraining, PRETRAINING, across=True)] if pretraining else []
    return line_chart(
        [
            Line(name, update, values, smooth=len(update) // SMOOTH)
            for name, values in columns.items()
        ],
        title,
        x_label="update",
        low=0.0,
        high=high,
        areas=[*([Area(*healthy)] if healthy else []), *areas],
        marks=[number for number, _ in run.warnings[:MOST_MARKS]],
        percent=high == 1.0,
    )
