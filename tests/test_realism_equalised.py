"""Realism with equalised histograms: exposure tells nothing apart any more, structure still does."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_realism import MemorySet, changed, eyes

from simgan_fast import cli
from simgan_fast.data.packed_writer import PackedWriter
from simgan_fast.errors import InputError
from simgan_fast.evaluation.realism import evaluate_realism, realism_table
from simgan_fast.evaluation.two_sample import ClassifierTraining
from simgan_fast.histogram import equalised

SHORT = ClassifierTraining(folds=2, updates=60, batch_size=32)
BRIEF = ClassifierTraining(folds=2, updates=2, batch_size=8)


@functools.cache
def results(equalise: str) -> dict[str, Any]:
    other = eyes(300, 1)
    sets = {"darker": MemorySet(other // 2), "blurred": MemorySet(changed(other, "blur"))}
    return evaluate_realism(MemorySet(eyes(400, 0)), sets, equalise=equalise, training=SHORT)


def test_exposure_tells_nothing_apart_and_structure_does() -> None:
    plain, equal = results("none")["sets"], results("histogram")["sets"]
    assert plain["darker"]["classifier"]["low"] > 0.9 and plain["darker"]["intensity"] > 50
    assert equal["darker"]["classifier"]["low"] < 0.55 and equal["darker"]["intensity"] < 3
    assert equal["darker"]["kid"]["mean"] < 1e-3 * plain["darker"]["kid"]["mean"]
    assert equal["blurred"]["octaves_db"]["under 4 px"] < -1
    assert equal["blurred"]["classifier"]["low"] > equal["darker"]["classifier"]["high"]


def test_what_was_equalised_before_is_measured_as_it_is() -> None:
    """`camera` is: its images against themselves give the same numbers either way."""
    assert results("none")["reference"] == results("histogram")["reference"]


def test_json_and_table_say_so() -> None:
    assert [results(how)["equalise"] for how in ("none", "histogram")] == ["none", "histogram"]
    assert "equalised" in realism_table(results("histogram")).splitlines()[-1]
    assert "equalised" not in realism_table(results("none"))


def test_channels_are_equalised_by_themselves() -> None:
    rng = np.random.default_rng(0)
    colour = rng.integers(0, 100, (384, 3, 8, 8)).astype(np.uint8)
    colour[:, 1] += 100
    sets = {"same": MemorySet(colour[256:])}
    found = evaluate_realism(MemorySet(colour[:256]), sets, equalise="histogram", training=BRIEF)
    grey = equalised(colour[:256].reshape(-1, 8, 8)).reshape(256, 3, 8, 8)
    others = {"same": MemorySet(equalised(colour[256:].reshape(-1, 8, 8)).reshape(-1, 3, 8, 8))}
    assert found["sets"] == evaluate_realism(MemorySet(grey), others, training=BRIEF)["sets"]


def test_equalised_twice_is_equalised_once() -> None:
    once = equalised(np.random.default_rng(0).integers(40, 90, (5, 9, 9)).astype(np.uint8))
    np.testing.assert_array_equal(equalised(once), once)


def test_what_cannot_be_equalised_is_refused() -> None:
    good, deep = MemorySet(eyes(400, 0)), MemorySet(eyes(400, 0).astype(np.uint16))
    with pytest.raises(InputError, match="equalise is 'clahe': want one of none, histogram"):
        evaluate_realism(good, {"raw": good}, equalise="clahe")
    with pytest.raises(InputError, match="images are uint16: histograms are equalised of uint8"):
        evaluate_realism(deep, {"raw": deep}, equalise="histogram")


def test_the_command_takes_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pixels = eyes(400, 0).astype(np.uint16)
    with PackedWriter(tmp_path / "deep", pixels.shape[1:], dtype="uint16") as writer:
        writer.add(pixels, [f"{index}.png" for index in range(len(pixels))])
    deep = str(tmp_path / "deep")
    arguments = ["--real", deep, "--images", f"raw={deep}", "--equalise", "histogram"]
    assert cli.main(["evaluate", "realism", *arguments]) == 2
    assert "of uint8 images only" in capsys.readouterr().err
