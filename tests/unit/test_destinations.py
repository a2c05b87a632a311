"""Outcomes of asynchronous invocations go where the function's configuration says, once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.unit.test_events import FAST, TENANT, Functions, drained

from alcove.buckets.destination import BucketSink
from alcove.buckets.listing import Listing
from alcove.buckets.model import Limits
from alcove.buckets.service import BucketService
from alcove.errors import InvalidRequest, NotFound, ThrottledError
from alcove.events import queue as module
from alcove.events.delivery import Delivery
from alcove.events.outcome import LOOP_LIMIT, Condition, Outcome, as_json, record
from alcove.events.policy import EVENT_LIMIT
from alcove.events.queue import EventQueue
from alcove.events.target import Destinations
from alcove.functions.model import FunctionVersion
from alcove.sandbox.protocol import TenantId
from alcove.store.events import EventRow
from alcove.store.invoke_configs import InvokeConfigRow

QUEUE = "arn:aws:sqs:r:t:q"


class Configs:
    def __init__(self) -> None:
        self.known: dict[tuple[str, str], InvokeConfigRow] = {}

    def set(self, name: str, qualifier: str = "$LATEST", **fields: Any) -> None:
        blank = InvokeConfigRow(f"id-{name}", qualifier, None, None, "", "", 0)
        self.known[f"id-{name}", qualifier] = replace(blank, **fields)

    async def find(self, function_id: str, qualifier: str) -> InvokeConfigRow | None:
        return self.known.get((function_id, qualifier))


class Sink:
    """Takes records by id; ``refusals`` are raised first."""

    def __init__(self) -> None:
        self.taken: dict[str, tuple[str, bytes, Mapping[str, str | int]]] = {}
        self.refusals: list[Exception] = []

    async def check(self, tenant: TenantId, arn: str) -> None:
        if arn != QUEUE:
            raise NotFound("no such queue")

    async def put(
        self, tenant: TenantId, arn: str, record: bytes, *, record_id: str, attributes: Mapping[str, str | int]
    ) -> None:
        if self.refusals:
            raise self.refusals.pop()
        self.taken.setdefault(record_id, (arn, record, attributes))

    def records(self) -> list[Any]:
        return [json.loads(record) for _, record, _ in self.taken.values()]


class WithDeadLetters(Functions):
    async def resolve(self, tenant: TenantId, name: str, version: str = "$LATEST") -> FunctionVersion:
        found = await super().resolve(tenant, name, version)
        return replace(found, dead_letter=QUEUE) if name == "dead" else found


@pytest.fixture
async def queue(tmp_path: Path) -> AsyncIterator[EventQueue]:
    queue = await EventQueue.open(tmp_path / "events.db")
    yield queue
    await queue.close()


@pytest.fixture
def functions() -> Functions:
    return WithDeadLetters()


@pytest.fixture
def configs() -> Configs:
    return Configs()


@pytest.fixture
def sink() -> Sink:
    return Sink()


@pytest.fixture(autouse=True)
async def delivery(queue: EventQueue, functions: Functions, configs: Configs, sink: Sink) -> AsyncIterator[Delivery]:
    destinations = Destinations(functions, {"sqs": sink})
    delivery = Delivery(queue, functions, functions, FAST, configs=configs, destinations=destinations)  # type: ignore[arg-type]
    delivery.start()
    yield delivery
    await delivery.close()


async def test_success_goes_to_another_function(queue: EventQueue, functions: Functions, configs: Configs) -> None:
    configs.set("f", on_success="arn:aws:lambda:r:t:function:g", on_failure="arn:aws:lambda:r:t:function:never")
    request_id = await queue.submit(TENANT, "f", b'{"a": 1}')
    await drained(queue)
    assert [name for name, _, _ in functions.told] == ["f", "g"]
    document = json.loads(functions.told[1][1])
    stamp = document.pop("timestamp")
    assert stamp.endswith("Z")
    assert document == {
        "version": "1.0",
        "requestContext": {
            "requestId": request_id,
            "functionArn": "arn:alcove:lambda:::function:f:$LATEST",
            "condition": "Success",
            "approximateInvokeCount": 1,
        },
        "requestPayload": {"a": 1},
        "responseContext": {"statusCode": 200, "executedVersion": "1"},
        "responsePayload": {},
    }


@pytest.mark.parametrize("retries", [0, 1, 2, None])
async def test_failure_goes_there_after_the_retries_that_are_set(
    queue: EventQueue, functions: Functions, configs: Configs, sink: Sink, retries: int | None
) -> None:
    configs.set("f", on_failure=QUEUE, on_success="arn:aws:lambda:r:t:function:never", retries=retries)
    functions.failures["f"] = 99
    await queue.submit(TENANT, "f", b"1")
    await drained(queue)
    runs = 3 if retries is None else retries + 1
    assert len(functions.told) == runs
    (document,) = sink.records()
    assert document["requestContext"]["condition"] == "RetriesExhausted"
    assert document["requestContext"]["approximateInvokeCount"] == runs
    assert document["responseContext"] == {"statusCode": 200, "executedVersion": "1", "functionError": "Unhandled"}


async def test_a_configuration_holds_for_its_qualifier(queue: EventQueue, configs: Configs, sink: Sink) -> None:
    configs.set("f", "live", on_success=QUEUE)
    await queue.submit(TENANT, "f", b"1")
    await queue.submit(TENANT, "f", b"2", qualifier="live")
    await drained(queue)
    assert [document["requestPayload"] for document in sink.records()] == [2]


async def test_what_is_too_old_for_its_function_goes_to_the_destination(
    queue: EventQueue, functions: Functions, configs: Configs, sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    configs.set("f", on_failure=QUEUE, max_age_s=60)
    with monkeypatch.context() as patch:
        old = module.now_ms() - 61 * 1000
        patch.setattr(module, "now_ms", lambda: old)
        await queue.submit(TENANT, "f", b"1")
    await drained(queue)
    assert functions.told == []
    (document,) = sink.records()
    assert document["requestContext"]["condition"] == "EventAgeExceeded"
    assert "responseContext" not in document


async def test_a_dead_letter_is_the_event_itself(queue: EventQueue, functions: Functions, sink: Sink) -> None:
    functions.failures["dead"] = 3
    request_id = await queue.submit(TENANT, "dead", b'{"the": "event"}')
    await drained(queue)
    await queue.submit(TENANT, "dead", b"what goes well is no dead letter")
    await drained(queue)
    ((arn, payload, attributes),) = sink.taken.values()
    assert (arn, payload, attributes["RequestID"]) == (QUEUE, b'{"the": "event"}', request_id)
    assert attributes["ErrorMessage"] == "RetriesExhausted"


async def test_a_destination_that_refuses_is_asked_again_and_the_function_is_not(
    queue: EventQueue, functions: Functions, configs: Configs, sink: Sink
) -> None:
    configs.set("f", on_success=QUEUE)
    sink.refusals = [ThrottledError("full"), ThrottledError("full")]
    await queue.submit(TENANT, "f", b"1")
    await drained(queue)
    assert len(functions.told) == len(sink.taken) == 1


async def test_a_loop_of_functions_ends(queue: EventQueue, functions: Functions, configs: Configs, sink: Sink) -> None:
    configs.set("f", on_success="arn:aws:lambda:r:t:function:g")
    configs.set("g", on_success="arn:aws:lambda:r:t:function:f", on_failure=QUEUE)
    await queue.submit(TENANT, "f", b"1")
    await drained(queue)
    assert len(functions.told) == LOOP_LIMIT + 1
    assert sink.taken == {}


async def test_a_loop_that_comes_by_another_way_is_told(
    queue: EventQueue, functions: Functions, configs: Configs, sink: Sink
) -> None:
    configs.set("f", on_failure=QUEUE)
    row = EventRow("r", TENANT, "f", "", b"1", "destination", "", "", module.now_ms(), 0, depth=LOOP_LIMIT + 1)
    seed = await queue.submit(TENANT, "f", b"0")
    await drained(queue)
    await queue.finish(replace(row, request_id=seed), [row])
    async with asyncio.timeout(5):
        while not sink.taken:
            await asyncio.sleep(0.005)
    assert sink.records()[0]["requestContext"]["condition"] == "RecursiveInvocationStopped"
    assert len(functions.told) == 1


async def test_records_are_bounded(functions: Functions) -> None:
    function = await functions.resolve(TENANT, "f")
    result = await functions.invoke(function, b"", request_id="r")
    row = EventRow("r", TENANT, "f", "", b'"' + b"x" * (EVENT_LIMIT - 2) + b'"', "invoke", "", "", 0, 0)
    outcome = Outcome(
        function, Condition.SUCCESS, 1, msgspec.structs.replace(result, payload=b'"' + b"y" * (6 << 20) + b'"')
    )
    found = record(row, outcome, 1)
    document = json.loads(found)
    assert len(found) <= EVENT_LIMIT
    assert document["omitted"] == ["responsePayload", "requestPayload"]
    assert document["requestPayload"] is None
    small = json.loads(record(replace(row, payload=b"[1]"), outcome, 1))
    assert (small["requestPayload"], small["responsePayload"], small["omitted"]) == ([1], None, ["responsePayload"])


@pytest.mark.parametrize("payload", [b"", b"{", b"\xff", b"text", b'"\xff"'])
def test_what_is_not_json_is_a_string(payload: bytes) -> None:
    assert isinstance(json.loads(as_json(payload)), str)


@pytest.mark.parametrize(
    ("arn", "refusal"),
    [
        ("arn:aws:lambda:r:u:function:f", NotFound),
        ("arn:aws:lambda:r:t:function:gone", NotFound),
        ("arn:aws:sqs:r:t:none", NotFound),
        ("arn:aws:sns:r:t:topic", InvalidRequest),
        ("f", InvalidRequest),
        ("arn:aws:sqs:r:t:" + "q" * 400, InvalidRequest),
    ],
)
async def test_only_what_the_tenant_has_is_a_destination(
    functions: Functions, sink: Sink, arn: str, refusal: type[Exception]
) -> None:
    destinations = Destinations(functions, {"sqs": sink})
    await destinations.check(TENANT, QUEUE)
    await destinations.check(TENANT, "arn:aws:lambda:r:t:function:f:live")
    with pytest.raises(refusal):
        await destinations.check(TENANT, arn)


async def test_a_bucket_has_each_record_once(functions: Functions, tmp_path: Path) -> None:
    buckets = await BucketService.open(tmp_path, Limits(1 << 30, 100), "r")
    tenant = TenantId("000000000001")
    await buckets.create_bucket(tenant, "records")

    function = replace(await functions.resolve(tenant, "f"), function_arn="arn:aws:lambda:r:000000000001:function:f")
    result = await functions.invoke(function, b"", request_id="r")
    row = EventRow("r", tenant, "f", "", b"{}", "invoke", "", "", 0, 0)
    document = record(row, Outcome(function, Condition.SUCCESS, 1, result), 1_700_000_000_000)
    sink = BucketSink(buckets)
    await sink.check(tenant, "arn:aws:s3:::records")
    for record_id in ("one", "one", "two"):
        await sink.put(tenant, "arn:aws:s3:::records", document, record_id=record_id, attributes={})
    found = [one.key for one in (await buckets.page(tenant, "records", Listing())).objects]
    assert found == [f"aws/lambda/async/f/2023/11/14/2023-11-14T22.13.20-{name}" for name in ("one", "two")]
    for other in ("arn:aws:s3:::none", "arn:aws:s3:r:t:records"):
        with pytest.raises((NotFound, InvalidRequest)):
            await sink.check(tenant, other)
    with pytest.raises(NotFound):
        await sink.check(TenantId("000000000002"), "arn:aws:s3:::records")
    await buckets.close()
