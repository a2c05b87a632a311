"""Asynchronous invocations: accepted once, delivered at least once, tried again, given up in the end, never lost."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.unit.test_dispatcher import function

from alcove.errors import CapacityError, NotFound, ThrottledError, TooLarge
from alcove.events import delivery as delivery_module
from alcove.events import queue as module
from alcove.events.delivery import Delivery
from alcove.events.policy import EVENT_LIMIT, RetryPolicy
from alcove.events.queue import EventQueue
from alcove.functions.model import FunctionVersion, InvokeResult
from alcove.sandbox.protocol import TenantId

TENANT = TenantId("t")
FAST = RetryPolicy(after_failure_s=(0.01, 0.02), refused_first_s=0.01, refused_most_s=0.02, max_age_s=3600)


class Functions:
    """Resolves every function but ``gone``, and runs it: ``told`` are (function, payload, request id)."""

    def __init__(self) -> None:
        self.told: list[tuple[str, bytes, str]] = []
        self.failures: dict[str, int] = {}
        self.refusals: dict[str, Exception] = {}
        self.running = 0
        self.most = 0
        self.hold_s = 0.0

    async def resolve(self, tenant: TenantId, name: str, version: str = "$LATEST") -> FunctionVersion:
        if name == "gone":
            raise NotFound("Function not found")
        return function(name=name, tenant=tenant, version=version)

    async def invoke(self, version: FunctionVersion, event: bytes, **options: Any) -> InvokeResult:
        refusal = self.refusals.pop(version.name, None)
        if refusal is not None:
            raise refusal
        self.told.append((version.name, event, options["request_id"]))
        self.running += 1
        self.most = max(self.most, self.running)
        await asyncio.sleep(self.hold_s)
        self.running -= 1
        failed = self.failures.get(version.name, 0) > 0
        if failed:
            self.failures[version.name] -= 1
        return InvokeResult(
            payload=b"{}", error="Unhandled" if failed else None, request_id=options["request_id"], start="warm",
            why="", phases_ms={}, billed_ms=1, log_tail=b"", executed_version="1", sandbox_id="s-1",
        )  # fmt: skip

    def ids(self) -> list[str]:
        return [request_id for _, _, request_id in self.told]


@pytest.fixture
async def queue(tmp_path: Path) -> AsyncIterator[EventQueue]:
    queue = await EventQueue.open(tmp_path / "events.db")
    yield queue
    await queue.close()


@pytest.fixture
def functions() -> Functions:
    return Functions()


@pytest.fixture
async def delivery(queue: EventQueue, functions: Functions) -> AsyncIterator[Delivery]:
    delivery = Delivery(queue, functions, functions, FAST)  # type: ignore[arg-type]
    delivery.start()
    yield delivery
    await delivery.close()


async def drained(queue: EventQueue) -> None:
    async with asyncio.timeout(10):
        while len(queue):
            await asyncio.sleep(0.005)


async def test_what_is_accepted_is_delivered(queue: EventQueue, functions: Functions, delivery: Delivery) -> None:
    ids = await asyncio.gather(*(queue.submit(TENANT, "f", str(number).encode()) for number in range(50)))
    await drained(queue)
    assert len(set(ids)) == 50
    assert sorted(functions.ids()) == sorted(ids)
    assert {payload for _, payload, _ in functions.told} == {str(number).encode() for number in range(50)}


async def test_an_id_is_accepted_once_even_when_it_is_done(
    queue: EventQueue, functions: Functions, delivery: Delivery
) -> None:
    for _ in range(2):
        await asyncio.gather(*(queue.submit(TENANT, "f", b"1", source="timer", request_id="once") for _ in range(3)))
        await drained(queue)
    assert functions.ids() == ["once"]
    assert len(queue) == 0


async def test_a_failed_call_is_repeated_twice(queue: EventQueue, functions: Functions, delivery: Delivery) -> None:
    functions.failures = {"twice": 2, "always": 99}
    first = await queue.submit(TENANT, "twice", b"1")
    second = await queue.submit(TENANT, "always", b"1")
    await drained(queue)
    assert functions.ids().count(first) == functions.ids().count(second) == 3
    assert functions.failures["twice"] == 0


@pytest.mark.parametrize("refusal", [ThrottledError("busy"), CapacityError("no memory")])
async def test_a_refused_call_does_not_count(
    queue: EventQueue, functions: Functions, delivery: Delivery, refusal: Exception
) -> None:
    functions.refusals, functions.failures = {"f": refusal}, {"f": 2}
    await queue.submit(TENANT, "f", b"1")
    await drained(queue)
    assert len(functions.told) == 3
    assert functions.failures["f"] == 0


async def test_what_is_too_old_or_has_no_function_is_given_up(
    queue: EventQueue, functions: Functions, delivery: Delivery, monkeypatch: pytest.MonkeyPatch
) -> None:
    await queue.submit(TENANT, "gone", b"1")
    with monkeypatch.context() as patch:
        old = module.now_ms() - 3601 * 1000
        patch.setattr(module, "now_ms", lambda: old)
        await queue.submit(TENANT, "f", b"1")
    await drained(queue)
    assert functions.told == []


async def test_a_backlog_is_not_in_the_way_of_others(queue: EventQueue, functions: Functions) -> None:
    functions.hold_s = 0.001
    await asyncio.gather(*(queue.submit(TENANT, "busy", b"1") for _ in range(300)))
    await queue.submit(TenantId("other"), "f", b"1")
    delivery = Delivery(queue, functions, functions, FAST)  # type: ignore[arg-type]
    delivery.start()
    await drained(queue)
    await delivery.close()
    assert [name for name, _, _ in functions.told].index("f") < 20
    assert functions.most <= 17


async def test_what_cannot_be_settled_is_not_delivered_again(
    queue: EventQueue, functions: Functions, delivery: Delivery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full when the function has answered: the answer counts, and is written down when there is room."""
    monkeypatch.setattr(delivery, "_policy", replace(FAST, unsettled_s=0.01))
    finish, tries = queue.finish, 0

    async def full(row: Any, following: Any) -> None:
        nonlocal tries
        tries += 1
        if tries < 4:
            raise CapacityError("no room")
        await finish(row, following)

    monkeypatch.setattr(queue, "finish", full)
    await queue.submit(TENANT, "f", b"1")
    await drained(queue)
    assert tries == 4
    assert len(functions.told) == 1


