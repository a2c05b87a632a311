"""Queues alone: bounds, given ids, restarts, kill -9."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alcove.errors import InvalidRequest, TooLarge
from alcove.queues import attributes, directory, room, service, taking
from alcove.queues.directory import Queue
from alcove.queues.faults import BadAttributeValue, BadReceipt, NoSuchQueue, QueueFull
from alcove.queues.message import Draft, check_body, digest_of_attributes, make_handle, read_handle
from alcove.queues.service import QueueService, handle_of
from alcove.sandbox.protocol import TenantId

TENANT = TenantId("t")


@pytest.fixture
async def queues(tmp_path: Path) -> AsyncIterator[QueueService]:
    queues = await QueueService.open(tmp_path / "queues.db", "r")
    queues.start()
    yield queues
    await queues.close()


@pytest.fixture
async def queue(queues: QueueService) -> Queue:
    return await queues.directory.create(TENANT, "q", {})


async def test_a_given_id_is_accepted_once_even_when_it_is_gone(queues: QueueService, queue: Queue) -> None:
    for _ in range(3):
        await queues.send(queue, [Draft("x", message_id="once")])
        for message in await queues.receive(queue, 10):
            await queues.delete(queue, [handle_of(message)])
    assert await queues.receive(queue, 10) == []
    (message_id,) = await queues.send(queue, [Draft("x", message_id="other")])
    assert [one.message_id for one in await queues.receive(queue, 10)] == [message_id] == ["other"]


async def test_everything_is_there_after_a_restart(tmp_path: Path) -> None:
    queues = await QueueService.open(tmp_path / "queues.db", "r")
    queue = await queues.directory.create(TENANT, "q", {"VisibilityTimeout": "0"})
    await queues.send(queue, [Draft("x"), Draft("y")])
    (first,) = await queues.receive(queue)
    await queues.close()
    queues = await QueueService.open(tmp_path / "queues.db", "r")
    again = queues.directory.find(TENANT, "q")
    assert again.attributes.visibility_s == 0
    await queues.delete(again, [handle_of(first)])
    assert [one.body for one in await queues.receive(again, 10)] == ["y"]
    await queues.close()


async def test_the_tenant_s_limits_hold(queues: QueueService, queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "MESSAGES_LIMIT", 3)
    results = await asyncio.gather(*(queues.send(queue, [Draft("x")]) for _ in range(9)), return_exceptions=True)
    assert sum(isinstance(one, QueueFull) for one in results) == 6
    with pytest.raises(QueueFull):
        await queues.send(queue, [Draft("x")])
    (one,) = await queues.receive(queue)
    await queues.delete(queue, [handle_of(one), handle_of(one)])
    await queues.send(queue, [Draft("x")])
    await queues.purge(queue)
    monkeypatch.setattr(room, "BYTES_LIMIT", 10)
    with pytest.raises(QueueFull):
        await queues.send(queue, [Draft("x" * 11)])
    await queues.send(queue, [Draft("x" * 10)])
    monkeypatch.setattr(directory, "QUEUE_LIMIT", 1)
    with pytest.raises(Exception, match="at most 1 queues"):
        await queues.directory.create(TENANT, "second", {})
    await queues.directory.create(TenantId("other"), "first", {})
    monkeypatch.setattr(service, "POLLS_LIMIT", 0)
    with pytest.raises(QueueFull):
        await queues.receive(queue, wait_s=1)


async def test_too_large_a_message_is_refused(queues: QueueService) -> None:
    queue = await queues.directory.create(TENANT, "small", {"MaximumMessageSize": "1024"})
    await queues.send(queue, [Draft("x" * 1024)])
    with pytest.raises(TooLarge):
        await queues.send(queue, [Draft("x" * 1021, {"a": {"DataType": "String", "StringValue": "b"}})])


async def test_what_is_too_old_is_gone(queues: QueueService, queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    old = service.now_ms() - 345_601 * 1000
    with monkeypatch.context() as patch:
        patch.setattr(service, "now_ms", lambda: old)
        await queues.send(queue, [Draft("old")])
    await queues.send(queue, [Draft("new")])
    assert [one.body for one in await queues.receive(queue, 10)] == ["new"]
    assert (await queues.counts(queue)).in_flight == 1


async def test_a_deleted_queue_answers_who_polls(queues: QueueService, queue: Queue) -> None:
    poll = asyncio.create_task(queues.receive(queue, wait_s=20))
    await asyncio.sleep(0.05)
    await queues.delete_queue(queue)
    with pytest.raises(NoSuchQueue):
        await poll
    with pytest.raises(NoSuchQueue):
        await queues.send(queue, [Draft("x")])


async def test_the_end_answers_who_polls(queues: QueueService, queue: Queue) -> None:
    poll = asyncio.create_task(queues.receive(queue, wait_s=20))
    await asyncio.sleep(0.05)
    queues.wake()
    assert await asyncio.wait_for(poll, 5) == []


async def test_a_receive_can_be_given_back_uncounted(queues: QueueService, queue: Queue) -> None:
    await queues.send(queue, [Draft("x")])
    for counts, expected in ((False, 1), (True, 1), (True, 2)):
        (one,) = await queues.receive(queue)
        assert one.received == expected
        assert await queues.set_visibility(queue, [(handle_of(one), 0, counts)]) == [True]


async def test_who_polls_together_gets_each_message_once(queues: QueueService, queue: Queue) -> None:
    polls = [asyncio.create_task(queues.receive(queue, wait_s=20)) for _ in range(20)]
    await asyncio.sleep(0.05)
    await queues.send(queue, [Draft(str(number)) for number in range(20)])
    found = [one.body for poll in polls for one in await poll]
    assert sorted(found, key=int) == [str(number) for number in range(20)]


@given(st.text())
def test_bodies_are_what_xml_can_hold(text: str) -> None:
    try:
        assert check_body(text) == text
    except InvalidRequest:
        assert not text or any(
            (ord(c) < 32 and c not in "\t\n\r") or c in "\ufffe\uffff" or "\ud800" <= c <= "\udfff" for c in text
        )


@given(st.integers(0, 10**17))
def test_handles_are_read_back(sequence: int) -> None:
    assert read_handle(make_handle(sequence, "0" * 32)) == (sequence, "0" * 32)


@given(st.text() | st.none() | st.integers())
def test_any_other_handle_is_refused(handle: object) -> None:
    with pytest.raises(BadReceipt):
        read_handle(handle)


@given(st.dictionaries(st.sampled_from([*attributes.NUMBERS, attributes.REDRIVE]), st.text()))
def test_attributes_are_numbers_in_range(given_: dict[str, str]) -> None:
    try:
        parsed = attributes.parse(given_)
    except BadAttributeValue:
        return
    for name, (low, high, _) in attributes.NUMBERS.items():
        assert low <= parsed.number(name) <= high


def test_no_attributes_have_a_digest() -> None:
    assert digest_of_attributes({}) == "d41d8cd98f00b204e9800998ecf8427e"


CHILD = """
import asyncio, sys
from pathlib import Path
from alcove.queues.message import Draft
from alcove.queues.service import QueueService, handle_of

