"""Executions of flows: what they give, what they write down, how they end, and that they go on."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from tests.unit.test_flow_definitions import a, flow

from alcove.errors import Conflict, InvalidRequest, NotFound, QuotaExceeded, ThrottledError
from alcove.flows import engine as engines
from alcove.flows import journal
from alcove.flows.service import FlowService
from alcove.functions.model import InvokeResult
from alcove.sandbox.protocol import TenantId
from alcove.store import flows as rows
from alcove.store.flows import ExecutionRow
from alcove.tenants.quotas import Quotas

TENANT = TenantId("t")


class Functions:
    """A resolver and a dispatcher: handlers by the function's name."""

    def __init__(self, **handlers: Callable[[Any], Any]) -> None:
        self.handlers = handlers
        self.calls: list[tuple[str, Any]] = []
        self.cancelled = 0

    async def resolve(self, tenant: TenantId, name: str, version: str = "$LATEST") -> Any:
        if name not in self.handlers:
            raise NotFound(f"Function not found: {name}")
        return name

    async def invoke(self, function: Any, event: bytes, **options: Any) -> InvokeResult:
        data = json.loads(event)
        self.calls.append((function, data))
        try:
            found = self.handlers[function](data)
            payload, error = await found if asyncio.iscoroutine(found) else found, None
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        except (KeyError, ValueError) as problem:
            payload, error = {"errorType": type(problem).__name__, "errorMessage": str(problem)}, "Unhandled"
        return InvokeResult(
            json.dumps(payload).encode(), error, "r", "warm", "", {}, 1, b"", "1", "s"  # type: ignore[arg-type]
        )  # fmt: skip


def failing(times: int, then: Any = "done") -> Callable[[Any], Any]:
    left = [times]

    def handler(data: Any) -> Any:
        if left[0]:
            left[0] -= 1
            raise ValueError("not yet")
        return then

    return handler


@pytest.fixture
async def functions() -> Functions:
    return Functions(echo=lambda data: data, double=lambda data: {"result": data["n"] * 2})


@pytest.fixture
async def flows(tmp_path: Path, functions: Functions) -> AsyncIterator[FlowService]:
    found = await FlowService.open(tmp_path / "flows.db", functions, functions, retention_s=60)  # type: ignore[arg-type]
    await found.start()
    yield found
    await found.close()


async def ended(flows: FlowService, name: str = "e", flow: str = "f") -> ExecutionRow:
    while (row := await flows.describe(TENANT, flow, name)).status == "Running":
        await asyncio.sleep(0.005)
    return row


async def run(flows: FlowService, *states: Any, data: Any = None, **more: Any) -> tuple[str, Any]:
    """Return status and output of a flow of these states."""
    await flows.create(TENANT, "f", flow(*states, **more))
    await flows.begin(TENANT, "f", "e", json.dumps({} if data is None else data))
    row = await ended(flows)
    return row.status, json.loads(row.output or "null")


async def history(flows: FlowService) -> list[tuple[str, str]]:
    _, events = await flows.history(TENANT, "f", "e", limit=2000)
    return [(one.type, one.state) for _, one in events]


