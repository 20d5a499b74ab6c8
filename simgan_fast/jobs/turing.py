"""The visual Turing test as a web page: can people tell refined images from real ones?"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from simgan_fast.errors import InputError, Interrupted
from simgan_fast.evaluation.turing.results import results_json
from simgan_fast.evaluation.turing.study import begin_study, open_study
from simgan_fast.files import write_json


def turing(
    real: str | Path,
    refined: str | Path,
    out: str | Path,
    *,
    started: Callable[[str, str], None],
    raw: str | Path | None = None,
    host: str = "127.0.0.1",
    port: int = 0,
    size: tuple[int, int] | None = None,
    channels: int | None = None,
    json_out: str | Path | None = None,
) -> None:
    """Serve the page of a study until SIGINT or SIGTERM, which raises Interrupted.

    Args:
        real, refined: packed sets or image folders of one shape, 70 images or more each.
        out: the study's folder; one that is there goes on.
        started: told the URLs of the page and of the results as soon as they can be opened.
        raw: the synthetic images as they were, for a control: every second participant judges these.
        host, port: where it is served; port 0 takes a free one. Beyond this machine the URL has a token in it.
        size, channels: what a folder's images become, as in `open_images`.
        json_out: a file for the results, written when the serving ends.

    Raises InputError for sets or a study that cannot be used, a port in use, and where Flask or Waitress is missing.

    >>> turing("photographs", "refined", "study", started=print)  # doctest: +SKIP
    """
    try:
        from simgan_fast.evaluation.turing.server import serve
    except ModuleNotFoundError as error:
        raise InputError(
            f"the page needs Flask and Waitress, and {error.name} is missing: pip install "
            "'simgan-fast[turing]'."
        ) from None
    study = begin_study(out, real, refined, raw, size=size, channels=channels)
    results = f"results?token={study.admin_token}"
    try:
        serve(study, host, port, started=lambda url: started(url, url + results))
    except Interrupted:
        if json_out is not None:
            write_json(json_out, results_json(study))
        raise


def turing_results(study: str | Path, json_out: str | Path | None = None) -> dict[str, Any]:
    """What the study in the folder `study` found so far, also written to `json_out`; no server is needed.

    Raises InputError where there is no study, or one of another version.

    >>> turing_results("study")["arms"][0]["pooled"]["accuracy"]  # doctest: +SKIP
    0.517
    """
    found = results_json(open_study(study))
    if json_out is not None:
        write_json(json_out, found)
    return found
