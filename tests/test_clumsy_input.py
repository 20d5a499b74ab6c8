"""What hostile and clumsy users gave the commands: each is one sentence, and nothing is lost."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hand_sets import packed, toy_hands
from image_folders import save, smooth

from simgan_fast import cli
from simgan_fast.config import preset, save_config
from simgan_fast.data import open_packed
from simgan_fast.errors import InputError
from simgan_fast.jobs.train import resume

TRAIN = [
    "--steps=1",
    "--batch-size=4",
    "--width=8",
    "--blocks=1",
    "--history=4",
    "--refiner-pretraining=1",
]


def run(*arguments: object) -> int:
    return cli.main([str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def eyes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sets") / "eyes"
    assert run("simulate", "eyes", folder, "--count", 12) == 0
    return folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, eyes: Path) -> Path:
    out = tmp_path_factory.mktemp("runs") / "run"
    command = ("train", "--synthetic", eyes, "--real", eyes, "--out", out)
    assert run(*command, *TRAIN, "--discriminator-pretraining=1") == 0
    return out


def refused(capsys: pytest.CaptureFixture[str], sentence: str, *arguments: object) -> None:
    capsys.readouterr()
    assert run(*arguments) == 2
    assert sentence in capsys.readouterr().err


def test_numbers_do_not_overwrite_what_they_are_of(
    eyes: Path, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluate = ("evaluate", "gaze", "--train", f"a={eyes}", "--test", eyes, "--json")
    refused(capsys, "which is read", *evaluate, eyes / "set.json")
    refused(capsys, "is a folder", *evaluate, tmp_path)
    (tmp_path / "file").touch()
    refused(capsys, "file is no folder", *evaluate, tmp_path / "file" / "x.json")
    own = trained / "refiner" / "config.json"
    before = own.read_bytes()
    refused(capsys, "the run's own files", "report", trained, "--json", own)
    assert open_packed(eyes) and own.read_bytes() == before
    assert run("report", trained, "--json", trained / "report.json") == 0


@pytest.mark.parametrize(
    ("columns", "values", "sentence"),
    [
        ("pupil", "1", "the label pupil has 1 numbers"),
        ("eyelids.0,eyelids.1,eyelids.2", "1,2,3", "the label eyelids has 3 numbers"),
    ],
)
def test_half_a_position(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], columns: str, values: str, sentence: str
) -> None:
    save(tmp_path / "images" / "1.png", smooth(6, 8))
    (tmp_path / "images" / "labels.csv").write_text(f"name,{columns}\n1.png,{values}\n")
    refused(capsys, sentence, "prepare", "folder", tmp_path / "images", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("index", "code"), [("\u00b2", 0), ("\u0663", 2), ("0" * 5000, 2)])
def test_an_index_that_is_no_number(tmp_path: Path, index: str, code: int) -> None:
    """It is part of the name, which must not end in another script's digits either."""
    save(tmp_path / "images" / "1.png", smooth(6, 8))
    (tmp_path / "images" / "labels.csv").write_text(f"name,g.{index}\n1.png,5\n", "utf-8")
    assert run("prepare", "folder", tmp_path / "images", tmp_path / "out") == code
    assert code or list(open_packed(tmp_path / "out").labels) == [f"g.{index}"]


def test_numbers_too_large(eyes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save(tmp_path / "images" / "1.png", smooth(6, 8))
    size = ("--size", "1000000x1000000")
    refused(capsys, "an image may have", "export", tmp_path / "images", tmp_path / "out", *size)
    train = ("train", "--synthetic", eyes, "--real", eyes, "--out", tmp_path / "run", *TRAIN)
    refused(capsys, "want 0 to 2^63 - 1", *train, "--seed", 2**64)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images"]


def test_halvings_beyond_the_image(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hands = packed(tmp_path / "hands", toy_hands(4, 1, 32))
    command = ("evaluate", "pose", "--train", f"a={hands}", "--test", hands)
    refused(capsys, "take fewer halvings", *command, "--depth=9", "--updates=1", "--width=8")


def test_a_picture_that_cannot_be_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hands = packed(tmp_path / "hands", toy_hands(4, 1, 32))
    command = ("evaluate", "pose", "--train", f"a={hands}", "--test", hands, "--updates=1")
    refused(capsys, "is a folder", *command, "--picture", tmp_path)
    for option in ("--curve", "--picture"):
        refused(capsys, "which is read", *command, option, f"{hands}/x.png")


def test_a_device_without_numbers(
    capsys: pytest.CaptureFixture[str], eyes: Path, trained: Path
) -> None:
    refused(capsys, "cannot be used", "refine", trained, eyes, trained / "x", "--device=meta")


@pytest.mark.parametrize("key", ["synthetic", "feed", "labelled"])
def test_settings_of_another_type(tmp_path: Path, trained: Path, key: str) -> None:
    broken = shutil.copytree(trained, tmp_path / "run")
    paths = {"synthetic": "a", "real": "b"}
    save_config(broken / "config.toml", preset("eyes"), {**paths, key: 5})  # type: ignore[dict-item]
    with pytest.raises(InputError, match=f"{key} = 5, not a text"):
        resume(broken)


def test_a_rate_that_no_float_holds() -> None:
    with pytest.raises(InputError, match="learning_rate"):
        preset("eyes", learning_rate=10**400)


def test_a_log_that_is_not_text(tmp_path: Path, trained: Path) -> None:
    broken = shutil.copytree(trained, tmp_path / "run")
    with (broken / "metrics.csv").open("ab") as file:
        file.write(b"x\xff\n")
    assert run("train", "--resume", broken) == 0


def test_standard_error_may_be_closed(tmp_path: Path, eyes: Path) -> None:
    command = f"{sys.executable} -m simgan_fast export {eyes} {tmp_path / 'out'} 2>&-"
    assert subprocess.run(command, shell=True, check=False).returncode == 0
    assert len(list((tmp_path / "out").glob("*.png"))) == 12
