"""What hostile and clumsy users gave the commands: each is one sentence, and nothing is lost."""

from __future__ import annotations

import errno
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from hand_sets import packed, toy_hands
from image_folders import save, smooth
from safetensors.torch import load_file, save_file

from simgan_fast import cli
from simgan_fast.config import TrainingConfig, preset, save_config
from simgan_fast.data import open_packed
from simgan_fast.errors import InputError
from simgan_fast.jobs.train import resume
from simgan_fast.models.refiner import Refiner
from simgan_fast.training.run import Run

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


def test_a_name_that_is_not_utf8(eyes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("show", "verify", "report"):
        refused(capsys, r"'b\udcff' is no text in UTF-8", command, "b\udcff")


def test_a_folder_whose_name_is_not_utf8(eyes: Path, tmp_path: Path) -> None:
    """Relative paths hide it until a run notes where its sets are."""
    folder = tmp_path / "b\udcff"
    shutil.copytree(eyes, folder / "eyes")
    command = [sys.executable, "-m", "simgan_fast", "train", *TRAIN]
    command += ["--synthetic=eyes", "--real=eyes", "--out=run"]
    ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert ended.returncode == 2 and ended.stderr.endswith(
        "is no text in UTF-8: give it another name.\n"
    )
    assert not (folder / "run").exists()


@pytest.mark.parametrize("existed", [False, True])
def test_a_run_that_never_began_leaves_its_name_free(
    eyes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, existed: bool
) -> None:
    out = tmp_path / "run"
    if existed:
        out.mkdir()
    command = ("train", "--synthetic", eyes, "--real", eyes, "--out", out, *TRAIN)
    with monkeypatch.context() as patch:
        patch.setattr(Run, "_step", lambda _: torch.empty(2**60))
        assert run(*command) == 1  # no memory, after pretraining
    assert out.exists() == existed and (not existed or not any(out.iterdir()))
    assert run(*command) == 0


def test_what_diverged_stays(
    eyes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ("train", "--synthetic", eyes, "--real", eyes, "--out", tmp_path / "run", *TRAIN)
    assert run(*command, "--learning-rate=1e30", "--optimizer=sgd", "--log-every=1") == 1
    assert "there is no checkpoint yet" in capsys.readouterr().err
    assert (tmp_path / "run" / "metrics.csv").is_file()


def test_a_run_that_fails_leaves_that_of_another(
    eyes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two that began at once: the one that comes too late must not remove what the first one trains."""
    out = tmp_path / "run"

    @contextmanager
    def another_is_first(folder: Path, complaint: str) -> Iterator[None]:
        raise InputError(complaint or "locked")
        yield

    for module in ("simgan_fast.training.run", "simgan_fast.jobs.train"):
        monkeypatch.setattr(f"{module}.folder_locked", another_is_first)
    assert run("train", "--synthetic", eyes, "--real", eyes, "--out", out, *TRAIN) == 2
    assert (out / "config.toml").is_file()


def test_nothing_is_written_into_what_is_read(
    eyes: Path, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = tmp_path / "images"
    assert run("export", eyes, images) == 0
    (images / "labels.csv").unlink()
    before = sorted(images.iterdir())
    for inside in (images / "out", images / "a" / "out", images):
        refused(capsys, "which is read", "export", images, inside)
        refused(capsys, "which is read", "refine", trained, images, inside)
        for sets in ((eyes, images), (images, eyes)):
            train = ("train", "--synthetic", sets[0], "--real", sets[1], "--out", inside)
            refused(capsys, "which is read", *train, *TRAIN)
    shared = ("refine", trained, eyes, eyes / "out", "--format=arrow", "--shared")
    refused(capsys, "which is read", *shared)
    assert sorted(images.iterdir()) == before and not (eyes / "out").exists()


def test_a_full_disk_does_not_take_the_table(
    eyes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "x.json")

    monkeypatch.setattr("simgan_fast.commands.evaluate.write_json", full)
    command = ("evaluate", "gaze", "--train", f"a={eyes}", "--test", eyes, "--updates=1")
    assert run(*command, "--seeds=1", "--json", tmp_path / "x.json") == 2
    shown = capsys.readouterr()
    assert "mean error" in shown.out and "nothing half-written was left" in shown.err
    assert "warning: a holds the test images themselves" in shown.err


def test_what_cannot_be_read_is_no_full_disk(
    eyes: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def denied(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", "y")

    monkeypatch.setattr("simgan_fast.jobs.show.open_images", denied)
    assert run("show", eyes) == 2
    assert capsys.readouterr().err == "simgan-fast: y: Permission denied.\n"


@pytest.mark.parametrize(
    ("name", "value"), [("steps", 1.5), ("batch_size", "16"), ("width", True), ("optimizer", 3)]
)
def test_settings_from_python_have_types(name: str, value: object) -> None:
    with pytest.raises(InputError, match=f"setting {name} is"):
        TrainingConfig(**{name: value})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "value"),
    [("width", 0), ("kernel_size", 4), ("blocks", 0), ("in_channels", -1), ("width", 8.0)],
)
def test_refiners_that_cannot_be(name: str, value: object) -> None:
    with pytest.raises(InputError, match=f"a refiner's {name} is {value}"):
        Refiner(**{name: value})  # type: ignore[arg-type]


def test_a_refiner_without_weights(tmp_path: Path, trained: Path) -> None:
    broken = shutil.copytree(trained / "refiner", tmp_path / "refiner")
    weights = load_file(broken / "model.safetensors")
    del weights["last.bias"]
    save_file(weights, broken / "model.safetensors")
    with pytest.raises(InputError, match=r"last\.bias"):
        Refiner.from_pretrained(broken)
    (broken / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"model\.safetensors is missing"):
        Refiner.from_pretrained(broken)


def test_options_that_are_no_numbers(eyes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gaze = ["evaluate", "gaze", "--train", f"a={eyes}", "--test", f"{eyes}"]
    ablations = ["study", "ablations", "--out", "x"]
    for sentence, command in (
        ("'many' is neither a number nor auto", [*gaze, "--updates", "many"]),
        ("'1,b' are no numbers with commas between", [*ablations, "--lambdas", "1,b"]),
    ):
        with pytest.raises(SystemExit, match="2"):
            run(*command)
        assert sentence in capsys.readouterr().err
    gaze[3] = f"={eyes}"
    refused(capsys, "--train takes NAME=SET", *gaze)


def test_a_cell_that_only_python_reads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save(tmp_path / "images" / "1.png", smooth(6, 8))
    (tmp_path / "images" / "labels.csv").write_text("name,g\n1.png,1_0\n")
    refused(capsys, "'1_0'", "prepare", "folder", tmp_path / "images", tmp_path / "out")
