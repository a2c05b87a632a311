"""What every sandbox does, whichever its tier: the promises of ``sandbox/protocol.py``."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

import pytest
from msgspec.structs import replace

from alcove.errors import HostError, ProtocolError, SandboxError, SandboxGone
from alcove.functions.streaming import AnswerStream
from alcove.host.files import instance_tag
from alcove.host.mounts import mounts_under
from alcove.sandbox.engine import open_engine
from alcove.sandbox.protocol import Delivery, InitError, Isolation, Sandbox, Start

from .conftest import IMAGES, Bench, invocation, until

pytestmark = [pytest.mark.machine, pytest.mark.asyncio(loop_scope="session")]
Load = Callable[..., Awaitable[Sandbox]]
# A machine has every start, and what a killed daemon left of it may be adopted: tests/machine, tests/crash.
CONTAINERS = pytest.mark.parametrize("bench", [Isolation.GVISOR, Isolation.PROCESS], indirect=True, ids=str)


@pytest.mark.parametrize("delivery", Delivery, ids=str)
async def test_serves_and_leaves_nothing(bench: Bench, delivery: Delivery) -> None:
    sandbox = await bench.start()
    try:
        await sandbox.rehearse()
        await sandbox.load(bench.workload(), delivery)
        began = time.perf_counter()
        outcome = await sandbox.invoke(invocation(b'{"n": 1}'))
        took_ms = (time.perf_counter() - began) * 1000
        assert outcome.error is None
        answer = json.loads(outcome.payload)
        assert answer == {"echo": {"n": 1}, "function": "sample", "user": 1000}
        await until(lambda: b"\0alcove:end:request-1\0" in bench.logs[2])
        assert b"printed by the handler" in bench.logs[1]
        assert sandbox.isolation is bench.tier.isolation
        assert all(duration >= 0 for duration in sandbox.phases_ms.values())
        print(bench.tier.isolation, delivery, f"invoke {took_ms:.1f}", sandbox.phases_ms)
    finally:
        await sandbox.close()
    await sandbox.close()
    assert bench.exits == []
    await until(lambda: not bench.leftovers(sandbox.id))
    with pytest.raises(SandboxGone):
        await sandbox.invoke(invocation(b"{}"))


@pytest.mark.parametrize("delivery", Delivery, ids=str)
async def test_layers_are_beside_the_code(bench: Bench, delivery: Delivery) -> None:
    sandbox = await bench.start()
    try:
        await sandbox.rehearse()
        await sandbox.load(bench.workload(code=bench.layered), delivery)
        outcome = await sandbox.invoke(invocation(b'{"do": "layers"}'))
        assert json.loads(outcome.payload) == {
            "opt": ["alcove", "bin", "data", "lib", "python"],
            "task": ["app.py", "broken.py"],
            "text": "second",
            "imported": "layer",
            "tool": "new\n",
            "ours": True,
        }
        for path in ("/opt/x", "/opt/data/text", "/var/task/x"):
            event = json.dumps({"do": "write", "path": path}).encode()
            assert json.loads((await sandbox.invoke(invocation(event))).payload) != "written"
    finally:
        await sandbox.close()
    await until(lambda: not bench.leftovers(sandbox.id))


async def test_serves_again_after_the_handler_raised(bench: Bench, load: Load) -> None:
    sandbox = await load()
    outcome = await sandbox.invoke(invocation(b'{"do": "raise"}'))
    assert outcome.error is not None
    document = json.loads(outcome.error)
    assert (document["errorType"], document["errorMessage"]) == ("ValueError", "as asked")
    assert (await sandbox.invoke(invocation(b"{}", "request-2"))).error is None


async def test_a_streamed_answer_waits_for_who_reads_it(load: Load) -> None:
    """A reader that stalls stalls the function; all of the answer arrives, and the next call is served."""
    sandbox, stream, total = await load(), AnswerStream(1 << 30), 256 * 65536
    call = asyncio.ensure_future(sandbox.invoke(replace(invocation(b'{"do": "stream", "parts": 256}'), sink=stream)))
    before = -1
    while before != stream.size or not stream.size:
        before = stream.size
        await asyncio.sleep(0.3)
    assert before < total
    assert stream.content_type == "application/octet-stream"
    received = 0
    while received < total:
        received += len(await stream.read())
    outcome = await call
    assert (outcome.error, received, stream.size) == (None, total, total)
    whole = await sandbox.invoke(invocation(b'{"do": "stream", "parts": 3}', "request-2"))
    assert whole.payload == b"x" * (3 * 65536)
    too_large = await sandbox.invoke(invocation(b'{"do": "stream", "parts": 97}', "request-3"))
    assert too_large.error is not None
    assert (await sandbox.invoke(invocation(b"{}", "request-4"))).error is None


async def test_shared_requests_are_inside_together(bench: Bench, load: Load) -> None:
    sandbox = await load()
    shared = [replace(invocation(b'{"do": "meet", "parties": 3}', f"request-{n}"), shared=True) for n in range(3)]
    async with asyncio.timeout(30):
        outcomes = await asyncio.gather(*(sandbox.invoke(one) for one in shared))
    assert [json.loads(outcome.payload) for outcome in outcomes] == ["met", "met", "met"]
    assert (await sandbox.invoke(invocation(b"{}", "request-4"))).error is None


async def test_the_peak_of_memory_is_known_when_the_output_ends(bench: Bench, load: Load) -> None:
    sandbox = await load(memory_mib=512)
    await sandbox.invoke(invocation(b'{"do": "hold", "mib": 60, "seconds": 0}'))
    await until(lambda: b"\0alcove:end:request-1\0" in bench.logs[2])
    first = sandbox.memory_peak_mib()
    assert first is not None
    assert 60 <= first < 250
    await sandbox.invoke(invocation(b'{"do": "hold", "mib": 200, "seconds": 0}', "request-2"))
    await until(lambda: b"\0alcove:end:request-2\0" in bench.logs[2])
    assert (sandbox.memory_peak_mib() or 0) >= 200
    call = asyncio.ensure_future(sandbox.invoke(invocation(b'{"do": "hold", "mib": 300, "seconds": 60}', "request-3")))
    async with asyncio.timeout(30):
        while (sandbox.memory_peak_mib() or 0) < 300:
            await asyncio.sleep(0.05)
            await sandbox.measure()
    await sandbox.close()
    with pytest.raises(SandboxGone):
        await call


async def test_init_code_that_fails_is_the_tenants_error(bench: Bench) -> None:
    sandbox = await bench.start()
    try:
        with pytest.raises(InitError) as caught:
            await sandbox.load(bench.workload(handler="broken.handler"))
        assert json.loads(caught.value.document)["errorType"] == "KeyError"
    finally:
        await sandbox.close()


@pytest.mark.parametrize("path", ["/var/task/app.py", "/var/x", "/etc/passwd", "/proc/sysrq-trigger"])
async def test_what_is_not_its_own_is_read_only(load: Load, path: str) -> None:
    sandbox = await load()
    outcome = await sandbox.invoke(invocation(json.dumps({"do": "write", "path": path}).encode()))
    assert json.loads(outcome.payload) != "written"
    outcome = await sandbox.invoke(invocation(b'{"do": "write", "path": "/tmp/x"}', "request-2"))
    assert json.loads(outcome.payload) == "written"


# Hostile functions


@pytest.mark.parametrize(
    ("do", "reason"), [("exit", "exited"), ("signal", "signal"), ("hog", "out_of_memory"), ("close", "exited")]
)
async def test_a_runtime_that_ends_is_told_with_the_reason(bench: Bench, load: Load, do: str, reason: str) -> None:
    sandbox = await load(memory_mib=256)
    with pytest.raises(SandboxGone) as caught:
        async with asyncio.timeout(30):
            await sandbox.invoke(invocation(json.dumps({"do": do}).encode()))
    await until(lambda: bool(bench.exits))
    assert bench.exits == [reason]
    if do != "close":
        assert caught.value.reason == reason
    await sandbox.close()
    await until(lambda: not bench.leftovers(sandbox.id))


async def test_garbage_on_the_channel_ends_the_sandbox(load: Load) -> None:
    sandbox = await load()
    with pytest.raises((ProtocolError, SandboxGone)):
        async with asyncio.timeout(20):
            await sandbox.invoke(invocation(b'{"do": "garbage"}'))
    with pytest.raises(SandboxError):
        await sandbox.invoke(invocation(b"{}", "request-2"))


async def test_a_flood_of_output_does_not_hold_up_the_others(bench: Bench, load: Load) -> None:
    sandbox = await load(memory_mib=1769)
    worst = 0.0

    async def other() -> None:
        nonlocal worst
        while True:
            began = time.perf_counter()
            await asyncio.sleep(0.005)
            worst = max(worst, time.perf_counter() - began)

    watch = asyncio.create_task(other())
    try:
        async with asyncio.timeout(60):
            outcome = await sandbox.invoke(invocation(b'{"do": "flood", "mib": 24}'))
    finally:
        watch.cancel()
    assert json.loads(outcome.payload) == "flooded"
    assert len(bench.logs[1]) <= 25 << 20
    assert worst < 0.5


# Starts


async def test_many_at_once(bench: Bench, load: Load) -> None:
    sandboxes = await asyncio.gather(*(load() for _ in range(3)))
    outcomes = await asyncio.gather(
        *(sandbox.invoke(invocation(b'{"n": %d}' % n)) for n, sandbox in enumerate(sandboxes))
    )
    assert [json.loads(outcome.payload)["echo"]["n"] for outcome in outcomes] == [0, 1, 2]
    assert len({sandbox.id for sandbox in sandboxes}) == 3


@CONTAINERS
async def test_a_start_that_a_tier_does_not_have_is_refused(bench: Bench) -> None:
    for how in (Start.RESTORED, Start.SNAPSHOT):
        with pytest.raises(HostError):
            await bench.tier.start(bench.workload().runtime, how)


async def test_a_cancelled_start_leaves_nothing(bench: Bench) -> None:
    for delay in (0.02, 0.1, 0.2):
        task = asyncio.create_task(bench.start())
        await asyncio.sleep(delay)
        task.cancel()
        try:
            sandbox = await task
        except asyncio.CancelledError:
            continue
        await sandbox.close()
    await until(lambda: not bench.leftovers())


_KILLED = """
import asyncio, os, sys
from contextlib import AsyncExitStack
from msgspec.structs import replace
from pathlib import Path
from alcove.sandbox.engine import open_engine
from alcove.sandbox.protocol import CodeImage, Isolation, Runtime, TenantId, Workload

