"""The page of the visual Turing test: what it shows, saves and must not give away, and its server."""

from __future__ import annotations

import csv
import importlib.util
import io
import json
import re
import signal
import socket
import urllib.parse
import urllib.request
from collections import Counter
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from turing_server import served
from turing_sets import (
    chunks,
    judge,
    write_sets,
)

from simgan_fast import cli, turing_results
from simgan_fast.errors import InputError
from simgan_fast.evaluation.turing.study import Study, begin_study, new_code, open_study

pytestmark = pytest.mark.skipif(
    not (importlib.util.find_spec("flask") and importlib.util.find_spec("waitress")),
    reason="Flask or Waitress is not installed",
)


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return write_sets(tmp_path_factory.mktemp("sets"), "real", "refined")


@pytest.fixture
def study(tmp_path: Path, sets: dict[str, Path]) -> Study:
    return begin_study(tmp_path / "study", sets["real"], sets["refined"])


def page(study: Study) -> Any:
    """A browser's session: it keeps its cookies."""
    from simgan_fast.evaluation.turing.app import create_app

    app = create_app(study)
    app.testing = True
    return app.test_client()


def begin(browser: Any) -> str:
    """Press Begin on the start page; returns the address of the test."""
    code = re.search(r'name="code" value="([^"]+)"', browser.get("/").text)
    assert code is not None
    response = browser.post("/start", data={"code": code[1]})
    assert response.status_code == 303
    return str(response.headers["Location"])


def due_image(browser: Any, address: str) -> str:
    found = re.search(r'name="image" value="([^"]+)"', browser.get(address).text)
    assert found is not None
    return found[1]


def test_an_answer_is_saved_and_the_next_image_shown(study: Study) -> None:
    browser = page(study)
    address = begin(browser)
    first = due_image(browser, address)
    response = browser.post(f"{address}/answer", data={"image": first, "said": "synthetic"})
    assert (response.status_code, response.headers["Location"]) == (303, address)
    assert [answer.said for answer in study.answers()] == ["synthetic"]
    shown = browser.get(address).text
    assert first not in shown
    assert '<span id="number">2</span> of 100' in shown


def test_answers_by_script_come_back_as_json(study: Study) -> None:
    browser = page(study)
    address = begin(browser)
    data = {"image": due_image(browser, address), "said": "real"}
    headers = {"Accept": "application/json"}
    first, again = (
        browser.post(f"{address}/answer", data=data, headers=headers).json for _ in range(2)
    )
    assert first["counted"] and not again["counted"]
    assert (first["number"], first["total"]) == (2, 100)
    assert first["source"] == f"/image/{first['image']}"
    assert first["image"] == again["image"] == due_image(browser, address)


def test_going_back_and_answering_otherwise_changes_nothing(study: Study) -> None:
    browser = page(study)
    address = begin(browser)
    old = due_image(browser, address)
    browser.post(f"{address}/answer", data={"image": old, "said": "real"})
    response = browser.post(f"{address}/answer", data={"image": old, "said": "synthetic"})
    assert response.status_code == 303
    assert [answer.said for answer in study.answers()] == ["real"]


def test_the_start_page_goes_on_where_one_was(study: Study) -> None:
    browser = page(study)
    address = begin(browser)
    assert "Go on with" not in page(study).get("/").text  # another browser
    judge(study, address.removeprefix("/p/"), 36)
    shown = browser.get("/").text
    assert "Go on with image 37 of 100" in shown and f'href="{address}"' in shown
    assert "Begin anew" in shown
    judge(study, address.removeprefix("/p/"))
    assert "Go on with" not in browser.get("/").text
    assert "All 100 answers are saved" in browser.get(address).text


def test_a_form_sent_twice_is_one_participant(study: Study) -> None:
    browser = page(study)
    code = new_code()
    for _ in range(2):
        assert browser.post("/start", data={"code": code}).status_code == 303
    assert len(study.participants()) == 1


