"""The visual Turing test: its statistics, what is saved, what the page shows and what it must not give away."""

from __future__ import annotations

import io
import json
import re
import sqlite3
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from math import comb, sqrt
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from image_folders import save, smooth
from PIL import Image
from turing_sets import (
    COUNT,
    HEIGHT,
    WIDTH,
    answer_due,
    chunks,
    joined,
    judge,
    write_set,
    write_sets,
)

from simgan_fast import cli, turing_results
from simgan_fast.data import PackedWriter
from simgan_fast.errors import InputError
from simgan_fast.evaluation.turing.images import Window, common_window, draw, open_sets, png
from simgan_fast.evaluation.turing.results import results_table, study_results
from simgan_fast.evaluation.turing.scores import guessing_p, score, wilson_interval
from simgan_fast.evaluation.turing.study import Study, begin_study, open_study

TABLE_1 = {"real": {"real": 224, "synthetic": 276}, "synthetic": {"real": 207, "synthetic": 293}}


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return write_sets(tmp_path_factory.mktemp("sets"), "real", "refined", "raw")


@pytest.fixture
def study(tmp_path: Path, sets: dict[str, Path]) -> Study:
    return begin_study(tmp_path / "study", sets["real"], sets["refined"])


@pytest.fixture
def controlled(tmp_path: Path, sets: dict[str, Path]) -> Study:
    return begin_study(tmp_path / "controlled", **sets)


# Statistics


@pytest.mark.parametrize(
    ("right", "answers", "p"),
    [(517, 1000, 0.148), (0, 10, 1.0), (5, 10, 0.623046875), (9, 10, 11 / 1024), (0, 0, 1.0)],
)
def test_p_of_guessing_has_known_values(right: int, answers: int, p: float) -> None:
    assert guessing_p(right, answers) == pytest.approx(p, abs=5e-4 if answers == 1000 else 0)


def test_p_of_the_papers_control_is_below_its_bound() -> None:
    assert 0 < guessing_p(162, 200) < 1e-8


@pytest.mark.parametrize("right", [0, 1, 37, 100, 101])
def test_p_of_guessing_is_the_exact_sum(right: int) -> None:
    exact = Fraction(sum(comb(101, k) for k in range(right, 102)), 2**101)
    assert guessing_p(right, 101) == float(exact)


@pytest.mark.parametrize(
    ("right", "answers", "low", "high"),
    [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (29, 29, 0.8830, 1.0),
    ],
)
def test_the_interval_is_that_of_newcombes_examples(
    right: int, answers: int, low: float, high: float
) -> None:
    """Newcombe 1998, table I, method 3; his 0 of 20 and 1 of 29, the latter turned round."""
    assert wilson_interval(right, answers) == pytest.approx((low, high), abs=6e-5)


def test_table_1_of_the_paper() -> None:
    found = score(TABLE_1)
    assert (found.answers, found.right, found.accuracy) == (1000, 517, 0.517)
    assert found.p == pytest.approx(0.148, abs=5e-4)


@pytest.mark.parametrize("counts", [(-1, 5), (6, 5)])
def test_counts_that_cannot_be_are_refused(counts: tuple[int, int]) -> None:
    with pytest.raises(InputError, match="want 0 to 5"):
        guessing_p(*counts)


# Images


def test_a_draw_takes_no_image_twice_and_is_the_seeds() -> None:
    examples, questions = draw((80, 70), seed=3)
    assert draw((80, 70), seed=3) == (examples, questions) != draw((80, 70), seed=4)
    assert Counter(kind for kind, _ in examples) == {"real": 20, "synthetic": 20}
    assert Counter(kind for kind, _ in questions) == {"real": 50, "synthetic": 50}
    assert len(set(examples + questions)) == 140


def test_the_order_of_the_questions_says_nothing() -> None:
    """At each place real images are due to half of the participants: chi-squared of 100 places within 5 deviations."""
    count = 200
    real = sum(
        np.array([kind == "real" for kind, _ in draw((80, 80), seed)[1]]) for seed in range(count)
    )
    chi2 = float((((real - count / 2) ** 2) / (count / 4)).sum())
    assert abs(chi2 - 100) < 5 * sqrt(200)