FAILED = "XFlow.RuntimeError"
STATES: list[tuple[str, list[dict[str, Any]], Any, tuple[str, Any]]] = [
    ("pass merges", [a(data={"b": 2})], {"a": 1}, ("Succeed", {"a": 1, "b": 2})),
    ("pass replaces", [a(data=[1])], {"a": 1}, ("Succeed", [1])),
    ("filters", [a("wait", seconds=0, stateDataFilter={"input": ".x", "output": "{res: .y}"})], {"x": {"y": 7}},
     ("Succeed", {"res": 7})),
    ("next", [a(next="b"), {"type": "succeed", "name": "b", "stateDataFilter": {"output": ".x"}}], {"x": 1},
     ("Succeed", 1)),
    ("fail", [a("fail", error="Mine", cause="so")], {}, ("Fail", {"error": "Mine", "cause": "so"})),
    ("switch", [a("switch", conditions=[{"condition": ".n > 1", "next": "b"}], default={"next": "c"}),
                {**a(data={"big": True}), "name": "b"}, {**a(data={"big": False}), "name": "c"}], {"n": 2},
     ("Succeed", {"n": 2, "big": True})),
    ("default", [a("switch", conditions=[{"condition": ".n > 1", "next": "b"}], default={"next": "c"}),
                 {**a(data={"big": True}), "name": "b"}, {**a(data={"big": False}), "name": "c"}], {"n": 1},
     ("Succeed", {"n": 1, "big": False})),
    ("no default", [a("switch", conditions=[{"condition": ".n > 1", "next": "b"}]), {**a(), "name": "b"}], {"n": 1},
     ("Fail", {"error": FAILED, "cause": "no condition is met, and there is no default"})),
    ("no truth", [a("switch", conditions=[{"condition": ".n", "next": "b"}]), {**a(), "name": "b"}], {"n": 1},
     ("Fail", {"error": FAILED, "cause": ".n: must give true or false"})),
    ("operation", [a("operation", resource="double")], {"n": 4}, ("Succeed", {"result": 8})),
    ("action filters", [a("operation", resource="double",
                          actionDataFilter={"fromStateData": "{n: .m}", "results": ".result", "toStateData": ".x.y"})],
     {"m": 3}, ("Succeed", {"m": 3, "x": {"y": 6}})),
    ("function fails", [a("operation", resource="double")], {}, ("Fail", {"error": "CFC.KeyError", "cause": "'n'"})),
    ("no function", [a("operation", resource="nothing")], {},
     ("Fail", {"error": "CFC.ResourceNotFoundException", "cause": "Function not found: nothing"})),
    ("catch", [a("operation", resource="double", catch=[{"errors": ["CFC.ServiceException"], "next": "c"},
                                                         {"errors": [FAILED], "next": "b"}]),
               {**a(stateDataFilter={"output": "[.kept, .error.error]"}), "name": "b"}, {**a(), "name": "c"}],
     {"kept": 1}, ("Succeed", [1, "CFC.KeyError"])),
    ("parallel", [a("parallel", branches=[{"start": "a", "states": [a("operation", resource="double")]},
                                           {"start": "a", "states": [a(data={"bce": "xflow"})]}])], {"n": 1},
     ("Succeed", {"n": 1, "result": 2, "bce": "xflow"})),
    ("a branch fails", [a("parallel", branches=[{"start": "a", "states": [a("fail", error="Mine")]},
                                                 {"start": "a", "states": [a("wait", seconds=100)]}],
                          catch=[{"errors": ["Mine"], "next": "b"}]), {**a(data={"caught": True}), "name": "b"}], {},
     ("Succeed", {"error": {"error": "Mine", "cause": ""}, "caught": True})),
    ("foreach", [a("foreach", inputCollection=".list", iterationParam="n", outputCollection=".out",
                   iterator={"start": "a", "states": [a("operation", resource="double")]})], {"list": [1, 2, 3]},
     ("Succeed", {"list": [1, 2, 3], "out": [{"result": 2}, {"result": 4}, {"result": 6}]})),
    ("foreach of nothing", [a("foreach", inputCollection=".list", iterationParam="n",
                              iterator={"start": "a", "states": [a()]})], {"list": []}, ("Succeed", {"list": []})),
    ("foreach of no list", [a("foreach", inputCollection=".x", iterationParam="n",
                              iterator={"start": "a", "states": [a()]})], {},
     ("Fail", {"error": FAILED, "cause": "'inputCollection' must give an array of at most 500 items"})),
    ("wait by data", [a("wait", seconds=".s")], {"s": 0.01}, ("Succeed", {"s": 0.01})),
    ("wait until", [a("wait", timestamp="2020-01-01T00:00:00Z")], {}, ("Succeed", {})),
    ("wait for what", [a("wait", seconds=".s")], {"s": "long"},
     ("Fail", {"error": FAILED, "cause": ".s: must give 0 to 172800 seconds"})),
    ("a loop", [a("switch", conditions=[{"condition": ".n < 1000", "next": "b"}], default={"next": "c"}),
                {**a("operation", resource="double", next="a", actionDataFilter={"results": "{n: .result}"}),
                 "name": "b"}, {**a(), "name": "c"}], {"n": 1}, ("Succeed", {"n": 1024})),
]  # fmt: skip


