"""The poller over a source without a server: batches, failures, destinations, room."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from tests.sinks import FakeSink
from tests.sources import SPEC, TENANT, Answering, FakeSource, parts_of, until

from alcove.errors import CapacityError, NotFound, ThrottledError
from alcove.sources.poller import Parts, Poller, Work
from alcove.sources.source import EVENT_BYTES, Item
from alcove.sources.spec import SourceKind, SourceSpec


@pytest.fixture
def functions() -> Answering:
    return Answering()


@pytest.fixture
def sink() -> FakeSink:
    return FakeSink()


@pytest.fixture
def parts(functions: Answering, sink: FakeSink) -> Parts:
    return parts_of(functions, sink)


async def run_out(source: FakeSource, parts: Parts, **spec: Any) -> Poller:
    """Poll until nothing is left."""
    poller = Poller(Work("m", TENANT, "f", "", replace(SPEC, **spec)), source, parts, opening="Creating")
    assert poller.state == "Creating"
    poller.start()
    await until(lambda: not source.left)
    await until(lambda: not poller._batches)
    await poller.stop()
    return poller


async def test_everything_is_called_in_batches_and_done(functions: Answering, parts: Parts) -> None:
    source = FakeSource(95)
    functions.hold_s = 0.01
    poller = await run_out(source, parts)
    found = functions.batches()
    assert sorted(number for batch in found for number in batch) == list(range(95))
    assert max(map(len, found)) == 10
    assert functions.most == 3
    assert (poller.state, poller.result) == ("Enabled", "OK")
    assert source.closed == 1


async def test_a_failed_batch_comes_again(functions: Answering, parts: Parts) -> None:
    failures = iter([True, True])
    functions.answer = lambda numbers: (b"{}", next(failures, False))
    await run_out(FakeSource(5), parts)
    assert functions.batches() == [[0, 1, 2, 3, 4]] * 3


async def test_of_a_partial_failure_only_what_failed_comes_again(functions: Answering, parts: Parts) -> None:
    failing = {1, 3}

    def answer(numbers: list[int]) -> tuple[bytes, bool]:
        failed = failing & set(numbers)
        failing.clear()
        return json.dumps({"batchItemFailures": [{"itemIdentifier": str(n)} for n in failed]}).encode(), False

    functions.answer = answer
    await run_out(FakeSource(5), parts, report_failures=True)
    assert functions.batches() == [[0, 1, 2, 3, 4], [1, 3]]


async def test_partial_failures_are_read_only_where_they_are_asked_for(functions: Answering, parts: Parts) -> None:
    functions.answer = lambda numbers: (b'{"batchItemFailures": [{"itemIdentifier": "0"}]}', False)
    await run_out(FakeSource(2), parts)
    assert functions.batches() == [[0, 1]]


@pytest.mark.parametrize("retries", [0, 2])
async def test_what_fails_too_often_goes_to_the_destination(
    functions: Answering, parts: Parts, sink: FakeSink, retries: int
) -> None:
    functions.answer = lambda numbers: (b'{"errorMessage": "no"}', True)
    await run_out(FakeSource(2), parts, retries=retries, on_failure="arn:aws:sqs:r:t:dead")
    assert functions.batches() == [[0, 1]] * (retries + 1)
    (told,) = sink.events
    assert (told.function, told.source) == ("arn:aws:sqs:r:t:dead", "mapping")
    document = json.loads(told.event)
    assert document["requestContext"]["condition"] == "RetriesExhausted"
    assert document["requestContext"]["approximateInvokeCount"] == retries + 1
    assert (document["requestPayload"], document["responsePayload"]) == ([0, 1], {"errorMessage": "no"})


async def test_what_the_destination_does_not_take_is_not_acknowledged(
    functions: Answering, parts: Parts, sink: FakeSink
) -> None:
    functions.answer = lambda numbers: (b"{}", True)
    sink.fail = ThrottledError("full")
    source = FakeSource(1)
    work = Work("m", TENANT, "f", "", replace(SPEC, retries=0, on_failure="arn:aws:sqs:r:t:dead"))
    poller = Poller(work, source, parts, opening="Creating")
    poller.start()
    await until(lambda: sink.tries and source.closed)
    await poller.stop()
    assert list(source.left) == ["0"]
    assert "full" in poller.result


@pytest.mark.parametrize("error", [ThrottledError("busy"), CapacityError("full"), NotFound("gone")])
async def test_a_refusal_counts_for_nothing(
    functions: Answering, parts: Parts, sink: FakeSink, error: Exception
) -> None:
    errors = iter([error, error, error])
    functions.answer = lambda numbers: next(errors, (b"{}", False))
    await run_out(FakeSource(1), parts, retries=0, on_failure="arn:aws:sqs:r:t:dead")
    assert functions.batches() == [[0]] * 4
    assert sink.tries == []


async def test_the_source_is_opened_again_when_it_breaks(functions: Answering, parts: Parts) -> None:
    source = FakeSource(3, breaks=2)
    await run_out(source, parts)
    assert source.opened == 1
    assert functions.batches() == [[0, 1, 2]]


async def test_a_batch_that_is_too_large_is_divided(functions: Answering, parts: Parts) -> None:
    source = FakeSource(5)
    for item in source.left.values():
        item.size = EVENT_BYTES // 3
    await run_out(source, parts)
    assert functions.batches() == [[0, 1], [2, 3], [4]]


async def test_what_alone_is_too_large_is_given_up(functions: Answering, parts: Parts, sink: FakeSink) -> None:
    source = FakeSource(2)
    source.left["0"].size = EVENT_BYTES + 1
    await run_out(source, parts, on_failure="arn:aws:sqs:r:t:dead")
    assert functions.batches() == [[1]]
    assert len(sink.events) == 1


async def test_behind_a_failure_nothing_of_a_fifo_queue_is_tried(functions: Answering, parts: Parts) -> None:
    source = FakeSource(3)
    for item in source.left.values():
        item.size = EVENT_BYTES // 2
    given_back: list[tuple[list[str], bool]] = []

    async def again(items: Sequence[Item], delay_s: float, *, counted: bool) -> None:
        given_back.append(([item.id for item in items], counted))

    source.again = again  # type: ignore[method-assign]
    functions.answer = lambda numbers: (b"{}", numbers == [1])
    spec = SourceSpec(SourceKind.QUEUE, "arn:aws:sqs:r:t:q.fifo")
    poller = Poller(Work("m", TENANT, "f", "", spec), source, parts, opening="Creating")
    poller.start()
    await until(lambda: len(given_back) == 2)
    await poller.stop()
    assert functions.batches() == [[0], [1]]
    assert given_back == [(["1"], True), (["2"], False)]