@pytest.mark.parametrize("channels", [1, 3])
def test_png_keeps_the_pixels_and_has_one_length(channels: int) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (channels, 35, 55)).astype(np.uint8)
    flat = np.zeros_like(noise)
    files = [png(image, None) for image in (noise, flat)]
    assert len({len(file) for file in files}) == 1
    shown = np.asarray(Image.open(io.BytesIO(files[0]))).reshape(35, 55, channels)
    assert np.array_equal(shown.transpose(2, 0, 1), noise)
    assert chunks(files[0]) == chunks(files[1]) == ["IHDR", "IDAT", "IEND"]


def test_16_bits_are_shown_by_one_window_for_both_sets(tmp_path: Path) -> None:
    paths = write_sets(tmp_path, dtype="uint16")
    window = common_window(open_sets(paths["real"], paths["refined"]))
    assert window is not None and window.low < 300 and 25_200 < window.high <= 25_500
    image = np.array([[[0, 1000, 2000, 3000, 60_000]]], np.uint16)
    shown = np.asarray(Image.open(io.BytesIO(png(image, Window(1000, 3000)))))
    assert shown.tolist() == [[0, 0, 128, 255, 255]]


def test_a_background_does_not_stretch_the_window(tmp_path: Path) -> None:
    images = np.full((70, 1, 12, 20), 60_000, np.uint16)
    images[:, :, 2:10] = np.linspace(700, 900, 20).astype(np.uint16)
    for name in ("real", "refined"):
        with PackedWriter(tmp_path / name, (1, 12, 20), {}, "uint16") as writer:
            writer.add(images, [f"{i}" for i in range(70)], {})
    assert common_window(open_sets(tmp_path / "real", tmp_path / "refined")) == Window(700, 900)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"count": 69}, "refined has 69 images.* want at least 70"),
        ({"channels": 3}, "12x20 .*, 3 channels, uint8 and the real images are 12x20"),
        ({"dtype": "uint16"}, "uint16 and the real images"),
    ],
)
def test_sets_that_do_not_fit_are_refused(
    tmp_path: Path, sets: dict[str, Path], change: dict[str, Any], sentence: str
) -> None:
    other = write_set(tmp_path / "refined", "refined", **change)
    with pytest.raises(InputError, match=sentence):
        begin_study(tmp_path / "study", sets["real"], other)
    assert not (tmp_path / "study").exists()


def test_folders_of_images_of_another_size_are_resized(
    tmp_path: Path, sets: dict[str, Path]
) -> None:
    for i in range(70):
        save(tmp_path / "photographs" / f"{i}.png", smooth(2 * HEIGHT, 2 * WIDTH, seed=i))
    study = begin_study(
        tmp_path / "study", tmp_path / "photographs", sets["refined"], size=(HEIGHT, WIDTH)
    )
    assert study.shape == (1, HEIGHT, WIDTH)
    again = begin_study(
        tmp_path / "study", tmp_path / "photographs", sets["refined"], size=(HEIGHT, WIDTH)
    )
    assert again.sets[0][1] == str(tmp_path / "photographs")


# A study


def test_answers_are_there_for_whoever_opens_the_study(study: Study) -> None:
    code = joined(study)
    for _ in range(3):
        answer_due(study, code)
    answers = open_study(study.folder).answers()
    assert [(a.participant, a.arm, a.place, a.said) for a in answers] == [
        (1, "refined", place, "real") for place in (1, 2, 3)
    ]
    assert all(re.fullmatch(r"(real|refined)-\d+\.png", a.name) for a in answers)
    assert all(a.name.startswith("real-") == (a.truth == "real") for a in answers)


def test_an_image_that_is_not_due_does_not_count(study: Study) -> None:
    code, other = joined(study), joined(study)
    first = study.due(code)
    assert first is not None and first.image is not None
    assert study.answer(code, first.image, "real")[0]
    counted, due = study.answer(code, first.image, "synthetic")
    assert not counted and due is not None and due.number == 2
    theirs, example = study.due(other), study.examples(code)["real"][0]
    assert theirs is not None and theirs.image is not None
    for image in (theirs.image, example, "nothing", ""):
        assert not study.answer(code, image, "real")[0]
    assert [answer.said for answer in study.answers()] == ["real"]


