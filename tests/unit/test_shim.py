"""The shim as a process, spoken to as containerd does, with a scripted node service and guest behind it."""

from __future__ import annotations

import asyncio
import json
import os
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.pod_wire import Fields, Refused
from tests.support.shim_bench import Bench, Ttrpc, running, short_bench

from alcove.wire import cgroup_messages, task_messages, ttrpc
from alcove.wire.ttrpc import Failure

SANDBOX = {"io.kubernetes.cri.container-type": "sandbox", "io.kubernetes.cri.sandbox-id": "pod"}
MEMBER = {"io.kubernetes.cri.container-type": "container", "io.kubernetes.cri.sandbox-id": "pod"}


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    async with short_bench() as made:
        yield made


async def sandboxed(bench: Bench) -> Ttrpc:
    """A pod as CRI makes it, with one member that runs."""
    shim = await bench.start("pod", annotations=SANDBOX)
    await bench.create(shim, "pod")
    await shim.call("Start", id="pod")
    await bench.start("c1", annotations=MEMBER)
    await bench.create(shim, "c1")
    await shim.call("Start", id="c1")
    return shim


async def test_a_container_from_start_to_end(bench: Bench) -> None:
    shim = await running(bench)
    wait = asyncio.create_task(shim.call("Wait", id="c1"))
    assert (await shim.call("State", id="c1"))["status"] == task_messages.RUNNING
    bench.guest.exit("c1", code=7)
    assert (await wait)["exit_status"] == 7
    deleted = await shim.call("Delete", id="c1")
    assert (deleted["exit_status"], deleted["pid"]) == (7, 4242)
    await shim.call("Shutdown", id="c1")
    await bench.events.until("/tasks/delete")
    assert bench.events.topics() == ["/tasks/create", "/tasks/start", "/tasks/exit", "/tasks/delete"]
    names = [name for name, _ in bench.guest.asked]
    assert names == ["mount_image", "create_container", "start_container", "delete_container", "unmount_image"]
    assert [name for name, _ in bench.asked][:3] == ["start_pod", "attach_image", "detach_image"]
    assert bench.requests("stop_pod")
    await until_gone(bench)


async def until_gone(bench: Bench) -> None:
    async with asyncio.timeout(20):
        while os.path.exists(bench.address.removeprefix("unix://")):
            await asyncio.sleep(0.01)


async def test_start_prints_the_address_and_writes_it(bench: Bench) -> None:
    await bench.start("c1")
    assert (bench.folder / "b/c1/address").read_text() == bench.address
    path = bench.address.removeprefix("unix://")
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert len(path) <= 104


async def test_containers_join_the_shim_of_their_pod(bench: Bench) -> None:
    await bench.start("pod", annotations=SANDBOX)
    first = bench.address
    await bench.start("c1", annotations=MEMBER)
    assert bench.address == first


async def test_a_container_whose_pods_shim_is_gone_gets_none(bench: Bench) -> None:
    bundle = bench.bundle("c1", annotations=MEMBER)
    done = await asyncio.to_thread(bench.run, "start", "c1", bundle)
    assert done.returncode == 1
    assert (done.stdout, done.stderr.count(b"\n")) == (b"", 1)


async def test_layers_go_to_the_node_lowest_first(bench: Bench) -> None:
    await running(bench)
    assert bench.requests("attach_image")[0]["layers"] == ["/a", "/b"]


async def test_the_sandboxs_container_is_no_process_in_the_guest(bench: Bench) -> None:
    shim = await bench.start("pod", annotations=SANDBOX)
    assert await bench.create(shim, "pod") == {"pid": 4242}
    await shim.call("Start", id="pod")
    assert bench.guest.asked == []
    await shim.call("Kill", id="pod", signal=1)
    assert (await shim.call("State", id="pod"))["status"] == task_messages.RUNNING
    await shim.call("Kill", id="pod", signal=15)
    assert (await shim.call("Wait", id="pod"))["exit_status"] == 143
    assert bench.requests("stop_pod")


async def test_the_sandboxs_kernel_settings_are_the_guests(bench: Bench) -> None:
    values = {"kernel.shm_rmid_forced": "1"}
    shim = await bench.start("pod", annotations=SANDBOX, linux={"sysctl": values, "namespaces": [{"type": "network"}]})
    await bench.create(shim, "pod")
    assert bench.guest.requests("sysctl")[0]["values"] == values


