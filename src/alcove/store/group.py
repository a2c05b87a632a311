"""Changes that come at once share a transaction, hence one fsync; each still succeeds or fails by itself."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from typing import Any, TypeVar

from alcove.store.database import Database, translated

T = TypeVar("T")
Change = Callable[[sqlite3.Connection], Any]

# So that none waits long for the others.
MOST_TOGETHER = 256


class GroupWriter:
    """What comes while a transaction is written is in the next one, in the order in which it came."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._arriving: list[tuple[Change, asyncio.Future[Any]]] = []
        self._committer: asyncio.Task[None] | None = None

    async def write(self, change: Callable[[sqlite3.Connection], T]) -> T:
        """As ``Database.write``: when this returns the change is on the disk. Once handed over it is not cancelled."""
        return await asyncio.shield(self.hand_over(change))

    def hand_over(self, change: Callable[[sqlite3.Connection], T]) -> asyncio.Future[T]:
        """Return what is done when the change is on the disk."""
        done: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._arriving.append((change, done))
        if self._committer is None:
            self._committer = asyncio.create_task(self._commit())
        return done

    async def close(self) -> None:
        """Return when all that has come is written."""
        if self._committer is not None:
            await asyncio.wait({self._committer})

    async def _commit(self) -> None:
        try:
            while self._arriving:
                batch = self._arriving[:MOST_TOGETHER]
                del self._arriving[:MOST_TOGETHER]
                await self._write(batch)
        finally:
            self._committer = None

    async def _write(self, batch: list[tuple[Change, asyncio.Future[Any]]]) -> None:
        def together(connection: sqlite3.Connection) -> list[tuple[Any, Exception | None]]:
            return [self._one(connection, change) for change, _ in batch]

        try:
            outcomes = await self._database.write(together)
        except Exception as error:
            outcomes = [(None, error)] * len(batch)
        for (_, done), (result, refusal) in zip(batch, outcomes, strict=True):
            if done.done():
                continue
            if refusal is None:
                done.set_result(result)
            else:
                done.set_exception(refusal)
                # Its caller may be gone.
                done.exception()

    def _one(self, connection: sqlite3.Connection, change: Change) -> tuple[Any, Exception | None]:
        """Make one change within the transaction; what it raises undoes it alone. Where SQLite has ended the whole
        transaction (the disk is full) the savepoint is gone, and all of them fail.
        """
        connection.execute("SAVEPOINT one")
        try:
            with translated(self._database.path):
                result = change(connection)
        except Exception as error:
            connection.execute("ROLLBACK TO one")
            connection.execute("RELEASE one")
            return None, error
        connection.execute("RELEASE one")
        return result, None
