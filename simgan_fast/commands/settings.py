"""The settings of a training run as options of a command."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Collection
from typing import Any

from simgan_fast.config import PRESETS, TrainingConfig, preset

SETTINGS_HELP = {
    "width": "channels of the refiner's hidden maps",
    "blocks": "residual blocks of the refiner",
    "kernel_size": "refiner filters: 3 (eyes) or 7 (hands)",
    "padding_mode": "of every padded convolution",
    "initialization": "of the refiner: near the identity, or torch's default",
    "discriminator": "the paper's for eyes, or for hands",
    "adversarial": "loss per patch, or per image (the paper's ablation)",
    "steps": "rounds of Algorithm 1",
    "batch_size": "images in a mini-batch (even)",
    "refiner_updates": "K_g, refiner updates per step",
    "discriminator_updates": "K_d, discriminator updates per step",
    "refiner_pretraining": "updates of the refiner alone, to begin with",
    "discriminator_pretraining": "updates of the discriminator alone, after that",
    "self_regularization": "lambda, in the paper's units: sums over patches and pixels, images in [-1, 1]",
    "feature_transform": "psi, what lambda holds: pixels (identity), or their derivatives, which let light change",
    "history": "refined images kept for the discriminator, or 'off'",
    "optimizer": "adam or sgd",
    "learning_rate": "of the refiner",
    "discriminator_learning_rate": "of the discriminator",
    "learning_rate_drop": "steps after which both learning rates are a quarter; 0: never",
    "adam_beta1": "first-moment decay of Adam",
    "averaging": "decay of the moving average of the refiner's weights that is kept; 0: the last weights",
    "flip": "on or off: mirror each drawn image left to right, or not, at random",
    "precision": "auto, float32, or bfloat16 on a GPU; auto takes it there for 8-bit images",
    "seed": "of everything random",
    "checkpoint_every": "updates between checkpoints",
    "log_every": "updates between rows of metrics.csv",
    "sample_every": "steps between sample pictures",
    "select_by": "realism, gaze or none: what the best refiner is chosen by, on images held out from training",
    "select_every": "steps between measurements of the refiner",
}
OTHER_NAMES = {"self_regularization": ("--lambda",), "averaging": ("--ema",)}


def add_settings(
    parser: argparse.ArgumentParser, base: str, leave_out: Collection[str] = ()
) -> None:
    """Add an option for each setting, none of them with a default: what is left out stays as in the preset."""
    group = parser.add_argument_group(
        "settings", f"each changes the preset; in brackets, the preset {base}"
    )
    for field in dataclasses.fields(TrainingConfig):
        if field.name in leave_out:
            continue
        value = getattr(PRESETS[base], field.name)
        names = [f"--{field.name.replace('_', '-')}", *OTHER_NAMES.get(field.name, ())]
        kind = _history if field.name == "history" else type(value)
        group.add_argument(
            *names,
            dest=field.name,
            type=kind,
            metavar="X",
            help=f"{SETTINGS_HELP[field.name]} [{value}]",
        )


def settings(arguments: argparse.Namespace, base: str) -> TrainingConfig:
    """The preset `base` with the changes that were asked for."""
    return preset(base, **changes(arguments))


def changes(arguments: argparse.Namespace) -> dict[str, Any]:
    """The settings that were given, name to value."""
    names = (field.name for field in dataclasses.fields(TrainingConfig))
    return {
        name: getattr(arguments, name)
        for name in names
        if getattr(arguments, name, None) is not None
    }


def _history(text: str) -> int:
    return 0 if text == "off" else int(text)
