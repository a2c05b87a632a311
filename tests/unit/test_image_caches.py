"""Caches of images: what a daemon that starts finds again, what goes with a tenant, what stays bounded."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.cri_fake import FakeCri

from alcove.errors import InvalidRequest, NotFound, QuotaExceeded
from alcove.instances import caches as module
from alcove.instances import image_access
from alcove.instances.caches import ImageCaches
from alcove.instances.cri import Cri
from alcove.instances.image_access import ImageAccess
from alcove.instances.pull_secrets import PullSecret
from alcove.sandbox.protocol import TenantId
from alcove.store import image_caches as rows
from alcove.store.database import Database

TENANT, OTHER = TenantId("1"), TenantId("2")
IMAGE, SECOND = "registry.test/a:1", "registry.test/b:1"
SECRET = PullSecret("registry.test", "ada", "word")


class World:
    """A store, a CRI and the caches over them, which can be opened again."""

    def __init__(self, folder: Path, database: Database) -> None:
        self.fake = FakeCri()
        self.socket = folder / "cri.sock"
        self.database = database
        self.cri = Cri(self.socket)

        async def cri() -> Cri:
            return self.cri

        self._runtime: Any = SimpleNamespace(cri=cri, auth=lambda image: None, stall_s=60.0)
        self.access = ImageAccess(database, self._runtime)
        self.caches = self.opened()

    def opened(self) -> ImageCaches:
        return ImageCaches(self.database, self._runtime, self.access)

    async def states(self, tenant: TenantId = TENANT) -> list[str]:
        return [row.state for row in (await self.caches.list(tenant, skip=0, limit=100))[0]]

    async def settled(self, tenant: TenantId = TENANT) -> list[str]:
        async with asyncio.timeout(20):
            while rows.CREATING in (found := await self.states(tenant)):
                await asyncio.sleep(0.01)
        return found


@pytest.fixture
async def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    monkeypatch.setattr(module, "RETRY_S", 0.02)
    database = await Database.open(tmp_path / "instances.db", schema="instances")
    world = World(tmp_path, database)
    yield world
    await world.caches.close()
    world.cri.close()
    await database.close()


async def test_a_daemon_goes_on_with_what_is_not_done(world: World) -> None:
    """No containerd answers at first; credentials are kept until all is fetched, and not longer."""
    await world.caches.create(TENANT, "c", [IMAGE, SECOND], [SECRET])
    await asyncio.sleep(0.05)
    assert await world.states() == [rows.CREATING]
    await world.caches.close()
    world.caches = world.opened()
    await world.fake.start(world.socket)
    try:
        await world.caches.start()
        assert await world.settled() == [rows.READY]
        assert [(name, (auth or {})["username"]) for name, auth in world.fake.pulls] == [
            (IMAGE, "ada"),
            (SECOND, "ada"),
        ]
        (row,) = await world.database.read(lambda c: rows.list_caches(c, TENANT))
        assert row.secrets == ""
    finally:
        await world.fake.close()


async def test_an_image_goes_with_the_last_cache_if_caches_brought_it(world: World) -> None:
    await world.fake.start(world.socket)
    try:
        world.fake.images[SECOND] = {"id": "2", "repo_tags": [SECOND], "repo_digests": [], "size": 1}
        first = await world.caches.create(TENANT, "c", [IMAGE, SECOND])
        await world.settled()
        await world.caches.create(OTHER, "d", [IMAGE])
        await world.settled(OTHER)
        with pytest.raises(NotFound):
            await world.caches.delete(OTHER, [first.cache_id])
        await world.caches.delete(TENANT, [first.cache_id])
        assert set(world.fake.images) == {IMAGE, SECOND}, "another has one, the other was here before"
        await world.caches.delete_every(OTHER)
        assert set(world.fake.images) == {SECOND}
    finally:
        await world.fake.close()


async def test_caches_are_bounded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CACHES_LIMIT", 1)
    await world.caches.create(TENANT, "c", [IMAGE])
    with pytest.raises(QuotaExceeded):
        await world.caches.create(TENANT, "d", [IMAGE])
    for images in ([], ["x"] * 21, ["no image"]):
        with pytest.raises(InvalidRequest):
            await world.caches.create(OTHER, "e", images)


async def test_private_repositories_of_a_tenant_are_bounded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_access, "REPOSITORIES_LIMIT", 1)
    await world.fake.start(world.socket)
    try:
        await world.access.pull(world.cri, TENANT, IMAGE, [SECRET])
        await world.access.pull(world.cri, TENANT, IMAGE, [SECRET])
        with pytest.raises(QuotaExceeded):
            await world.access.pull(world.cri, TENANT, SECOND, [SECRET])
        assert await world.access.usable(world.cri, TENANT, IMAGE)
        assert not await world.access.usable(world.cri, OTHER, IMAGE)
        await world.access.pull(world.cri, OTHER, IMAGE, [])
        assert await world.access.usable(world.cri, OTHER, IMAGE)
        monkeypatch.setattr(image_access, "GRANT_MS", 0)
        assert not await world.access.usable(world.cri, OTHER, IMAGE), "the registry is asked again"
    finally:
        await world.fake.close()


async def test_by_its_id_an_image_is_as_private_as_by_its_names(world: World) -> None:
    await world.fake.start(world.socket)
    try:
        await world.access.pull(world.cri, TENANT, IMAGE, [SECRET])
        await world.access.pull(world.cri, TENANT, "busybox:1", [])
        for id, names in (("aaaa", [IMAGE]), ("bbbb", ["busybox:1"]), ("cccc", [IMAGE, "busybox:1"]), ("dddd", [])):
            world.fake.images[id] = {"id": id, "repo_tags": names, "repo_digests": [], "size": 1}
        ids = ("aaaa", "bbbb", "cccc", "dddd")
        assert [await world.access.usable(world.cri, TENANT, id) for id in ids] == [True, True, True, False]
        assert [await world.access.usable(world.cri, OTHER, id) for id in ids] == [False, True, False, False]
    finally:
        await world.fake.close()
