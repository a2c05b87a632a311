"""Reserved and provisioned concurrency over the fake tier: made, kept up, counted, found again after a restart."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.fakes import FakeTier
from tests.unit.test_service import zipped

from alcove.composition import open_services
from alcove.errors import InvalidRequest, NotFound, ThrottledError
from alcove.functions.concurrency import NoProvisionedConcurrency
from alcove.functions.model import FunctionChange
from alcove.functions.provisioning import Allocation
from alcove.sandbox.protocol import Isolation, TenantId
from alcove.services import Services
from alcove.settings import Settings

ECHO = FunctionChange(runtime="python3.11", handler="sleep", timeout_s=10)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("alcove.functions.provisioning.LOOK_EVERY_S", 0.02)
    monkeypatch.setattr("alcove.functions.scheduler.REAP_EVERY_S", 0.02)
    monkeypatch.setattr("alcove.functions.scheduler.RETRY_S", 0.05)


@asynccontextmanager
async def running(
    folder: Path, tier: FakeTier, recover: Callable[[Services], Awaitable[None]] | None = None, **changes: Any
) -> AsyncIterator[Services]:
    async with AsyncExitStack() as stack:
        settings = Settings(state=folder, memory_reserve_mib=0, idle_timeout_s=0.05, **changes)
        services = await open_services(stack, settings, {Isolation.VM: tier})
        stack.push_async_callback(tier.close)
        if recover is not None:
            await recover(services)
        await services.start(stack)
        yield services


async def publish(services: Services, name: str = "f", text: str = "1") -> str:
    tenant = services.tenants.default.id
    try:
        await services.functions.update_code(tenant, name, zipped(text))
    except NotFound:
        await services.functions.create(tenant, name, zipped(text), ECHO)
    return (await services.functions.publish(tenant, name)).version


async def until(services: Services, wanted: Callable[[Allocation], bool], qualifier: str = "1") -> Allocation:
    async with asyncio.timeout(10):
        while True:
            found = (await services.concurrency.provisioned(services.tenants.default.id, "f"))[qualifier]
            if wanted(found):
                return found
            await asyncio.sleep(0.01)


def is_ready(found: Allocation) -> bool:
    return found.status == "READY"


async def test_instances_are_made_kept_beyond_the_idle_time_and_replaced(tmp_path: Path) -> None:
    tier = FakeTier()
    async with running(tmp_path, tier) as services:
        tenant = services.tenants.default.id
        await publish(services)
        await services.concurrency.provision(tenant, "f", "1", 3)
        await until(services, is_ready)
        await asyncio.sleep(0.2)
        assert len(tier.live) == 3
        # One that dies is replaced.
        victim = next(iter(tier.live))
        victim.die("out_of_memory")
        await until(services, lambda found: victim not in tier.live and found.status == "READY")
        # Fewer: what is too much idles out.
        await services.concurrency.provision(tenant, "f", "1", 1)
        async with asyncio.timeout(10):
            while len(tier.live) > 1:
                await asyncio.sleep(0.01)
        await services.concurrency.unprovision(tenant, "f", "1")
        async with asyncio.timeout(10):
            while tier.live:
                await asyncio.sleep(0.01)
        with pytest.raises(NoProvisionedConcurrency):
            await services.concurrency.unprovision(tenant, "f", "1")


async def test_both_survive_a_restart(tmp_path: Path) -> None:
    async with running(tmp_path, FakeTier()) as services:
        tenant = services.tenants.default.id
        await publish(services)
        await services.concurrency.reserve(tenant, "f", 5)
        await services.concurrency.provision(tenant, "f", "1", 2)
    tier = FakeTier()
    async with running(tmp_path, tier) as services:
        assert await services.concurrency.reserved(tenant, "f") == 5
        await until(services, is_ready)
        assert len(tier.live) == 2


async def test_what_an_earlier_daemon_left_running_counts(tmp_path: Path) -> None:
    async with running(tmp_path, FakeTier()) as services:
        tenant = services.tenants.default.id
        await publish(services)
        await services.concurrency.provision(tenant, "f", "1", 2)
    tier = FakeTier()

    async def adopt(services: Services) -> None:
        version = await services.functions.get(tenant, "f", "1")
        for _ in range(2):
            sandbox = await tier.start(version.runtime)
            await sandbox.load(version.workload())
            services.dispatcher.adopt(version, sandbox)

    async with running(tmp_path, tier, adopt) as services:
        await until(services, is_ready)
        await asyncio.sleep(0.1)
        assert tier.started == 2


async def test_deleting_the_version_or_function_frees_what_was_set_aside(tmp_path: Path) -> None:
    tier = FakeTier()
    async with running(tmp_path, tier) as services:
        tenant = services.tenants.default.id
        whole = services.dispatcher.admission.rest(tenant)
        await publish(services)
        await publish(services, text="2")
        await services.concurrency.provision(tenant, "f", "1", 2)
        await services.concurrency.provision(tenant, "f", "2", 1)
        # A look that had begun may have put back what the deletion freed; the next one sees that.
        async with asyncio.timeout(10):
            await services.functions.delete(tenant, "f", "1")
            while services.dispatcher.admission.rest(tenant) != whole - 1:
                await asyncio.sleep(0.01)
            await services.functions.delete(tenant, "f")
            while services.dispatcher.admission.rest(tenant) != whole or tier.live:
                await asyncio.sleep(0.01)


async def test_a_start_that_fails_is_told_and_tried_again(tmp_path: Path) -> None:
    tier = FakeTier()
    async with running(tmp_path, tier) as services:
        await publish(services)
        tier.fail = True
        await services.concurrency.provision(services.tenants.default.id, "f", "1", 1)
        found = await until(services, lambda found: found.status == "FAILED")
        assert "no machine" in found.reason
        tier.fail = False
        await until(services, is_ready)


async def test_provisioned_places_are_the_versions_own(tmp_path: Path) -> None:
    """The account is full; the version with provisioned concurrency still has its places, and no more."""
    tier = FakeTier()
    async with running(tmp_path, tier, concurrency=5, unreserved_concurrency=0) as services:
        tenant = services.tenants.default.id
        await publish(services)
        await services.concurrency.provision(tenant, "f", "1", 2)
        await until(services, is_ready)
        latest = await services.functions.resolve(tenant, "f")
        version = await services.functions.resolve(tenant, "f", "1")

        async def calls(function: Any, count: int) -> list[Any]:
            each = (services.dispatcher.invoke(function, b"0.2") for _ in range(count))
            return await asyncio.gather(*each, return_exceptions=True)

        rest, own = await asyncio.gather(calls(latest, 5), calls(version, 3))
        assert sum(isinstance(one, ThrottledError) for one in rest) == 2
        assert sum(isinstance(one, ThrottledError) for one in own) == 1
        assert {one.start for one in own if not isinstance(one, ThrottledError)} == {"warm"}


async def test_two_changes_at_once_cannot_take_more_than_there_is(tmp_path: Path) -> None:
    async with running(tmp_path, FakeTier(), concurrency=100, unreserved_concurrency=40) as services:
        tenant = services.tenants.default.id
        for name in ("f", "g", "h"):
            await publish(services, name)
        results = await asyncio.gather(
            *(services.concurrency.reserve(tenant, name, 25) for name in ("f", "g", "h")), return_exceptions=True
        )
        assert sum(isinstance(result, InvalidRequest) for result in results) == 1
        assert services.dispatcher.admission.rest(tenant) == 50
        await services.concurrency.reserve(tenant, "f", None)
        assert await services.concurrency.reserved(tenant, "f") is None


async def test_nothing_of_another_tenant_is_there(tmp_path: Path) -> None:
    async with running(tmp_path, FakeTier()) as services:
        await publish(services)
        other = (await services.tenants.create("other")).id
        for act in (
            services.concurrency.reserve(other, "f", 0),
            services.concurrency.reserved(other, "f"),
            services.concurrency.provision(other, "f", "1", 1),
            services.concurrency.provisioned(TenantId("nobody"), "f"),
        ):
            with pytest.raises(NotFound):
                await act