@pytest.mark.parametrize(("states", "data", "expected"), [row[1:] for row in STATES], ids=[row[0] for row in STATES])
async def test_states(flows: FlowService, states: list[Any], data: Any, expected: tuple[str, Any]) -> None:
    status, output = await run(flows, *states, data=data)
    assert (status, output) == expected


async def test_retries(flows: FlowService, functions: Functions) -> None:
    functions.handlers["flaky"] = failing(2)
    rule = {"errors": ["CFC.ValueError"], "intervalSeconds": 0, "maxAttempts": 2}
    assert await run(flows, a("operation", resource="flaky", retry=[rule])) == ("Succeed", "done")
    assert len(functions.calls) == 3
    kinds = [kind for kind, _ in await history(flows)]
    assert kinds == [
        "ExecutionStarted", "StateOperationEntered", "StateOperationRetried", "StateOperationRetried",
        "StateOperationExited", "ExecutionSucceeded",
    ]  # fmt: skip


async def test_retries_that_are_used_up(flows: FlowService, functions: Functions) -> None:
    functions.handlers["flaky"] = failing(9)
    rules = [
        {"errors": ["CFC.Other"], "maxAttempts": 9},
        {"errors": ["XFlow.ALL"], "intervalSeconds": 0, "maxAttempts": 1},
    ]
    status, output = await run(flows, a("operation", resource="flaky", retry=rules))
    assert (status, output) == ("Fail", {"error": "CFC.ValueError", "cause": "not yet"})
    assert len(functions.calls) == 2


async def test_branches_are_tried_again(flows: FlowService, functions: Functions) -> None:
    functions.handlers["flaky"] = failing(1, {"x": 1})
    branches = [{"start": "a", "states": [a("operation", resource=name)]} for name in ("flaky", "echo")]
    rule = {"errors": ["XFlow.ALL"], "intervalSeconds": 0}
    assert await run(flows, a("parallel", branches=branches, retry=[rule])) == ("Succeed", {"x": 1})


async def test_a_timeout(flows: FlowService) -> None:
    assert await run(flows, a("wait", seconds=100), timeoutSeconds=1) == ("Timeout", None)
    assert (await history(flows))[-1] == ("ExecutionTimeout", "")


async def test_a_history_in_order(flows: FlowService) -> None:
    await run(flows, a(next="b"), {"type": "succeed", "name": "b"}, data={"x": 1})
    _, events = await flows.history(TENANT, "f", "e")
    assert [(number, one.type, one.state) for number, one in events] == [
        (1, "ExecutionStarted", ""),
        (2, "StatePassEntered", "a"),
        (3, "StatePassExited", "a"),
        (4, "StateSucceedEntered", "b"),
        (5, "StateSucceedExited", "b"),
        (6, "ExecutionSucceeded", ""),
    ]
    assert json.loads(events[1][1].detail) == {"input": {"x": 1}}
    assert [one for one, _ in (await flows.history(TENANT, "f", "e", after=4, limit=1))[1]] == [5]


async def test_stopping(flows: FlowService, functions: Functions) -> None:
    reached, release = asyncio.Event(), asyncio.Event()

    async def slow(data: Any) -> Any:
        reached.set()
        await release.wait()
        return data

    functions.handlers["slow"] = slow  # type: ignore[assignment]
    await flows.create(TENANT, "f", flow(a("operation", resource="slow")))
    await flows.begin(TENANT, "f", "e", "{}")
    await reached.wait()
    with pytest.raises(Conflict):
        await flows.delete(TENANT, "f")
    stopped = await flows.stop(TENANT, "f", "e")
    assert (stopped.status, len(flows)) == ("Stopped", 0)
    assert (await history(flows))[-1] == ("ExecutionStopped", "")
    release.set()
    await flows.pause()
    # What was called went on to its end, and changed nothing any more.
    assert functions.cancelled == 0
    assert (await flows.stop(TENANT, "f", "e")).status == "Stopped"
    await flows.delete(TENANT, "f")
    with pytest.raises(NotFound):
        await flows.describe(TENANT, "f", "e")


