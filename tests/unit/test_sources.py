"""Event source mappings over a source without a server: batches, failures, destinations, room, states."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio import Connection
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeout
from tests.sinks import FakeSink
from tests.unit.test_events import Functions

from alcove.errors import CapacityError, Conflict, InvalidRequest, NotFound, ThrottledError
from alcove.events.target import Destinations
from alcove.functions.model import FunctionVersion, InvokeResult
from alcove.functions.names import Reference
from alcove.queues.service import QueueService
from alcove.sandbox.protocol import TenantId
from alcove.sources import batch as batches
from alcove.sources import mappings as mappings_module
from alcove.sources import rabbitmq as rabbitmq_module
from alcove.sources import redis_parser
from alcove.sources.address import AddressRefused, AddressRule, parse_endpoint
from alcove.sources.mappings import MappingService
from alcove.sources.poller import Doubling, Parts, Poller, Work
from alcove.sources.retries import Retries
from alcove.sources.source import EVENT_BYTES, Item, SourceUnavailable
from alcove.sources.spec import SourceKind, SourceSpec
from alcove.store.database import Database
from alcove.tenants.directory import TenantDirectory

TENANT = TenantId("t")
SPEC = SourceSpec(SourceKind.REDIS, "s", "127.0.0.1:1", batch_size=10, concurrency=3)


class FakeSource:
    """Items in memory; ``left`` are those not done. ``breaks``: how often ``open`` fails."""

    def __init__(self, count: int = 0, breaks: int = 0) -> None:
        self.left = {str(number): Item(str(number), {"n": number}, number) for number in range(count)}
        self._ready = list(self.left.values())
        self._retries = Retries()
        self.breaks = breaks
        self.opened = self.closed = 0
        self.forgotten = False

    async def open(self) -> None:
        if self.breaks:
            self.breaks -= 1
            raise SourceUnavailable("not now")
        self.opened += 1

    async def fetch(self, limit: int, *, wait_s: float, window_s: float = 0) -> list[Item]:
        await asyncio.sleep(0.001)
        found = [*self._retries.due(limit), *self._ready][:limit]
        self._ready = [item for item in self._ready if item not in found]
        return found

    def event(self, items: Sequence[Item]) -> bytes:
        return json.dumps([item.record["n"] for item in items]).encode()

    async def done(self, items: Sequence[Item]) -> None:
        for item in items:
            del self.left[item.id]

    async def again(self, items: Sequence[Item], delay_s: float, *, counted: bool) -> None:
        self._retries.put(items, delay_s, counted=counted)

    async def forget(self) -> None:
        self.forgotten = True

    async def close(self) -> None:
        self.closed += 1


class Answering(Functions):
    """``answer`` makes the function's answer from its event; an exception is raised."""

    answer: Callable[[Any], tuple[bytes, bool] | Exception] = staticmethod(lambda numbers: (b"null", False))

    async def invoke(self, version: FunctionVersion, event: bytes, **options: Any) -> InvokeResult:
        result = await super().invoke(version, event, request_id="r")
        found = self.answer(json.loads(event))
        if isinstance(found, Exception):
            raise found
        return msgspec.structs.replace(result, payload=found[0], error="Unhandled" if found[1] else None)

    def batches(self) -> list[list[int]]:
        return [json.loads(event) for _, event, _ in self.told]


@pytest.fixture
def functions() -> Answering:
    return Answering()


@pytest.fixture
def sink() -> FakeSink:
    return FakeSink()


@pytest.fixture
def parts(functions: Answering, sink: FakeSink) -> Parts:
    return Parts(functions, functions, sink, Doubling(0.001, 0.01))  # type: ignore[arg-type]


async def until(condition: Callable[[], object], timeout_s: float = 10) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.002)


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


