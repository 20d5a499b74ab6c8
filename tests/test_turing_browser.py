"""The page of the visual Turing test in a real Chromium: keys, mouse, touch, reloads, tabs, and what fits on a screen.

SIMGAN_FAST_PICTURES, a folder, keeps pictures of the pages.
"""

from __future__ import annotations

import importlib.util
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from chromium import EXECUTABLE, Browser, Tab
from turing_server import served
from turing_sets import write_sets

from simgan_fast.evaluation.turing.study import Study, open_study

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(EXECUTABLE is None, reason="there is no Chromium"),
    pytest.mark.skipif(
        not importlib.util.find_spec("waitress"), reason="Waitress is not installed"
    ),
]
QUIET = 0.25  # seconds after a new image in which the page takes no answer, and a little more
PICTURES = os.environ.get("SIMGAN_FAST_PICTURES")


@pytest.fixture(scope="module")
def served_study(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Study, str]]:
    folder = tmp_path_factory.mktemp("turing")
    with served(folder / "study", write_sets(folder)) as (_, url):
        yield open_study(folder / "study"), url


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    browser = Browser(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


@pytest.fixture
def study(served_study: tuple[Study, str]) -> Study:
    return served_study[0]


@pytest.fixture
def url(served_study: tuple[Study, str]) -> str:
    return served_study[1]


@pytest.fixture
def tab(browser: Browser, url: str) -> Tab:
    """A tab that shows the first image to a new participant."""
    browser.events.clear()
    tab = browser.tab()
    tab.front()
    tab.open(url)
    tab.click("form button")
    ready(tab)
    return tab


def ready(tab: Tab, number: int = 1) -> None:
    """Wait for the image of this number, and until an answer is taken."""
    tab.wait(
        f"document.querySelector('#number')?.textContent == '{number}' && [...document.images].every(i => i.complete)"
    )
    time.sleep(QUIET)


def said(study: Study) -> list[str]:
    """What the newest participant answered."""
    newest = len(study.participants())
    return [answer.said for answer in study.answers() if answer.participant == newest]


def keep_picture(tab: Tab, name: str) -> None:
    if PICTURES:
        tab.picture(Path(PICTURES) / f"{name}.png")


def test_keys_and_clicks_answer(tab: Tab, study: Study) -> None:
    for number, act in enumerate(
        [
            lambda: tab.key("r"),
            lambda: tab.key("ArrowRight"),
            lambda: tab.click("button[value=synthetic]"),
            lambda: tab.key("s"),
            lambda: tab.key("ArrowLeft"),
            lambda: tab.click("button[value=real]"),
        ],
        start=2,
    ):
        act()
        ready(tab, number)
    assert said(study) == ["real", "synthetic", "synthetic", "synthetic", "real", "real"]
    keep_picture(tab, "question")


def test_a_phone_answers_by_touch(tab: Tab, study: Study) -> None:
    tab.resize(390, 750, 3, phone=True)
    ready(tab)
    tab.tap("button[value=synthetic]")
    ready(tab, 2)
    assert said(study) == ["synthetic"]
    keep_picture(tab, "phone")


def test_a_key_held_or_hit_twice_is_one_answer(tab: Tab, study: Study) -> None:
    tab.key("r")
    for _ in range(5):
        tab.key("r", repeated=True)
        tab.key("r")
    ready(tab, 2)
    tab.key("r", repeated=True)
    time.sleep(QUIET)
    assert said(study) == ["real"]


def test_reload_and_back_go_on_where_one_was(tab: Tab, study: Study) -> None:
    tab.key("r")
    ready(tab, 2)
    image = tab.see("document.querySelector('#image').src")
    tab.leave("location.reload()")
    ready(tab, 2)
    assert tab.see("document.querySelector('#image').src") == image
    tab.leave("history.back()")
    tab.wait("document.querySelector('a.button')?.textContent == 'Go on with image 2 of 100'")
    keep_picture(tab, "go-on")
    tab.click("a.button")
    ready(tab, 2)
    assert said(study) == ["real"]


def test_a_second_tab_counts_no_image_twice(tab: Tab, browser: Browser, study: Study) -> None:
    second = browser.tab()
    second.open(tab.see("location.href"))
    ready(second)
    tab.front()
    tab.key("r")
    ready(tab, 2)
    second.front()
    second.key("s")
    ready(second, 2)
    assert "answered already" in second.see("document.querySelector('#note').textContent")
    assert said(study) == ["real"]


def test_an_answer_that_does_not_get_through_can_be_given_again(tab: Tab, study: Study) -> None:
    line = {"latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
    tab.call("Network.emulateNetworkConditions", offline=True, **line)
    tab.key("s")
    tab.wait("document.querySelector('#note').textContent.includes('answer again')")
    keep_picture(tab, "trouble")
    tab.call("Network.emulateNetworkConditions", offline=False, **line)
    tab.key("r")
    ready(tab, 2)
    assert tab.see("document.querySelector('#note').textContent") == ""
    assert said(study) == ["real"]


def test_without_javascript_the_form_answers(tab: Tab, study: Study) -> None:
    tab.call("Emulation.setScriptExecutionDisabled", value=True)
    tab.leave("location.reload()")
    tab.click("button[value=synthetic]")
    ready(tab, 2)
    assert said(study) == ["synthetic"]


def test_the_last_answer_ends_it(tab: Tab, study: Study, url: str) -> None:
    code = tab.see("location.pathname.split('/').pop()")
    for _ in range(98):
        due = study.due(code)
        assert due is not None and due.image is not None
        study.answer(code, due.image, "real")
    tab.leave("location.reload()")
    ready(tab, 99)
    tab.key("s")
    ready(tab, 100)
    tab.key("s")
    tab.wait("document.title == 'Thank you'")
    keep_picture(tab, "thanks")
    assert len(said(study)) == 100
    tab.open(f"{url}results?token={study.admin_token}")
    keep_picture(tab, "results")
    assert "participants, 1 finished" in tab.see("document.querySelector('main').textContent")


@pytest.mark.parametrize(
    ("width", "height", "scale"),
    [
        (1280, 800, 1),
        (1920, 1080, 1.25),
        (1024, 768, 1),
        (390, 700, 3),
        (360, 560, 2),
        (740, 360, 3),
    ],
)
def test_all_is_in_view_and_enlarged_by_whole_numbers(
    tab: Tab, width: int, height: int, scale: float
) -> None:
    tab.resize(width, height, scale, phone=width < 1000)
    ready(tab)
    boxes = tab.see(
        "[...document.querySelectorAll('img, .test button, .progress')].map(e => "
        "(b => [b.left, b.top, b.right, b.bottom])(e.getBoundingClientRect()))"
    )
    keep_picture(tab, f"{width}x{height}")
    assert len(boxes) == 44
    for left, top, right, bottom in boxes:
        assert 0 <= left < right <= width and 0 <= top < bottom <= height
    assert not any(overlap(a, b) for i, a in enumerate(boxes) for b in boxes[:i])
    factors = tab.see(
        "[...document.images].map(i => i.getBoundingClientRect().width * devicePixelRatio / i.naturalWidth)"
    )
    assert all(factor == pytest.approx(max(1, round(factor)), abs=0.01) for factor in factors)
    assert len({round(factor) for factor in factors}) <= 2
    rendering = tab.see(
        "[...new Set([...document.images].map(i => getComputedStyle(i).imageRendering))]"
    )
    assert rendering == ["pixelated"]


def overlap(a: list[float], b: list[float]) -> bool:
    return min(a[2], b[2]) - max(a[0], b[0]) > 0.5 and min(a[3], b[3]) - max(a[1], b[1]) > 0.5


def test_nothing_is_asked_of_another_server_and_nothing_goes_wrong(
    tab: Tab, browser: Browser, url: str
) -> None:
    tab.key("r")
    ready(tab, 2)
    seen: dict[str, list[Any]] = {}
    for event in browser.events:
        seen.setdefault(event.get("method", ""), []).append(event["params"])
    asked = [event["request"]["url"] for event in seen["Network.requestWillBeSent"]]
    assert len(asked) > 43
    assert all(address.startswith((url, "data:")) for address in asked)
    assert not seen.get("Runtime.exceptionThrown") and not seen.get("Log.entryAdded")
