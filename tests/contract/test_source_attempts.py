"""How often items of Redis and RabbitMQ have failed, over restarts of their source and over kill -9."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.contract.source_bench import Bench, rabbit_bench, redis_bench

from alcove.store.database import Database
from alcove.store.mappings import delete_mapping


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    database = await Database.open(tmp_path / "alcove.db")
    yield database
    await database.close()


@pytest.fixture(params=["redis", "rabbitmq"])
async def bench(request: pytest.FixtureRequest, database: Database) -> AsyncIterator[Bench]:
    if request.param == "redis":
        made = redis_bench(request.getfixturevalue("redis_broker"), database)
    else:
        made = rabbit_bench(request.getfixturevalue("rabbit_broker"), database)
    async for found in made:
        yield found


async def known(database: Database) -> int:
    return int(await database.read(lambda c: c.execute("SELECT COUNT(*) FROM attempts").fetchone()[0]))


async def test_failures_are_known_in_the_next_life(bench: Bench, database: Database) -> None:
    source = bench.make()
    await source.open()
    await bench.put("a", "b", "c")
    _, second, third = await bench.fetch_all(source, 3)
    await source.again([second], 0, counted=True)
    (second,) = await bench.fetch(source, 10)
    await source.again([second], 0, counted=True)
    await source.again([third], 0, counted=False)
    await source.close()
    source = bench.make()
    await source.open()
    items = await bench.fetch_all(source, 3)
    assert bench.read(source, items) == ["a", "b", "c"]
    assert [item.attempts for item in items] == [0, 2, 0]
    await source.done(items)
    assert await known(database) == 0
    # Nor does one like it that comes later begin with its failures.
    await bench.put("b")
    (later,) = await bench.fetch(source, 10)
    assert later.attempts == 0
    await source.close()


async def test_equal_messages_are_counted_each(bench: Bench, database: Database) -> None:
    source = bench.make()
    await source.open()
    await bench.put("same", "same", "same")
    first, second, _ = await bench.fetch_all(source, 3)
    await source.again([first, second], 0, counted=True)
    await source.again(await bench.fetch(source, 1), 0, counted=True)
    await source.close()
    source = bench.make()
    await source.open()
    items = await bench.fetch_all(source, 3)
    assert sorted(item.attempts for item in items) == [0, 1, 2]
    await source.done(items)
    assert await known(database) == 0
    await source.close()


async def test_what_is_gone_at_the_source_is_forgotten(bench: Bench, database: Database) -> None:
    source = bench.make()
    await source.open()
    await bench.put("a")
    items = await bench.fetch_all(source, 1)
    await source.again(items, 0, counted=True)
    await source.close()
    assert await known(database) == 1
    await database.write(lambda connection: delete_mapping(connection, "other"))
    assert await known(database) == 1
    await database.write(lambda connection: delete_mapping(connection, bench.spec.name))
    assert await known(database) == 0


async def test_no_kill_gives_an_item_more_tries(bench: Bench, tmp_path: Path) -> None:
    opening = bench.make()
    await opening.open()
    await opening.close()
    await bench.put("fails")
    seen = tmp_path / "seen"
    spec = replace(bench.spec, retries=4, on_failure="arn:aws:sqs:r:t:dead", batch_size=1).to_json()
    for outlives in (0, 1, 0, 9):
        argv = [sys.executable, "-m", "tests.crash.attempts_driver", spec, bench.spec.name, str(tmp_path), str(seen)]
        process = await asyncio.create_subprocess_exec(*argv, str(outlives))
        assert await asyncio.wait_for(process.wait(), 60) == (0 if outlives == 9 else -signal.SIGKILL)
    assert seen.read_text().splitlines() == ["called"] * 5 + ["given up after 5"]