async def main():
    queues = await QueueService.open(Path(sys.argv[1]), "r")
    queue = await queues.directory.create("t", "q", {"VisibilityTimeout": "0"})
    while True:
        for message_id in await queues.send(queue, [Draft("x"), Draft("y")]):
            print("sent", message_id, flush=True)
        for message in await queues.receive(queue, 1, visibility_s=60):
            print("tried", message.message_id, flush=True)
            await queues.delete(queue, [handle_of(message)])
            print("deleted", message.message_id, flush=True)

asyncio.run(main())
"""


async def test_no_kill_loses_a_message_or_brings_one_back(tmp_path: Path) -> None:
    path = tmp_path / "queues.db"
    child = subprocess.Popen([sys.executable, "-c", CHILD, str(path)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    lines = [child.stdout.readline() for _ in range(200)]
    os.kill(child.pid, signal.SIGKILL)
    lines += [line for line in child.stdout if line.endswith("\n")]
    child.wait()
    child.stdout.close()
    told: dict[str, set[str]] = {"sent": set(), "tried": set(), "deleted": set()}
    for line in lines:
        word, message_id = line.split()
        told[word].add(message_id)
    queues = await QueueService.open(path, "r")
    found = await queues._database.read(lambda c: {row[0] for row in c.execute("SELECT message_id FROM messages")})
    await queues.close()
    assert len(told["sent"]) > 50
    assert told["sent"] - told["tried"] <= found
    assert not told["deleted"] & found


async def test_what_is_held_is_counted(queues: QueueService, queue: Queue) -> None:
    other = await queues.directory.create(TenantId("other"), "q", {})
    await queues.send(queue, [Draft("four"), Draft("sixsix")])
    await queues.send(other, [Draft("x")])
    assert (queues.room.messages, queues.room.bytes) == (3, 11)
    (one,) = await queues.receive(queue)
    await queues.delete(queue, [handle_of(one)])
    await queues.purge(other)
    assert (queues.room.messages, queues.room.bytes) == (1, 6)


async def test_dead_letters_by_the_hundred_are_moved_and_who_waits_gets_the_next_message(
    queues: QueueService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(taking, "ROUNDS", 2)
    dead = await queues.directory.create(TENANT, "dead", {})
    policy = json.dumps({"deadLetterTargetArn": dead.arn, "maxReceiveCount": 1})
    queue = await queues.directory.create(TENANT, "q", {"RedrivePolicy": policy})
    await queues.send(queue, [Draft(str(number)) for number in range(90)])
    poison = [one for _ in range(9) for one in await queues.receive(queue, 10)]
    await queues.set_visibility(queue, [(handle_of(one), 0, True) for one in poison])
    await queues.send(queue, [Draft("good")])
    (found,) = await queues.receive(queue, 10, wait_s=20)
    assert found.body == "good"
    assert (await queues.counts(dead)).visible == 90
