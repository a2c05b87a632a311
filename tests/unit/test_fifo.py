"""FIFO queues alone: order within groups, one copy of each deduplication id, over restarts and kill -9."""

from __future__ import annotations

import asyncio
import json
import random
import signal
import sys
import tempfile
from collections import defaultdict
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alcove.errors import InvalidRequest
from alcove.queues import pace as pace_module
from alcove.queues import sending, service, taking
from alcove.queues.destination import QueueSink
from alcove.queues.directory import Queue
from alcove.queues.faults import BadAttributeName, BadAttributeValue, MissingParameter, QueueThrottled
from alcove.queues.message import Draft
from alcove.queues.pace import Pace
from alcove.queues.service import QueueService, handle_of
from alcove.sandbox.protocol import TenantId
from alcove.store.queues import MessageRow

TENANT = TenantId("t")
FIFO = {"FifoQueue": "true"}


@pytest.fixture
async def queues(tmp_path: Path) -> AsyncIterator[QueueService]:
    queues = await QueueService.open(tmp_path / "queues.db", "r")
    yield queues
    await queues.close()


@pytest.fixture
async def queue(queues: QueueService) -> Queue:
    return await queues.directory.create(TENANT, "q.fifo", FIFO)


def draft(group: str, body: str, name: str = "") -> Draft:
    return Draft(body, group_id=group, deduplication_id=name or f"{group}-{body}")


async def bodies(queues: QueueService, queue: Queue, limit: int = 10, **options: Any) -> list[str]:
    return [one.body for one in await queues.receive(queue, limit, **options)]


async def test_a_group_waits_for_what_is_in_flight(queues: QueueService, queue: Queue) -> None:
    await queues.send(queue, [draft("a", "1"), draft("a", "2"), draft("a", "3"), draft("b", "4")])
    first = await queues.receive(queue, 2)
    assert [one.body for one in first] == ["1", "2"]
    assert await bodies(queues, queue) == ["4"]
    await queues.delete(queue, [handle_of(first[0])])
    assert await bodies(queues, queue) == []
    await queues.delete(queue, [handle_of(first[1])])
    assert await bodies(queues, queue) == ["3"]


@pytest.mark.parametrize("first", [0, 1])
async def test_what_comes_again_comes_first(queues: QueueService, queue: Queue, first: int) -> None:
    await queues.send(queue, [draft("a", "1"), draft("a", "2"), draft("a", "3")])
    taken = await queues.receive(queue, 2)
    await queues.set_visibility(queue, [(handle_of(taken[first]), 0, True)])
    assert await bodies(queues, queue) == []
    await queues.set_visibility(queue, [(handle_of(taken[1 - first]), 0, True)])
    assert await bodies(queues, queue) == ["1", "2", "3"]


async def test_who_waits_is_told_when_a_group_is_free(queues: QueueService, queue: Queue) -> None:
    await queues.send(queue, [draft("a", "1"), draft("a", "2")])
    (one,) = await queues.receive(queue, 1)
    waiting = asyncio.create_task(queues.receive(queue, 1, wait_s=20))
    await asyncio.sleep(0.05)
    await queues.delete(queue, [handle_of(one)])
    assert [two.body for two in await asyncio.wait_for(waiting, 5)] == ["2"]
    later = asyncio.create_task(queues.receive(queue, 1, wait_s=20, visibility_s=1))
    await asyncio.sleep(0.05)
    await queues.purge(queue)
    await queues.send(queue, [draft("b", "3")])
    assert [three.body for three in await asyncio.wait_for(later, 5)] == ["3"]
    # By the clock: a second later it is visible again.
    assert await bodies(queues, queue, wait_s=10) == ["3"]