@pytest.mark.parametrize(
    ("answer", "failed"),
    [
        (b"", []),
        (b"null", []),
        (b"{}", []),
        (b'{"batchItemFailures": []}', []),
        (b'{"batchItemFailures": null}', []),
        (b'{"batchItemFailures": [{"itemIdentifier": "1"}]}', [1]),
        (b'{"batchItemFailures": [{"itemIdentifier": ""}]}', [0, 1, 2]),
        (b'{"batchItemFailures": [{"itemIdentifier": null}]}', [0, 1, 2]),
        (b'{"batchItemFailures": [{"itemIdentifier": "9"}]}', [0, 1, 2]),
        (b'{"batchItemFailures": [{"other": "1"}]}', [0, 1, 2]),
        (b'{"batchItemFailures": [{"itemIdentifier": ["1"]}]}', [0, 1, 2]),
        (b'{"batchItemFailures": 1}', [0, 1, 2]),
        (b"not json", [0, 1, 2]),
    ],
)
def test_what_makes_no_sense_is_a_failure_of_all(answer: bytes, failed: list[int]) -> None:
    batch = list(FakeSource(3).left.values())
    assert [item.token for item in batches.failed_items(answer, batch)] == failed


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


@given(st.lists(st.integers(0, EVENT_BYTES + 10)))
def test_divided_batches_are_whole_and_fit(sizes: list[int]) -> None:
    items = [Item(str(number), {}, number) for number in range(len(sizes))]
    for item, size in zip(items, sizes, strict=True):
        item.size = size
    found = list(batches.split(items))
    assert [item for batch in found for item in batch] == items
    assert all(len(batch) == 1 or batches.fits(batch) for batch in found)


# The control plane


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    database = await Database.open(tmp_path / "alcove.db")
    yield database
    await database.close()


@pytest.fixture
async def tenant(database: Database) -> TenantId:
    return (await TenantDirectory.open(database)).default.id


@pytest.fixture
async def queues(tmp_path: Path) -> AsyncIterator[QueueService]:
    queues = await QueueService.open(tmp_path / "queues.db", "r")
    yield queues
    await queues.close()


@pytest.fixture
def sources() -> dict[str, FakeSource]:
    return {}


@pytest.fixture
async def service(
    database: Database, parts: Parts, queues: QueueService, sources: dict[str, FakeSource]
) -> AsyncIterator[MappingService]:
    service = make_service(database, parts, queues, sources)
    await service.start()
    yield service
    await service.close()


def make_service(
    database: Database, parts: Parts, queues: QueueService, sources: dict[str, FakeSource]
) -> MappingService:
    def make(mapping: str, tenant: TenantId, spec: SourceSpec) -> FakeSource:
        sources[mapping] = FakeSource(3)
        return sources[mapping]

    return MappingService(database, parts, queues, Destinations(parts.functions, {}), make)


async def state(service: MappingService, tenant: TenantId, uuid: str, wanted: str) -> None:
    async with asyncio.timeout(10):
        while (await service.get(tenant, uuid)).state != wanted:
            await asyncio.sleep(0.002)


async def test_a_mapping_lives(
    service: MappingService, tenant: TenantId, functions: Answering, sources: dict[str, FakeSource]
) -> None:
    made = await service.create(tenant, Reference("f"), SPEC)
    uuid = made.row.uuid
    assert made.state == "Creating"
    await state(service, tenant, uuid, "Enabled")
    await until(lambda: functions.batches() == [[0, 1, 2]])
    changed = await service.update(tenant, uuid, lambda spec: spec, enabled=False)
    assert changed.state == "Disabling"
    await state(service, tenant, uuid, "Disabled")
    assert sources[uuid].closed == 1
    changed = await service.update(tenant, uuid, lambda spec: replace(spec, batch_size=2), enabled=True)
    assert (changed.state, changed.spec.batch_size) == ("Enabling", 2)
    await until(lambda: functions.batches()[1:] == [[0, 1], [2]])
    assert (await service.update(tenant, uuid, lambda spec: spec)).state == "Updating"
    assert (await service.delete(tenant, uuid)).state == "Deleting"
    await until(lambda: sources[uuid].forgotten)
    await until(lambda: not service._changes)
    with pytest.raises(NotFound):
        await service.get(tenant, uuid)


