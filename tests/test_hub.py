"""Refiners to and from the Hugging Face Hub, without a network: the Hub is a folder here."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from cases import TINY_RUN
from faults import noise_set

from simgan_fast import InputError, Refiner, preset, train

huggingface_hub = pytest.importorskip("huggingface_hub")


class Hub:
    """Keeps what is uploaded, and gives it back."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.made, self.asked = folder, [], []  # type: ignore[var-annotated]

    def create_repo(self, name: str, *, private: bool, exist_ok: bool) -> None:
        self.made.append((name, private, exist_ok))

    def upload_folder(self, *, repo_id: str, folder_path: Path, commit_message: str) -> Any:  # noqa: ARG002
        Path(folder_path).rename(self.folder / repo_id.replace("/", "--"))
        Path(folder_path).mkdir()
        return SimpleNamespace(commit_url=f"https://hub/{repo_id}/commit/1")

    def snapshot_download(self, name: str, *, revision: str | None, allow_patterns: Any) -> str:
        self.asked.append((name, revision, tuple(allow_patterns)))
        place = self.folder / name.replace("/", "--")
        if not place.is_dir():
            raise huggingface_hub.errors.LocalEntryNotFoundError("no such model\nmore")
        return str(place)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    hub = Hub(tmp_path)
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda **_: hub)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", hub.snapshot_download)
    return hub


def test_pushed_and_fetched(hub: Hub) -> None:
    refiner = Refiner(width=8, blocks=1)
    address = refiner.push_to_hub("hf://me/eyes", measures={"steps": 20, "odd|name": 0.123456})
    assert address == "https://hub/me/eyes/commit/1" and hub.made == [("me/eyes", False, True)]
    files = sorted(path.name for path in (hub.folder / "me--eyes").iterdir())
    assert files == ["README.md", "config.json", "model.safetensors"]
    card = (hub.folder / "me--eyes" / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: simgan-fast\n") and "| steps | 20 |" in card
    assert "| odd\\|name | 0.1235 |" in card and 'from_pretrained("hf://me/eyes")' in card
    again = Refiner.from_pretrained("hf://me/eyes", revision="main")
    x = torch.rand(1, 1, 9, 9)
    assert torch.equal(again(x), refiner(x))
    assert hub.asked == [("me/eyes", "main", ("model.safetensors", "config.json", "README.md"))]


def test_only_hf_goes_to_the_network(hub: Hub) -> None:
    with pytest.raises(InputError, match=r"runs/first holds no trained refiner"):
        Refiner.from_pretrained("runs/first")
    assert hub.asked == []


@pytest.mark.parametrize("place", ["hf://eyes", "hf://a/b/c", "hf://../eyes", "hf:// / "])
def test_bad_names(hub: Hub, place: str) -> None:
    with pytest.raises(InputError, match="want hf://organisation/model"):
        Refiner.from_pretrained(place)
    with pytest.raises(InputError, match="want hf://organisation/model"):
        Refiner(width=8, blocks=1).push_to_hub(place)
    with pytest.raises(InputError, match="save_pretrained writes folders"):
        Refiner(width=8, blocks=1).push_to_hub("somewhere")


def test_what_the_hub_has_not(hub: Hub) -> None:
    with pytest.raises(InputError, match=r"hf://me/none cannot be had .*\(no such model\)"):
        Refiner.from_pretrained("hf://me/none")


def test_without_huggingface_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(InputError, match=r"pip install 'simgan-fast\[hub\]'"):
        Refiner.from_pretrained("hf://me/eyes")


def test_a_run_has_a_card_with_its_measures(tmp_path: Path) -> None:
    raw = noise_set(tmp_path / "raw", 1)
    train(raw, raw, tmp_path / "run", preset("eyes", **TINY_RUN))
    card = (tmp_path / "run" / "refiner" / "README.md").read_text()
    assert "| steps | 20 |" in card and "| mean_abs_change | 0." in card
