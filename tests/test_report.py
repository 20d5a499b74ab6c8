"""`report`: the page of a run as it is, what of a run is kept for it, and the charts on it."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from cases import TINY_RUN
from PIL import Image

from simgan_fast import PRESETS, cli, preset, report, resume, train
from simgan_fast.charts import Area, Line, line_chart, round_values
from simgan_fast.data import PackedWriter
from simgan_fast.errors import InputError, TrainingDiverged
from simgan_fast.jobs.demo import demo
from simgan_fast.reporting.html_parts import duration
from simgan_fast.reporting.measures import measure_html
from simgan_fast.reporting.run_facts import nearest_preset, run_facts
from simgan_fast.training.logging import RunLog

SETTINGS: dict[str, Any] = {**TINY_RUN, "sample_every": 2}
HOSTILE = '<script>alert("&")</script>'
EMPTY_TAGS = {"meta", "img", "br"}


class Page(HTMLParser):
    """A page's text, and its tags with their attributes; fails where one is not closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text, self.tags, self._open = "", [], []
        self.feed(text)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in EMPTY_TAGS:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open[-1:] != ["style"]:
            self.text += f"{data}\n"

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def write_set(folder: Path, seed: int, count: int = 40) -> Path:
    images = np.random.default_rng(seed).integers(0, 256, (count, 1, 12, 16)).astype(np.uint8)
    with PackedWriter(folder, (1, 12, 16)) as writer:
        writer.add(images, [f"{index}.png" for index in range(count)])
    return folder


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run's folder, beside its sets; not to be changed."""
    folder = tmp_path_factory.mktemp("finished")
    sets = write_set(folder / "synthetic", 1), write_set(folder / "real", 2)
    train(*sets, folder / "run", preset("eyes", **SETTINGS))
    return folder / "run"


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A copy of it that may be changed, with the same sets."""
    shutil.copytree(finished, tmp_path / "run")
    return tmp_path / "run"


def page_of(run: Path, **options: Any) -> Page:
    return Page(report(run, **options).read_text(encoding="utf-8"))


# The page


def test_the_page_needs_nothing_beside_it(run: Path) -> None:
    page = page_of(run)
    assert not {"script", "link", "iframe", "object"} & {tag for tag, _ in page.tags}
    assert all(str(image["src"]).startswith("data:image/") for image in page.of("img"))
    text = (run / "report.html").read_text()
    assert set(re.findall(r"https?://[^\"<\s]+", text)) == {"http://www.w3.org/2000/svg"}
    assert "url(" not in text and "@import" not in text


def test_the_page_of_a_finished_run(run: Path) -> None:
    page = page_of(run)
    assert "Finished after 30 updates." in page.text
    for heading in ("Samples", "Curves", "Time", "Images", "Settings", "Versions"):
        assert f"{heading}\n" in page.text
    assert len(page.of("svg")) == 12, "six charts, each with an inner one that cuts off"
    assert "40\n" in page.text and "12x16" in page.text and "uint8" in page.text
    assert "torch" in page.text


def test_settings_that_differ_are_marked(run: Path) -> None:
    text = report(run).read_text()
    changed = re.findall(r'class="changed"><span>(\w+) <small>([^<]*) in the preset', text)
    assert dict(changed)["blocks"] == "4"
    assert {name for name, _ in changed} == set(SETTINGS)
    assert f"{len(SETTINGS)} settings differ from the preset eyes" in text


@pytest.mark.parametrize("name", list(PRESETS))
def test_the_nearest_preset(name: str) -> None:
    assert nearest_preset(preset(name)) == (name, [])
    assert nearest_preset(preset(name, seed=7)) == (name, ["seed"])


def test_samples_from_the_first_to_the_last(run: Path) -> None:
    page = page_of(run)
    captions = [int(n) for n in re.findall(r"^update (\d+)$", page.text, re.MULTILINE)]
    assert captions == [12, 16, 20, 22, 26, 30]
    first = page.of("img")[0]["src"]
    assert (
        first is not None and len(first) > (run / "samples" / "update-00000012.png").stat().st_size
    )


def test_large_samples_are_made_smaller(run: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (600, 2400, 3)).astype(np.uint8)
    first, *others = (run / "samples").iterdir()
    Image.fromarray(noise).save(first, compress_level=1)
    for path in others:
        shutil.copy(first, path)
    assert report(run).stat().st_size < 3_000_000


def test_damaged_samples_are_said(run: Path) -> None:
    whole = (run / "samples" / "update-00000012.png").read_bytes()
    damaged = (b"", b"\x89PNG\r\n\x1a\n", whole[: len(whole) // 2], b"<svg onload='x'/>")
    for path, content in zip(sorted((run / "samples").iterdir()), damaged, strict=False):
        path.write_bytes(content)
    page = page_of(run)
    assert page.text.count("the picture is damaged") + len(page.of("img")) == 6
    assert "the picture is damaged" in page.text


def test_time_per_phase(run: Path) -> None:
    page = page_of(run)
    for phase, updates in (("refiner alone", 6), ("discriminator alone", 4), ("Algorithm 1", 20)):
        assert re.search(rf"{phase}[^\n]*\n{updates}\n{updates}\n[\d.]+ s\n", page.text), phase


def test_time_goes_on_after_a_resume(run: Path) -> None:
    file = run / "metrics.csv"
    with file.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    for number, row in enumerate(rows[-4:]):  # 1, 2, then resumed: 1, 2 seconds
        row |= {"seconds": str(number % 2 + 1), "images_per_second": "8", "feed_seconds": "0.1"}
    keep(file, rows[:10] + rows[-4:])
    training = run_facts(run).phases[-1]
    assert training.seconds == 4
    assert training.images_per_second == 8
    assert training.feed_share == pytest.approx(0.05)


def keep(file: Path, rows: list[dict[str, str]]) -> None:
    with file.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


# Runs that are not whole


def test_a_run_that_has_just_begun(run: Path) -> None:
    for name in ("checkpoints", "samples", "refiner", "tensorboard"):
        shutil.rmtree(run / name)
    (run / "metrics.csv").unlink()
    page = page_of(run)
    assert "Not finished: update 0 of 30; there is no checkpoint yet." in page.text
    assert "Nothing was logged yet." in page.text
    assert "No sample was drawn yet." in page.text


def test_a_run_on_its_way(run: Path) -> None:
    shutil.rmtree(run / "refiner")
    for path in list((run / "checkpoints").iterdir())[1:]:
        path.unlink()
    lines = (run / "metrics.csv").read_text().splitlines()
    (run / "metrics.csv").write_text("\n".join([*lines[:13], "train,13,0.0", "train,x", "\x01"]))
    assert run_facts(run).metrics["update"].tolist() == [*range(1, 13), 13]
    assert re.search(r"Not finished: update \d+ of 30; the newest checkpoint", page_of(run).text)


@pytest.mark.parametrize("value", ["nan", "inf", "-1e300", "", "what?"])
def test_values_that_cannot_be_drawn(run: Path, value: str) -> None:
    with (run / "metrics.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    for row in rows:
        row["loss_refiner"] = row["seconds"] = row["diversity"] = value
    keep(run / "metrics.csv", rows)
    assert len(page_of(run).of("svg")) == 12


def test_sets_that_have_gone_or_changed(run: Path) -> None:
    config = run / "config.toml"
    text = config.read_text()
    config.write_text(text.replace("synthetic_digest = ", 'synthetic_digest = "0"\nother = '))
    assert "The synthetic images: changed since the run began." in page_of(run).text
    config.write_text(re.sub(r"^real = .*$", 'real = "/no/where"', text, flags=re.MULTILINE))
    page = page_of(run)
    assert "The real images: no longer there." in page.text and "/no/where" in page.text


def test_no_run_and_other_versions_are_one_sentence(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["report", str(tmp_path / "nothing")]) == 2
    (tmp_path / "empty").mkdir()
    assert cli.main(["report", str(tmp_path / "empty")]) == 2
    config = run / "config.toml"
    config.write_text(config.read_text().replace("format = 1", "format = 99"))
    assert cli.main(["report", str(run)]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 3
    assert (
        "no run folder" in errors[0] and "no run folder" in errors[1] and "format 99" in errors[2]
    )
    assert not list(tmp_path.rglob("report.html"))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"out": "config.toml"}, "ends in .html"),
        ({"out": "no/where/report.html"}, "is no folder"),
        ({"json_out": "config.toml"}, "ends in .json"),
        ({"json_out": "m.json", "measures": {"m": "m.json"}}, "is to be read"),
        ({"measures": {"m": "config.toml"}}, "is not JSON"),
        ({"measures": {"m": "list.json"}}, "holds a list"),
        ({"measures": {"m": "deep.json"}}, "is not JSON"),
        ({"measures": {"m": "missing.json"}}, "is not there"),
    ],
)
def test_files_that_cannot_be_used(run: Path, options: dict[str, Any], words: str) -> None:
    (run / "m.json").write_text("{}")
    (run / "list.json").write_text("[1]")
    (run / "deep.json").write_text("[" * 100_000)
    config, named = (run / "config.toml").read_text(), options.get("measures", {})
    paths = {name: run / file for name, file in options.items() if name != "measures"}
    with pytest.raises(InputError, match=words):
        report(run, **paths, measures={name: run / file for name, file in named.items()})
    assert (run / "config.toml").read_text() == config
    assert not (run / "report.html").exists()


def test_a_damaged_table_is_one_sentence(run: Path) -> None:
    (run / "metrics.csv").write_text("phase,update\n" + "x" * 200_000 + ",1\n")
    with pytest.raises(InputError, match=r"metrics\.csv is damaged"):
        report(run)


# Text from elsewhere


def test_all_text_is_escaped(run: Path, tmp_path: Path) -> None:
    keep(run / "warnings.csv", [{"update": "12", "warning": HOSTILE}])
    config = run / "config.toml"
    config.write_text(
        re.sub("^(real|feed) = .*$", f"\\1 = '{HOSTILE}'", config.read_text(), flags=re.MULTILINE)
    )
    arm = {name: {"mean": 1, "std": 1} for name in ("mean_error_deg", "within_7_deg")}
    arm |= {"mean_error_without_offset_deg": {"mean": 1, "std": 1}, "images": 1}
    gaze = {
        "arms": {HOSTILE: {**arm, "cumulative_curve": [0, 1]}},
        "curve_degrees": [0, 1],
        "test_images": HOSTILE,
        "seeds": [0],
        "constant_error_deg": 1,
    }
    measures = {HOSTILE: {HOSTILE: HOSTILE, "list": [HOSTILE]}, "gaze": gaze}
    for number, content in enumerate(measures.values()):
        (tmp_path / f"{number}.json").write_text(json.dumps(content))
    files = {name: tmp_path / f"{number}.json" for number, name in enumerate(measures)}
    page = page_of(run, measures=files)
    assert not page.of("script")
    assert page.text.count('alert("&")') >= 7


def test_a_page_stays_small_whatever_is_in_the_run(run: Path) -> None:
    keep(run / "warnings.csv", [{"update": "12", "warning": "x" * 50_000}] * 300)
    with (run / "metrics.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    keep(run / "metrics.csv", rows * 300)
    text = report(run).read_text()
    assert len(text) < 600_000
    assert "and 200 more" in text


def test_a_pipe_among_the_samples_is_passed_by(run: Path) -> None:
    os.mkfifo(run / "samples" / "update-00000099.png")
    assert "update 99" not in page_of(run).text


# Measures


def test_gaze_evaluation_is_shown_with_its_curves() -> None:
    scores = {
        "mean_error_deg": {"mean": 7.168, "std": 0.157},
        "within_7_deg": {"mean": 0.551, "std": 0.016},
        "mean_error_without_offset_deg": {"mean": 6.884, "std": 0.1},
    }
    content = {
        "arms": {"refined": {"images": 16000, **scores, "cumulative_curve": [0.0, 0.5, 1.0]}},
        "curve_degrees": [0, 1, 2],
        "test_images": 2000,
        "seeds": [0, 1, 2],
        "constant_error_deg": 12.0,
    }
    page = Page(measure_html(content))
    assert "16,000\n7.17 ± 0.16\n55.1 ± 1.6 %\n6.88 ± 0.10\n" in page.text
    assert page.of("svg")
    del content["arms"]["refined"]["cumulative_curve"]
    assert (
        "refined\nimages\n16,000\nmean_error_deg\n7.168 ± 0.157" in Page(measure_html(content)).text
    )


def test_other_numbers_are_shown_by_their_paths() -> None:
    content = {"a": {"b": {"mean": 0.5, "std": 0.25}, "n": 12345}, "v": [1, 2], "t": "x", "q": None}
    text = Page(measure_html(content)).text
    assert text == "a / b\n0.5 ± 0.25\na / n\n12,345\nv\n2 values\nt\nx\n"
    assert "nan\n" in Page(measure_html({"a": float("nan"), "b": 10**400})).text
    many = Page(measure_html({str(n): n for n in range(1000)})).text
    assert "199\n199\nand 800 more\n" in many
    assert "no number" in Page(measure_html({})).text


def test_sets_of_a_measure_stand_side_by_side() -> None:
    found = {"kid": {"mean": 0.5, "std": 0.1}, "fid": 2}
    content = {"reference": found, "sets": {"raw": found, "refined": {**found, "fid": 1}}, "n": 128}
    text = Page(measure_html(content)).text
    assert text == (
        "reference\nraw\nrefined\nkid\n0.5 ± 0.1\n0.5 ± 0.1\n0.5 ± 0.1\nfid\n2\n2\n1\nn\n128\n"
    )


def test_a_demo_ends_with_a_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = {"width": 8, "blocks": 1, "batch_size": 4, "history": 8, "refiner_pretraining": 2}
    config = preset("demo-eyes", **small, discriminator_pretraining=2)
    summary = demo(tmp_path / "demo", config, scale=0.002)
    page = Page((tmp_path / "demo" / "report.html").read_text())
    assert f"{summary['gaze_error_deg']['refined']:.2f} ± " in page.text
    for words in ("Refining changed the gaze error by", "gaze evaluation", "evaluate\n"):
        assert words in page.text
    (tmp_path / "demo" / "report.html").unlink()
    demo(tmp_path / "demo", config, scale=0.002)
    assert (tmp_path / "demo" / "report.html").is_file(), "a finished demo without one gets one"


def test_the_command(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, facts = tmp_path / "page.html", tmp_path / "facts.json"
    (tmp_path / "m.json").write_text('{"distance": 0.25}')
    options = ["--out", out, "--json", facts, "--measure", f"realism={tmp_path / 'm.json'}"]
    assert cli.main(["report", str(run), *map(str, options)]) == 0
    assert capsys.readouterr().out == f"{out}\n"
    assert "realism\ndistance\n0.25\n" in Page(out.read_text()).text
    found = json.loads(facts.read_text())
    assert found["update"] == 30 and found["metrics"]["loss_refiner"][0] is None
    assert cli.main(["report", str(run), "--measure", "nameless"]) == 2


# What a run keeps


def test_warnings_are_kept_and_those_after_the_checkpoint_forgotten(tmp_path: Path) -> None:
    with RunLog(tmp_path) as log:
        assert not (tmp_path / "warnings.csv").exists()
        log.alert(10, 'the refiner, "as it is"')
        log.alert(20, "later")
    with RunLog(tmp_path, update=15) as log:
        log.alert(30, "again")
    with (tmp_path / "warnings.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows == [["update", "warning"], ["10", 'the refiner, "as it is"'], ["30", "again"]]
    RunLog(tmp_path).__exit__(None, None, None)
    assert not (tmp_path / "warnings.csv").exists(), "a run that begins anew has none"


def test_why_a_run_stopped_is_on_its_page(finished: Path, tmp_path: Path) -> None:
    wild = {**SETTINGS, "optimizer": "sgd", "learning_rate": 1e30, "refiner_pretraining": 0}
    sets = finished.parent / "synthetic", finished.parent / "real"
    with pytest.raises(TrainingDiverged):
        train(*sets, tmp_path / "run", preset("eyes", **wild))
    page = page_of(tmp_path / "run")
    assert "stopped: " in page.text and "lower learning rates" in page.text
    assert "Not finished" in page.text


def test_the_feed_s_seconds_are_kept(finished: Path) -> None:
    facts = run_facts(finished)
    assert np.isfinite(facts.metrics["feed_seconds"]).all()
    assert all(phase.feed_share is not None and 0 < phase.feed_share < 1 for phase in facts.phases)


def test_a_run_of_before_the_feed_s_seconds_goes_on(run: Path) -> None:
    with (run / "metrics.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    for row in rows:
        del row["feed_seconds"]
    keep(run / "metrics.csv", rows)
    for path in sorted((run / "checkpoints").iterdir())[1:]:
        path.unlink()
    resume(run)
    facts = run_facts(run)
    assert len(facts.metrics["update"]) == 30
    assert np.isnan(facts.metrics["feed_seconds"]).sum() == 20


# Charts


def points(svg: str, line: int = -1) -> np.ndarray:
    """Places of a path's points."""
    path = re.findall(r'<path d="(M[^"]*)" fill="none"', svg)[line]
    return np.array(re.findall(r"[ML](\S+) ([\d.-]+)", path.replace("h0", "")), float)