async def test_a_daemon_that_starts_goes_on(
    database: Database, tenant: TenantId, parts: Parts, queues: QueueService, sources: dict[str, FakeSource]
) -> None:
    first = make_service(database, parts, queues, sources)
    made = [(await first.create(tenant, Reference(f"f{number}"), SPEC)).row for number in range(3)]
    await first.update(tenant, made[1].uuid, lambda spec: spec, enabled=False)
    # Killed before it has removed anything.
    marked = replace(made[2], deleting=1, enabled=0)
    await database.write(lambda c: mappings_module.rows.put_mapping(c, marked))
    await first.close()
    sources.clear()
    second = make_service(database, parts, queues, sources)
    await second.start()
    await state(second, tenant, made[0].uuid, "Enabled")
    await until(lambda: not second._changes)
    assert (await second.get(tenant, made[1].uuid)).state == "Disabled"
    assert sources[made[2].uuid].forgotten
    with pytest.raises(NotFound):
        await second.get(tenant, made[2].uuid)
    await second.close()


async def test_the_same_is_not_mapped_twice_and_others_see_nothing(service: MappingService, tenant: TenantId) -> None:
    made = await service.create(tenant, Reference("f"), SPEC)
    with pytest.raises(Conflict):
        await service.create(tenant, Reference("f"), replace(SPEC, batch_size=1))
    other = await service.create(tenant, Reference("g"), SPEC)
    with pytest.raises(Conflict):
        await service.update(tenant, other.row.uuid, lambda spec: spec, reference=Reference("f"))
    for call in (
        service.get(TenantId("other"), made.row.uuid),
        service.delete(TenantId("other"), made.row.uuid),
        service.update(TenantId("other"), made.row.uuid, lambda spec: spec),
    ):
        with pytest.raises(NotFound):
            await call
    assert (await service.list(TenantId("other")))[0] == []
    assert len((await service.list(tenant))[0]) == 2
    assert [one.row.uuid for one in (await service.list(tenant, function="g"))[0]] == [other.row.uuid]


async def test_mappings_are_bounded(service: MappingService, tenant: TenantId, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mappings_module, "MAPPING_LIMIT", 1)
    await service.create(tenant, Reference("f"), SPEC)
    with pytest.raises(Conflict):
        await service.create(tenant, Reference("g"), SPEC)


async def test_a_queue_hides_messages_for_as_long_as_the_function_may_run(
    service: MappingService, queues: QueueService, tenant: TenantId
) -> None:
    queue = await queues.directory.create(tenant, "q", {"VisibilityTimeout": "2"})
    spec = SourceSpec(SourceKind.QUEUE, queue.arn)
    with pytest.raises(InvalidRequest, match="visibility timeout"):
        await service.create(tenant, Reference("f"), spec)
    await queues.directory.set_attributes(queue, {"VisibilityTimeout": "3"})
    await service.create(tenant, Reference("f"), spec)
    with pytest.raises(InvalidRequest):
        await service.create(tenant, Reference("g"), SourceSpec(SourceKind.QUEUE, queue.arn + "-none"))


@pytest.mark.parametrize(
    "bad",
    [
        {"batch_size": 0},
        {"batch_size": 10_001},
        {"window_s": 301},
        {"retries": -2},
        {"concurrency": 0},
        {"concurrency": 51},
        {"start": "AT_TIMESTAMP"},
        {"endpoint": "127.0.0.1"},
        {"name": ""},
        {"kind": SourceKind.QUEUE, "batch_size": 11},
        {"kind": SourceKind.QUEUE, "retries": 1},
        {"kind": SourceKind.QUEUE, "on_failure": "arn:aws:sqs:r:t:q"},
    ],
)
def test_what_makes_no_sense_is_refused(bad: dict[str, Any]) -> None:
    SPEC.check()
    with pytest.raises(InvalidRequest):
        replace(SPEC, **bad).check()


def test_specs_are_read_back() -> None:
    assert SourceSpec.from_json(SPEC.to_json()) == SPEC


# Addresses


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "127.9.9.9", "0.0.0.0", "169.254.169.254", "224.0.0.1", "255.255.255.255", "240.0.0.1"),
        *("::1", "::", "fe80::1", "ff02::1", "::ffff:127.0.0.1", "::ffff:169.254.169.254", "10.212.3.4"),
    ],
)
def test_this_host_and_what_is_special_are_refused(address: str) -> None:
    assert not AddressRule(refused=(ip_network("10.212.0.0/16"),)).permits(ip_address(address))


