"""Changes that share a transaction: each by itself, in order, on the disk when it is told."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from alcove.errors import CapacityError
from alcove.store import group as module
from alcove.store.database import Database
from alcove.store.group import GroupWriter


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    database = await Database.open(tmp_path / "queues.db", schema="queues")
    yield database
    await database.close()


def give(name: str) -> module.Change:
    return lambda connection: connection.execute("INSERT INTO given VALUES (?, 0)", (name,)).rowcount


async def known(database: Database) -> list[str]:
    query = "SELECT message_id FROM given ORDER BY rowid"
    return await database.read(lambda c: [row[0] for row in c.execute(query)])


async def test_what_comes_at_once_is_written_together_in_order(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, transactions = database.write, 0

    async def counted(change: module.Change) -> object:
        nonlocal transactions
        transactions += 1
        return await write(change)

    monkeypatch.setattr(database, "write", counted)
    writer = GroupWriter(database)
    assert await asyncio.gather(*(writer.write(give(f"{number:03}")) for number in range(300))) == [1] * 300
    assert await known(database) == [f"{number:03}" for number in range(300)]
    assert transactions == 2


async def test_what_fails_fails_alone(database: Database) -> None:
    writer = GroupWriter(database)

    def broken(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO given VALUES ('half', 0)")
        raise ZeroDivisionError

    changes = [give("a"), broken, give("a"), give("b")]
    found = await asyncio.gather(*map(writer.write, changes), return_exceptions=True)
    assert [type(one) for one in found] == [int, ZeroDivisionError, sqlite3.IntegrityError, int]
    assert await known(database) == ["a", "b"]


async def test_where_nothing_can_be_written_all_are_told(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    async def full(change: module.Change) -> None:
        raise CapacityError("no room")

    writer = GroupWriter(database)
    with monkeypatch.context() as patch:
        patch.setattr(database, "write", full)
        found = await asyncio.gather(writer.write(give("a")), writer.write(give("b")), return_exceptions=True)
    assert [type(one) for one in found] == [CapacityError] * 2
    assert await writer.write(give("c")) == 1
    assert await known(database) == ["c"]


async def test_a_caller_that_gives_up_undoes_nothing(database: Database) -> None:
    writer = GroupWriter(database)
    task = asyncio.create_task(writer.write(give("a")))
    await asyncio.sleep(0)
    task.cancel()
    await writer.close()
    assert await known(database) == ["a"]
