"""A refiner's model card, and the Hugging Face Hub.

Files and method names are those of huggingface_hub's `PyTorchModelHubMixin`, so either reads what the other wrote. The
mixin is no base class of `Refiner`: importing it takes 0.27 s, and where a repository has no safetensors it unpickles.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from simgan_fast.errors import InputError

CARD_FILE = "README.md"
_TRAINING = "\n## Training\n\n"  # of a card: what follows is Refiner.card
_FILES = ["model.safetensors", "config.json", CARD_FILE]

_CARD = """\
---
library_name: simgan-fast
pipeline_tag: image-to-image
tags: [simgan, synthetic-data, domain-adaptation]
---

# SimGAN refiner

Makes simulated images look like those of a real domain and keeps their labels: Shrivastava et al., *Learning from
Simulated and Unsupervised Images through Adversarial Training*, CVPR 2017 (https://arxiv.org/abs/1612.07828).

Images float32 [n, {in_channels}, h, w] in [-1, 1] to the same shape and range, any h and w.

```python
from simgan_fast import Refiner, refine_array

refiner = Refiner.from_pretrained("PATH OR REPOSITORY")
refined = refine_array(images, refiner)  # NumPy, uint8 or float
```

| setting | value |
|---|---|
{settings}
"""


def card_text(config: Mapping[str, object], training: str) -> str:
    """The model card: how to use it, its `config`, and the Markdown `training` where there is any."""
    settings = "\n".join(f"| {name} | {value} |" for name, value in config.items())
    card = _CARD.format(in_channels=config["in_channels"], settings=settings)
    return f"{card}{_TRAINING}{training.strip()}\n" if training else card


def training_of(card: Path) -> str:
    """What `card_text` was given as `training`; "" where there is no such card."""
    if not card.is_file():
        return ""
    return card.read_text(encoding="utf-8", errors="replace").partition(_TRAINING)[2].strip()


def is_repo_id(name: str) -> bool:
    """Whether `name` can be a repository, "owner/name"."""
    return re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", name) is not None


def downloaded(repo_id: str, **options: Any) -> Path:
    """The local folder of a repository's refiner; only its three files are fetched.

    Raises InputError without huggingface_hub, or where the repository cannot be had.
    """
    _require(repo_id)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(repo_id, allow_patterns=_FILES, **options))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise InputError(
            f"{repo_id} is no folder here and cannot be had from the Hugging Face Hub ({reason})."
        ) from None


def push(
    save: Callable[[Path], None],
    repo_id: str,
    *,
    private: bool | None,
    token: str | None,
    **upload: Any,
) -> str:
    """Upload what `save` writes into a folder; gives the commit's URL."""
    _require(repo_id)
    from huggingface_hub import HfApi

    api = HfApi(token=token)
    repo_id = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
    upload.setdefault("commit_message", "Refiner of simgan-fast")
    with tempfile.TemporaryDirectory() as folder:
        save(Path(folder))
        return str(api.upload_folder(repo_id=repo_id, folder_path=folder, **upload))


def _require(repo_id: str) -> None:
    try:
        import huggingface_hub  # noqa: F401
    except ImportError:
        raise InputError(
            f"{repo_id} is no folder here, and the Hugging Face Hub needs `pip install simgan-fast[hub]`."
        ) from None