async def test_a_name_starts_one_execution(flows: FlowService, functions: Functions) -> None:
    await flows.create(TENANT, "f", flow(a("operation", resource="echo")))
    first = await flows.begin(TENANT, "f", "e", '{"x": 1}')
    assert (await flows.begin(TENANT, "f", "e", '{"x":1}')).id == first.id
    await ended(flows)
    again = await flows.begin(TENANT, "f", "e", '{"x": 1}')
    assert (again.id, again.status) == (first.id, "Succeed")
    with pytest.raises(Conflict):
        await flows.begin(TENANT, "f", "e", '{"x": 2}')
    assert len(functions.calls) == 1
    assert (await flows.begin(TENANT, "f", "", "{}")).name != (await flows.begin(TENANT, "f", "", "{}")).name


async def test_a_running_execution_keeps_its_definition(flows: FlowService) -> None:
    await flows.create(TENANT, "f", flow(a("wait", seconds=0, next="b"), {**a(data={"old": True}), "name": "b"}))
    await flows.begin(TENANT, "f", "e", "{}")
    await flows.update(TENANT, "f", flow(a(data={"new": True})))
    assert json.loads((await ended(flows)).output) == {"old": True}
    await flows.begin(TENANT, "f", "later", "{}")
    assert json.loads((await ended(flows, "later")).output) == {"new": True}


async def test_refusals(flows: FlowService, monkeypatch: pytest.MonkeyPatch) -> None:
    text = flow(a("wait", seconds=100))
    await flows.create(TENANT, "f", text)
    with pytest.raises(Conflict):
        await flows.create(TENANT, "f", text)
    for name in ("", "1x", "x" * 65, "a b", "ä"):
        with pytest.raises(InvalidRequest):
            await flows.create(TENANT, name, text)
    with pytest.raises(InvalidRequest, match="not a function of this account"):
        other = "brn:bce:cfc:bj:00000000000000000000123456789012:function:x"
        await flows.create(TENANT, "g", flow(a("operation", resource=other)))
    with pytest.raises(NotFound):
        await flows.update(TENANT, "g", text)
    with pytest.raises(NotFound):
        await flows.begin(TENANT, "g", "", "{}")
    for data in ("{", "NaN", "[" * 100 + "]" * 100, '"' + "x" * (300 << 10) + '"'):
        with pytest.raises(InvalidRequest):
            await flows.begin(TENANT, "f", "", data)
    monkeypatch.setattr(flows, "_quotas", lambda tenant: Quotas(flows=1, executions=2))
    begun = [flows.begin(TENANT, "f", f"e{number}", "{}") for number in range(5)]
    found = await asyncio.gather(*begun, return_exceptions=True)
    assert [type(one) for one in found].count(ThrottledError) == 3
    assert len(flows) == 2
    # Asked for again, an execution takes no room.
    (running,) = [one for one in found if isinstance(one, ExecutionRow)][:1]
    assert (await flows.begin(TENANT, "f", running.name, "{}")).id == running.id
    with pytest.raises(QuotaExceeded):
        await flows.create(TENANT, "g", text)


async def test_another_tenant_sees_nothing(flows: FlowService) -> None:
    await flows.create(TENANT, "f", flow(a("wait", seconds=100)))
    await flows.begin(TENANT, "f", "e", "{}")
    other = TenantId("o")
    assert await flows.list(other) == []
    for attempt in (
        flows.get(other, "f"), flows.delete(other, "f"), flows.begin(other, "f", "", "{}"), flows.stop(other, "f", "e"),
        flows.describe(other, "f", "e"), flows.executions(other, "f"), flows.history(other, "f", "e"),
    ):  # fmt: skip
        with pytest.raises(NotFound):
            await attempt
    await flows.delete_every(other)
    assert (await flows.describe(TENANT, "f", "e")).status == "Running"
    await flows.delete_every(TENANT)
    assert (len(flows), await flows.list(TENANT)) == (0, [])


