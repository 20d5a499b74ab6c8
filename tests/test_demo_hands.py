"""The demo of hands in small: every part, what it leaves, and going on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from simgan_fast import cli, preset
from simgan_fast.errors import InputError
from simgan_fast.jobs.demo import demo
from simgan_fast.jobs.demo_hands import demo_hands, hands_table

SMALL = {"width": 8, "blocks": 1, "batch_size": 4, "history": 8, "refiner_pretraining": 2}
CONFIG = preset("demo-hands", **SMALL, discriminator_pretraining=2)


def test_the_demo_of_hands(tmp_path: Path) -> None:
    out = tmp_path / "demo"
    summary = demo_hands(out, CONFIG, scale=0.002)
    assert summary == json.loads((out / "summary.json").read_text())
    arms = {"synthetic", "refined", "real_labels"}
    for score in ("pck_5px", "pck_5px_std", "mean_joint_error_mm", "mean_joint_error_mm_std"):
        assert set(summary[score]) == arms and all(value >= 0 for value in summary[score].values())
    assert summary["seeds"] == 3
    assert set(summary["seconds"]) == {"simulate", "train", "refine", "evaluate"}
    assert set(summary["edge_noise"]) == {"synthetic", "refined", "camera"}
    noise = summary["edge_noise"]
    assert noise["camera"]["hole_rate"] > noise["synthetic"]["hole_rate"]
    assert "points" in hands_table(summary) and "real_labels" in hands_table(summary)
    assert (out / "samples.png").is_file() and (out / "report.html").is_file()
    page = (out / "report.html").read_text()
    assert "Refining changed the share of joints within 5 pixels by" in page, "of the summary"
    assert "<td>real_labels</td><td>10</td>" in page and "<td>thumb tip</td>" in page, "pose.json"
    assert "Joints within a distance of the truth" in page, "its curves"
    noise_row = f"<td>camera</td><td>{noise['camera']['silhouette_gradient']:.3f}</td>"
    assert noise_row in page and page.count("data:image/png;base64") >= 1
    kept = (out / "summary.json").stat().st_mtime_ns
    assert demo_hands(out, CONFIG, scale=0.002) == summary
    assert (out / "summary.json").stat().st_mtime_ns == kept, "a finished demo is only read"
    (out / "summary.json").unlink()
    assert demo_hands(out, CONFIG, scale=0.002) == summary, "nothing that is there is done again"
    trained = json.loads((out / "demo.json").read_text())["seconds"]["train"]
    shutil.rmtree(out / "refined")
    (out / "summary.json").unlink()
    again = demo_hands(out, CONFIG, scale=0.002)
    changing = ("seconds", "refine_images_per_second")
    assert {name: again[name] for name in summary if name not in changing} == {
        name: summary[name] for name in summary if name not in changing
    }, "what is missing is made again, and what came after it"
    assert again["seconds"]["train"] == trained and (out / "refined").is_dir()
    with pytest.raises(InputError, match="other settings"):
        demo_hands(out, CONFIG, scale=0.003)
    with pytest.raises(InputError, match="other settings"):
        demo(out, CONFIG, scale=0.002)


def test_the_command_takes_the_subject(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["demo", "hands", "--out", str(tmp_path / "out"), "--scale", "0"]) == 2
    assert "scale is 0" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        cli.main(["demo", "feet"])
