"""What a run is: frozen settings, the presets, and their TOML form."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from simgan_fast.errors import InputError
from simgan_fast.files import written_whole

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PRECISIONS = ("auto", "float32", "bfloat16")  # `simgan_fast.precision` says what they mean
FEATURE_TRANSFORMS = ("identity", "derivatives")  # psi: `simgan_fast.training.losses`
SEEDS = 2**63  # seeds are below it: numpy, torch and Philox all take them
RUN_FORMAT = 1  # raised when a run folder of an older version can no longer be continued


def _as_type_of(default: Any, name: str, value: Any) -> Any:
    wanted = type(default)
    fits = isinstance(value, wanted) or (wanted is float and isinstance(value, int))
    if not fits or isinstance(value, bool):
        raise InputError(f"setting {name} is {value!r}: it must be of type {wanted.__name__}.")
    try:
        return wanted(value)
    except OverflowError:  # an integer of hundreds of digits
        raise InputError(f"setting {name} is larger than a number may be.") from None


@dataclass(frozen=True)
class TrainingConfig:
    """Settings of one training run; the defaults are those of the preset `eyes`.

    Losses are in the paper's convention: cross-entropy summed over patches, |psi(R(x)) - psi(x)| summed over
    pixels, both for images in [-1, 1] and averaged over the images of a mini-batch, so
    `self_regularization` is the paper's lambda.
    """

    # models
    width: int = 64  # channels of the refiner's hidden maps
    blocks: int = 4  # residual blocks of the refiner
    kernel_size: int = 3  # of the refiner's first convolution and blocks: 3 (eyes) or 7 (hands)
    padding_mode: Literal["reflect", "zeros"] = "reflect"  # of every padded convolution
    initialization: str = "identity"  # of the refiner: "identity" or torch's "default"
    discriminator: str = "eyes"  # the paper's for "eyes", or for "hands"
    adversarial: str = "local"  # "local": one decision per patch (paper 2.2); "global": one per image, the ablation
    # Algorithm 1
    steps: int = 1500  # T
    batch_size: int = 16  # b
    refiner_updates: int = 1  # K_g
    discriminator_updates: int = 1  # K_d
    refiner_pretraining: int = 60  # updates with self-regularisation only
    discriminator_pretraining: int = 50
    self_regularization: float = 0.4  # lambda
    feature_transform: str = "derivatives"  # psi (paper 2.1): of what lambda holds; or "identity"
    history: int = 512  # B, refined images kept (paper 2.3); 0 turns the history off
    optimizer: str = "adam"  # "adam" or "sgd"
    learning_rate: float = 2e-4  # of the refiner
    discriminator_learning_rate: float = 5e-4
    learning_rate_drop: int = 0  # steps after which both learning rates are a quarter; 0: never
    adam_beta1: float = 0.5
    averaging: float = 0.99  # decay of the moving average of R's weights; 0 keeps the last
    flip: str = "off"  # "on": each drawn image is mirrored left to right with probability 1/2
    precision: str = "auto"  # of the networks: "float32", or "bfloat16" on a GPU; "auto": there, for 8-bit images
    # the run
    seed: int = 0
    checkpoint_every: int = 100  # steps
    log_every: int = 10
    sample_every: int = 100
    select_by: str = "none"  # what the best refiner is chosen by: "realism", "gaze" or "none"
    select_every: int = 100

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = _as_type_of(field.default, field.name, getattr(self, field.name))
            object.__setattr__(self, field.name, value)
        for name, allowed in _CHOICES.items():
            if getattr(self, name) not in allowed:
                raise InputError(
                    f"{name} is {getattr(self, name)!r}: it must be one of {', '.join(map(repr, allowed))}."
                )
        for name, least in _LEAST.items():
            if not getattr(self, name) >= least:  # written so that NaN fails too
                raise InputError(f"{name} is {getattr(self, name)}: it must be at least {least}.")
        if not (self.averaging < 1 and self.adam_beta1 < 1):
            raise InputError(
                f"averaging is {self.averaging}, adam_beta1 {self.adam_beta1}: both must be below 1."
            )
        if self.discriminator == "hands" and self.adversarial == "global":
            raise InputError(
                "the discriminator 'hands' has no adversarial 'global': the ablation is that of 'eyes'."
            )
        if self.seed >= SEEDS:
            raise InputError(f"seed is {self.seed}: want 0 to 2^63 - 1.")
        if self.batch_size % 2:
            raise InputError(
                f"batch_size is {self.batch_size}: it must be even, half of a batch comes from the history."
            )
        if 0 < self.history < self.batch_size // 2:
            raise InputError(
                f"history is {self.history}: it must be 0 (off) or hold at least batch_size / 2 images."
            )


_CHOICES: dict[str, tuple[Any, ...]] = {
    "kernel_size": (3, 7),
    "padding_mode": ("reflect", "zeros"),
    "initialization": ("identity", "default"),
    "discriminator": ("eyes", "hands"),
    "adversarial": ("local", "global"),
    "feature_transform": FEATURE_TRANSFORMS,
    "optimizer": ("adam", "sgd"),
    "flip": ("off", "on"),
    "precision": PRECISIONS,
    "select_by": ("none", "realism", "gaze"),
}
_LEAST: dict[str, float] = {
    "width": 2,
    "blocks": 1,
    "steps": 0,
    "batch_size": 2,
    "refiner_updates": 1,
    "discriminator_updates": 1,
    "refiner_pretraining": 0,
    "discriminator_pretraining": 0,
    "self_regularization": 0.0,
    "history": 0,
    "learning_rate": 0.0,
    "discriminator_learning_rate": 0.0,
    "learning_rate_drop": 0,
    "adam_beta1": 0.0,
    "averaging": 0.0,
    "seed": 0,
    "checkpoint_every": 1,
    "log_every": 1,
    "sample_every": 1,
    "select_every": 1,
}

# The paper leaves lambda and B open: 0.01 is what its first author is quoted with, 51,200 is filled
# by the 200 pretraining updates of the discriminator. It gives K_g as "twice" and as 50 in one
# sentence: both are presets.
_PAPER = TrainingConfig(
    padding_mode="zeros",
    initialization="default",
    steps=10_000,
    batch_size=512,
    refiner_updates=2,
    refiner_pretraining=1000,
    discriminator_pretraining=200,
    self_regularization=0.01,
    feature_transform="identity",
    history=51_200,
    optimizer="sgd",
    learning_rate=1e-3,
    discriminator_learning_rate=1e-3,
    averaging=0.0,
)

# Of the hands it leaves T, b and B open too: the rates drop after 600,000 steps, 512 images of 224x224 are more than a
# GPU holds, and 1,600 are again what the discriminator's pretraining fills.
_HANDS_PAPER = dataclasses.replace(
    _PAPER,
    kernel_size=7,
    blocks=10,
    discriminator="hands",
    steps=800_000,
    batch_size=16,
    refiner_pretraining=500,
    history=1600,
    learning_rate=2e-4,
    discriminator_learning_rate=2e-4,
    learning_rate_drop=600_000,
)

PRESETS: dict[str, TrainingConfig] = {
    "eyes": TrainingConfig(),
    # A quarter of the arithmetic, for two cores; longer, as it has 16,000 real images (docs/training.md).
    "demo-eyes": TrainingConfig(width=32, steps=3000),
    "eyes-paper": _PAPER,
    "eyes-paper-kg50": dataclasses.replace(_PAPER, refiner_updates=50),
    "hands-paper": _HANDS_PAPER,
    # For 64x64 pixels, of which 3x3 show more of a hand than 7x7 of 224x224 do (docs/hands.md).
    "demo-hands": TrainingConfig(
        width=16,
        steps=1200,
        batch_size=16,
        refiner_updates=2,
        refiner_pretraining=10,
        discriminator_pretraining=60,
        self_regularization=0.05,
        feature_transform="identity",
        learning_rate=4e-4,
        discriminator_learning_rate=2.5e-4,
        learning_rate_drop=900,
    ),
}


def preset(name: str, **changes: Any) -> TrainingConfig:
    """The preset `name` with some settings changed.

    >>> preset("eyes-paper", seed=3).refiner_updates
    2
    """
    if name not in PRESETS:
        raise InputError(f"preset {name!r} is not known: choose one of {', '.join(PRESETS)}.")
    return from_dict({**dataclasses.asdict(PRESETS[name]), **changes})


def from_dict(settings: Mapping[str, Any]) -> TrainingConfig:
    """Check the names of `settings` and make a TrainingConfig of them."""
    known = [field.name for field in dataclasses.fields(TrainingConfig)]
    unknown = sorted(set(settings) - set(known))
    if unknown:
        raise InputError(f"setting {unknown[0]!r} is not known: choose from {', '.join(known)}.")
    return TrainingConfig(**settings)


def save_config(path: Path, config: TrainingConfig, data: Mapping[str, str]) -> None:
    """Write config.toml: the run's format, where its data lie, and its settings."""
    import tomli_w  # not needed for networks and ops, and missing on the machine of benchmarks/gpu.sh

    document = {"format": RUN_FORMAT, "data": dict(data), "training": dataclasses.asdict(config)}
    with written_whole(path) as file:
        tomli_w.dump(document, file)


def load_config(path: Path) -> tuple[TrainingConfig, dict[str, str]]:
    """Read config.toml; InputError if it is missing, damaged or of another format."""
    try:
        document = tomllib.loads(path.read_text())
    except FileNotFoundError:
        raise InputError(f"{path.parent} is no run folder: it holds no {path.name}.") from None
    except (ValueError, RecursionError) as error:  # nested a thousand deep, too
        raise InputError(f"{path} is damaged ({error}): restore it, or start a new run.") from None
    if document.get("format") != RUN_FORMAT:
        raise InputError(
            f"{path.parent} was written in run format {document.get('format')!r}, this version reads format "
            f"{RUN_FORMAT}: continue it with the version that made it, or start a new run."
        )
    if not isinstance(document.get("training"), dict) or not isinstance(document.get("data"), dict):
        raise InputError(
            f"{path} is damaged (no [training] and [data] tables): restore it, or start a new run."
        )
    for name, value in document["data"].items():
        if not isinstance(value, str):
            raise InputError(f"{path} has {name} = {value!r}, not a text: restore it.")
    # A run from before there was a choice goes on as it began.
    return from_dict({"feature_transform": "identity", **document["training"]}), document["data"]
