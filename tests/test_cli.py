"""The commands as a user runs them: what they print, where they write, how they fail."""

from __future__ import annotations

import errno
import json
import signal
import subprocess
import sys
from pathlib import Path
from types import FrameType

import numpy as np
import pytest
from PIL import Image

from simgan_fast import Refiner, cli
from simgan_fast.commands import image_size
from simgan_fast.data import open_images
from simgan_fast.data.export import open_writer
from simgan_fast.data.feed import ResidentFeed
from simgan_fast.data.packed import open_packed
from simgan_fast.errors import InputError
from simgan_fast.ops import to_uint8

QUICK = "--width=8 --blocks=1 --batch-size=8 --history=8 --steps=3 --refiner-pretraining=3"
QUICK += " --discriminator-pretraining=2"


def run(*arguments: object) -> int:
    return cli.main([str(argument) for argument in arguments])


def fails_with(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """Run a command that must exit with 2 and one sentence; returns the sentence."""
    capsys.readouterr()
    assert run(*arguments) == 2
    error = capsys.readouterr().err
    lines = [line for line in error.splitlines() if line.startswith("simgan-fast: ")]
    assert len(lines) == 1, error
    assert "Traceback" not in error
    return lines[0]


def test_signals_are_the_callers_again_afterwards() -> None:
    """Or a process that the caller forks later takes SIGTERM for an exception, and may go on."""

    def own(number: int, frame: FrameType | None) -> None: ...

    before = signal.signal(signal.SIGTERM, own)
    try:
        assert run("info") == 0 and signal.getsignal(signal.SIGTERM) is own
        assert run("show", "nowhere") == 2 and signal.getsignal(signal.SIGTERM) is own
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("eyes") / "simulated"
    assert run("simulate", "eyes", folder, "--count", 21) == 0
    return folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, simulated: Path) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    assert (
        run(
            "simulate",
            "eyes",
            folder / "photographs",
            "--count",
            12,
            "--domain",
            "camera",
            "--format",
            "png",
        )
        == 0
    )
    arguments = (
        "--synthetic",
        simulated,
        "--real",
        folder / "photographs",
        "--out",
        folder / "run",
    )
    assert run("train", *arguments, *QUICK.split()) == 0
    return folder / "run"


def test_the_installed_command_and_the_module_are_the_same() -> None:
    script = Path(sys.executable).with_name("simgan-fast")
    for command in ([str(script)], [sys.executable, "-m", "simgan_fast"]):
        result = subprocess.run([*command, "--help"], capture_output=True, text=True, check=True)
        assert "examples:" in result.stdout and "evaluate" in result.stdout


@pytest.mark.parametrize(
    "command", ["demo", "simulate", "train", "refine", "evaluate gaze", "info"]
)
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        run(*command.split(), "--help")
    assert stop.value.code == 0
    assert "example:" in capsys.readouterr().out


