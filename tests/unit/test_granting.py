"""Notifications from before permission was asked for: an old state file is opened, and they go on, once."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from tests.fakes import FakeTier
from tests.plane import PYTHON, zipped

from alcove.buckets import rules
from alcove.buckets.permission import caller, source_arn
from alcove.buckets.rules import Rule
from alcove.composition import open_services
from alcove.functions.aliases import AliasChange
from alcove.sandbox.protocol import Isolation, TenantId
from alcove.services import Services
from alcove.settings import Settings
from alcove.store.database import migrations

CREATED = ("s3:ObjectCreated:*",)
OLD = 2  # the last schema without permission
ALIAS = "live"
RULES = [
    Rule("plain", CREATED, "plain", "$LATEST"),
    Rule("again", CREATED, "plain", "$LATEST", "other/"),
    Rule("alias", CREATED, "named", ALIAS),
    Rule("gone", CREATED, "gone", "$LATEST"),
]


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[Services]:
    async with AsyncExitStack() as stack:
        yield await open_services(stack, Settings(state=folder), {Isolation.VM: FakeTier()})


def write_old(path: Path, tenant: str) -> None:
    for file in path.parent.glob(path.name + "*"):
        file.unlink()
    connection = sqlite3.connect(path)
    for number, script in migrations("buckets")[:OLD]:
        connection.executescript(f"{script}\nPRAGMA user_version={number};")
    for name, notification in (("my.pictures", rules.dump(RULES)), ("quiet", "[]")):
        connection.execute("INSERT INTO buckets VALUES (?, ?, ?, ?, 0)", (name, tenant, name, notification))
    connection.commit()
    connection.close()


async def let_in(services: Services, function: str, qualifier: str = "$LATEST", bucket: str = "my.pictures") -> bool:
    tenant = services.tenants.default.id
    return await services.permissions.may(tenant, function, qualifier, caller(source_arn(bucket), tenant))


async def old_state(folder: Path) -> TenantId:
    async with opened(folder) as services:
        tenant = services.tenants.default.id
        for name in ("plain", "named", "other"):
            await services.functions.create(tenant, name, zipped("x = 1"), PYTHON, publish=True)
        await services.aliases.create(tenant, "named", ALIAS, AliasChange(version="1"))
    write_old(folder / "buckets.db", tenant)
    return tenant


async def test_old_notifications_get_the_permission_that_they_need(tmp_path: Path) -> None:
    tenant = await old_state(tmp_path)
    async with opened(tmp_path) as services:
        assert await let_in(services, "plain")
        assert await let_in(services, "named", ALIAS)
        # Nobody else is let in, and nowhere else.
        assert not await let_in(services, "named")
        assert not await let_in(services, "other")
        assert not await let_in(services, "plain", bucket="quiet")
        policy = json.loads((await services.permissions.get(tenant, "plain")).text)
        (statement,) = policy["Statement"]
        assert statement["Sid"] == "s3-my_pictures"
        assert statement["Condition"]["StringEquals"] == {"AWS:SourceAccount": tenant}


async def test_it_is_granted_once(tmp_path: Path) -> None:
    """What the owner takes away later stays away; what is set later is not granted."""
    tenant = await old_state(tmp_path)
    async with opened(tmp_path) as services:
        await services.permissions.remove(tenant, "plain", "", "s3-my_pictures")
        await services.buckets.set_rules(tenant, "quiet", [Rule("late", CREATED, "other", "$LATEST")])
    async with opened(tmp_path) as services:
        assert not await let_in(services, "plain")
        assert not await let_in(services, "other", bucket="quiet")


async def test_a_start_that_was_killed_is_made_good(tmp_path: Path) -> None:
    """Granted, and not crossed out: no second statement, and the rest is granted too."""
    tenant = await old_state(tmp_path)
    async with opened(tmp_path):
        pass
    connection = sqlite3.connect(tmp_path / "buckets.db")
    connection.execute("INSERT INTO ungranted VALUES ('my.pictures')")
    connection.commit()
    connection.close()
    async with opened(tmp_path) as services:
        assert await let_in(services, "plain")
        assert len(json.loads((await services.permissions.get(tenant, "plain")).text)["Statement"]) == 1
