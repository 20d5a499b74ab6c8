"""The web page of a study, as a Flask application: what each address answers. `server` serves it."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable
from typing import Any

from flask import Flask, Response, abort, jsonify, redirect, render_template, request, url_for
from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Response as AnyResponse

from simgan_fast.errors import InputError
from simgan_fast.evaluation.turing.records import Due
from simgan_fast.evaluation.turing.results import (
    answers_csv,
    results_json,
    score_texts,
    study_results,
)
from simgan_fast.evaluation.turing.study import Study, new_code

COOKIE, COOKIE_SECONDS = "participant", 30 * 24 * 3600
LARGEST_FORM = 4096  # bytes

# The same for every answer, so that none tells an image of one kind from the other.
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}

Wsgi = Callable[[dict[str, Any], Any], Iterable[bytes]]


def create_app(study: Study) -> Flask:
    """The application for `study`, which must have its images (`begin_study`).

    >>> create_app(begin_study("study", "photographs", "refined")).test_client()  # doctest: +SKIP
    """
    app = Flask(__name__)
    app.config["MAX_CONTENT_LENGTH"] = LARGEST_FORM
    app.jinja_env.globals["score_texts"] = score_texts
    _add_participant_pages(app, study)
    _add_result_pages(app, study)

    @app.before_request
    def refuse_other_sites() -> None:
        if request.method == "POST" and request.headers.get("Sec-Fetch-Site") == "cross-site":
            abort(403, "This form is not from this site.")

    @app.after_request
    def add_headers(response: Response) -> Response:
        response.headers.update(HEADERS)
        return response

    @app.errorhandler(InputError)
    def unusable(error: InputError) -> tuple[str, int]:
        return render_template("error.html", text=str(error)), 400

    @app.errorhandler(HTTPException)
    def refused(error: HTTPException) -> tuple[str, int]:
        return render_template("error.html", text=error.description), error.code or 500

    return app


def _add_participant_pages(app: Flask, study: Study) -> None:
    @app.get("/")
    def start() -> str:
        code = request.cookies.get(COOKIE, "")
        due = study.due(code)
        unfinished = due if due is not None and due.image is not None else None
        return render_template("start.html", due=unfinished, code=code, new_code=new_code())

    @app.post("/start")
    def join() -> AnyResponse:
        """The form brings the new code along, so that sent twice it is still one participant."""
        code = request.form.get("code", "")
        study.join(code)
        response = redirect(url_for("test", code=code), 303)
        root = request.script_root or "/"
        response.set_cookie(COOKIE, code, COOKIE_SECONDS, path=root, httponly=True, samesite="Lax")
        return response

    @app.get("/p/<code>")
    def test(code: str) -> str:
        due = _known(study.due(code))
        if due.image is None:
            return render_template("thanks.html", total=due.total)
        _, height, width = study.shape
        examples = study.examples(code)
        return render_template(
            "test.html", code=code, due=due, examples=examples, width=width, height=height
        )

    @app.post("/p/<code>/answer")
    def answer(code: str) -> AnyResponse:
        image, said = request.form.get("image", ""), request.form.get("said", "")
        counted, due = study.answer(code, image, said)
        due = _known(due)
        if request.accept_mimetypes.best == "application/json":
            source = url_for("image", name=due.image) if due.image else None
            return jsonify(
                counted=counted, image=due.image, source=source, number=due.number, total=due.total
            )
        return redirect(url_for("test", code=code), 303)

    @app.get("/image/<name>")
    def image(name: str) -> Response:
        png = study.png(name)
        if png is None:
            abort(404, "There is no such image.")
        return Response(png, mimetype="image/png")


def _known(due: Due | None) -> Due:
    if due is None:
        abort(404, "There is no such participant: begin on the start page.")
    return due


def _add_result_pages(app: Flask, study: Study) -> None:
    def check_token() -> str:
        token = request.args.get("token", "")
        if not secrets.compare_digest(token.encode(), study.admin_token.encode()):
            abort(403, "The results need the token that was printed when the study was started.")
        return token

    @app.get("/results")
    def results() -> str:
        token = check_token()
        return render_template("results.html", results=study_results(study), token=token)

    @app.get("/results.json")
    def results_as_json() -> Response:
        check_token()
        return _download(app.json.dumps(results_json(study), indent=1), "results.json")

    @app.get("/results.csv")
    def answers_as_csv() -> Response:
        check_token()
        return _download(answers_csv(study), "answers.csv")


def _download(text: str, name: str) -> Response:
    kind = "application/json" if name.endswith(".json") else "text/csv"
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return Response(text, mimetype=kind, headers=headers)


def behind_token(app: Wsgi, token: str) -> Wsgi:
    """Serve `app` below /TOKEN/ alone; all else is not found."""

    def below(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        first, _, rest = str(environ.get("PATH_INFO", "")).lstrip("/").partition("/")
        if not secrets.compare_digest(first.encode("latin-1"), token.encode()):
            headers = [("Content-Type", "text/plain; charset=utf-8")]
            start_response("404 Not Found", headers)
            return [b"This page needs the whole address, with the token in it.\n"]
        environ["SCRIPT_NAME"] = f"{environ.get('SCRIPT_NAME', '')}/{token}"
        environ["PATH_INFO"] = f"/{rest}"
        return app(environ, start_response)

    return below
