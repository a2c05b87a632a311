"""What every ``EventSource`` holds to: Alcove's own queues, Redis Streams and RabbitMQ, the latter by real servers."""

from __future__ import annotations

import asyncio
import json
import random
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.contract.source_bench import Bench, queue_bench, rabbit_bench, redis_bench
from tests.crash.sources_driver import count

from alcove.errors import TooLarge
from alcove.sources.queue import QueueSource
from alcove.sources.source import ITEM_BYTES, EventSource, SourceUnavailable
from alcove.store.database import Database


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    database = await Database.open(tmp_path / "alcove.db")
    yield database
    await database.close()


@pytest.fixture(params=["queue", "redis", "rabbitmq"])
async def bench(request: pytest.FixtureRequest, tmp_path: Path, database: Database) -> AsyncIterator[Bench]:
    if request.param == "queue":
        made = queue_bench(tmp_path)
    elif request.param == "redis":
        made = redis_bench(request.getfixturevalue("redis_broker"), database)
    else:
        made = rabbit_bench(request.getfixturevalue("rabbit_broker"), database)
    async for found in made:
        yield found


@pytest.fixture
async def source(bench: Bench) -> AsyncIterator[EventSource]:
    source = bench.make()
    await source.open()
    yield source
    await source.close()


async def test_what_is_put_is_fetched_in_order(bench: Bench, source: EventSource) -> None:
    texts = [f"text {number}" for number in range(20)]
    await bench.put(*texts)
    items = await bench.fetch_all(source, 20)
    assert bench.read(source, items) == texts
    assert len({item.id for item in items}) == 20
    assert {item.attempts for item in items} == {0}


async def test_items_are_named_in_the_event(bench: Bench, source: EventSource) -> None:
    await bench.put("a", "b")
    items = await bench.fetch_all(source, 2)
    records = bench.records(json.loads(source.event(items)))
    assert [record[bench.identifier] for record in records] == [item.id for item in items]


async def test_what_is_done_never_comes_again(bench: Bench, source: EventSource) -> None:
    await bench.put("a", "b", "c")
    items = await bench.fetch_all(source, 3)
    await source.done(items[:2])
    await source.done([])
    await source.close()
    again = bench.make()
    await again.open()
    left = await bench.fetch_all(again, 1)
    assert bench.read(again, left) == ["c"]
    await again.done(left)
    assert await bench.fetch(again, 10, wait_s=bench.again_s + 0.3) == []
    await again.close()


async def test_nothing_is_there_and_the_wait_ends(bench: Bench, source: EventSource) -> None:
    assert await bench.fetch(source, 10, wait_s=0.1) == []


async def test_who_waits_is_told(bench: Bench, source: EventSource) -> None:
    fetch = asyncio.create_task(bench.fetch(source, 10, wait_s=20))
    await asyncio.sleep(0.1)
    await bench.put("now")
    assert bench.read(source, await fetch) == ["now"]


async def test_the_window_gathers_more(bench: Bench, source: EventSource) -> None:
    await bench.put("first")
    fetch = asyncio.create_task(bench.fetch(source, 3, wait_s=20, window_s=20))
    await asyncio.sleep(0.2)
    await bench.put("second", "third")
    assert bench.read(source, await fetch) == ["first", "second", "third"]


async def test_no_more_than_the_limit_is_fetched(bench: Bench, source: EventSource) -> None:
    await bench.put(*"abcde")
    first = await bench.fetch_all(source, 2)
    second = await bench.fetch_all(source, 3)
    assert bench.read(source, [*first, *second]) == list("abcde")


async def test_a_failure_comes_again_and_counts(bench: Bench, source: EventSource) -> None:
    await bench.put("a", "b")
    first, second = await bench.fetch_all(source, 2)
    await source.done([first])
    await source.again([second], 0, counted=True)
    (once,) = await bench.fetch(source, 10)
    assert bench.read(source, [once]) == ["b"]
    assert once.attempts == 1
    await source.again([once], 0, counted=True)
    (twice,) = await bench.fetch(source, 10)
    assert twice.attempts == 2
    await source.done([twice])
    assert await bench.fetch(source, 10, wait_s=bench.again_s + 0.2) == []


async def test_what_was_not_tried_comes_again_uncounted(bench: Bench, source: EventSource) -> None:
    await bench.put("a")
    items = await bench.fetch_all(source, 1)
    await source.again(items, 0.2, counted=False)
    assert await bench.fetch(source, 10, wait_s=0.05) == []
    (item,) = await bench.fetch(source, 10)
    assert item.attempts == 0


async def test_what_is_not_acknowledged_comes_again_in_the_next_life(bench: Bench, source: EventSource) -> None:
    await bench.put("a", "b", "c")
    items = await bench.fetch_all(source, 3)
    await source.done([items[1]])
    await source.close()
    again = bench.make()
    await again.open()
    assert bench.read(again, await bench.fetch_all(again, 2)) == ["a", "c"]
    await again.close()


async def test_text_of_any_kind_arrives(bench: Bench, source: EventSource) -> None:
    texts = ["Grüße 🦆", '{"json": [1]}', "x" * 200_000, " "]
    await bench.put(*texts)
    assert bench.read(source, await bench.fetch_all(source, len(texts))) == texts


async def test_what_is_too_large_is_passed_over(bench: Bench, source: EventSource) -> None:
    if isinstance(source, QueueSource):
        with pytest.raises(TooLarge):
            await bench.put("x" * ITEM_BYTES)
    else:
        await bench.put("before", "x" * (ITEM_BYTES + 1), "after")
        assert bench.read(source, await bench.fetch_all(source, 2)) == ["before", "after"]


async def test_a_closed_source_says_so(bench: Bench, source: EventSource) -> None:
    await source.close()
    if not isinstance(source, QueueSource):
        with pytest.raises(SourceUnavailable):
            await bench.fetch(source, 1, wait_s=0.1)
    await source.close()
    await source.open()
    await bench.put("a")
    assert bench.read(source, await bench.fetch_all(source, 1)) == ["a"]


async def test_a_deleted_mapping_leaves_nothing(bench: Bench, source: EventSource) -> None:
    await source.close()
    await source.forget()
    await source.open()
    await bench.put("a")
    assert bench.read(source, await bench.fetch_all(source, 1)) == ["a"]


@pytest.mark.parametrize("step", ["called", "answered"])
async def test_no_kill_of_the_poller_loses_an_item(bench: Bench, tmp_path: Path, step: str) -> None:
    items, seen = 40, tmp_path / "seen"
    opening = bench.make()
    await opening.open()
    await opening.close()
    await bench.put(*(f"text {number}" for number in range(items)))
    chance = random.Random(3)
    spec = replace(bench.spec, batch_size=3, concurrency=2).to_json()
    ends = []
    for life in range(5):
        dies = [step, str(chance.randint(2, 4))] if life < 4 else ["never", "1"]
        argv = [sys.executable, "-m", "tests.crash.sources_driver", spec, str(tmp_path), str(seen), *dies, str(items)]
        process = await asyncio.create_subprocess_exec(*argv)
        ends.append(await asyncio.wait_for(process.wait(), 60))
    assert ends == [-signal.SIGKILL] * 4 + [0]
    assert count(str(seen)) == items