def test_a_line_is_where_its_values_are() -> None:
    svg = line_chart([Line("a", [0, 5, 10], [0.0, 0.5, 1.0])], "t", x_label="x", low=0, high=1)
    left, middle, right = points(svg)
    np.testing.assert_allclose(middle, (left + right) / 2, atol=0.1)
    assert left[0] == 0 and left[1] > right[1] == 0, "y goes down in SVG"


def test_a_chart_is_a_whole_svg_of_its_own() -> None:
    lines = [
        Line(f"<{n}>", range(2000), np.random.default_rng(n).normal(size=2000), 9) for n in range(8)
    ]
    svg = line_chart(
        lines, '<&"', x_label="<", areas=[Area(0, 1), Area(3, 9, across=True)], marks=[7]
    )
    tree = ET.fromstring(svg)
    assert tree.get("aria-label") == '<&"'
    assert "<7>" in "".join(tree.itertext())
    assert len(svg) < 120_000, "a line is thinned to what can be seen"


@pytest.mark.parametrize(
    "values",
    [[], [np.nan], [3.0], [3.0, 3.0], [0.0, 0.0], [1e308, -1e308], [np.inf, 1.0], [1e-320, 0.0]],
)
@pytest.mark.parametrize("smooth", [0, 2])
def test_values_of_any_kind(values: list[float], smooth: int) -> None:
    svg = line_chart([Line("a", range(len(values)), values, smooth)], "t", x_label="x")
    ET.fromstring(svg)
    assert "nan" not in svg and "inf" not in svg


def test_gaps_stay_gaps() -> None:
    svg = line_chart([Line("a", range(5), [1.0, 2.0, np.nan, 4.0, np.inf])], "t", x_label="x")
    path = re.findall(r'<path d="(M[^"]*)" fill="none"', svg)[-1]
    assert path.count("M") == 2 and path.count("L") == 1


def test_a_running_mean_is_of_what_is_there() -> None:
    svg = line_chart(
        [Line("a", range(4), [0.0, 1.0, np.nan, 3.0], 1)], "t", x_label="x", low=0, high=3
    )
    top = points(svg)[:, 1]
    np.testing.assert_allclose(top / top[0], [1, 1, 0], atol=0.01)  # means 0.5, 0.5 and 3


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (-3, 7, [-2, 0, 2, 4, 6]),
        (0, 25, [0, 5, 10, 15, 20, 25]),
    ],
)
def test_round_values(low: float, high: float, expected: list[float]) -> None:
    assert round_values(low, high) == expected


def test_durations() -> None:
    assert [duration(s) for s in (0.04, 59, 61, 7200, None)] == [
        "0.0 s",
        "59 s",
        "1.0 min",
        "2.0 h",
        "-",
    ]