def test_after_the_last_image_nothing_is_due(study: Study) -> None:
    code = joined(study)
    judge(study, code, 99)
    answer_due(study, code, "synthetic")
    due = study.due(code)
    assert due is not None and (due.image, due.number, due.total) == (None, 101, 100)
    assert len({(a.truth, a.name) for a in study.answers()}) == 100


def test_a_study_goes_on_with_the_same_sets(study: Study, sets: dict[str, Path]) -> None:
    code = joined(study)
    judge(study, code, 5)
    before = study.due(code)
    again = begin_study(study.folder, sets["real"], sets["refined"])
    assert again.due(code) == before and again.access_token == study.access_token
    assert before is not None and before.image is not None
    assert again.png(before.image) == study.png(before.image)


def test_other_sets_are_refused(study: Study, sets: dict[str, Path]) -> None:
    with pytest.raises(InputError, match="was begun with other images"):
        begin_study(study.folder, sets["real"], sets["raw"])
    with pytest.raises(InputError, match="was begun with other images"):
        begin_study(study.folder, **sets)


def test_the_arms_alternate(controlled: Study, sets: dict[str, Path]) -> None:
    for _ in range(5):
        judge(controlled, joined(controlled), 10)
    people = controlled.participants()
    assert [p.arm for p in people] == ["refined", "raw", "refined", "raw", "refined"]
    synthetic = {(a.arm, a.name.split("-")[0]) for a in controlled.answers() if a.truth != "real"}
    assert synthetic == {("refined", "refined"), ("raw", "raw")}


def test_everyone_has_a_draw_and_an_order_of_their_own(study: Study) -> None:
    for _ in range(2):
        judge(study, joined(study))
    one, two = ([a.name for a in study.answers() if a.participant == n] for n in (1, 2))
    assert one != two and set(one) != set(two)
    people = study.participants()
    assert len({person.seed for person in people}) == 2
    questions = draw((COUNT, COUNT), people[0].seed)[1]
    assert one == [
        f"{'real' if kind == 'real' else 'refined'}-{row}.png" for kind, row in questions
    ]


def test_joining_twice_is_one_participant(study: Study) -> None:
    code = joined(study)
    study.join(code)
    assert len(study.participants()) == 1


def test_many_at_once(study: Study, sets: dict[str, Path]) -> None:
    """Four people, each through two servers that are sent the same last 20 answers: every image counts once."""
    codes = [joined(study) for _ in range(4)]
    for code in codes:
        judge(study, code, 80)
    other = begin_study(study.folder, sets["real"], sets["refined"])

    def window(server: Study, code: str) -> int:
        counted = 0
        while (due := server.due(code)) and due.image:
            counted += server.answer(code, due.image, "real")[0]
        return counted

    with ThreadPoolExecutor(8) as pool:
        counts = list(pool.map(window, [study] * 4 + [other] * 4, codes + codes))
    assert len(study.answers()) == 400
    assert [a + b for a, b in zip(counts[:4], counts[4:], strict=True)] == [20] * 4


def test_people_who_join_by_two_servers_at_once_have_numbers_of_their_own(
    study: Study, sets: dict[str, Path]
) -> None:
    servers = [study, begin_study(study.folder, sets["real"], sets["refined"])] * 6
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(joined, servers))
    assert [person.number for person in study.participants()] == list(range(1, 13))


@pytest.mark.parametrize("said", ["", "refined", "REAL", "x" * 10_000])
def test_another_word_is_no_answer(study: Study, said: str) -> None:
    code = joined(study)
    due = study.due(code)
    assert due is not None and due.image is not None
    with pytest.raises(InputError, match="want 'real' or 'synthetic'") as error:
        study.answer(code, due.image, said)
    assert len(str(error.value)) < 120
    assert study.answers() == []


# What is refused


