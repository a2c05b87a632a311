"""The shim between a guest that is not our agent any more, and clients that are not containerd.

Whoever has become root in a pod's machine writes to the agent's channel what it likes. It gets the end of its machine,
and nothing of the host's: memory, files, or an answer that containerd waits for in vain.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import struct
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.pod_wire import Fields, Refused
from tests.support.shim_bench import Bench, Ttrpc, running, short_bench

from alcove.guest import streams
from alcove.shim.stdio import MOST_WAITING
from alcove.wire import task_messages, ttrpc
from alcove.wire.frame import HEADER, MAX_PAYLOAD, Kind, encode

MIB = 1 << 20


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    async with short_bench() as made:
        yield made


async def ended(shim: Ttrpc) -> int:
    async with asyncio.timeout(20):
        return int((await shim.call("Wait", id="c1"))["exit_status"])


def send(bench: Bench, data: bytes) -> None:
    assert bench.guest.agent._writer is not None
    bench.guest.agent._writer.write(data)


async def peak_mib(shim: Ttrpc) -> float:
    pid = (await shim.call("Connect", id="c1"))["shim_pid"]
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM:")).split()[1]) / 1024


def event(**fields: Any) -> bytes:
    return encode(Kind.EVENT, 0, json.dumps(fields).encode())


@pytest.mark.parametrize(
    "words",
    [
        b"\xff" * 65536,
        # A frame over the limit, never to come; kinds that have no place here; payloads that are no objects.
        HEADER.pack(MAX_PAYLOAD + 1, Kind.LOG, 1),
        encode(Kind.INVOKE, 1, b"{}"),
        encode(Kind.EVENT, 0, b"[]"),
        encode(Kind.EVENT, 0, b"[" * 100_000),
        encode(Kind.EVENT, 0, b"\xff\xfe{"),
        # Numbers that are none.
        event(event="container_exit", id="c1", exec=None, code="x"),
        event(event="container_exit", id="c1", exec=None, code=float("inf")),
        event(event="container_exit", id="c1", exec=None, signal={"of": 9}),
        event(event="stdin", id="c1", process={}, bytes=0),
        event(event="stdin", id="c1", process=1, bytes=float("nan")),
    ],
    ids=["noise", "oversize", "kind", "list", "deep", "bytes", "code", "inf", "signal", "process", "nan"],
)
async def test_what_no_agent_says_ends_the_machine(bench: Bench, words: bytes) -> None:
    shim = await running(bench)
    send(bench, words)
    assert await ended(shim) == 137
    async with asyncio.timeout(20):
        while not bench.requests("stop_pod"):
            await asyncio.sleep(0.01)
    assert (await shim.call("Delete", id="c1"))["exit_status"] == 137


async def test_more_output_than_an_agent_sends_ends_the_machine(bench: Bench) -> None:
    """64 MiB to a FIFO that nobody reads: no more of it is held than what an honest agent may send."""
    shim = await running(bench, stdout=bench.fifo("out"))
    before = await peak_mib(shim)
    for _ in range(1024):
        bench.guest.agent.output(1, 1, bytes(64 * 1024))
    assert await ended(shim) == 137
    assert await peak_mib(shim) - before < 12


async def test_all_that_an_agent_may_send_is_taken_again_and_again(bench: Bench) -> None:
    most = streams.WINDOW + 2 * (streams.CHUNK + streams.LAST_WORDS)
    assert most == MOST_WAITING
    shim = await running(bench)
    for number in range(1, 9):
        bench.guest.agent.output(1, 1 + number % 2, bytes(most))
        async with asyncio.timeout(20):
            while sum(fields["bytes"] for fields in bench.guest.requests("ack")) < number * most:
                await asyncio.sleep(0.001)
    assert (await shim.call("State", id="c1"))["status"] == task_messages.RUNNING


async def test_floods_of_what_is_nobodys_are_dropped(bench: Bench) -> None:
    """Output of processes that are not there, ends of what has ended, answers to what was not asked, half a frame."""
    shim = await running(bench)
    before = await peak_mib(shim)
    for number in range(2000):
        bench.guest.agent.output(1000 + number, 7, bytes(4096))
        send(bench, encode(Kind.REPLY, 1_000_000 + number, b"{}") + encode(Kind.ERROR, number, b"{}"))
        send(bench, event(event="container_exit", id=f"other{number}", exec=None, code=1))
        send(bench, event(event="container_exit", id="c1", exec=f"e{number}", code=1))
        send(bench, event(event="oom", id="c1"))
    send(bench, HEADER.pack(MAX_PAYLOAD, Kind.LOG, 1) + bytes(1 * MIB))
    assert (await shim.call("State", id="c1"))["status"] == task_messages.RUNNING
    await bench.events.until("/tasks/oom")
    assert await peak_mib(shim) - before < 16


async def test_an_end_is_told_once_and_as_one_byte(bench: Bench) -> None:
    shim = await running(bench)
    for code in (1 << 70, 3, 4):
        bench.guest.exit("c1", code=code)
    assert await ended(shim) == 0
    await shim.call("Delete", id="c1")
    await bench.events.until("/tasks/delete")
    assert bench.events.topics().count("/tasks/exit") == 1


@pytest.mark.parametrize(
    ("op", "method", "reply"),
    [
        ("container_pids", "Pids", {"pids": list(range(700_000))}),
        ("container_pids", "Pids", {"pids": [1 << 80, -1]}),
        ("container_pids", "Pids", {"pids": "x"}),
        ("container_pids", "Pids", {}),
        ("container_stats", "Stats", {"memory": [], "cpu": "x", "io": [{}] * 100_000}),
        ("container_stats", "Stats", {"memory": {"current": "9" * 100_000}}),
    ],
)
async def test_answers_that_are_none_are_answered_with_an_error_or_bounded(
    bench: Bench, op: str, method: str, reply: Fields
) -> None:
    async def lie(fields: Fields) -> Fields:
        return reply

    bench.guest.on(op, lie)
    shim = await running(bench)
    async with asyncio.timeout(20):
        (answer,) = await asyncio.gather(shim.call(method, id="c1"), return_exceptions=True)
    assert isinstance(answer, dict | ttrpc.Failure)
    assert len(str(answer)) < (4096 if isinstance(answer, ttrpc.Failure) else 100 * MIB)
    assert (await shim.call("State", id="c1"))["status"] == task_messages.RUNNING


async def test_an_explanation_without_end_is_cut(bench: Bench) -> None:
    async def explain(fields: Fields) -> Fields:
        raise Refused("x" * MIB, "y" * 5 * MIB)

    bench.guest.on("pause_container", explain)
    shim = await running(bench)
    async with asyncio.timeout(20):
        with pytest.raises(ttrpc.Failure) as caught:
            await shim.call("Pause", id="c1")
    assert len(str(caught.value)) < 4096


async def test_a_termination_log_goes_where_it_belongs_and_no_further(bench: Bench) -> None:
    """Neither through a link that came in its place, nor at any length."""
    secret, log = bench.folder / "secret", bench.folder / "termination-log"
    secret.write_text("kept")
    log.write_text("")

    async def tell(fields: Fields) -> Fields:
        return {"text": "z" * 5 * MIB}

    bench.guest.on("read_file", tell)
    source = str(bench.folder / "kubelet/pods/u/containers/c/1")
    os.makedirs(os.path.dirname(source))
    shutil.move(log, source)
    mount = {"destination": "/dev/termination-log", "type": "bind", "source": source, "options": ["rbind", "rw"]}
    shim = await bench.start("c1", mounts=[mount])
    await bench.create(shim, "c1")
    await shim.call("Start", id="c1")
    os.unlink(source)
    os.symlink(secret, source)
    bench.guest.exit("c1", code=1)
    assert await ended(shim) == 1
    assert secret.read_text() == "kept"


# Clients


async def test_clients_that_speak_something_else_are_hung_up_on(bench: Bench) -> None:
    shim = await running(bench)
    before = await peak_mib(shim)
    path = bench.address.removeprefix("unix://")
    kept: list[socket.socket] = []
    for words in (
        b"GET / HTTP/1.1\r\n\r\n" * 100,
        struct.pack(">IIBB", ttrpc.MAX_DATA + 1, 1, 1, 0),
        struct.pack(">IIBB", ttrpc.MAX_DATA, 1, 1, 0) + bytes(1000),
        ttrpc.encode(1, ttrpc.REQUEST, b"\xff" * 1000),
        ttrpc.encode(2, 9, b"unknown"),
        ttrpc.request(1, task_messages.SERVICE, "_loop", b""),
        ttrpc.request(1, task_messages.SERVICE, "Create", b"\xff\xff"),
        ttrpc.request(1, "containerd.task.v9.Task", "State", b""),
    ):
        client = socket.socket(socket.AF_UNIX)
        client.connect(path)
        client.sendall(words)
        kept.append(client)
    assert (await shim.call("State", id="c1"))["status"] == task_messages.RUNNING
    assert await peak_mib(shim) - before < 16
    for client in kept:
        client.close()


@pytest.mark.parametrize(
    "config",
    [
        b"{" * 100_000,
        b"[]",
        b"null",
        json.dumps({"process": {"args": ["x" * 5 * MIB]}}).encode(),
        json.dumps({"annotations": {f"a{number}": "x" * 1000 for number in range(4000)}}).encode(),
    ],
    ids=["deep", "list", "null", "long", "annotations"],
)
async def test_a_configuration_without_bounds_is_refused(bench: Bench, config: bytes) -> None:
    shim = await bench.start("c1")
    (bench.folder / "b/c1/config.json").write_bytes(config)
    async with asyncio.timeout(20):
        with pytest.raises(ttrpc.Failure) as caught:
            await bench.create(shim, "c1")
    assert len(str(caught.value)) < 4096
    assert not bench.guest.requests("create_container")
