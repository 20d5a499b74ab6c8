"""The ablations as tables, for people and for programs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from simgan_fast.evaluation.summaries import plus_minus
from simgan_fast.studies.ablation_arms import BASE, GROUPS
from simgan_fast.tables import Table, markdown, plain

# measure -> its title, what a unit of it is multiplied by, digits
COLUMNS = {
    "mean_error_deg": ("gaze error deg", 1, 2),
    "error_against_base_deg": ("against base", 1, 2),
    "within_7_deg": ("within 7 deg %", 100, 1),
    "told_apart": ("told apart %", 100, 1),
    "kid": ("KID / 1000", 1e-3, 1),
    "pupil_shift_px": ("pupil shift px", 1, 2),
    "mean_abs_change": ("pixel change", 1, 2),
}
RAW = "raw"


def group_table(results: Mapping[str, Any], group: str) -> Table:
    """A row for the raw images, and one for each row of `group`."""
    rows = [("", *(title for title, _, _ in COLUMNS.values()))]
    for row, arm in {"raw images": RAW, **results["groups"][group]}.items():
        found = results["arms"][arm]
        cells = (
            plus_minus(found[measure], unit, digits) if measure in found else ""
            for measure, (_, unit, digits) in COLUMNS.items()
        )
        rows.append((f"{row} (base)" if arm == BASE else row, *cells))
    return rows


def notes(results: Mapping[str, Any]) -> list[str]:
    """What to know beside the tables, a sentence each."""
    raw, base = results["arms"][RAW], results["arms"][BASE]
    refiner, seeds = results["refiner"], len(results["seeds"])
    images = f"{results['images']} synthetic, {results['test_images']} test images"
    settings = (
        f"{refiner['adversarial']} loss, history {refiner['history']}, lambda {refiner['self_regularization']:g} of "
        f"{'pixels' if refiner['feature_transform'] == 'identity' else refiner['feature_transform']}, "
        f"K_g {refiner['refiner_updates']}, {refiner['steps']} steps of {refiner['batch_size']} images, "
        f"width {refiner['width']}"
    )
    real = plus_minus(raw["told_apart_of_real"], 100, 1)
    found = [
        f"{seeds} seeds, mean +- standard deviation; {images}.",
        f"Base: {settings}.",
        "Against base: difference of the gaze errors, seed by seed; one that its spread does not leave behind is none.",
        f"Told apart: 50 is the aim; real images from others of them: {real}.",
        f"Always predicting the mean direction of the test labels: {results['constant_error_deg']:.2f} deg.",
        "Pixel change: mean |R(x) - x| of images in [-1, 1].",
    ]
    if "pupil_floor_px" in base:
        floor = plus_minus(base["pupil_floor_px"], 1, 2)
        found.append(
            f"Pupil shift: where nothing has moved it is up to {floor} px, the estimator's own error."
        )
    for arm, changed in results["settings"].items():
        if arm != BASE:
            listed = ", ".join(
                f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}"
                for name, value in changed.items()
            )
            found.append(f"{arm}: {listed}.")
    return found


def ablation_tables(results: Mapping[str, Any]) -> str:
    """All tables and the notes for people."""
    parts = [
        f"{GROUPS[group]}\n{plain(group_table(results, group))}" for group in results["groups"]
    ]
    return "\n\n".join([*parts, "\n".join(notes(results))])


def document(results: Mapping[str, Any]) -> str:
    """The same as Markdown, with the pictures."""
    parts = [
        f"## {GROUPS[group]}\n\n{markdown(group_table(results, group))}\n\n![{group}]({group}.png)"
        for group in results["groups"]
    ]
    listed = "\n".join(f"- {note}" for note in notes(results))
    return "\n\n".join([*parts, listed]) + "\n"


def records(results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A row per arm, each measure as mean and standard deviation over the seeds; None where it has none."""
    measures = list(dict.fromkeys(m for found in results["arms"].values() for m in found))
    return [
        {
            "arm": arm,
            **{
                f"{measure}_std" if part == "std" else measure: found.get(measure, {}).get(part)
                for measure in measures
                for part in ("mean", "std")
            },
        }
        for arm, found in results["arms"].items()
    ]
