"""What the ablations compare (paper, section 3.3): the same training with one thing changed."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from simgan_fast.config import FEATURE_TRANSFORMS, TrainingConfig
from simgan_fast.errors import InputError

GROUPS = {
    "loss": "Local or global adversarial loss (figure 8)",
    "history": "With and without a history (figure 9)",
    "psi": "Feature transform of the self-regularisation (equation 4)",
    "lambda": "lambda, in the paper's units",
    "kg": "K_g, updates of R per step, with equally many updates of R",
}
LAMBDA_FACTORS = (0.25, 0.5, 1.0, 2.0, 4.0)
REFINER_UPDATES = (2, 50)  # what the paper's "twice" and "K_g = 50" say
HISTORY = 512  # images, where the settings to compare with have none
BASE = "base"


@dataclass(frozen=True)
class Arms:
    """`configs`: arm -> its settings, `base` first; `groups`: group -> name of a row -> its arm."""

    configs: dict[str, TrainingConfig]
    groups: dict[str, dict[str, str]]


def ablation_arms(
    base: TrainingConfig,
    image_size: tuple[int, int],
    groups: Sequence[str] = tuple(GROUPS),
    lambdas: Sequence[float] | None = None,
) -> Arms:
    """The arms of `groups`, each different from `base` in one thing; a row that is no change is `base` itself.

    loss: the other discriminator. A global one gives one cross-entropy per image where the local one sums
        ceil(h / 4) * ceil(w / 4), so lambda is divided, or multiplied, by that: the balance stays.
    history: none, or 512 images where `base` has none.
    psi: pixels as they are, or their derivatives, with the same lambda.
    lambda: `lambdas`, by default a quarter, half, once, twice and four times that of `base`.
    kg: K_g of `base`, 2 and 50, with fewer steps as K_g is larger, so that R has as many updates.

    >>> arms = ablation_arms(TrainingConfig(), (35, 55))
    >>> arms.groups["loss"], round(arms.configs["global"].self_regularization, 5)
    ({'local': 'base', 'global': 'global'}, 0.00317)
    """
    unknown = [group for group in groups if group not in GROUPS]
    if unknown or not groups:
        raise InputError(
            f"{unknown[0] if unknown else 'no group'!r} is no group of ablations: choose from {', '.join(GROUPS)}."
        )
    rows = {
        "loss": _losses(base, image_size),
        "history": _histories(base),
        "psi": _transforms(base),
        "lambda": _lambdas(base, lambdas),
        "kg": _refiner_updates(base),
    }
    configs, named = {BASE: base}, {}
    for group in (group for group in GROUPS if group in groups):
        named[group] = {row: _arm(row, config, base) for row, config in rows[group].items()}
        configs |= {named[group][row]: config for row, config in rows[group].items()}
    return Arms(configs, named)


def _arm(row: str, config: TrainingConfig, base: TrainingConfig) -> str:
    return BASE if config == base else row.replace(" ", "-")


def _losses(base: TrainingConfig, image_size: tuple[int, int]) -> Mapping[str, TrainingConfig]:
    height, width = image_size
    patches = ((height + 3) // 4) * ((width + 3) // 4)
    there, other, factor = (
        ("local", "global", 1 / patches)
        if base.adversarial == "local"
        else ("global", "local", patches)
    )
    weight = base.self_regularization * factor
    changed = dataclasses.replace(base, adversarial=other, self_regularization=weight)
    return {there: base, other: changed}


def _histories(base: TrainingConfig) -> Mapping[str, TrainingConfig]:
    without = dataclasses.replace(base, history=0)
    kept = base if base.history else dataclasses.replace(base, history=HISTORY)
    return {"history": kept, "no history": without}


def _transforms(base: TrainingConfig) -> Mapping[str, TrainingConfig]:
    return {name: dataclasses.replace(base, feature_transform=name) for name in FEATURE_TRANSFORMS}


def _lambdas(base: TrainingConfig, lambdas: Sequence[float] | None) -> Mapping[str, TrainingConfig]:
    weight = base.self_regularization
    wanted = lambdas or [round(weight * factor, 12) for factor in LAMBDA_FACTORS]
    return {
        f"lambda {value:g}": dataclasses.replace(base, self_regularization=float(value))
        for value in sorted(wanted)
    }


def _refiner_updates(base: TrainingConfig) -> Mapping[str, TrainingConfig]:
    return {
        f"K_g {count}": dataclasses.replace(
            base,
            refiner_updates=count,
            steps=max(1, round(base.steps * base.refiner_updates / count)),
        )
        for count in sorted({base.refiner_updates, *REFINER_UPDATES})
    }