def test_a_study_of_another_version_is_refused(
    study: Study, capsys: pytest.CaptureFixture[str]
) -> None:
    file = sqlite3.connect(study.database.file)
    file.execute("PRAGMA user_version = 2")
    file.close()
    assert cli.main(["turing", "--results", str(study.folder)]) == 2
    assert capsys.readouterr().err.count("is of version 2, and this program reads version 1") == 1


@pytest.mark.parametrize("content", [b"", b"no database at all" * 100])
def test_what_is_no_study_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "study.sqlite").write_bytes(content)
    with pytest.raises(InputError, match=r"not the file of a study|cannot be used"):
        open_study(tmp_path)


def test_a_study_cut_off_is_refused(study: Study) -> None:
    content = study.database.file.read_bytes()
    study.database.file.write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match="cannot be used"):
        open_study(study.folder).answers()


def test_a_folder_of_something_else_stays_as_it_was(tmp_path: Path, sets: dict[str, Path]) -> None:
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(InputError, match="already exists and is not empty"):
        begin_study(tmp_path, sets["real"], sets["refined"])
    assert [file.name for file in tmp_path.iterdir()] == ["letter.txt"]


def test_only_the_owner_may_read_the_tokens(study: Study) -> None:
    joined(study)
    assert {file.stat().st_mode & 0o077 for file in study.folder.iterdir()} == {0}


# Results


def test_results_of_each_arm_and_person(controlled: Study) -> None:
    for said in ("real", "synthetic"):
        judge(controlled, joined(controlled), said=said)
    joined(controlled)  # who answers nothing is in no result
    refined, raw = study_results(controlled)
    assert (refined.arm, refined.finished, raw.arm, raw.finished) == ("refined", 1, "raw", 1)
    assert refined.pooled.confusion == {
        "real": {"real": 50, "synthetic": 0},
        "synthetic": {"real": 50, "synthetic": 0},
    }
    assert raw.pooled.confusion["real"] == {"real": 0, "synthetic": 50}
    assert [(p.participant, p.score.right, p.score.answers) for p in raw.participants] == [
        (2, 50, 100)
    ]


def test_right_answers_are_counted_as_right(study: Study) -> None:
    code = joined(study)
    truth = dict(study._rows("SELECT id, truth FROM images"))
    for _ in range(10):
        due = study.due(code)
        assert due is not None and due.image is not None
        study.answer(code, due.image, truth[due.image])
    pooled = study_results(study)[0].pooled
    assert (pooled.right, pooled.answers, pooled.p) == (10, 10, 2**-10)
    assert "10 of 10          100.0%     72.2% to 100.0%     0.001" in results_table(study)


def test_the_command_prints_and_writes_results(
    study: Study, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    judge(study, joined(study))
    file = tmp_path / "results.json"
    assert cli.main(["turing", "--results", str(study.folder), "--json", str(file)]) == 0
    assert "50 of 100           50.0%      40.4% to 59.6%     0.540" in capsys.readouterr().out
    found = json.loads(file.read_text())
    assert found == turing_results(study.folder)
    assert found["arms"][0]["pooled"]["p"] == guessing_p(50, 100)
    assert study.participants()[0].code not in file.read_text()


def test_the_command_says_what_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["turing", "--real", "a", "--refined", "b"]) == 2
    assert "a study needs --real, --refined and --out" in capsys.readouterr().err
    assert cli.main(["turing", "--real", "a", "--results", "b"]) == 2
    assert "--results takes a study alone" in capsys.readouterr().err


@pytest.mark.parametrize("module", ["flask", "waitress"])
def test_without_flask_one_sentence_says_how_to_get_it(
    study: Study, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], module: str
) -> None:
    for name in [name for name in sys.modules if name.startswith("simgan_fast.evaluation.turing.")]:
        if name.endswith((".app", ".server")):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)
    arguments = ["--real", "a", "--refined", "b", "--out", "c"]
    assert cli.main(["turing", *arguments]) == 2
    error = capsys.readouterr().err
    assert f"{module} is missing: pip install 'simgan-fast[turing]'" in error
    assert cli.main(["turing", "--results", str(study.folder)]) == 0
