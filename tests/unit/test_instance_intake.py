"""What is written when instances are asked for: all or nothing, once for a token, within the quota."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from alcove.errors import Conflict, InvalidRequest, QuotaExceeded
from alcove.instances import listing, manifest
from alcove.instances.intake import Intake, Made, Order, OtherParameters, Token
from alcove.instances.pull_secrets import PullSecret
from alcove.instances.tier import PodTier
from alcove.sandbox.protocol import TenantId
from alcove.store import client_tokens, pull_secrets
from alcove.store import instances as rows
from alcove.store.database import Database
from alcove.store.instance_lists import Filter

TENANT = TenantId("1")
OTHER = TenantId("2")
DAY_MS = 24 * 3_600_000


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    found = await Database.open(tmp_path / "instances.db", schema="instances")
    yield found
    await found.close()


async def take(database: Database, name: str = "web", now_ms: int = 1000, limit: int = 100, **order: Any) -> Made:
    pod = manifest.read({"metadata": {"name": name}, "spec": {"containers": [{"name": "c", "image": "i"}]}})
    return await database.write(Intake(TENANT, pod, PodTier.VM, Order(**order), limit, now_ms).write)


async def count(database: Database) -> int:
    return await database.read(lambda c: rows.count_pods(c, TENANT))


async def test_a_token_makes_one_instance(database: Database) -> None:
    token = Token("t", "digest")
    first = await take(database, token=token)
    again = await take(database, token=token)
    assert (again.ids, list(again.rows)) == (first.ids, [])
    with pytest.raises(OtherParameters):
        await take(database, token=Token("t", "another"))
    assert await count(database) == 1


async def test_a_token_is_forgotten_after_a_day(database: Database) -> None:
    token = Token("t", "digest")
    first = await take(database, token=token, rename=True)
    second = await take(database, token=token, rename=True, now_ms=1000 + DAY_MS)
    assert first.ids != second.ids


async def test_a_refusal_takes_no_token(database: Database) -> None:
    with pytest.raises(QuotaExceeded):
        await take(database, token=Token("t", "digest"), limit=0)
    assert len((await take(database, token=Token("t", "digest"))).rows) == 1


async def test_tokens_are_bounded(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_tokens, "TOKENS_LIMIT", 3)
    for number in range(6):
        await take(database, token=Token(f"t{number}", "digest"), rename=True, now_ms=1000 + number)
    known = [
        await database.read(lambda c, text=f"t{one}": client_tokens.find_token(c, TENANT, text, 2000))
        for one in range(6)
    ]
    assert [one is not None for one in known] == [False] * 3 + [True] * 3


async def test_the_quota_counts_copies_and_nothing_is_half_made(database: Database) -> None:
    await take(database, limit=4, replicas=2, rename=True)
    with pytest.raises(QuotaExceeded):
        await take(database, limit=4, replicas=3, rename=True)
    assert await count(database) == 2
    for replicas in (0, 1001):
        with pytest.raises(InvalidRequest):
            Order(replicas=replicas)


async def test_a_name_is_taken_or_begins_another(database: Database) -> None:
    (row,) = (await take(database)).rows
    with pytest.raises(Conflict):
        await take(database)
    (other,) = (await take(database, rename=True)).rows
    assert (row.name, other.name[:4]) == ("web", "web-")
    assert manifest.load(other.manifest).metadata.name == other.name


async def test_credentials_go_with_their_pod(database: Database) -> None:
    (row,) = (await take(database, secrets=(PullSecret("quay.io", "u", "word"),))).rows
    assert "word" not in row.manifest
    assert "word" in await database.read(lambda c: pull_secrets.get(c, row.uid))
    await database.write(lambda c: rows.delete_pod(c, row.uid))
    assert await database.read(lambda c: pull_secrets.get(c, row.uid)) == ""


async def test_the_store_and_the_row_know_an_instance_by_the_same_id(database: Database) -> None:
    (row,) = (await take(database)).rows
    assert await listing.find_all(database, TENANT, [row.instance_id]) == [row]
    page = await listing.page(database, TENANT, row.instance_id, 10, Filter())
    assert [one.uid for one in page.rows] == [row.uid]
    for marker in ("x", "p-1.x", f"{row.instance_id}'"):
        with pytest.raises(InvalidRequest):
            await listing.page(database, TENANT, marker, 10, Filter())
    with pytest.raises(InvalidRequest):
        await listing.page(database, OTHER, row.instance_id, 10, Filter())
    with pytest.raises(InvalidRequest):
        await listing.find_all(database, TENANT, ["p-1"] * (listing.BATCH_LIMIT + 1))