async def test_volumes_of_a_server_are_mounted_with_the_sandbox(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "resolv.conf").write_text("nameserver 10.9.9.9\n")
    key = f"io.alcove.nfs.{'0' * 16}"
    spec = {
        "annotations": {**SANDBOX, key: "ro,files.example:/srv"},
        "mounts": [{"destination": "/etc/resolv.conf", "type": "bind", "source": str(tmp_path / "resolv.conf")}],
    }
    shim = await bench.start("pod", **spec)
    await bench.create(shim, "pod")
    (asked,) = bench.guest.requests("mount_nfs")
    assert asked == {
        **{"name": "0" * 16, "server": "files.example", "path": "/srv", "read_only": True, "options": []},
        "resolver": "nameserver 10.9.9.9\n",
    }


async def test_a_pod_whose_volume_cannot_be_mounted_has_no_sandbox(bench: Bench) -> None:
    async def refuse(fields: Fields) -> None:
        raise Refused("timeout", "10.0.0.1:/srv: the server did not answer within 30 s")

    bench.guest.on("mount_nfs", refuse)
    shim = await bench.start("pod", annotations={**SANDBOX, f"io.alcove.nfs.{'0' * 16}": "10.0.0.1:/srv"})
    with pytest.raises(Failure, match=r"mount_nfs: 10.0.0.1:/srv: the server did not answer"):
        await bench.create(shim, "pod")
    assert bench.requests("stop_pod")


async def test_the_end_of_a_sandbox_is_told_last(bench: Bench) -> None:
    shim = await sandboxed(bench)
    await shim.call("Kill", id="pod", signal=9)
    await bench.events.until("/tasks/exit", container_id="pod")
    exits = [event["container_id"] for topic, event in bench.events.heard if topic == "/tasks/exit"]
    assert exits == ["c1", "pod"]


async def test_a_machine_that_dies_ends_all_its_containers(bench: Bench) -> None:
    shim = await sandboxed(bench)
    waits = [asyncio.create_task(shim.call("Wait", id=id)) for id in ("c1", "pod")]
    await bench.guest.agent.close()
    assert [(await wait)["exit_status"] for wait in waits] == [137, 137]
    for id in ("c1", "pod"):
        assert (await shim.call("Delete", id=id))["exit_status"] == 137
    await shim.call("Shutdown", id="pod")
    await until_gone(bench)


async def test_a_guest_that_sends_garbage_loses_its_machine(bench: Bench) -> None:
    shim = await running(bench)
    assert bench.guest.agent._writer is not None
    bench.guest.agent._writer.write(b"\xff" * 100)
    assert (await shim.call("Wait", id="c1"))["exit_status"] == 137
    async with asyncio.timeout(20):
        while not bench.requests("stop_pod"):
            await asyncio.sleep(0.01)


async def test_ends_of_execs_are_told_before_that_of_the_first_process(bench: Bench) -> None:
    shim = await running(bench)
    await exec_in(shim, "e1")
    bench.guest.exit("c1", code=0)
    # The agent is asked to end what is left; then its end comes.
    await bench.guest.until("signal_container")
    assert bench.guest.requests("signal_container")[0]["all"] is True
    bench.guest.exit("c1", exec="e1", signal=9)
    await bench.events.until("/tasks/exit", id="c1")
    exits = [event["id"] for topic, event in bench.events.heard if topic == "/tasks/exit"]
    assert exits == ["e1", "c1"]


async def exec_in(shim: Ttrpc, exec_id: str, **fields: Any) -> None:
    spec = {"type_url": "types.containerd.io/opencontainers/runtime-spec/1/Process", "value": b'{"args": ["ls"]}'}
    await shim.call("Exec", id="c1", exec_id=exec_id, spec=spec, **fields)
    await shim.call("Start", id="c1", exec_id=exec_id)


async def test_an_end_that_comes_with_the_start_is_told_after_it(bench: Bench) -> None:
    shim = await bench.start("c1")
    await bench.create(shim, "c1")

    async def start_and_end(fields: Fields) -> None:
        # In one write with the reply that follows it: the shim reads both at once.
        asyncio.get_running_loop().call_soon(lambda: bench.guest.exit("c1", code=3))

    bench.guest.on("start_container", start_and_end)
    await shim.call("Start", id="c1")
    await bench.events.until("/tasks/exit")
    assert bench.events.topics() == ["/tasks/create", "/tasks/start", "/tasks/exit"]