async def main(state, isolation, digest, image, step):
    async with AsyncExitStack() as stack:
        tiers, _ = await open_engine(stack, state=Path(state), isolations=frozenset({Isolation(isolation)}))
        tier = tiers[Isolation(isolation)]
        if step == "starting":
            asyncio.get_running_loop().call_later(0.5, os.kill, os.getpid(), 9)
            while True:
                await asyncio.gather(*(tier.start(Runtime.PYTHON) for _ in range(2)))
        sandbox = await tier.start(Runtime.PYTHON)
        code = CodeImage(digest, Path(image))
        await sandbox.load(
            Workload(TenantId("tenant-a"), "sample", "1", "arn", Runtime.PYTHON, "app.handler", code)
        )
        os.kill(os.getpid(), 9)

asyncio.run(main(*sys.argv[1:]))
"""


@CONTAINERS
@pytest.mark.parametrize("step", ["starting", "loaded"])
async def test_recover_reaps_what_a_killed_daemon_left(
    bench: Bench, tmp_path_factory: pytest.TempPathFactory, step: str
) -> None:
    isolation = bench.tier.isolation
    state = tmp_path_factory.mktemp("crash")
    (state / "images").symlink_to(IMAGES)
    killed = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", _KILLED, str(state), str(isolation)),
        *(bench.code.digest, str(bench.code.path), step),
    )
    assert await killed.wait() == -9
    after = Bench(bench.tier, state, instance_tag(state), bench.code, bench.layered)
    assert after.leftovers()
    async with AsyncExitStack() as stack:
        tiers, network = await open_engine(stack, state=state, isolations=frozenset({isolation}))
        stack.push_async_callback(tiers[isolation].close)
        assert await tiers[isolation].recover() == ()
        await network.recover(set())
        await until(lambda: not after.leftovers())
        assert not mounts_under(state)
        sandbox = await tiers[isolation].start(bench.workload().runtime)
        await sandbox.close()
    assert not mounts_under(state)
