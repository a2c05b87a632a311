"""The control plane of event source mappings: made, changed, removed, gone on with; what is refused."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.sinks import FakeSink
from tests.sources import SPEC, Answering, FakeSource, parts_of, until

from alcove.errors import Conflict, InvalidRequest, NotFound
from alcove.events.target import Destinations
from alcove.functions.names import Reference
from alcove.queues.service import QueueService
from alcove.sandbox.protocol import TenantId
from alcove.sources import mappings as mappings_module
from alcove.sources.mappings import MappingService
from alcove.sources.poller import Parts
from alcove.sources.spec import SourceKind, SourceSpec
from alcove.store.database import Database
from alcove.tenants.directory import TenantDirectory


@pytest.fixture
def functions() -> Answering:
    return Answering()


@pytest.fixture
def sink() -> FakeSink:
    return FakeSink()


@pytest.fixture
def parts(functions: Answering, sink: FakeSink) -> Parts:
    return parts_of(functions, sink)


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


async def test_the_operator_sees_how_mappings_do(
    service: MappingService, tenant: TenantId, functions: Answering
) -> None:
    functions.answer = lambda numbers: (b"{}", True)
    made = await service.create(tenant, Reference("f"), replace(SPEC, retries=0))
    await until(lambda: service.health() == ["problem"])
    await service.update(tenant, made.row.uuid, lambda spec: spec, enabled=False)
    await state(service, tenant, made.row.uuid, "Disabled")
    assert service.health() == []