def test_info_says_what_is_here(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("info") == 0
    text = capsys.readouterr().out
    for word in ("simgan_fast", "torch", "CPU level", "CUDA", "DALI"):
        assert word in text


def test_simulated_png_and_arrow_hold_the_same(simulated: Path, tmp_path: Path) -> None:
    assert run("simulate", "eyes", tmp_path / "png", "--count", 21, "--format", "png") == 0
    png, arrow = open_images(tmp_path / "png"), open_packed(simulated)
    assert png.names == arrow.names
    np.testing.assert_array_equal(png.images(), arrow.images())
    for name in ("gaze", "pupil", "eyelids"):
        np.testing.assert_array_equal(png.labels[name], arrow.labels[name])


@pytest.mark.parametrize("format", ["png", "arrow"])
def test_defect_9_every_image_is_refined_with_its_name_and_labels(
    trained: Path, simulated: Path, tmp_path: Path, format: str
) -> None:
    out = tmp_path / "refined"
    assert run("refine", trained, simulated, out, "--batch-size", 8, "--format", format) == 0
    before, after = open_packed(simulated), open_images(out)
    assert len(after) == 21, "21 = 2 * 8 + 5: the last partial batch is there"
    assert after.names == before.names
    np.testing.assert_array_equal(after.labels["gaze"], before.labels["gaze"])
    refiner = Refiner.from_pretrained(trained)
    for row in (0, 20):
        alone = refiner(before.load()[row : row + 1].float() / 127.5 - 1)
        expected = ((alone.detach().numpy() + 1) * 127.5).round()
        assert np.abs(after.images(row, row + 1).astype(float) - expected).max() <= 1
    assert (after.images() != before.images()).any()


def test_defect_9_no_weights_no_images(
    simulated: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    text = fails_with(capsys, "refine", tmp_path / "empty", simulated, tmp_path / "refined")
    assert "no trained refiner" in text
    assert not (tmp_path / "refined").exists()


def test_defect_6_grey_levels_survive_the_way_in_and_out(tmp_path: Path) -> None:
    levels = np.arange(256, dtype=np.uint8).reshape(8, 32)
    (tmp_path / "in").mkdir()
    Image.fromarray(levels).save(tmp_path / "in" / "levels.png")
    packed = open_images(tmp_path / "in")
    batch = ResidentFeed(packed, 1, seed=0, stream=0).next()
    assert (float(batch.min()), float(batch.max())) == (-1.0, 1.0)
    with open_writer(tmp_path / "out", "png", shape=packed.shape) as writer:
        writer.add(to_uint8(batch).numpy(), packed.names)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "out" / "levels.png")), levels)


def test_defect_7_height_comes_before_width(trained: Path, tmp_path: Path) -> None:
    wide = np.zeros((70, 110), np.uint8)
    wide[:, 55:] = 255  # dark left, bright right
    (tmp_path / "in").mkdir()
    Image.fromarray(wide).save(tmp_path / "in" / "wide.png")
    assert run("refine", trained, tmp_path / "in", tmp_path / "out", "--size", "35x55") == 0
    assert open_images(tmp_path / "in", size=(35, 55)).shape == (1, 35, 55)
    refined = Image.open(tmp_path / "out" / "wide.png")
    assert refined.size == (55, 35), "Pillow gives (width, height)"
    pixels = np.asarray(refined).astype(float)
    assert pixels[:, 35:].mean() - pixels[:, :20].mean() > 100


