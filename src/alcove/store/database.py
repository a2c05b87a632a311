"""The state file: SQLite in WAL mode, with one thread that writes and one that reads.

Control state is written before it is acted on, so a commit must survive a power cut:
``synchronous=FULL``. Nothing here blocks the event loop: ``write`` and ``read`` run a function of
one connection in the thread that owns it. A written function is one transaction: it commits as a
whole or leaves nothing behind.

``migrations/SCHEMA/NNNN_name.sql`` are applied in order, once each; ``PRAGMA user_version`` says how many
were.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import TypeVar

from alcove.errors import CapacityError, HostError
from alcove.host.files import private_folder

T = TypeVar("T")
BUSY_TIMEOUT_MS = 5000


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Turn what SQLite says of the disk and the file into our errors. Programming errors pass."""
    try:
        yield
    except sqlite3.Error as error:
        if isinstance(error, (sqlite3.IntegrityError, sqlite3.ProgrammingError)):
            raise
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code == sqlite3.SQLITE_FULL:
            raise CapacityError(
                f"no room to write {path}", hint="free disk space on the file system of --state"
            ) from error
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise HostError(f"{path} is locked", hint="stop the other alcove that uses this state folder") from error
        raise HostError(f"{path}: {error}", hint="check the disk, or restore the state folder from a backup") from error


class Database:
    """Owner of the state file: ``await Database.open(path)`` to ``await close()``."""

    def __init__(self, path: Path, schema: str) -> None:
        self.path = path
        self._schema = schema
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="store-write")
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="store-read")
        self._write_connection: sqlite3.Connection | None = None
        self._read_connection: sqlite3.Connection | None = None

    @classmethod
    async def open(cls, path: Path, schema: str = "control") -> Database:
        """Open, create, migrate by the scripts of ``schema``. Raises ``HostError`` where the file is not usable or too
        new.
        """
        database = cls(path, schema)
        loop = asyncio.get_running_loop()
        try:
            await loop.run_in_executor(database._writer, database._open_writer)
            await loop.run_in_executor(database._reader, database._open_reader)
        except BaseException:
            await database.close()
            raise
        return database

    async def write(self, change: Callable[[sqlite3.Connection], T]) -> T:
        """Run ``change`` as one durable transaction. Once handed over it is not cancelled."""
        loop = asyncio.get_running_loop()
        return await asyncio.shield(loop.run_in_executor(self._writer, self._transact, change))

    async def read(self, query: Callable[[sqlite3.Connection], T]) -> T:
        """Run ``query`` on the connection that only reads; it sees every finished ``write``."""
        return await asyncio.get_running_loop().run_in_executor(self._reader, self._query, query)

    async def close(self) -> None:
        loop = asyncio.get_running_loop()
        for executor, name in (
            (self._reader, "_read_connection"),
            (self._writer, "_write_connection"),
        ):
            connection = getattr(self, name)
            setattr(self, name, None)
            if connection is not None:
                await loop.run_in_executor(executor, connection.close)
            executor.shutdown(wait=False)

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, isolation_level=None)
        connection.row_factory = sqlite3.Row
        connection.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
        connection.execute("PRAGMA foreign_keys=ON")
        connection.execute("PRAGMA trusted_schema=OFF")
        return connection

    def _open_writer(self) -> None:
        try:
            private_folder(self.path.parent)
            # SQLite gives its journal files the mode of the main file.
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            os.fchmod(descriptor, 0o600)
            os.close(descriptor)
        except OSError as error:
            raise HostError(
                f"cannot open {self.path}: {error.strerror}",
                hint="run as root, or choose another state folder with --state",
            ) from error
        with translated(self.path):
            self._write_connection = self._connect()
            self._write_connection.execute("PRAGMA journal_mode=WAL")
            self._write_connection.execute("PRAGMA synchronous=FULL")
            migrate(self._write_connection, self.path, self._schema)

    def _open_reader(self) -> None:
        with translated(self.path):
            self._read_connection = self._connect()
            self._read_connection.execute("PRAGMA query_only=ON")

    def _transact(self, change: Callable[[sqlite3.Connection], T]) -> T:
        connection = self._write_connection
        if connection is None:
            raise HostError("the state file is closed")
        with translated(self.path):
            return transaction(connection, change)

    def _query(self, query: Callable[[sqlite3.Connection], T]) -> T:
        if self._read_connection is None:
            raise HostError("the state file is closed")
        with translated(self.path):
            return query(self._read_connection)


def transaction(connection: sqlite3.Connection, change: Callable[[sqlite3.Connection], T]) -> T:
    """Run ``change`` between BEGIN and COMMIT; whatever it raises undoes it."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        result = change(connection)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return result


def migrations(schema: str = "control") -> list[tuple[int, str]]:
    """Return the numbered scripts, in order; their numbers run from 1 without a gap."""
    folder = resources.files("alcove.store") / "migrations" / schema
    names = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".sql"))
    return [(int(name[:4]), (folder / name).read_text()) for name in names]


def migrate(connection: sqlite3.Connection, path: Path, schema: str) -> None:
    """Bring the schema up to date, each step in a transaction of its own."""
    (current,) = connection.execute("PRAGMA user_version").fetchone()
    steps = migrations(schema)
    if current > len(steps):
        raise HostError(
            f"{path} was written by a newer alcove (schema {current}, known {len(steps)})",
            hint="upgrade alcove, or choose another state folder with --state",
        )
    for number, script in steps[current:]:
        # executescript() commits what is open before it starts, so the transaction is in the
        # script.
        try:
            connection.executescript(f"BEGIN IMMEDIATE;\n{script}\nPRAGMA user_version={number};\nCOMMIT;")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