def test_20_examples_of_each_kind_are_in_view_and_stay(study: Study) -> None:
    browser = page(study)
    address = begin(browser)

    def examples() -> list[str]:
        return list(re.findall(r"/image/([\w-]+)", browser.get(address).text))

    shown = examples()
    due = due_image(browser, address)
    assert len(shown) == len(set(shown)) == 41
    browser.post(f"{address}/answer", data={"image": due, "said": "real"})
    assert set(shown) - set(examples()) == {due}


def test_nothing_but_pixels_tells_the_kinds_apart(study: Study) -> None:
    """Real images here are noise and refined ones smooth, which makes PNG files of very different lengths."""
    browser = page(study)
    for _ in range(5):
        begin(browser)
    truth = dict(study._rows("SELECT id, truth FROM images"))
    seen: dict[str, Counter[Any]] = {"real": Counter(), "synthetic": Counter()}
    for name, kind in truth.items():
        response = browser.get(f"/image/{name}")
        headers = tuple(sorted((k, v) for k, v in response.headers.items() if k != "Date"))
        parts = tuple(chunks(response.data))
        seen[kind][response.status_code, headers, len(response.data), parts] += 1
    assert seen["real"] == seen["synthetic"] and len(seen["real"]) == 1
    ranks = np.array([truth[name] == "real" for name in sorted(truth)]).nonzero()[0]
    n = len(truth)  # the ranks' sum of half of n shuffled ones has the variance n^2 (n + 1) / 48
    assert abs(ranks.sum() - n * (n - 1) / 4) < 5 * sqrt(n * n * (n + 1) / 48)
    assert {len(name) for name in truth} == {22}


def test_the_page_of_a_real_image_is_that_of_a_synthetic_one(study: Study) -> None:
    browser = page(study)
    address = begin(browser)
    truth = dict(study._rows("SELECT id, truth FROM images"))
    pages: dict[str, set[str]] = {"real": set(), "synthetic": set()}
    for number in range(1, 21):
        image = due_image(browser, address)
        shown = browser.get(address).text.replace(image, "ID")
        assert not re.search(r"(real|refined)-\d+\.png", shown)
        shown = shown.replace(f"{number} of 100", "N of 100").replace(f">{number}<", ">N<")
        pages[truth[image]].add(shown.replace(f'value="{number - 1}"', 'value="N"'))
        browser.post(f"{address}/answer", data={"image": image, "said": "real"})
    assert pages["real"] == pages["synthetic"] and len(pages["real"]) == 1


@pytest.mark.parametrize("address", ["/", "/image/none", "/p/none", "/results", "/static/test.js"])
def test_nothing_is_kept_or_loaded_from_elsewhere(study: Study, address: str) -> None:
    with page(study).get(address) as response:
        assert response.headers["Cache-Control"] == "no-store"
        assert "default-src 'self'" in response.headers["Content-Security-Policy"]
        assert not re.search(r"https?://", response.text)


def test_what_is_not_there_is_said_in_a_page(study: Study) -> None:
    browser = page(study)
    for address in ("/p/nobody", "/image/nothing", "/elsewhere"):
        assert browser.get(address).status_code == 404
    assert browser.post("/p/nobody/answer", data={"said": "real"}).status_code == 404
    assert browser.post("/start", data={"code": "short"}).status_code == 400
    address = begin(browser)
    response = browser.post(f"{address}/answer", data={"said": "<b>maybe"})
    assert response.status_code == 400 and "&lt;b&gt;maybe" in response.text
    assert browser.post("/start", data={"code": "x" * 5000}).status_code == 413
    other_site = {"Sec-Fetch-Site": "cross-site"}
    assert browser.post("/start", data={"code": new_code()}, headers=other_site).status_code == 403
    assert len(study.participants()) == 1


def test_results_need_their_token(study: Study) -> None:
    browser = page(study)
    judge(study, begin(browser).removeprefix("/p/"), 7)
    for kind in ("", ".json", ".csv"):
        for token in ("", "?token=", "?token=%C3%A4", f"?token={study.access_token}"):
            response = browser.get(f"/results{kind}{token}")
            assert response.status_code == 403 and "7 of" not in response.text


