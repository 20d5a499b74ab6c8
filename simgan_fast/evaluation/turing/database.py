"""The SQLite file of a study: its tables, its version, and how it is opened."""

from __future__ import annotations

import os
import sqlite3
import threading
import weakref
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from simgan_fast.errors import InputError

FILE = "study.sqlite"
APPLICATION, VERSION = 0x53474654, 1  # SQLite's application_id ("SGFT") and user_version
PATIENCE = 30.0  # seconds to wait for another writer

SCHEMA = """
CREATE TABLE study (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE sets (name TEXT PRIMARY KEY, path TEXT NOT NULL, digest TEXT NOT NULL,
                   images INTEGER NOT NULL);
CREATE TABLE participants (
  number INTEGER PRIMARY KEY, code TEXT NOT NULL UNIQUE, arm TEXT NOT NULL,
  seed INTEGER NOT NULL, started TEXT NOT NULL);
-- place: 1 to 100 in the order of the questions, NULL of examples. row, name: in the set.
CREATE TABLE images (
  id TEXT PRIMARY KEY, participant INTEGER NOT NULL REFERENCES participants, place INTEGER,
  truth TEXT NOT NULL CHECK (truth IN ('real', 'synthetic')), row INTEGER NOT NULL,
  name TEXT NOT NULL, said TEXT CHECK (said IN ('real', 'synthetic')), answered TEXT,
  UNIQUE (participant, place));
"""


def create(file: Path, settings: Mapping[str, Any], sets: Iterable[tuple[Any, ...]]) -> None:
    """Make the file of a new study; only its owner may read it, as it holds the tokens."""
    os.close(os.open(file, os.O_CREAT | os.O_EXCL, 0o600))
    with closing(sqlite3.connect(file)) as database:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute(f"PRAGMA application_id = {APPLICATION}")
        database.execute(f"PRAGMA user_version = {VERSION}")
        database.executescript(SCHEMA)
        database.executemany("INSERT INTO study VALUES (?, ?)", settings.items())
        database.executemany("INSERT INTO sets VALUES (?, ?, ?, ?)", sets)
        database.commit()


class Database:
    """The file of a study, open for as long as this is held; threads take turns, processes wait for each other.

    Raises InputError unless `folder` holds a study of this version.
    """

    def __init__(self, folder: Path) -> None:
        self.file = folder / FILE
        if not self.file.is_file():
            raise InputError(
                f"{folder} is not a study (it has no {FILE}): name the folder of --out."
            )
        self._turn = threading.Lock()
        self._connection = sqlite3.connect(
            f"{self.file.resolve().as_uri()}?mode=rw",
            PATIENCE,
            uri=True,
            isolation_level=None,
            check_same_thread=False,
        )
        weakref.finalize(self, self._connection.close)
        with self.reading() as connection:
            connection.execute("PRAGMA synchronous = FULL")  # an answer survives a power cut
            application = connection.execute("PRAGMA application_id").fetchone()[0]
            version = connection.execute("PRAGMA user_version").fetchone()[0]
        _check(self.file, application, version)

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """The connection, for this thread alone."""
        try:
            with self._turn:
                yield self._connection
        except sqlite3.DatabaseError as error:
            raise InputError(
                f"{self.file} cannot be used ({error}): look whether it is damaged, or the disk is "
                "full."
            ) from None

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """The same as one transaction, which has the right to write from its start."""
        with self.reading() as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")


def _check(file: Path, application: int, version: int) -> None:
    if application != APPLICATION:
        raise InputError(f"{file} is not the file of a study: name the folder of --out.")
    if version != VERSION:
        raise InputError(
            f"{file} is of version {version}, and this program reads version {VERSION}: use the "
            "program that made it, or begin a new study."
        )