async def test_an_id_is_accepted_once_within_the_window(
    queues: QueueService, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    moment = service.now_ms()
    monkeypatch.setattr(service, "now_ms", lambda: moment)
    (first,) = await queues.accept(queue, [draft("a", "1", "id")])
    again = await queues.accept(queue, [draft("b", "other", "id"), draft("a", "2", "other"), draft("a", "3", "other")])
    assert (again[0].message_id, again[0].sequence, again[0].size) == (first.message_id, first.sequence, 0)
    assert again[1].message_id == again[2].message_id
    assert queues.room.messages == 2
    found = await queues.receive(queue, 10)
    assert [one.body for one in found] == ["1", "2"]
    await queues.delete(queue, [handle_of(one) for one in found])
    moment += sending.DEDUPLICATION_MS - 1
    await queues.send(queue, [draft("a", "1", "id")])
    assert await bodies(queues, queue) == []
    moment += 1
    await queues.send(queue, [draft("a", "1", "id")])
    assert await bodies(queues, queue) == ["1"]


async def test_scopes_of_deduplication(queues: QueueService) -> None:
    scoped = {**FIFO, "DeduplicationScope": "messageGroup", "FifoThroughputLimit": "perMessageGroupId"}
    queue = await queues.directory.create(TENANT, "scoped.fifo", {**scoped, "ContentBasedDeduplication": "true"})
    await queues.send(queue, [draft("a", "1", "id"), draft("b", "2", "id"), draft("a", "3", "id")])
    await queues.send(queue, [Draft("same", group_id="c"), Draft("same", group_id="c"), Draft("same", group_id="d")])
    assert sorted(await bodies(queues, queue)) == ["1", "2", "same", "same"]
    other = await queues.directory.create(TENANT, "other.fifo", FIFO)
    await queues.send(other, [draft("a", "1", "id")])
    assert await bodies(queues, other) == ["1"]


async def test_dead_letters_keep_their_order_and_free_their_group(queues: QueueService) -> None:
    dead = await queues.directory.create(TENANT, "dead.fifo", FIFO)
    policy = json.dumps({"deadLetterTargetArn": dead.arn, "maxReceiveCount": 1})
    queue = await queues.directory.create(TENANT, "q.fifo", {**FIFO, "RedrivePolicy": policy})
    await queues.send(queue, [draft("a", str(number)) for number in range(3)])
    for one in await queues.receive(queue, 2):
        await queues.set_visibility(queue, [(handle_of(one), 0, True)])
    assert await bodies(queues, queue) == ["2"]
    found = await queues.receive(dead, 10)
    assert [one.body for one in found] == ["0", "1"]
    assert {(one.group_id, one.dead_letter_of) for one in found} == {("a", queue.arn)}


async def test_more_in_flight_than_there_may_be_is_not_received(
    queues: QueueService, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(taking, "FIFO_IN_FLIGHT", 3)
    await queues.send(queue, [draft(f"g{number}", str(number)) for number in range(5)])
    taken = await queues.receive(queue, 3)
    assert await bodies(queues, queue) == []
    await queues.delete(queue, [handle_of(taken[0])])
    assert await bodies(queues, queue, 1) == ["3"]


async def test_what_is_too_old_frees_its_group(
    queues: QueueService, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = service.now_ms() - 345_601 * 1000
    with monkeypatch.context() as patch:
        patch.setattr(service, "now_ms", lambda: old)
        await queues.send(queue, [draft("a", "old")])
    await queues.send(queue, [draft("a", "new")])
    assert await bodies(queues, queue) == ["new"]


async def test_a_delay_holds_its_group(queues: QueueService, monkeypatch: pytest.MonkeyPatch) -> None:
    queue = await queues.directory.create(TENANT, "late.fifo", {**FIFO, "DelaySeconds": "5"})
    moment = service.now_ms()
    monkeypatch.setattr(service, "now_ms", lambda: moment)
    await queues.send(queue, [draft("a", "1")])
    moment += 4000
    await queues.send(queue, [draft("a", "2")])
    assert await bodies(queues, queue) == []
    moment += 1000
    (one,) = await queues.receive(queue, 10)
    await queues.delete(queue, [handle_of(one)])
    moment += 4000
    assert await bodies(queues, queue) == ["2"]


def test_a_tenant_sends_so_many_a_second() -> None:
    now_s = 0.0
    pace = Pace(lambda: now_s)
    pace.take(TENANT, 2990)
    with pytest.raises(QueueThrottled):
        pace.take(TENANT, 11)
    pace.take(TENANT, 10)
    pace.take(TenantId("other"), 3000)
    now_s = 0.5
    pace.take(TENANT, 1500)
    with pytest.raises(QueueThrottled):
        pace.take(TENANT, 1)
    now_s = 3600
    pace.take(TENANT, 3000)
    with pytest.raises(QueueThrottled):
        pace.take(TENANT, 1)


async def test_only_fifo_queues_are_paced(queues: QueueService, queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace_module, "MESSAGES_A_SECOND", 0.5)
    with pytest.raises(QueueThrottled):
        await queues.send(queue, [draft("a", "1")])
    await queues.send(await queues.directory.create(TENANT, "plain", {}), [Draft("x"), Draft("y")])


@pytest.mark.parametrize(
    ("name", "given_"),
    [
        ("q", FIFO),
        ("q.fifo", {}),
        ("x" * 76 + ".fifo", FIFO),
        (".fifo", FIFO),
        ("a.b.fifo", FIFO),
        ("q.fifo", {"FifoQueue": "false"}),
        ("q.fifo", {**FIFO, "ContentBasedDeduplication": "yes"}),
        ("q.fifo", {**FIFO, "FifoThroughputLimit": "perMessageGroupId"}),
        ("q", {"ContentBasedDeduplication": "true"}),
    ],
)
async def test_what_is_no_fifo_queue_is_refused(queues: QueueService, name: str, given_: dict[str, str]) -> None:
    with pytest.raises(InvalidRequest):
        await queues.directory.create(TENANT, name, given_)


async def test_kinds_are_not_mixed(queues: QueueService, queue: Queue) -> None:
    plain = await queues.directory.create(TENANT, "plain", {})
    for bad in (Draft("x", group_id="g"), Draft("x", deduplication_id="d")):
        with pytest.raises(InvalidRequest):
            await queues.send(plain, [bad])
    with pytest.raises(MissingParameter):
        await queues.send(queue, [Draft("x", deduplication_id="d")])
    for bad in (Draft("x", group_id="g"), Draft("x", group_id="g", deduplication_id="d", delay_s=0)):
        with pytest.raises(InvalidRequest):
            await queues.send(queue, [bad])
    for one, other in ((plain, queue), (queue, plain)):
        policy = json.dumps({"deadLetterTargetArn": other.arn, "maxReceiveCount": 1})
        with pytest.raises(BadAttributeValue):
            await queues.directory.set_attributes(one, {"RedrivePolicy": policy})
    with pytest.raises(BadAttributeValue):
        await queues.directory.set_attributes(queue, {"FifoQueue": ""})
    with pytest.raises(BadAttributeValue):
        await queues.directory.set_attributes(plain, FIFO)
    with pytest.raises(BadAttributeName):
        await queues.directory.set_attributes(plain, {"ContentBasedDeduplication": "true"})
    with pytest.raises(InvalidRequest):
        await QueueSink(queues).check(TENANT, queue.arn)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The moment, which a test moves on."""
    moment = [service.now_ms()]
    monkeypatch.setattr(service, "now_ms", lambda: moment[0])
    return moment


async def handles(queues: QueueService, queue: Queue, attempt: str, **options: Any) -> list[str]:
    return [handle_of(one) for one in await queues.receive(queue, 2, attempt=attempt, **options)]


async def test_a_receive_that_is_tried_again_finds_what_it_found(
    queues: QueueService, queue: Queue, clock: list[int]
) -> None:
    await queues.send(queue, [draft(group, group) for group in "abcd"])
    first = await handles(queues, queue, "one", visibility_s=60)
    assert len(first) == 2
    assert len(await handles(queues, queue, "two", visibility_s=60)) == 2
    clock[0] += 50_000
    # It hides them anew, and is no other receive.
    assert await handles(queues, queue, "one", visibility_s=60) == first
    clock[0] += 50_000
    again = await queues.receive(queue, 2, attempt="one", visibility_s=60)
    assert ([handle_of(one) for one in again], [one.received for one in again]) == (first, [1, 1])
    clock[0] += 50_000
    assert {one.group_id for one in await queues.receive(queue, 10)}.isdisjoint({one.group_id for one in again})
    await queues.delete(queue, first)
    assert (await queues.counts(queue)).in_flight == 2


async def test_it_is_another_receive_once_they_are_visible_again(
    queues: QueueService, queue: Queue, clock: list[int]
) -> None:
    await queues.send(queue, [draft("a", "1"), draft("b", "2")])
    first = await handles(queues, queue, "one", visibility_s=10)
    clock[0] += 10_000
    second = await handles(queues, queue, "one", visibility_s=400)
    assert (len(second), set(first) & set(second)) == (2, set())
    clock[0] += taking.ATTEMPT_MS
    assert await handles(queues, queue, "one") == []


@pytest.mark.parametrize("how", ["deleted", "hidden", "expired"])
async def test_it_is_another_receive_once_one_of_them_has_changed(
    queues: QueueService, queue: Queue, clock: list[int], how: str
) -> None:
    await queues.send(queue, [draft("a", "1"), draft("b", "2"), draft("c", "3"), draft("d", "4")])
    first = await handles(queues, queue, "one", visibility_s=60)
    if how == "deleted":
        await queues.delete(queue, first[:1])
    else:
        await queues.set_visibility(queue, [(first[0], 61 if how == "hidden" else 1, True)])
    clock[0] += 2000
    second = await handles(queues, queue, "one", visibility_s=60)
    assert len(second) == 2
    assert set(first).isdisjoint(second)
    # What is left of the first is not of the second.
    assert await handles(queues, queue, "one", visibility_s=60) == second


async def test_a_restart_and_other_queues_do_not_change_what_is_found(
    queues: QueueService, queue: Queue, tmp_path: Path
) -> None:
    other = await queues.directory.create(TENANT, "other.fifo", FIFO)
    plain = await queues.directory.create(TENANT, "plain", {})
    await queues.send(queue, [draft("a", "1")])
    await queues.send(plain, [Draft("x"), Draft("y")])
    first = await handles(queues, queue, "one")
    assert await handles(queues, other, "one") == []
    assert len({(await queues.receive(plain, 1, attempt="one"))[0].body for _ in range(2)}) == 2
    again = await QueueService.open(tmp_path / "queues.db", "r")
    try:
        assert await handles(again, again.directory.find(TENANT, queue.name), "one") == first
    finally:
        await again.close()


class Model:
    """What a FIFO queue does, in the simplest words: messages are lists in order."""

    def __init__(self) -> None:
        self.groups: dict[str, list[str]] = defaultdict(list)
        self.hidden: dict[str, int] = {}
        self.names: dict[str, int] = {}

    def send(self, group: str, body: str, name: str, moment: int) -> None:
        if self.names.get(name, -sending.DEDUPLICATION_MS) + sending.DEDUPLICATION_MS <= moment:
            self.names[name] = moment
            self.groups[group].append(body)

    def free(self, group: str, moment: int) -> list[str]:
        """Return what of a group can be received, in order."""
        waiting = self.groups[group]
        return [] if any(self.hidden.get(body, 0) > moment for body in waiting) else waiting

    def check(self, found: list[MessageRow], limit: int, moment: int, until: int) -> None:
        by_group: dict[str, list[str]] = defaultdict(list)
        for one in found:
            by_group[one.group_id].append(one.body)
        for group, taken in by_group.items():
            assert taken == self.free(group, moment)[: len(taken)]
        free = sum(len(self.free(group, moment)) for group in list(self.groups))
        assert len(found) == min(limit, free)
        for one in found:
            self.hidden[one.body] = until

    def delete(self, group: str, body: str) -> None:
        self.groups[group].remove(body)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("send"), st.sampled_from("abc"), st.integers(0, 5)),
        st.tuples(st.just("receive"), st.integers(1, 4), st.integers(1, 3)),
        st.tuples(st.just("delete"), st.integers(0, 9), st.just(0)),
        st.tuples(st.just("hide"), st.integers(0, 9), st.integers(0, 3)),
        st.tuples(st.just("wait"), st.integers(1, 4), st.just(0)),
        st.tuples(st.just("restart"), st.just(0), st.just(0)),
    ),
    max_size=40,
)


@settings(max_examples=60)
@given(STEPS)
def test_a_queue_does_what_the_model_does(steps: list[tuple[str, Any, int]]) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        asyncio.run(compare(Path(folder) / "queues.db", steps, patch))


async def compare(path: Path, steps: list[tuple[str, Any, int]], patch: pytest.MonkeyPatch) -> None:
    moment = 1_000_000_000
    patch.setattr(service, "now_ms", lambda: moment)
    model, taken = Model(), []
    queues = await QueueService.open(path, "r")
    queue = await queues.directory.create(TENANT, "q.fifo", FIFO)
    for number, (step, first, second) in enumerate(steps):
        flying = [one for one in taken if model.hidden[one.body] > moment]
        if step == "send":
            await queues.send(queue, [draft(first, str(number), f"id-{second}")])
            model.send(first, str(number), f"id-{second}", moment)
        elif step == "receive":
            found = await queues.receive(queue, first, visibility_s=60 * second)
            model.check(found, first, moment, moment + 60_000 * second)
            taken = [one for one in taken if one.body not in {new.body for new in found}] + found
        elif step == "wait":
            moment += 60_000 * first
        elif step == "restart":
            await queues.close()
            queues = await QueueService.open(path, "r")
            queue = queues.directory.find(TENANT, "q.fifo")
        elif flying:
            one = flying[first % len(flying)]
            if step == "delete":
                await queues.delete(queue, [handle_of(one)])
                model.delete(one.group_id, one.body)
                taken.remove(one)
            else:
                await queues.set_visibility(queue, [(handle_of(one), 60 * second, True)])
                model.hidden[one.body] = moment + 60_000 * second
    await queues.close()


CHILD = """
import asyncio, sys
from pathlib import Path
from alcove.queues.message import Draft
from alcove.queues.pace import Pace
from alcove.queues.service import QueueService, handle_of

async def send(queues, queue, group):
    for number in range(150):
        await queues.send(queue, [Draft(str(number), group_id=group, deduplication_id=f"{group}{number}")])

async def receive(queues, queue):
    while True:
        messages = await queues.receive(queue, 3, wait_s=1, visibility_s=1)
        for message in messages:
            print("tried", message.group_id, message.body, flush=True)
        await queues.delete(queue, [handle_of(message) for message in messages])
        for message in messages:
            print("deleted", message.group_id, message.body, flush=True)
        if not messages:
            return

async def main():
    queues = await QueueService.open(Path(sys.argv[1]), "r")
    queue = await queues.directory.create("t", "q.fifo", {"FifoQueue": "true"})
    senders = (send(queues, queue, group) for group in "abc")
    await asyncio.gather(*senders, receive(queues, queue), receive(queues, queue))
    print("done")

asyncio.run(main())
"""


async def test_no_kill_breaks_the_order_or_makes_a_copy(tmp_path: Path) -> None:
    lines: list[list[str]] = []
    chance = random.Random(5)
    for life in range(6):
        # Each life sends all of it again.
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-c", CHILD, str(tmp_path / "queues.db"), stdout=asyncio.subprocess.PIPE
        )
        assert child.stdout is not None
        left = chance.randint(30, 150) if life < 5 else 1 << 30
        said: list[bytes] = []
        while left and (line := await child.stdout.readline()):
            said.append(line)
            left -= 1
        if not left:
            child.send_signal(signal.SIGKILL)
        said += (await child.stdout.read()).splitlines(keepends=True)
        # Killed while it writes, its last line may be torn: "1" of "14".
        lines += [line.decode().split() for line in said if line.endswith(b"\n")]
        await child.wait()
    assert lines[-1] == ["done"]
    for group in "abc":
        tried = [int(line[2]) for line in lines if line[:2] == ["tried", group]]
        gone = [int(line[2]) for line in lines if line[:2] == ["deleted", group]]
        firsts = list(dict.fromkeys(tried))
        assert firsts == list(range(150))
        assert len(gone) == len(set(gone))
        # One comes again only where a life has ended: before what was not in its batch.
        for one in set(tried):
            last = max(place for place, number in enumerate(tried) if number == one)
            assert not any(number > one + 2 for number in tried[:last])