async def test_what_an_execution_may_use(flows: FlowService, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "EVENTS_LIMIT", 100)
    catch = [{"errors": ["XFlow.ALL"], "next": "c"}]
    count = {**a(next="a", stateDataFilter={"output": "{n: (.n + 1)}"}), "name": "b"}
    more = a("switch", conditions=[{"condition": ".n < 200", "next": "b"}], default={"next": "c"})
    long = {"start": "a", "states": [more, count, {"type": "succeed", "name": "c"}]}
    ways = (a("parallel", branches=[long], next="c", catch=catch), {"type": "succeed", "name": "c"})
    status, output = await run(flows, *ways, data={"n": 0})
    assert (status, output["error"]) == ("Fail", "XFlow.EventLimitExceeded")
    await flows.update(TENANT, "f", flow(a("operation", resource="echo", stateDataFilter={"output": "[.,.]"})))
    await flows.begin(TENANT, "f", "large", json.dumps("x" * (200 << 10)))
    assert json.loads((await ended(flows, "large")).output)["error"] == "XFlow.DataLimitExceeded"
    monkeypatch.setattr(journal, "POINTS_LIMIT", 1000)
    each = a("foreach", inputCollection=".", iterationParam="n", iterator={"start": "a", "states": [a(data="x" * 99)]})
    await flows.update(TENANT, "f", flow(each))
    await flows.begin(TENANT, "f", "wide", json.dumps(list(range(20))))
    assert json.loads((await ended(flows, "wide")).output)["error"] == "XFlow.DataLimitExceeded"


async def test_what_ended_is_kept_for_a_while(
    tmp_path: Path, functions: Functions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "KEPT_OF_TENANT", 2)
    flows = await FlowService.open(tmp_path / "flows.db", functions, functions, retention_s=0)  # type: ignore[arg-type]
    await flows.create(TENANT, "f", flow(a(next="b"), {**a("wait", seconds=100), "name": "b"}))
    await flows.begin(TENANT, "f", "running", "{}")
    await flows.update(TENANT, "f", flow(a()))
    for number in range(4):
        await flows.begin(TENANT, "f", f"e{number}", "{}")
        await ended(flows, f"e{number}")
    while (await flows.executions(TENANT, "f"))[0] > 3:
        await asyncio.sleep(0.005)
    assert [row.name for row in (await flows.executions(TENANT, "f"))[1]] == ["e3", "e2", "running"]
    await asyncio.sleep(0.005)
    await flows._engine.prune()
    assert [row.name for row in (await flows.executions(TENANT, "f"))[1]] == ["running"]
    await flows.close()


async def test_it_goes_on_where_it_stood(tmp_path: Path, functions: Functions) -> None:
    """As after a crash: nothing is written at the end of a task, so closing is like one."""
    states = (
        a("operation", resource="echo", next="b"),
        {**a("wait", seconds=1, next="c"), "name": "b"},
        {**a("operation", resource="double"), "name": "c"},
    )
    first = await FlowService.open(tmp_path / "flows.db", functions, functions, retention_s=60)  # type: ignore[arg-type]
    await first.start()
    await first.create(TENANT, "f", flow(*states))
    await first.begin(TENANT, "f", "e", '{"n": 3}')
    while ("StateWaitEntered", "b") not in await history(first):
        await asyncio.sleep(0.005)
    await first.close()
    second = await FlowService.open(tmp_path / "flows.db", functions, functions, retention_s=60)  # type: ignore[arg-type]
    await second.start()
    row = await ended(second)
    assert (row.status, json.loads(row.output)) == ("Succeed", {"result": 6})
    assert [name for name, _ in functions.calls] == ["echo", "double"]
    kinds = [kind for kind, _ in await history(second)]
    assert kinds.count("StateWaitEntered") == 1
    assert await second._database.read(lambda c: rows.list_checkpoints(c, row.id)) == []
    await second.close()
