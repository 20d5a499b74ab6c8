"""A study: who was shown what and what they said.

Every answer is a transaction of its own that is on the disk before the participant sees the next image, so that a
reload, a second tab or a killed server loses none. Only the image that is due is ever answered, so that none counts
twice.
"""

from __future__ import annotations

import re
import secrets
import sqlite3
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from simgan_fast.errors import InputError
from simgan_fast.evaluation.turing.database import FILE, Database, create
from simgan_fast.evaluation.turing.images import Sets, Window, common_window, draw, open_sets, png
from simgan_fast.evaluation.turing.records import Answer, Due, Participant
from simgan_fast.evaluation.turing.scores import KINDS
from simgan_fast.files import folder_written_whole, require_absent_or_empty

CODE = re.compile(r"[A-Za-z0-9_-]{22}")


def new_code() -> str:
    """What a participant, an image or a token is known by: 128 random bits as 22 characters."""
    return secrets.token_urlsafe(16)


def begin_study(
    folder: str | Path,
    real: str | Path,
    refined: str | Path,
    raw: str | Path | None = None,
    *,
    size: tuple[int, int] | None = None,
    channels: int | None = None,
) -> Study:
    """Begin a study in the new folder `folder`, or go on with the one that is there.

    `real`, `refined`, `raw`, `size`, `channels`: as in `open_sets`. With `raw` every second participant judges those in
    place of the refined images.

    Raises InputError for unusable sets, and where the folder holds something else, a study of another version, or one
    of other images.

    >>> study = begin_study("study", "photographs", "refined")  # doctest: +SKIP
    """
    folder = Path(folder)
    if going_on := (folder / FILE).exists():
        Database(folder)  # refused before the sets are read
    else:
        require_absent_or_empty(folder)
    sets = open_sets(real, refined, raw, size=size, channels=channels)
    if not going_on:
        paths = {"real": real, "refined": refined, "raw": raw}
        rows = [(name, str(paths[name]), s.info["digest"], len(s)) for name, s in sets.items()]
        settings = _new_settings(common_window(sets))
        with folder_written_whole(folder) as part:
            create(part / FILE, settings, rows)
    return Study(folder, sets)


def _new_settings(window: Window | None) -> dict[str, Any]:
    tokens = {"access_token": new_code(), "admin_token": new_code()}
    shown = {"window_low": window.low, "window_high": window.high} if window is not None else {}
    return {"started": _now(), **tokens, **shown}


def open_study(folder: str | Path) -> Study:
    """Open a study to read its answers; its images may be gone.

    Raises InputError where there is none, or one of another version.

    >>> len(open_study("study").answers())  # doctest: +SKIP
    1000
    """
    return Study(Path(folder))