def test_gaze_is_evaluated_and_written(
    simulated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "gaze.json"
    arguments = (
        "--train",
        f"raw={simulated}",
        "--test",
        simulated,
        "--seeds",
        1,
        "--json",
        file,
        "--updates",
        3,
    )
    assert run("evaluate", "gaze", *arguments) == 0
    arm = json.loads(file.read_text())["arms"]["raw"]
    assert 0 < arm["mean_error_deg"]["mean"] < 90


def test_bad_sets_are_named(
    simulated: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    empty, garbage = tmp_path / "empty", tmp_path / "garbage"
    empty.mkdir(), garbage.mkdir()
    (garbage / "a.png").write_text("no image")
    for folder, words in (
        (tmp_path / "missing", "missing"),
        (empty, "empty"),
        (garbage, "garbage"),
    ):
        arguments = ("train", "--synthetic", simulated, "--real", folder, "--out", tmp_path / "run")
        assert words in fails_with(capsys, *arguments, *QUICK.split())
        assert not (tmp_path / "run").exists()


def test_undecodable_files_are_listed_and_the_rest_goes_on(trained: Path, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for name in ("a.jpg", "b.jpg"):
        Image.fromarray(np.full((35, 55), 99, np.uint8)).save(photos / name)
    (photos / "cut.jpg").write_bytes((photos / "a.jpg").read_bytes()[:200])
    assert run("refine", trained, photos, tmp_path / "refined") == 0
    assert "cut.jpg" in (tmp_path / "refined" / "rejects.csv").read_text()
    assert sorted(path.name for path in (tmp_path / "refined").glob("*.png")) == ["a.png", "b.png"]


def test_16_bit_images_stay_16_bits_wide(trained: Path, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    Image.fromarray(np.full((35, 55), 40_000, np.uint16)).save(photos / "deep.png")
    assert run("refine", trained, photos, tmp_path / "refined") == 0
    refined = open_images(tmp_path / "refined")
    assert refined.dtype == "uint16"
    assert abs(float(refined.images().mean()) - 40_000) < 8_000


def test_mixed_sizes_need_a_size(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for name, shape in (("a.png", (35, 55)), ("b.png", (40, 55))):
        Image.fromarray(np.zeros(shape, np.uint8)).save(photos / name)
    assert "--size" in fails_with(capsys, "refine", trained, photos, tmp_path / "refined")
    assert run("refine", trained, photos, tmp_path / "refined", "--size", "35x55") == 0


def test_what_is_there_is_not_overwritten(
    trained: Path, simulated: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("keep")
    for arguments in (
        ("refine", trained, simulated, tmp_path / "out"),
        ("simulate", "eyes", tmp_path / "out", "--count", 3),
        ("train", "--synthetic", simulated, "--real", simulated, "--out", tmp_path / "out"),
        ("demo", "--out", tmp_path / "out"),
    ):
        fails_with(capsys, *arguments)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]


def test_unusable_devices_and_batches_are_one_sentence(
    trained: Path, simulated: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    refine = ("refine", trained, simulated, tmp_path / "out")
    train = ("train", "--synthetic", simulated, "--real", simulated, "--out", tmp_path / "out")
    for arguments in (refine, train, ("train", "--resume", trained)):
        assert "device 'abacus'" in fails_with(capsys, *arguments, "--device", "abacus")
    assert "batch_size is 0" in fails_with(capsys, *refine, "--batch-size", 0)
    assert not (tmp_path / "out").exists()


def test_no_space_left_is_one_sentence(
    trained: Path,
    simulated: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(tmp_path / "refined"))

    monkeypatch.setattr("simgan_fast.files.os.fsync", full)
    text = fails_with(
        capsys, "refine", trained, simulated, tmp_path / "refined", "--format", "arrow"
    )
    assert "No space left" in text
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "arguments",
    [
        ("train",),
        ("train", "--resume", "nowhere"),
        ("train", "--resume", "nowhere", "--steps", "5"),
        ("evaluate", "gaze", "--train", "nameless", "--test", "nowhere"),
        ("simulate", "eyes", "out", "--count", "0"),
        ("simulate", "eyes", "out", "--size", "2x2"),
        ("demo", "--out", "out", "--scale", "0"),
    ],
)
def test_bad_arguments_are_one_sentence(
    arguments: tuple[str, ...],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    fails_with(capsys, *arguments)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("setting", ["--steps=5", "--preset=eyes", "--size=9x9", "--feed=stream"])
def test_a_run_goes_on_without_other_settings(
    setting: str, capsys: pytest.CaptureFixture[str]
) -> None:
    text = fails_with(capsys, "train", "--resume", "nowhere", setting)
    assert "goes on with a run as it is" in text


def test_sizes_are_height_by_width() -> None:
    assert image_size("35x55") == (35, 55)
    for text in ("35", "x", "0x5", "-3x5", "axb"):
        with pytest.raises(Exception, match="HEIGHTxWIDTH"):
            image_size(text)


def test_history_off_is_a_setting() -> None:
    arguments = cli._parser().parse_args(["train", "--history", "off", "--lambda", "0.5"])
    assert (arguments.history, arguments.self_regularization) == (0, 0.5)


def test_ema_is_averaging() -> None:
    assert cli._parser().parse_args(["train", "--ema", "0.998"]).averaging == 0.998


def test_input_errors_are_value_errors() -> None:
    assert issubclass(InputError, ValueError)


def test_every_format_is_fuzzed() -> None:
    """`make fuzz` is not part of `make test`: a new format would be missed."""
    from fuzz.readers import SOURCES

    from simgan_fast.jobs.prepare import FORMATS

    assert SOURCES.keys() == FORMATS.keys()