async def test_execs_have_a_life_of_their_own(bench: Bench) -> None:
    shim = await running(bench)
    await exec_in(shim, "e1")
    with pytest.raises(Failure) as caught:
        await exec_in(shim, "e1")
    assert caught.value.code == ttrpc.ALREADY_EXISTS
    bench.guest.exit("c1", exec="e1", code=2)
    assert (await shim.call("Wait", id="c1", exec_id="e1"))["exit_status"] == 2
    assert (await shim.call("Delete", id="c1", exec_id="e1"))["exit_status"] == 2
    with pytest.raises(Failure) as caught:
        await shim.call("State", id="c1", exec_id="e1")
    assert caught.value.code == ttrpc.NOT_FOUND
    assert (await shim.call("State", id="c1"))["status"] == task_messages.RUNNING


@pytest.mark.parametrize(
    ("method", "fields", "code"),
    [
        ("State", {"id": "other"}, ttrpc.NOT_FOUND),
        ("Kill", {"id": "c1", "exec_id": "none", "signal": 9}, ttrpc.NOT_FOUND),
        ("Delete", {"id": "c1"}, ttrpc.FAILED_PRECONDITION),
        ("Start", {"id": "c1"}, ttrpc.FAILED_PRECONDITION),
        ("Create", {"id": "c1", "bundle": "/"}, ttrpc.ALREADY_EXISTS),
        ("Exec", {"id": "c1", "exec_id": "e", "spec": {"type_url": "x", "value": b"["}}, ttrpc.INVALID_ARGUMENT),
        ("Checkpoint", {"id": "c1"}, ttrpc.UNIMPLEMENTED),
    ],
)
async def test_what_cannot_be_done_is_said_in_containerds_words(
    bench: Bench, method: str, fields: Fields, code: int
) -> None:
    shim = await running(bench)
    with pytest.raises(Failure) as caught:
        await shim.call(method, **fields)
    assert caught.value.code == code


async def test_a_signal_to_what_has_ended_finds_nothing(bench: Bench) -> None:
    shim = await running(bench)
    bench.guest.exit("c1")
    await shim.call("Wait", id="c1")
    with pytest.raises(Failure) as caught:
        await shim.call("Kill", id="c1", signal=9)
    assert caught.value.code == ttrpc.NOT_FOUND


async def test_a_start_that_fails_leaves_nothing(bench: Bench) -> None:
    async def refuse(fields: Fields) -> None:
        raise Refused("invalid", "no such user")

    bench.guest.on("create_container", refuse)
    shim = await bench.start("c1")
    with pytest.raises(Failure, match="no such user") as caught:
        await bench.create(shim, "c1")
    assert caught.value.code == ttrpc.INVALID_ARGUMENT
    assert bench.guest.requests("delete_container")
    assert bench.guest.requests("unmount_image")
    assert bench.requests("detach_image")
    assert bench.requests("stop_pod")
    with pytest.raises(Failure):
        await shim.call("State", id="c1")


async def test_a_node_service_that_has_no_room_is_quoted(bench: Bench) -> None:
    bench.answers["start_pod"] = Refused("capacity", "no memory for another pod", "stop one")
    shim = await bench.start("c1")
    with pytest.raises(Failure, match=r"no memory for another pod.*stop one") as caught:
        await bench.create(shim, "c1")
    assert caught.value.code == ttrpc.RESOURCE_EXHAUSTED


async def test_the_hosts_network_is_refused(bench: Bench) -> None:
    shim = await bench.start("c1", linux={"namespaces": [{"type": "pid"}]})
    with pytest.raises(Failure, match="hostNetwork"):
        await bench.create(shim, "c1")


# Input and output


async def test_output_reaches_its_reader_and_ends(bench: Bench) -> None:
    out, err = bench.fifo("out"), bench.fifo("err")
    await running(bench, stdout=out, stderr=err)
    readers = [os.open(path, os.O_RDONLY) for path in (out, err)]
    bench.guest.agent.output(1, 1, b"to out")
    bench.guest.agent.output(1, 2, b"to err")
    bench.guest.exit("c1")
    # To its end: the shim has let go of it.
    assert [await asyncio.to_thread(read_all, fd) for fd in readers] == [b"to out", b"to err"]


def read_all(fd: int) -> bytes:
    with os.fdopen(fd, "rb") as file:
        return file.read()