class Study:
    """A study in `folder`. Made by `begin_study` or `open_study`; any number of threads and processes may use one.

    `sets`: (name, path, digest, images) of each set.
    """

    def __init__(self, folder: Path, images: Sets | None = None) -> None:
        self.folder = folder
        self.database = Database(folder)
        with self.database.reading() as connection:
            self._settings = dict(connection.execute("SELECT name, value FROM study"))
            self.sets = connection.execute("SELECT * FROM sets ORDER BY rowid").fetchall()
        self._images = images or {}
        digests = {name: images.info["digest"] for name, images in self._images.items()}
        if images is not None and digests != {name: digest for name, _, digest, _ in self.sets}:
            raise InputError(
                f"{folder} was begun with other images ({self._described()}): name the same sets "
                "to go on with it, or a new folder."
            )

    def _described(self) -> str:
        return ", ".join(f"--{name} {path}" for name, path, _, _ in self.sets)

    @property
    def access_token(self) -> str:
        return str(self._settings["access_token"])

    @property
    def admin_token(self) -> str:
        return str(self._settings["admin_token"])

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of every image."""
        return self._images["real"].shape

    def join(self, code: str) -> None:
        """Take in a participant of the new code `code` (`new_code`): draw their images; nothing if they are known.

        Raises InputError for what cannot be a code.
        """
        if not CODE.fullmatch(code):
            raise InputError("this is no participant's code: begin on the start page.")
        with self.database.writing() as connection:
            number = connection.execute("SELECT count(*) + 1 FROM participants").fetchone()[0]
            arm = "raw" if "raw" in self._images and number % 2 == 0 else "refined"
            person = Participant(number, code, arm, secrets.randbits(63), _now())
            values = (number, code, arm, person.seed, person.started)
            if connection.execute(
                "INSERT OR IGNORE INTO participants VALUES (?, ?, ?, ?, ?)", values
            ).rowcount:
                self._draw(connection, person)

    def _draw(self, connection: sqlite3.Connection, person: Participant) -> None:
        real, synthetic = self._images["real"], self._images[person.arm]
        examples, questions = draw((len(real), len(synthetic)), person.seed)
        names = {"real": real.names, "synthetic": synthetic.names}
        places = [None] * len(examples) + list(range(1, len(questions) + 1))
        connection.executemany(
            "INSERT INTO images VALUES (?, ?, ?, ?, ?, ?, NULL, NULL)",
            [
                (new_code(), person.number, place, kind, row, names[kind][row])
                for place, (kind, row) in zip(places, examples + questions, strict=True)
            ],
        )

    def due(self, code: str) -> Due | None:
        """Where the participant stands; None where there is no such one."""
        with self.database.reading() as connection:
            return _due(connection, code)

    def answer(self, code: str, image: str, said: str) -> tuple[bool, Due | None]:
        """Save that the participant takes `image` for `said`, "real" or "synthetic": (whether it counted, what is due).

        Counts only if `image` is due: not one that was answered before. Raises InputError for another word.
        """
        if said not in KINDS:
            raise InputError(f"the answer {said!r:.40} came: want 'real' or 'synthetic'.")
        with self.database.writing() as connection:
            due = _due(connection, code)
            counts = due is not None and due.image is not None and due.image == image
            if counts:
                connection.execute(
                    "UPDATE images SET said = ?, answered = ? WHERE id = ?", (said, _now(), image)
                )
                due = _due(connection, code)
        return counts, due

    def examples(self, code: str) -> dict[str, list[str]]:
        """The ids of the participant's 20 real and 20 synthetic examples."""
        with self.database.reading() as connection:
            rows = connection.execute(
                "SELECT truth, id FROM images JOIN participants ON participant = number "
                "WHERE code = ? AND place IS NULL ORDER BY images.rowid",
                (code,),
            ).fetchall()
        return {kind: [name for truth, name in rows if truth == kind] for kind in KINDS}

    def png(self, image: str) -> bytes | None:
        """The PNG of an image by its id; None where there is no such one."""
        with self.database.reading() as connection:
            found = connection.execute(
                "SELECT truth, arm, row FROM images JOIN participants ON participant = number "
                "WHERE id = ?",
                (image,),
            ).fetchone()
        if found is None:
            return None
        truth, arm, row = found
        return png(
            self._images["real" if truth == "real" else arm].images(row, row + 1)[0], self._window
        )

    @property
    def _window(self) -> Window | None:
        settings = self._settings
        if "window_low" not in settings:
            return None
        return Window(settings["window_low"], settings["window_high"])

    def participants(self) -> list[Participant]:
        """All participants in the order in which they began."""
        return [
            Participant(*row) for row in self._rows("SELECT * FROM participants ORDER BY number")
        ]

    def answers(self) -> list[Answer]:
        """All answers, by participant and place."""
        return [
            Answer(*row)
            for row in self._rows(
                "SELECT participant, arm, place, truth, said, name, answered FROM images "
                "JOIN participants ON participant = number WHERE said IS NOT NULL "
                "ORDER BY participant, place"
            )
        ]

    def _rows(self, query: str) -> list[Any]:
        with self.database.reading() as connection:
            return connection.execute(query).fetchall()


def _due(connection: sqlite3.Connection, code: str) -> Due | None:
    rows = connection.execute(
        "SELECT id, said FROM images JOIN participants ON participant = number "
        "WHERE code = ? AND place IS NOT NULL ORDER BY place",
        (code,),
    ).fetchall()
    open_ones = [image for image, said in rows if said is None]
    if not rows:
        return None
    return Due(next(iter(open_ones), None), len(rows) - len(open_ones) + 1, len(rows))


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