def test_results_as_page_json_and_csv(study: Study) -> None:
    browser = page(study)
    assert "No answers yet" in browser.get(f"/results?token={study.admin_token}").text
    judge(study, begin(browser).removeprefix("/p/"))
    shown = browser.get(f"/results?token={study.admin_token}").text
    assert "<td>50 of 100</td><td>50.0%</td><td>40.4% to 59.6%</td><td>0.540</td>" in shown
    found = browser.get(f"/results.json?token={study.admin_token}").json
    assert found == turing_results(study.folder)
    table = browser.get(f"/results.csv?token={study.admin_token}").text
    rows = list(csv.DictReader(io.StringIO(table)))
    assert len(rows) == 100 and {row["said"] for row in rows} == {"real"}
    assert Counter(row["truth"] for row in rows) == {"real": 50, "synthetic": 50}


def test_beyond_the_loopback_all_needs_the_token(study: Study) -> None:
    from werkzeug.test import Client

    from simgan_fast.evaluation.turing.app import behind_token, create_app

    browser = Client(behind_token(create_app(study), "secret"))
    for address in ("/", "/secre/", "/secret2/", "//", "/results", "/static/test.js", "/%C3%A4/"):
        assert browser.get(address).status_code == 404, address
    shown = browser.get("/secret/")
    assert shown.status_code == 200 and 'action="/secret/start"' in shown.text
    response = browser.post("/secret/start", data={"code": new_code()})
    assert response.headers["Location"].startswith("/secret/p/")
    assert "Path=/secret;" in response.headers["Set-Cookie"]


# The server


def test_a_port_in_use_is_one_sentence(
    tmp_path: Path, sets: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        arguments = ["--real", sets["real"], "--refined", sets["refined"], "--out", tmp_path / "s"]
        assert cli.main(["turing", *map(str, arguments), "--port", str(port)]) == 2
    assert f"port {port} of 127.0.0.1 cannot be served" in capsys.readouterr().err


@pytest.mark.parametrize(("host", "port"), [("no such host", 0), ("127.0.0.1", 70_000)])
def test_what_cannot_be_served_on_is_refused(study: Study, host: str, port: int) -> None:
    from simgan_fast.evaluation.turing.server import serve

    with pytest.raises(InputError, match=r"is not known|want 1 to 65535"):
        serve(study, host, port, started=print)


def fetch(url: str, **data: str) -> str:
    body = urllib.parse.urlencode(data).encode() if data else None
    with urllib.request.urlopen(url, body, timeout=10) as response:
        return str(response.read().decode())


def test_a_killed_server_loses_no_answer(tmp_path: Path, sets: dict[str, Path]) -> None:
    """Killed after three answers; then served on all interfaces, a fourth, and stopped by Ctrl-C."""
    code, study, file = new_code(), tmp_path / "study", tmp_path / "results.json"
    with served(study, sets) as (server, url):
        assert url.startswith("http://127.0.0.1:") and url.count("/") == 3
        fetch(f"{url}start", code=code)
        for _ in range(3):
            answer_by_form(url, code)
        server.kill()
    assert len(open_study(study).answers()) == 3
    with served(study, sets, "--host", "0.0.0.0", "--json", str(file)) as (server, url):
        port, token = urllib.parse.urlsplit(url).port, open_study(study).access_token
        assert url.endswith(f":{port}/{token}/")
        answer_by_form(f"http://127.0.0.1:{port}/{token}/", code)
        server.send_signal(signal.SIGINT)
        error = server.communicate(timeout=20)[1]
    assert (server.returncode, error) == (
        130,
        "simgan-fast: stopped; every answer given is saved\n",
    )
    assert json.loads(file.read_text())["arms"][0]["pooled"]["answers"] == 4


def answer_by_form(url: str, code: str) -> None:
    image = re.search(r'name="image" value="([^"]+)"', fetch(f"{url}p/{code}"))
    assert image is not None
    fetch(f"{url}p/{code}/answer", image=image[1], said="real")
