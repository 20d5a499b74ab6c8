"""Refiners in and out: folders, checkpoints, the Hub (not reached), model cards, torch's own layers."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from simgan_fast import InputError, Refiner, model_card, preset, simulate, train
from simgan_fast.models.hub import card_text, training_of

IMAGES = torch.linspace(-1, 1, 2 * 16 * 20).view(2, 1, 16, 20)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pretrained")
    for domain in ("plain", "camera"):
        simulate("eyes", folder / domain, count=20, domain=domain)
    config = preset("eyes", width=8, blocks=1, batch_size=4, history=8, steps=2)
    config = preset(
        "eyes", **{**vars(config), "refiner_pretraining": 2, "discriminator_pretraining": 1}
    )
    train(folder / "plain", folder / "camera", folder / "run", config)
    return folder / "run"


def test_a_run_its_folder_its_file_and_its_last_checkpoint_are_one_refiner(run: Path) -> None:
    (checkpoint,) = (run / "checkpoints").glob("update-*5.safetensors")
    expected = Refiner.from_pretrained(run)(IMAGES)
    for source in (run / "refiner", run / "refiner" / "model.safetensors", checkpoint):
        assert torch.equal(Refiner.from_pretrained(source)(IMAGES), expected)


def test_a_checkpoint_without_its_run_is_refused(run: Path, tmp_path: Path) -> None:
    (checkpoint,) = (run / "checkpoints").glob("update-*5.safetensors")
    alone = tmp_path / "checkpoints" / checkpoint.name
    alone.parent.mkdir()
    alone.write_bytes(checkpoint.read_bytes())
    with pytest.raises(InputError, match=r"config\.toml"):
        Refiner.from_pretrained(alone)


def test_the_card_of_a_run_has_its_measures_and_travels(run: Path, tmp_path: Path) -> None:
    measure = tmp_path / "gaze.json"
    measure.write_text(json.dumps({"error_deg": {"mean": 7.25, "std": 0.5}, "a|b": "<i>"}))
    refiner = Refiner.from_pretrained(run)
    assert "| updates | 5 of 5 |" in refiner.card and "mean_abs_change | 0." in refiner.card
    assert str(run.parent) not in refiner.card
    refiner.card = model_card(run, {"gaze": measure})
    refiner.save_pretrained(tmp_path / "one")
    Refiner.from_pretrained(tmp_path / "one").save_pretrained(tmp_path / "two")
    card = (tmp_path / "two" / "README.md").read_text()
    assert card == (tmp_path / "one" / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: simgan-fast\n") and "| width | 8 |" in card
    assert "| error_deg | 7.25 ± 0.5" in card and "| a\\|b | &lt;i> |" in card


def test_a_foreign_readme_is_no_card(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_bytes(b"\xff# Mine\n")
    assert training_of(tmp_path / "README.md") == "" == training_of(tmp_path / "none.md")
    (tmp_path / "README.md").write_text(card_text({"in_channels": 1}, "as before"))
    assert training_of(tmp_path / "README.md") == "as before"


class Hub:
    """Stands for HfApi and snapshot_download: one repository, in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.calls = folder, []

    def __call__(self, token: str | None = None) -> Hub:
        self.calls.append(("token", token))
        return self

    def create_repo(self, repo_id: str, **options: object) -> SimpleNamespace:
        self.calls.append(("create", options))
        return SimpleNamespace(repo_id=repo_id)

    def upload_folder(self, *, repo_id: str, folder_path: str, **options: object) -> str:
        self.calls.append(("upload", options))
        for path in Path(folder_path).iterdir():
            (self.folder / path.name).write_bytes(path.read_bytes())
        return f"https://huggingface.co/{repo_id}/commit/1"

    def download(self, repo_id: str, **options: object) -> str:
        self.calls.append(("download", {"repo_id": repo_id, **options}))
        return str(self.folder)


def test_to_the_hub_and_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("huggingface_hub")
    hub = Hub(tmp_path)
    monkeypatch.setattr("huggingface_hub.HfApi", hub)
    monkeypatch.setattr("huggingface_hub.snapshot_download", hub.download)
    refiner = Refiner(width=8, blocks=1)
    url = refiner.push_to_hub("me/eyes", private=True, token="t", revision="next")
    assert url == "https://huggingface.co/me/eyes/commit/1"
    assert hub.calls == [
        ("token", "t"),
        ("create", {"private": True, "exist_ok": True}),
        ("upload", {"revision": "next", "commit_message": "Refiner of simgan-fast"}),
    ]
    again = Refiner.from_pretrained("me/eyes", revision="next")
    assert torch.equal(again(IMAGES), refiner(IMAGES))
    fetched = ["model.safetensors", "config.json", "README.md"]
    options = {"repo_id": "me/eyes", "allow_patterns": fetched, "revision": "next"}
    assert hub.calls[-1] == ("download", options)


def test_a_repository_that_cannot_be_had_is_one_sentence(tmp_path: Path) -> None:
    pytest.importorskip("huggingface_hub")
    with pytest.raises(InputError, match="me/eyes is no folder here and cannot be had"):
        Refiner.from_pretrained("me/eyes", cache_dir=tmp_path, local_files_only=True)


def test_the_hub_is_not_needed_for_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    Refiner(width=8, blocks=1).save_pretrained(tmp_path)
    Refiner.from_pretrained(tmp_path)
    with pytest.raises(InputError, match="disk: revision can be"):
        Refiner.from_pretrained(tmp_path, revision="main")
    with pytest.raises(InputError, match=r"pip install simgan-fast\[hub\]"):
        Refiner.from_pretrained("me/eyes")
    with pytest.raises(InputError, match=r"pip install simgan-fast\[hub\]"):
        Refiner().push_to_hub("me/eyes")


def test_huggingface_mixin_reads_what_we_write(tmp_path: Path) -> None:
    hub = pytest.importorskip("huggingface_hub")

    class Plain(torch.nn.Sequential, hub.PyTorchModelHubMixin):
        """Somebody else's model of the same layers."""

        def __init__(self, width: int = 64, blocks: int = 4) -> None:
            super().__init__()
            for name, layer in Refiner(width=width, blocks=blocks).to_sequential().named_children():
                self.add_module(name, layer)

    refiner = Refiner(width=8, blocks=2)
    refiner.save_pretrained(tmp_path / "ours")
    torch.testing.assert_close(
        Plain.from_pretrained(str(tmp_path / "ours"))(IMAGES), refiner(IMAGES)
    )
    Plain(width=8, blocks=2).save_pretrained(tmp_path / "theirs")
    assert Refiner.from_pretrained(tmp_path / "theirs").config.width == 8


@pytest.mark.parametrize("padding_mode", ["reflect", "zeros"])
@pytest.mark.parametrize("kernel_size", [3, 7])
def test_torchs_own_layers(padding_mode: str, kernel_size: int) -> None:
    refiner = Refiner(3, 8, 2, kernel_size, padding_mode)  # type: ignore[arg-type]
    plain = refiner.to_sequential()
    images = torch.rand(2, 3, 12, 9) * 2 - 1
    torch.testing.assert_close(plain(images), refiner(images))
    kinds = {
        type(layer)
        for layer in plain.modules()
        if next(layer.parameters(recurse=False), None) is not None
    }
    assert kinds == {torch.nn.Conv2d}
    with torch.no_grad():
        plain[0].weight.zero_()
    assert refiner.first.weight.abs().sum() > 0, "a copy"
    other = Refiner(3, 8, 2, kernel_size, padding_mode)  # type: ignore[arg-type]
    other.load_state_dict(plain.state_dict())
    torch.testing.assert_close(other(images), plain(images))