async def test_what_ends_at_once_is_written_together(
    queue: EventQueue, functions: Functions, delivery: Delivery, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, transactions = queue.database.write, 0

    async def counted(change: Any) -> Any:
        nonlocal transactions
        transactions += 1
        return await write(change)

    monkeypatch.setattr(queue.database, "write", counted)
    await asyncio.gather(*(queue.submit(TENANT, f"f{number % 10}", b"1") for number in range(200)))
    await drained(queue)
    assert len(functions.told) == 200
    assert transactions < 100


async def test_only_so_many_wait_to_be_written(
    queue: EventQueue, functions: Functions, delivery: Delivery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery_module, "UNSETTLED", 7)
    room = asyncio.Event()
    finish = queue.finish

    async def waiting(row: Any, following: Any) -> None:
        await room.wait()
        await finish(row, following)

    monkeypatch.setattr(queue, "finish", waiting)
    await asyncio.gather(*(queue.submit(TENANT, f"f{number}", b"1") for number in range(30)))
    async with asyncio.timeout(10):
        while len(functions.told) < 7:
            await asyncio.sleep(0.005)
    await asyncio.sleep(0.05)
    assert len(functions.told) == 7
    room.set()
    await drained(queue)
    assert len(functions.told) == len(set(functions.ids())) == 30


async def test_what_was_put_off_meanwhile_is_not_delivered(
    queue: EventQueue, functions: Functions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was due when delivery looked, and is not when it is read."""
    await queue.submit(TENANT, "f", b"1")
    (seen,) = await queue.database.read(
        lambda c: module.rows.due_events(c, module.now_ms(), of_one=1, limit=1),
    )
    await queue.database.write(
        lambda c: module.rows.postpone_event(c, seen[0], module.now_ms() + 3_600_000, failures=1, refusals=0)
    )
    monkeypatch.setattr(module.rows, "due_events", lambda *arguments, **options: [seen])
    delivery = Delivery(queue, functions, functions, FAST)  # type: ignore[arg-type]
    assert not await delivery._take_due(module.now_ms())
    assert delivery._running == {}


async def test_a_fault_of_ours_is_tried_again(queue: EventQueue, functions: Functions, delivery: Delivery) -> None:
    functions.refusals = {"f": ZeroDivisionError()}
    await queue.submit(TENANT, "f", b"1")
    await drained(queue)
    assert len(functions.told) == 1


async def test_ids_are_forgotten_in_the_end(
    queue: EventQueue, delivery: Delivery, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(5):
        await queue.submit(TENANT, "f", b"1", source="timer", request_id=f"id-{number}")
        await drained(queue)
        monkeypatch.setattr(module, "REMEMBER_S", -1)
    known = await queue.database.read(lambda c: c.execute("SELECT COUNT(*) FROM finished").fetchone()[0])
    assert known == 0


async def test_bounds_are_kept(tmp_path: Path) -> None:
    queue = await EventQueue.open(tmp_path / "bounded.db", lambda tenant: 2)
    with pytest.raises(TooLarge):
        await queue.submit(TENANT, "f", bytes(EVENT_LIMIT + 1))
    together = await asyncio.gather(*(queue.submit(TENANT, "f", b"1") for _ in range(5)), return_exceptions=True)
    assert [type(result) for result in together] == [str, str, ThrottledError, ThrottledError, ThrottledError]
    assert queue.depth(TENANT) == len(queue) == 2
    await queue.submit(TenantId("other"), "f", b"1")
    await queue.close()


async def test_what_is_being_delivered_at_the_end_stays(tmp_path: Path, functions: Functions) -> None:
    functions.hold_s = 3600
    queue = await EventQueue.open(tmp_path / "events.db")
    delivery = Delivery(queue, functions, functions, FAST)  # type: ignore[arg-type]
    delivery.start()
    request_id = await queue.submit(TENANT, "f", b"1")
    while not functions.told:
        await asyncio.sleep(0.005)
    for task in delivery._running.values():
        task.cancel()
    await delivery.close()
    await queue.close()
    again, functions.hold_s = await EventQueue.open(tmp_path / "events.db"), 0.0
    assert len(again) == 1
    delivery = Delivery(again, functions, functions, FAST)  # type: ignore[arg-type]
    delivery.start()
    await drained(again)
    await delivery.close()
    await again.close()
    assert functions.ids() == [request_id, request_id]


CHILD = """
import asyncio, sys
from pathlib import Path
from alcove.events.queue import EventQueue

async def main():
    queue = await EventQueue.open(Path(sys.argv[1]))
    async def accept(number):
        print(await queue.submit("t", "f", b"1"), flush=True)
    while True:
        await asyncio.gather(*(accept(number) for number in range(20)))

asyncio.run(main())
"""


async def test_nothing_accepted_is_lost_when_the_process_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "events.db"
    child = subprocess.Popen([sys.executable, "-c", CHILD, str(path)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    accepted = {child.stdout.readline().strip() for _ in range(150)}
    os.kill(child.pid, signal.SIGKILL)
    accepted |= {line.strip() for line in child.stdout if len(line) == 37}
    child.wait()
    child.stdout.close()
    queue = await EventQueue.open(path)
    found = await queue.database.read(lambda c: {row[0] for row in c.execute("SELECT request_id FROM events")})
    await queue.close()
    assert len(accepted) >= 150
    assert accepted <= found
