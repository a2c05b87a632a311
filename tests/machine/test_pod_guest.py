"""Containers in a pod's guest, each operation asked of a real machine."""

from __future__ import annotations

import asyncio
import io
import tarfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from tests.machine.lab import until
from tests.machine.pod_guest import PodGuest, pod_guest

from alcove.pods.templates import rehearse_container
from alcove.sandbox.agent import AgentError

pytestmark = [pytest.mark.machine, pytest.mark.asyncio(loop_scope="session")]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def pod(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[PodGuest]:
    folder: Path = tmp_path_factory.mktemp("pod")
    async with pod_guest(folder) as guest:
        await rehearse_container(guest.agent)
        yield guest


async def test_a_containers_life(pod: PodGuest) -> None:
    """Output and end in their order, layers in theirs, a writable root of its own, nothing left of it."""
    number = await pod.create("life", "/bin/sh", "-c", "cat /top; echo written > /file; cat /file; exit 7")
    assert number not in pod.printed
    await pod.agent.request("start_container", id="life")
    end = await pod.end(number)
    assert (end["id"], end["exec"], end["code"], end["signal"]) == ("life", None, 7, None)
    assert pod.printed[number] == b"2\nwritten\n"
    with pytest.raises(AgentError) as caught:
        await pod.agent.request("signal_container", id="life", exec=None, signal=9, all=False)
    assert caught.value.code == "not_found"
    await pod.agent.request("delete_container", id="life")
    await pod.agent.request("delete_container", id="life")
    again = await pod.run("life", "/bin/cat", "/file")
    assert (await pod.end(again))["code"] == 1
    await pod.agent.request("delete_container", id="life")


async def until_alone(pod: PodGuest, id: str) -> None:
    """What crun could not start is on its way out."""
    async with asyncio.timeout(10):
        while len((await pod.agent.request("container_pids", id=id))["pids"]) != 1:
            await asyncio.sleep(0.05)


async def test_processes_are_added_and_signalled(pod: PodGuest) -> None:
    first = await pod.run("exec", "/bin/sleep", "100")
    added = await pod.execute("exec", "one", "/bin/sh", "-c", "read line; echo got $line; exit 3", stdin=True)
    await pod.agent.send_data(added, b"hello\n")
    await pod.agent.request("close_stdin", process=added)
    assert (await pod.end(added))["code"] == 3
    assert pod.printed[added] == b"got hello\n"
    with pytest.raises(AgentError):
        await pod.execute("exec", "none", "/bin/nothing")
    await until_alone(pod, "exec")
    stats = await pod.agent.request("container_stats", id="exec")
    assert stats["memory"]["current"] > 0
    assert stats["pids"]["current"] >= 1
    await pod.agent.request("signal_container", id="exec", exec=None, signal=9, all=False)
    assert (await pod.end(first))["signal"] == 9
    await pod.agent.request("delete_container", id="exec")


async def test_programs_are_loaded_at_random(pod: PodGuest) -> None:
    """crun is not, and what begins a container is a child of it."""
    words = ("/bin/cat", "/proc/self/personality", "/proc/self/maps")
    numbers = [await pod.run("random", "/bin/sh", "-c", f"{' '.join(words)}; sleep 100")]
    await until(lambda: b"[stack]" in pod.printed.get(numbers[0], b""))
    for name in ("one", "two"):
        numbers.append(await pod.execute("random", name, *words))
        await pod.end(numbers[-1])
    seen = [bytes(pod.printed[number]).split(b"\n", 1) for number in numbers]
    assert [int(persona, 16) for persona, _ in seen] == [0, 0, 0]
    stacks = {line.split()[0] for _, maps in seen for line in maps.splitlines() if line.endswith(b"[stack]")}
    assert len(stacks) == 3
    await pod.agent.request("delete_container", id="random")


async def test_a_terminal(pod: PodGuest) -> None:
    number = await pod.create("tty", "/bin/sh", "-c", "stty size; read x; stty size", terminal=True, stdin=True)
    await pod.agent.request("resize", process=number, width=100, height=40)
    await pod.agent.request("start_container", id="tty")
    await until(lambda: b"40 100" in pod.printed.get(number, b""))
    await pod.agent.request("resize", process=number, width=120, height=50)
    await pod.agent.send_data(number, b"\n")
    assert (await pod.end(number))["code"] == 0
    assert b"50 120" in pod.printed[number]
    await pod.agent.request("delete_container", id="tty")


async def test_one_that_nobody_reads_stops_itself_alone(pod: PodGuest) -> None:
    pod.silent = True
    number = await pod.run("loud", "/bin/sh", "-c", "while :; do echo 0123456789012345678901234567890123456789; done")
    await until(lambda: len(pod.printed.get(number, b"")) >= 200 * 1024, 30)
    other = await pod.run("quiet", "/bin/sh", "-c", "echo heard")
    await pod.end(other)
    assert pod.printed[other] == b"heard\n"
    assert len(pod.printed[number]) <= 256 * 1024 + 32 * 1024
    pod.silent = False
    for id in ("loud", "quiet"):
        await pod.agent.request("delete_container", id=id)


async def test_pause_and_memory(pod: PodGuest) -> None:
    number = await pod.run("pause", "/bin/sleep", "0.2")
    await pod.agent.request("pause_container", id="pause")
    with pytest.raises(AgentError) as caught:
        await pod.execute("pause", "x", "/bin/id")
    assert caught.value.code == "paused"
    await pod.agent.request("resume_container", id="pause")
    assert (await pod.end(number))["code"] == 0
    await pod.agent.request("delete_container", id="pause")
    limits = {"memory": {"limit": 32 << 20}}
    eater = await pod.run("eater", "/bin/sh", "-c", "head -c 200m /dev/zero | tail -c 200m", resources=limits)
    await pod.end(eater)
    oom = pod.events.index({"event": "oom", "id": "eater"})
    assert oom < next(i for i, one in enumerate(pod.events) if one.get("process") == eater)
    await pod.agent.request("delete_container", id="eater")


async def test_processes_are_shared_where_asked(pod: PodGuest) -> None:
    await pod.run("shared", "/bin/sleep", "100", pid="pod")
    other = await pod.run("seer", "/bin/sh", "-c", "cat /proc/[0-9]*/cmdline; echo $$", pid="pod")
    assert (await pod.end(other))["code"] == 0
    assert b"sleep\x00100" in pod.printed[other]
    assert not pod.printed[other].endswith(b"\n1\n")
    for id in ("seer", "shared"):
        await pod.agent.request("delete_container", id=id)


async def test_files_are_put_and_read_and_go_with_their_container(pod: PodGuest) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        info = tarfile.TarInfo("0/key")
        info.size = 5
        archive.addfile(info, io.BytesIO(b"value"))
    await pod.agent.request("copy_begin", stream=99, path="files")
    await pod.agent.send_data(99, buffer.getvalue())
    await pod.agent.request("put_files", stream=99, path="files", mode=0o755)
    key = {"path": "/run/alcove/files/files/0/key", "bytes": 100}
    assert (await pod.agent.request("read_file", **key))["text"] == "value"
    await pod.create("files", "/bin/id")
    assert (await pod.agent.request("read_file", **key))["text"] == "value"
    await pod.agent.request("delete_container", id="files")
    with pytest.raises(AgentError) as caught:
        await pod.agent.request("read_file", **key)
    assert caught.value.code == "not_found"


async def test_a_containers_own_quota(pod: PodGuest) -> None:
    """It holds to the block, whatever the container is made of; the neighbour has the rest of the disk."""
    size = 4 << 20
    whole = f"head -c {size} /dev/zero > /a && echo all && echo x > /b"
    for id in ("limited", "again"):
        limited = await pod.run(id, "/bin/sh", "-c", whole, disk_bytes=size)
        assert (await pod.end(limited))["code"] != 0
        assert pod.printed[limited] == b"all\nsh: write error: Disk quota exceeded\n"
        if id == "limited":
            other = await pod.run("other", "/bin/sh", "-c", "head -c 8m /dev/zero > /a")
            assert (await pod.end(other))["code"] == 0
            await pod.agent.request("delete_container", id="other")
        # What it had is free again, and the next has all of its own.
        await pod.agent.request("delete_container", id=id)
    # Files without a byte have an end as well.
    words = "i=0; while true > /f$i; do i=$((i+1)); done; echo $i"
    many = await pod.run("many", "/bin/sh", "-c", words, disk_bytes=size)
    await pod.end(many)
    assert pod.printed[many].splitlines()[-1] == b"1024"
    await pod.agent.request("delete_container", id="many")
