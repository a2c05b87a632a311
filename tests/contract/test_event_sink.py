"""What every ``EventSink`` holds to, the queue and its stand-in."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.sinks import FakeSink

from alcove.errors import TooLarge
from alcove.events.policy import EVENT_LIMIT
from alcove.events.queue import EventQueue
from alcove.events.sink import EventSink
from alcove.sandbox.protocol import TenantId

TENANT = TenantId("t")


class Sink:
    """A sink under test, and how to look at what it holds."""

    def __init__(self, sink: EventSink) -> None:
        self.sink = sink

    async def ids(self) -> list[str]:
        if isinstance(self.sink, EventQueue):
            query = "SELECT request_id FROM events ORDER BY sequence"
            return await self.sink.database.read(lambda c: [row[0] for row in c.execute(query)])
        assert isinstance(self.sink, FakeSink)
        return [one.request_id for one in self.sink.events]


@pytest.fixture(params=["queue", "fake"])
async def under_test(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Sink]:
    if request.param == "fake":
        yield Sink(FakeSink())
        return
    queue = await EventQueue.open(tmp_path / "events.db")
    yield Sink(queue)
    await queue.close()


async def test_it_names_what_it_accepts(under_test: Sink) -> None:
    given = await under_test.sink.submit(TENANT, "f", b"1", request_id="given")
    made = await under_test.sink.submit(TENANT, "f", b"1")
    assert given == "given"
    assert made not in ("", "given")
    assert await under_test.ids() == [given, made]


async def test_an_id_is_accepted_once(under_test: Sink) -> None:
    submit = under_test.sink.submit
    await asyncio.gather(*(submit(TENANT, "f", str(n).encode(), request_id=f"id-{n % 3}") for n in range(30)))
    assert sorted(await under_test.ids()) == ["id-0", "id-1", "id-2"]


async def test_the_size_is_bounded(under_test: Sink) -> None:
    await under_test.sink.submit(TENANT, "f", bytes(EVENT_LIMIT))
    with pytest.raises(TooLarge):
        await under_test.sink.submit(TENANT, "f", bytes(EVENT_LIMIT + 1))
    assert len(await under_test.ids()) == 1
