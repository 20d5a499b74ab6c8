"""Serve a study's page by Waitress until a signal comes."""

from __future__ import annotations

import ipaddress
import logging
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import waitress

from simgan_fast.errors import InputError, Interrupted
from simgan_fast.evaluation.turing.app import behind_token, create_app
from simgan_fast.evaluation.turing.study import Study
from simgan_fast.signals import handled_by

THREADS = 8
LOOPBACK = "127.0.0.1"


def serve(
    study: Study,
    host: str = LOOPBACK,
    port: int = 0,
    *,
    started: Callable[[str], None],
) -> None:
    """Serve until SIGINT or SIGTERM, which raises Interrupted.

    `host`: the interface; on any but the loopback one the study's access token is part of the URL. `port`: 0 takes a
    free one. `started`: told the URL, which ends with a slash, as soon as it can be opened.

    Raises InputError where the port is in use or the interface is not there.

    >>> serve(begin_study("study", "photographs", "refined"), started=print)  # doctest: +SKIP
    http://127.0.0.1:41231/
    """
    listening = _listen(host, port)
    address, port = listening.getsockname()[:2]
    app: Any = create_app(study)
    path = "/"
    if not ipaddress.ip_address(address.partition("%")[0]).is_loopback:
        app = behind_token(app, study.access_token)
        path = f"/{study.access_token}/"
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)  # that requests wait is no news
    with listening, _signals_as_exits() as came:
        server = waitress.create_server(app, sockets=[listening], threads=THREADS, ident=None)
        try:
            started(f"http://{_shown(address)}:{port}{path}")
            server.run()
        except SystemExit:
            pass
        finally:
            server.close()
    raise Interrupted(next(iter(came), signal.SIGINT), "stopped; every answer given is saved")


def _listen(host: str, port: int) -> socket.socket:
    if not 0 <= port <= 65535:
        raise InputError(f"port is {port}: want 1 to 65535, or 0 for a free one.")
    try:
        family, kind, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listening = socket.socket(family, kind)
    except (OSError, UnicodeError) as error:
        raise InputError(f"the host {host} is not known ({error}): want an address.") from None
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen()
    except OSError as error:
        listening.close()
        reason = error.strerror or str(error)
        raise InputError(
            f"port {port} of {host} cannot be served ({reason}): name another --host or "
            "--port, or port 0 for a free one."
        ) from None
    return listening


def _shown(address: str) -> str:
    """The address as others can reach it: of all interfaces, that of the way out."""
    if ipaddress.ip_address(address.partition("%")[0]).is_unspecified:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as way_out:
            try:
                way_out.connect(("192.0.2.1", 9))  # reserved for documentation; nothing is sent
                address = way_out.getsockname()[0]
            except OSError:
                address = socket.gethostname()
    return f"[{address}]" if ":" in address else address


@contextmanager
def _signals_as_exits() -> Iterator[list[int]]:
    """Have SIGINT and SIGTERM raise SystemExit, the one exception that Waitress passes on from anywhere."""
    came: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        came.append(number)
        if len(came) == 1:  # a second one does not disturb the ending
            raise SystemExit

    with handled_by(note, signal.SIGINT, signal.SIGTERM):
        yield came