async def test_a_fifo_that_nobody_reads_stops_nothing_else(bench: Bench) -> None:
    out = bench.fifo("out")
    shim = await running(bench, stdout=out)
    for _ in range(4):
        bench.guest.agent.output(1, 1, bytes(64 * 1024))
    # The pipe holds some of it and is acknowledged; the rest waits for a reader, and the shim goes on.
    assert (await shim.call("State", id="c1"))["status"] == task_messages.RUNNING
    await exec_in(shim, "e1")
    bench.guest.exit("c1", exec="e1")
    await shim.call("Wait", id="c1", exec_id="e1")
    assert sum(fields["bytes"] for fields in bench.guest.requests("ack")) <= 64 * 1024
    reader = os.open(out, os.O_RDONLY | os.O_NONBLOCK)
    total = 0
    async with asyncio.timeout(20):
        while total < 256 * 1024:
            try:
                total += len(os.read(reader, 65536))
            except BlockingIOError:
                await asyncio.sleep(0.01)
    os.close(reader)
    async with asyncio.timeout(20):
        while sum(fields["bytes"] for fields in bench.guest.requests("ack")) < 256 * 1024:
            await asyncio.sleep(0.01)


async def test_output_that_nobody_wants_is_acknowledged(bench: Bench) -> None:
    await running(bench)
    bench.guest.agent.output(1, 1, bytes(64 * 1024))
    assert (await bench.guest.until("ack"))[0] == {"process": 1, "bytes": 64 * 1024}


async def test_input_is_handed_on_and_ends_when_it_is_closed(bench: Bench) -> None:
    stdin = bench.fifo("in")
    shim = await running(bench, stdin=stdin)
    writer = os.open(stdin, os.O_WRONLY | os.O_NONBLOCK)
    os.write(writer, b"hello")
    os.close(writer)
    async with asyncio.timeout(20):
        while bench.guest.data.get(1) != b"hello":
            await asyncio.sleep(0.01)
    # A client that has gone may come back: only CloseIO is the end.
    assert bench.guest.requests("close_stdin") == []
    await shim.call("CloseIO", id="c1", stdin=True)
    assert await bench.guest.until("close_stdin") == [{"process": 1}]


async def test_input_that_a_process_does_not_read_waits_in_its_fifo(bench: Bench) -> None:
    stdin = bench.fifo("in")
    await running(bench, stdin=stdin)
    writer = os.open(stdin, os.O_WRONLY | os.O_NONBLOCK)
    await fill(writer)
    assert 256 * 1024 <= len(bench.guest.data[1]) <= 320 * 1024
    bench.guest.agent.event(event="stdin", id="c1", process=1, bytes=len(bench.guest.data[1]))
    taken = len(bench.guest.data[1])
    async with asyncio.timeout(20):
        while len(bench.guest.data[1]) == taken:
            await asyncio.sleep(0.01)
    os.close(writer)


async def fill(writer: int) -> None:
    """Write until nothing more is taken for a while."""
    refused = 0
    while refused < 20:
        try:
            os.write(writer, bytes(16 * 1024))
            refused = 0
        except BlockingIOError:
            refused += 1
            await asyncio.sleep(0.02)


async def test_the_size_of_a_terminal_is_told_when_it_is_there(bench: Bench) -> None:
    shim = await bench.start("c1")
    await bench.create(shim, "c1", terminal=True, stdout=bench.fifo("tty"))
    await shim.call("ResizePty", id="c1", width=80, height=24)
    assert bench.guest.requests("resize") == []
    await shim.call("Start", id="c1")
    assert bench.guest.requests("resize") == [{"process": 1, "width": 80, "height": 24}]


async def test_output_to_a_program_is_refused(bench: Bench) -> None:
    shim = await bench.start("c1")
    with pytest.raises(Failure, match="binary://"):
        await bench.create(shim, "c1", stdout="binary:///bin/logger")


# containerd's restarts, and what it reads


async def test_events_wait_for_containerd_to_come_back(bench: Bench) -> None:
    shim = await running(bench)
    await bench.events.until("/tasks/start")
    await bench.events.stop()
    bench.guest.exit("c1", code=5)
    await shim.call("Wait", id="c1")
    await bench.events.start()
    assert (await bench.events.until("/tasks/exit"))["exit_status"] == 5


async def test_a_restarted_containerd_finds_everything_as_it_was(bench: Bench) -> None:
    shim = await running(bench)
    await shim.close()
    again = await bench.connect()
    assert (await again.call("Connect", id="c1"))["task_pid"] == 4242
    assert (await again.call("State", id="c1"))["status"] == task_messages.RUNNING


async def test_pause_and_resume(bench: Bench) -> None:
    shim = await running(bench)
    await shim.call("Pause", id="c1")
    assert (await shim.call("State", id="c1"))["status"] == task_messages.PAUSED
    await shim.call("Resume", id="c1")
    assert (await shim.call("State", id="c1"))["status"] == task_messages.RUNNING
    await bench.events.until("/tasks/resumed")
    assert bench.events.topics()[-2:] == ["/tasks/paused", "/tasks/resumed"]


