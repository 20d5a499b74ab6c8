"""Refiners on the Hugging Face Hub: fetching, pushing, the model card. No other file imports huggingface_hub."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from simgan_fast.errors import InputError
from simgan_fast.tables import markdown

WEIGHTS_FILE, CONFIG_FILE, CARD_FILE = "model.safetensors", "config.json", "README.md"

SCHEME = "hf://"  # asked for in so many words: a misspelt folder does not go out to the network

CARD = """---
library_name: simgan-fast
tags:
- simgan
- image-to-image
- synthetic-data
- domain-adaptation
---

# A SimGAN refiner

Makes simulated images look real and keeps their labels (Shrivastava et al., "Learning from Simulated and Unsupervised
Images through Adversarial Training", CVPR 2017): {convolutions}, {channels} in and out.

    from simgan_fast import Refiner
    refiner = Refiner.from_pretrained("{name}")
    refined = refiner(images)    # float32 [n, {in_channels}, h, w] in [-1, 1], any height and width

It fits the two sets of images that it was trained on. Look at refined images, and measure what a model trained on them
is worth, before you use it for others.
{measures}"""


def model_card(config: Mapping[str, Any], measures: Mapping[str, object], name: str) -> str:
    """The text of README.md: what the refiner is, how to use it, and a table of `measures` (name -> value)."""
    rows = [(key, _shown(value)) for key, value in measures.items()]
    k, channels = config["kernel_size"], config["in_channels"]
    return CARD.format(
        convolutions=f"{config['blocks']} residual blocks of {config['width']} channels, {k}x{k} filters",
        channels={1: "grey images", 3: "RGB images"}.get(channels, f"{channels} channels"),
        in_channels=channels,
        name=name,
        measures=f"\n{markdown([('from its training', ''), *rows])}\n" if rows else "",
    )


def _shown(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def hub_name(place: str) -> str | None:
    """ "organisation/model" of "hf://organisation/model"; None for what does not begin so."""
    if not place.startswith(SCHEME):
        return None
    name = place.removeprefix(SCHEME)
    if re.fullmatch(r"[\w.-]+/[\w.-]+", name) is None or ".." in name:
        raise InputError(
            f"{place!r} is no model of the Hugging Face Hub: want hf://organisation/model."
        )
    return name


def fetched(name: str, revision: str | None) -> Path:
    """The folder in the Hub's cache with the model `name`; InputError where it cannot be had."""
    hub = _hub()
    try:
        folder = hub.snapshot_download(
            name, revision=revision, allow_patterns=[WEIGHTS_FILE, CONFIG_FILE, CARD_FILE]
        )
    except (hub.errors.HfHubHTTPError, hub.errors.LocalEntryNotFoundError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(
            f"{SCHEME}{name} cannot be had from the Hugging Face Hub ({reason})."
        ) from None
    return Path(folder)


def push(folder: Path, name: str, *, private: bool, token: str | None) -> str:
    """Upload a saved refiner to the model `name` of the Hub, made if need be; gives the address of the commit."""
    hub = _hub()
    try:
        api = hub.HfApi(token=token)
        api.create_repo(name, private=private, exist_ok=True)
        commit = api.upload_folder(
            repo_id=name, folder_path=folder, commit_message="Refiner by simgan_fast"
        )
    except (hub.errors.HfHubHTTPError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(f"{name} cannot be pushed to the Hugging Face Hub ({reason}).") from None
    return str(commit.commit_url)


def _hub() -> Any:
    try:
        import huggingface_hub
        import huggingface_hub.errors
    except ImportError:
        raise InputError(
            "models on the Hugging Face Hub need huggingface_hub: pip install 'simgan-fast[hub]'."
        ) from None
    return huggingface_hub
