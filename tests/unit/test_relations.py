"""Relations without a server: they survive a restart whole, HTTP paths match as documented, signatures count once."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import uuid
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alcove.errors import AccessDenied, Conflict, NotFound, ThrottledError
from alcove.functions.model import FunctionVersion
from alcove.sandbox.protocol import TenantId
from alcove.store import functions, tenants
from alcove.store.database import Database
from alcove.store.relations import RelationRow, all_relations, delete_orphaned_timers
from alcove.triggers import cron_source, http_source, webhook
from alcove.triggers.cron_source import CronSource
from alcove.triggers.http_source import HttpSource
from alcove.triggers.relation import Address, Relation
from alcove.triggers.relations import RelationService
from alcove.triggers.runs import TimerRuns
from alcove.triggers.timer import Shape
from alcove.triggers.timers import TimerService, TimerSpec
from alcove.triggers.webhook import MAX_SKEW_S, WebhookSource, sign

TENANT = TenantId("1")


class AnyFunction:
    """Resolves every name but ``none``."""

    async def resolve(self, tenant: TenantId, name: str, version: str = "") -> FunctionVersion:
        if name == "none":
            raise NotFound("none")
        return None  # type: ignore[return-value]


class Nobody:
    """Takes no events."""

    async def submit(self, *arguments: Any, **options: Any) -> str:
        raise AssertionError


class Recorder:
    """Remembers what is attached; ``refuse`` makes it refuse."""

    address = Address.NONE
    signed = False

    def __init__(self) -> None:
        self.held: dict[str, Relation] = {}
        self.refuse = False

    def check(self, data: Mapping[str, Any]) -> dict[str, Any]:
        return dict(data)

    async def attach(self, relation: Relation) -> None:
        if self.refuse and relation.data.get("bad"):
            raise Conflict("as asked")
        self.held[relation.id] = relation

    async def detach(self, relation: Relation) -> None:
        self.held.pop(relation.id, None)


async def put_function(database: Database, name: str) -> None:
    row = functions.FunctionRow(uuid.uuid4().hex, TENANT, name, 1, {}, 0)
    await database.write(lambda connection: functions.insert_function(connection, row))


async def delete_function(database: Database, name: str) -> None:
    """As ``FunctionService`` does it in the store."""

    def change(connection: sqlite3.Connection) -> None:
        found = functions.find_function(connection, TENANT, name)
        assert found is not None
        functions.delete_function(connection, found.id)

    await database.write(change)


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    database = await Database.open(tmp_path / "alcove.db")
    await database.write(lambda connection: tenants.insert_tenant(connection, tenants.TenantRow(TENANT, "t", 0)))
    for name in ("f", "g"):
        await put_function(database, name)
    yield database
    await database.close()


async def test_a_relation_is_whole_or_not_there(database: Database) -> None:
    source = Recorder()
    service = RelationService(database, AnyFunction(), {"a": source})
    made = await service.create(TENANT, "f", "", "a/b", {"n": 1})
    source.refuse = True
    with pytest.raises(Conflict):
        await service.create(TENANT, "f", "", "a", {"bad": True})
    with pytest.raises(NotFound):
        await service.create(TENANT, "none", "", "a", {})
    with pytest.raises(Conflict):
        await service.update(TENANT, made.id, "g", "", "a/b", {"bad": True})
    assert source.held == {made.id: made}
    assert [one.data for one in await service.list(TENANT, "f", None)] == [{"n": 1}]
    with pytest.raises(NotFound):
        await service.delete(TenantId("2"), made.id)
    await service.delete(TENANT, made.id)
    assert source.held == {}
    assert await database.read(all_relations) == []


async def test_a_start_attaches_every_relation_anew(database: Database) -> None:
    service = RelationService(database, AnyFunction(), {"a": Recorder(), http_source.NAME: HttpSource()})
    made = await service.create(TENANT, "f", "", "a", {"bad": True})
    path = {"ResourcePath": "/x", "Method": "GET"}
    first = await service.create(TENANT, "f", "", http_source.NAME, path)
    second = await service.create(TENANT, "f", "", http_source.NAME, {**path, "ResourcePath": "/y"})
    assert first.row.endpoint == second.row.endpoint
    await service.delete(TENANT, first.id)
    source, http = Recorder(), HttpSource()
    again = RelationService(database, AnyFunction(), {"a": source, http_source.NAME: http})
    await again.start()
    assert list(source.held) == [made.id]
    assert http.find(first.row.endpoint, "GET", "/y") is not None
    assert http.find(first.row.endpoint, "GET", "/x") is None


async def test_relations_go_with_their_function(database: Database) -> None:
    source = Recorder()
    service = RelationService(database, AnyFunction(), {"a": source})
    await service.create(TENANT, "f", "", "a", {})
    await service.create(TENANT, "f", "live", "a", {})
    kept = await service.create(TENANT, "g", "", "a", {})
    await delete_function(database, "f")
    assert [row.id for row in await database.read(all_relations)] == [kept.id]
    # A new function has the name before the sources are told.
    await put_function(database, "f")
    new = await service.create(TENANT, "f", "", "a", {})
    await service.function_gone(TENANT, "f")
    assert list(source.held) == [kept.id, new.id]


async def test_no_relation_is_made_or_moved_to_a_function_that_goes_meanwhile(database: Database) -> None:
    """``AnyFunction`` finds what the store has no more."""
    source = Recorder()
    service = RelationService(database, AnyFunction(), {"a": source})
    made = await service.create(TENANT, "f", "", "a", {"n": 1})
    with pytest.raises(NotFound):
        await service.create(TENANT, "gone", "", "a", {})
    with pytest.raises(NotFound):
        await service.update(TENANT, made.id, "gone", "", "a", {})
    assert source.held == {made.id: made}
    assert await database.read(all_relations) == [made.row]


async def test_the_timer_of_a_relation_goes_with_it(database: Database) -> None:
    runs = TimerRuns(database, Nobody(), region="r", window_ms=1000)
    timers = TimerService(database, AnyFunction(), runs)
    service = RelationService(database, AnyFunction(), {cron_source.NAME: CronSource(timers)})
    data = {"Name": "n", "ScheduleExpression": "rate(1 minute)"}
    made = await service.create(TENANT, "f", "", cron_source.NAME, data)
    await timers.create(TENANT, "own", TimerSpec("f", "rate(1 minute)"))
    await service.update(TENANT, made.id, "f", "", cron_source.NAME, {**data, "ScheduleExpression": "rate(2 minutes)"})
    assert [timer.row.name for timer in (await timers.list(TENANT))[0]] == ["own", f"relation.{made.id}"]
    await delete_function(database, "f")
    assert [timer.row.name for timer in (await timers.list(TENANT))[0]] == ["own"]
    assert len(runs) == 2
    await service.function_gone(TENANT, "f")
    assert len(runs) == 1
    # One that was being made when its function went, by a server that was then killed.
    await timers.create(TENANT, f"relation.{made.id}", TimerSpec("f", "rate(1 minute)", shape=Shape.CFC))
    await database.write(delete_orphaned_timers)
    assert [timer.row.name for timer in (await timers.list(TENANT))[0]] == ["own"]


def relation(endpoint: str = "e", source: str = "dueros", data: str = "{}", **fields: Any) -> Relation:
    return Relation(RelationRow(fields.get("id", "i"), TENANT, "f", "", source, data, endpoint, "secret"))


SEGMENT = st.sampled_from(["a", "b", "{x}"])
PATHS = st.lists(SEGMENT, max_size=3).flatmap(
    lambda found: st.sampled_from([found, [*found, "{rest+}"]]) if "{x}" not in found[1:] else st.just(found[:1])
)


@given(st.lists(PATHS, max_size=6, unique_by=tuple), st.lists(st.sampled_from(["a", "b", "c"]), max_size=4))
def test_the_most_literal_path_wins(paths: list[list[str]], request: list[str]) -> None:
    """The table against a search through all paths, segment by segment."""
    source = HttpSource()
    for number, path in enumerate(paths):
        data = {"ResourcePath": "/" + "/".join(path), "Method": "GET"}
        made = relation(data=json.dumps(source.check(data)), id=str(number))
        asyncio.run(source.attach(made))

    def fits(path: list[str]) -> bool:
        if path and path[-1] == "{rest+}":
            return len(request) >= len(path) and fits_each(path[:-1], request[: len(path) - 1])
        return len(path) == len(request) and fits_each(path, request)

    def fits_each(path: list[str], found: list[str]) -> bool:
        return all(one in ("{x}", other) for one, other in zip(path, found, strict=True))

    def rank(path: list[str]) -> list[int]:
        return [0 if not one.startswith("{") else 2 if one.endswith("+}") else 1 for one in path] + [3]

    best = min((path for path in paths if fits(path)), key=rank, default=None)
    found = source.find("e", "GET", "/" + "/".join(request))
    assert (None if found is None else found[0].resource) == (None if best is None else "/" + "/".join(best))
    assert source.find("e", "POST", "/" + "/".join(request)) is None


async def test_a_signature_counts_once_and_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    source, now = WebhookSource(), 1_000_000
    await source.attach(relation())
    header = sign("secret", b"{}", now)
    assert source.accept("e", b"{}", header, now + 1).id == "i"
    for again in (now + 2, now + MAX_SKEW_S):
        with pytest.raises(AccessDenied, match="before"):
            source.accept("e", b"{}", header, again)
    with pytest.raises(AccessDenied, match="expired"):
        source.accept("e", b"{}", header, now + MAX_SKEW_S + 1)
    monkeypatch.setattr(webhook, "SEEN_LIMIT", 1)
    with pytest.raises(ThrottledError):
        source.accept("e", b"{}", sign("secret", b"{}", now + 1), now + 1)
    later = now + 3 * MAX_SKEW_S
    assert source.accept("e", b"{}", sign("secret", b"{}", later), later).id == "i"
    await source.detach(relation())
    with pytest.raises(AccessDenied):
        source.accept("e", b"{}", sign("secret", b"{}", later + 1), later + 1)