async def test_running_out_of_memory_is_told(bench: Bench) -> None:
    await running(bench)
    bench.guest.agent.event(event="oom", id="c1")
    assert await bench.events.until("/tasks/oom") == {"container_id": "c1"}


async def test_statistics_are_bounded_whatever_the_guest_says(bench: Bench) -> None:
    async def boast(fields: Fields) -> Fields:
        memory = {"current": 1 << 70, "max": "max", "stat": {"anon": -1, "odd": 5}, "events": {"oom": 2}}
        return {"memory": memory, "cpu": {"usage_usec": 12}, "pids": {"current": 3, "max": 9}, "io": "none"}

    bench.guest.on("container_stats", boast)
    shim = await running(bench)
    any = (await shim.call("Stats", id="c1"))["stats"]
    assert any["type_url"] == "io.containerd.cgroups.v2.Metrics"
    metrics = cgroup_messages.METRICS.decode(any["value"])
    assert metrics["memory"]["usage"] == (1 << 64) - 1
    assert (metrics["memory"]["anon"], metrics["cpu"]["usage_usec"], metrics["pids"]["limit"]) == (0, 12, 9)


async def test_processes_are_listed_with_the_names_of_execs(bench: Bench) -> None:
    async def pids(fields: Fields) -> Fields:
        return {"pids": [101, 102]}

    bench.guest.on("container_pids", pids)
    shim = await running(bench)
    await exec_in(shim, "e1")
    found = (await shim.call("Pids", id="c1"))["processes"]
    assert [process["pid"] for process in found] == [101, 102]
    assert task_messages.PROCESS_DETAILS.decode(found[1]["info"]["value"]) == {"exec_id": "e1"}


async def test_limits_are_changed_in_the_guest_and_of_the_machine(bench: Bench) -> None:
    shim = await running(bench)
    limits = {"cpu": {"quota": 200000, "period": 100000, "cpus": "0-3"}, "memory": {"limit": 64 << 20}}
    await shim.call("Update", id="c1", resources={"type_url": "x", "value": json.dumps(limits).encode()})
    assert bench.requests("update_pod") == [{"namespace": "ns", "pod": "c1", "cpus": 2.0, "memory_mib": 64}]
    assert bench.guest.requests("update_container")[0]["resources"]["cpu"] == {"quota": 200000, "period": 100000}


async def test_an_image_that_two_containers_share_is_unmounted_with_the_last(bench: Bench) -> None:
    shim = await sandboxed(bench)
    await bench.start("c2", annotations=MEMBER)
    await bench.create(shim, "c2")
    bench.guest.exit("c1")
    await shim.call("Wait", id="c1")
    await shim.call("Delete", id="c1")
    assert bench.guest.requests("unmount_image") == []
    await shim.call("Delete", id="c2")
    assert len(bench.guest.requests("unmount_image")) == 1
    assert len(bench.requests("detach_image")) == 2


async def test_delete_works_where_the_shim_is_gone(bench: Bench) -> None:
    bundle = bench.bundle("c1")
    done = await asyncio.to_thread(bench.run, "delete", "c1", bundle)
    assert done.returncode == 0, done.stderr
    assert task_messages.DELETE_RESPONSE.decode(done.stdout)["exit_status"] == 137
    assert bench.requests("stop_pod") == [{"namespace": "ns", "pod": "c1"}]


async def test_delete_of_a_member_leaves_the_others(bench: Bench) -> None:
    shim = await sandboxed(bench)
    done = await asyncio.to_thread(bench.run, "delete", "c1", bench.folder / "b/c1")
    assert done.returncode == 0, done.stderr
    assert bench.requests("stop_pod") == []
    assert (await shim.call("State", id="pod"))["status"] == task_messages.RUNNING


async def test_the_shim_stays_small(bench: Bench) -> None:
    """Decision 24 promises 12 MB of private memory at most, which Python's own pages are most of."""
    shim = await sandboxed(bench)
    await exec_in(shim, "e1")
    pid = (await shim.call("Connect", id="pod"))["shim_pid"]
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    private = sum(int(line.split()[1]) for line in lines if line.startswith("Private"))
    assert private <= 12 * 1024
    modules = Path(f"/proc/{pid}/maps").read_text()
    assert "libssl" not in modules
    assert "libcrypto" not in modules
