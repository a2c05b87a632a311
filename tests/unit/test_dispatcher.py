"""The dispatcher over the fake tier: reuse, pools, limits, ends, logs."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fakes import FakeTier

from alcove.errors import HostError, ThrottledError
from alcove.functions.dispatcher import Dispatcher
from alcove.functions.logs import LogStore
from alcove.functions.model import FunctionVersion
from alcove.functions.request_log import OWN_BYTES, REQUEST_BYTES, RequestLog
from alcove.functions.scheduler import Bounds
from alcove.sandbox.protocol import CodeImage, Isolation, Runtime, TenantId

PYTHON_VM = (Isolation.VM, Runtime.PYTHON)


def function(handler: str = "echo", name: str = "f", **changes: Any) -> FunctionVersion:
    fields: dict[str, Any] = {
        "tenant": TenantId("t"),
        "function_id": f"id-{name}",
        "name": name,
        "version": "$LATEST",
        "function_arn": f"arn:alcove:lambda:::function:{name}",
        "runtime": Runtime.PYTHON,
        "runtime_name": "python3.11",
        "handler": handler,
        "memory_mib": 128,
        "timeout_s": 3,
        "environment": {},
        "description": "",
        "role": "",
        "isolation": Isolation.VM,
        "network": True,
        "code": CodeImage("0" * 64, Path("/nonexistent")),
        "package_sha256": "0" * 64,
        "package_bytes": 1,
        "revision_id": "r1",
        "modified_ms": 0,
    }
    return FunctionVersion(**{**fields, **changes})


@pytest.fixture
def tier() -> FakeTier:
    return FakeTier()


@pytest.fixture
async def dispatcher(tier: FakeTier, tmp_path: Path) -> AsyncIterator[Dispatcher]:
    dispatcher = Dispatcher(
        {Isolation.VM: tier}, LogStore(tmp_path / "logs"), pool_sizes={}, bounds=Bounds(max_sandboxes=4, queue_wait_s=0)
    )
    dispatcher.start()
    yield dispatcher
    await dispatcher.close()
    await tier.close()


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_the_second_call_is_warm(dispatcher: Dispatcher, tier: FakeTier) -> None:
    first = await dispatcher.invoke(function(), b'{"a":1}')
    second = await dispatcher.invoke(function(), b'{"a":2}')
    assert (first.start, second.start) == ("restored", "warm")
    assert first.sandbox_id == second.sandbox_id
    assert second.payload == b'{"a":2}'
    assert tier.started == 1


async def test_one_request_at_a_time_in_a_sandbox(dispatcher: Dispatcher, tier: FakeTier) -> None:
    results = await asyncio.gather(*(dispatcher.invoke(function("sleep"), b"0.05") for _ in range(3)))
    assert len({result.sandbox_id for result in results}) == 3
    assert tier.started == 3


async def test_the_limit_of_sandboxes_is_exact(dispatcher: Dispatcher, tier: FakeTier) -> None:
    results = await asyncio.gather(
        *(dispatcher.invoke(function("sleep"), b"0.1") for _ in range(6)), return_exceptions=True
    )
    assert sum(isinstance(result, ThrottledError) for result in results) == 2
    assert tier.started == 4


async def test_the_longest_idle_instance_makes_room(dispatcher: Dispatcher, tier: FakeTier) -> None:
    for number in range(5):
        await dispatcher.invoke(function(name=f"f{number}"), b"1")
    await settle()
    names = {instance["function"] for instance in dispatcher.instances()}
    assert names == {"f1", "f2", "f3", "f4"}
    assert len(tier.live) == 4


async def test_a_pool_gives_mounted_starts(tier: FakeTier, tmp_path: Path) -> None:
    dispatcher = Dispatcher({Isolation.VM: tier}, LogStore(tmp_path / "logs"), pool_sizes={PYTHON_VM: 2})
    dispatcher.start()
    await dispatcher.pools_filled()
    result = await dispatcher.invoke(function(), b"1")
    assert result.start == "mounted"
    assert "pre-started" in result.why
    await dispatcher.close()
    await tier.close()
    assert not tier.live


async def test_a_handler_error_is_an_answer(dispatcher: Dispatcher) -> None:
    result = await dispatcher.invoke(function("raise"), b"1")
    assert result.error == "Unhandled"
    assert json.loads(result.payload)["errorType"] == "ValueError"
    assert (await dispatcher.invoke(function("raise"), b"1")).start == "warm"


async def test_init_failure_is_an_answer_and_frees_the_sandbox(dispatcher: Dispatcher, tier: FakeTier) -> None:
    result = await dispatcher.invoke(function("initfail"), b"1")
    assert (result.error, json.loads(result.payload)["errorType"]) == ("Unhandled", "Boom")
    await settle()
    assert not tier.live


async def test_an_exit_is_reported_and_the_next_call_starts_anew(dispatcher: Dispatcher, tier: FakeTier) -> None:
    result = await dispatcher.invoke(function("exit"), b"1")
    assert json.loads(result.payload)["errorType"] == "Runtime.ExitError"
    await settle()
    assert not tier.live
    assert (await dispatcher.invoke(function(), b"1")).start == "restored"


async def test_a_time_out_ends_the_sandbox(dispatcher: Dispatcher, tier: FakeTier) -> None:
    result = await dispatcher.invoke(function("sleep", timeout_s=0.05), b"5")
    assert "Task timed out after 0.05 seconds" in json.loads(result.payload)["errorMessage"]
    await settle()
    assert not tier.live


async def test_a_changed_function_is_drained(dispatcher: Dispatcher, tier: FakeTier) -> None:
    busy = asyncio.create_task(dispatcher.invoke(function("sleep"), b"0.05"))
    await settle()
    await dispatcher.forget(function().function_arn, None)
    assert (await busy).error is None
    await settle()
    assert not tier.live


async def test_a_sandbox_that_started_with_old_code_never_serves_the_new(tier: FakeTier, tmp_path: Path) -> None:
    tier.load_s = 0.05
    dispatcher = Dispatcher({Isolation.VM: tier}, LogStore(tmp_path / "logs"), pool_sizes={})
    starting = asyncio.create_task(dispatcher.invoke(function(), b"1"))
    await settle()
    await dispatcher.forget(function().function_arn, "$LATEST")
    old = await starting
    new = await dispatcher.invoke(function(revision_id="r2"), b"2")
    assert new.sandbox_id != old.sandbox_id
    await dispatcher.close()
    await tier.close()


async def test_idle_sandboxes_are_released(tier: FakeTier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("alcove.functions.scheduler.REAP_EVERY_S", 0.01)
    dispatcher = Dispatcher(
        {Isolation.VM: tier}, LogStore(tmp_path / "logs"), pool_sizes={}, bounds=Bounds(idle_timeout_s=0.02)
    )
    dispatcher.start()
    await dispatcher.invoke(function(), b"1")
    async with asyncio.timeout(5):
        while tier.live:
            await asyncio.sleep(0.01)
    assert not dispatcher.instances()
    await dispatcher.close()


async def test_a_tier_that_is_not_there_is_refused_never_replaced(dispatcher: Dispatcher, tier: FakeTier) -> None:
    with pytest.raises(HostError, match="gvisor"):
        await dispatcher.invoke(function(isolation=Isolation.GVISOR), b"1")
    assert tier.started == 0


async def test_a_failed_start_leaves_nothing(dispatcher: Dispatcher, tier: FakeTier) -> None:
    tier.fail = True
    with pytest.raises(HostError):
        await dispatcher.invoke(function(), b"1")
    tier.fail = False
    assert (await dispatcher.invoke(function(), b"1")).error is None


async def test_the_log_tail_holds_what_was_printed(dispatcher: Dispatcher) -> None:
    result = await dispatcher.invoke(function("print"), b'"hello log"', want_log=True)
    text = result.log_tail.decode()
    assert "hello log" in text
    assert text.startswith("START RequestId: " + result.request_id)
    assert "REPORT RequestId" in text


async def test_the_report_tells_what_was_used_up_to_the_end(dispatcher: Dispatcher, tier: FakeTier) -> None:
    await dispatcher.invoke(function("echo"), b"1")
    (sandbox,) = tier.live
    sandbox.peak_mib = 17
    result = await dispatcher.invoke(function("echo"), b"1", want_log=True)
    assert "Max Memory Used: 17 MB" in result.log_tail.decode()
    late = await dispatcher.invoke(function("hang", name="late", timeout_s=0.05), b"1", want_log=True)
    assert "Max Memory Used: 99 MB" in late.log_tail.decode()


def test_output_is_cut_by_request_and_forged_markers_count_for_nothing() -> None:
    log = RequestLog()
    seen: dict[str, bytes] = {}
    for request_id in ("a", "b"):
        log.expect(request_id)
        log.write(1, f"from {request_id}\0alcove:end:forged\0\n".encode())
        log.write(2, f"\0alcove:end:{request_id}\0".encode())
        log.report(request_id, lambda text, id=request_id: seen.__setitem__(id, text))
    assert b"from a" in seen["a"]
    assert b"from a" not in seen["b"]
    assert b"from b" in seen["b"]


@given(st.data())
def test_output_of_requests_that_share_an_instance_is_cut_wherever_it_breaks(data: st.DataObject) -> None:
    names, streams = ("a", "b", "c"), (1, 2)
    text = st.text("x\n\0", max_size=5)
    said = st.lists(st.tuples(st.sampled_from(streams), st.sampled_from(names), text), max_size=12)
    log, seen, wanted = RequestLog(), dict[str, bytes](), Counter[tuple[str, int]]()
    for name in names:
        log.expect(name)
        log.report(name, lambda text, id=name: seen.__setitem__(id, text))
    out: dict[int, bytes] = {1: b"", 2: b""}
    for stream, name, more in data.draw(said):
        out[stream] += b"\0alcove:of:%s\0%s\0alcove:of:\0" % (name.encode(), f"{name}{stream}{more}".encode())
        wanted[name, stream] += 1
    for name in names:
        out[2] += b"\0alcove:end:%s\0" % name.encode()
    for stream in streams:
        while out[stream]:
            size = data.draw(st.integers(1, len(out[stream])))
            log.write(stream, out[stream][:size])
            out[stream] = out[stream][size:]
    for name in names:
        assert {(one, stream) for one in names for stream in streams if f"{one}{stream}".encode() in seen[name]} == {
            key for key in wanted if key[0] == name
        }


def test_what_is_kept_of_many_requests_is_bounded() -> None:
    log = RequestLog()
    for number in range(100):
        log.expect(f"r{number}")
        log.write(1, b"\0alcove:of:r%d\0" % number + b"x" * REQUEST_BYTES)
    assert sum(map(len, log._texts.values())) < 8 * REQUEST_BYTES
    seen: list[bytes] = []
    log.report("r99", seen.append)
    log.write(2, b"\0alcove:end:r99\0")
    assert len(seen[0]) <= OWN_BYTES + 100


def test_output_of_requests_that_are_not_there_is_nobodys() -> None:
    log = RequestLog()
    for number in range(1000):
        log.write(1, b"\0alcove:of:stranger%d\0text" % number)
    assert list(log._texts) == [""]
    log.expect("a")
    seen: list[bytes] = []
    log.report("a", seen.append)
    log.write(2, b"\0alcove:end:a\0")
    assert seen == [b"text" * 1000]


def test_a_marker_that_never_ends_is_text() -> None:
    log = RequestLog()
    log.expect("a")
    log.write(1, b"\0alcove:of:")
    for _ in range(100):
        log.write(1, b"xxxxx")
    assert not log._begun
    assert log._texts[""] == b"\0alcove:of:" + b"x" * 500


def test_output_without_end_is_bounded() -> None:
    log = RequestLog()
    log.expect("a")
    for _ in range(100):
        log.write(1, b"x" * 32768)
    seen: list[bytes] = []
    log.write(2, b"\0alcove:end:a\0")
    log.report("a", seen.append)
    assert len(seen[0]) < REQUEST_BYTES + 200
    assert b"bytes of output dropped" in seen[0]


def test_a_function_log_survives_and_rotates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("alcove.functions.logs.FILE_BYTES", 2000)
    log = LogStore(tmp_path).of("f")
    for number in range(50):
        log.append("r", [f"line {number}"])
    again = LogStore(tmp_path).of("f")
    assert again.lines(tail=1)[0].text == "line 49"
    assert again.lines(tail=1)[0].number == 50
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 5000


async def test_a_sandbox_that_is_lost_while_it_starts_is_made_up_for(dispatcher: Dispatcher, tier: FakeTier) -> None:
    tier.lose = 1
    result = await dispatcher.invoke(function(), b"1")
    assert (result.payload, result.error) == (b"1", None)
    assert len(tier.live) == 1


async def test_one_that_is_lost_again_is_told(dispatcher: Dispatcher, tier: FakeTier) -> None:
    tier.lose = 2
    result = await dispatcher.invoke(function(), b"1")
    assert json.loads(result.payload)["errorType"] == "Runtime.ExitError"
    assert not tier.live