@pytest.mark.parametrize("address", ["8.8.8.8", "10.1.2.3", "192.168.77.3", "2001:4860:4860::8888"])
def test_other_hosts_are_permitted(address: str) -> None:
    assert AddressRule(refused=(ip_network("10.212.0.0/16"),)).permits(ip_address(address))


def test_the_operator_s_networks_are_all_there_is() -> None:
    rule = AddressRule((ip_network("127.0.0.0/8"), ip_network("10.0.0.0/24")))
    assert rule.permits(ip_address("127.0.0.1"))
    assert rule.permits(ip_address("::ffff:10.0.0.9"))
    assert not rule.permits(ip_address("10.0.1.1"))
    assert not rule.permits(ip_address("8.8.8.8"))
    assert not rule.permits(ip_address("::1"))


def test_this_host_s_own_addresses_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("alcove.sources.address._is_ours", lambda address: str(address) == "192.0.0.77")
    assert not AddressRule().permits(ip_address("192.0.0.77"))
    assert AddressRule().permits(ip_address("192.0.1.77"))


async def test_names_are_judged_by_what_they_mean() -> None:
    assert await AddressRule((ip_network("127.0.0.0/8"),)).resolve("localhost:6379") == ("127.0.0.1", 6379)
    with pytest.raises(AddressRefused):
        await AddressRule().resolve("localhost:6379")
    with pytest.raises(AddressRefused):
        await AddressRule().resolve("2130706433:6379")


@given(st.text())
def test_an_endpoint_is_host_and_port(text: str) -> None:
    try:
        host, port = parse_endpoint(text)
    except InvalidRequest:
        return
    assert f"{host}:{port:0{len(text.rpartition(':')[2])}d}" == text
    assert 0 < port < 65_536


# A server that is none


@pytest.mark.parametrize(
    "answer",
    [
        b"$999999999\r\n",
        b"*999999999\r\n" + b"$0\r\n\r\n" * 5000,
        b"*2000\r\n" + b"*2000\r\n" * 2000,
        b"$-5\r\n",
        b"x" * 100_000,
    ],
)
async def test_an_answer_without_end_ends_the_connection(answer: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_parser, "ANSWER_BYTES", 100_000)

    ended = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(answer)
        await ended.wait()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    connection = Connection(
        host="127.0.0.1", port=port, parser_class=redis_parser.BoundedParser, protocol=2, socket_timeout=5
    )
    with pytest.raises((RedisError, ValueError, RecursionError)) as error:
        async with asyncio.timeout(4):
            await connection.connect()
            await connection.send_command("PING")
            await connection.read_response()
    assert not isinstance(error.value, RedisTimeout)
    ended.set()
    await connection.disconnect()
    server.close()
    await server.wait_closed()


async def test_a_frame_without_end_ends_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rabbitmq_module, "TIMEOUT_S", 600)
    ended = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(b"\x01\x00\x00" + (500_000_000).to_bytes(4, "big"))
        await ended.wait()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    endpoint = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    spec = SourceSpec(SourceKind.RABBITMQ, "q", endpoint, username="guest", password="guest")
    source = rabbitmq_module.RabbitSource(spec, AddressRule((ip_network("127.0.0.0/8"),)))
    with pytest.raises(SourceUnavailable):
        async with asyncio.timeout(5):
            await source.open()
    monkeypatch.setattr(rabbitmq_module, "TIMEOUT_S", 1)
    await source.close()
    ended.set()
    server.close()
    await server.wait_closed()


async def test_the_operator_sees_how_mappings_do(
    service: MappingService, tenant: TenantId, functions: Answering
) -> None:
    functions.answer = lambda numbers: (b"{}", True)
    made = await service.create(tenant, Reference("f"), replace(SPEC, retries=0))
    await until(lambda: service.health() == ["problem"])
    await service.update(tenant, made.row.uuid, lambda spec: spec, enabled=False)
    await state(service, tenant, made.row.uuid, "Disabled")
    assert service.health() == []
