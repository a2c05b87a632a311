"""Versions under the isolation policy: decided when made, recorded, decided anew when the rules change."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from tests.fakes import FakeTier
from tests.parity.conftest import HELLO

from alcove.composition import open_services
from alcove.errors import HostError, InvalidRequest
from alcove.functions.aliases import AliasChange
from alcove.functions.model import LATEST, FunctionChange
from alcove.sandbox.protocol import Isolation, Tier
from alcove.services import Services
from alcove.settings import Settings

NODE = FunctionChange(runtime="nodejs18.x", handler="echo")
PYTHON = FunctionChange(runtime="python3.11", handler="echo")
LOOSE = 'default = "process"\n[languages]\nsafe = ["nodejs*"]\n'
ALL = tuple(Isolation)


@asynccontextmanager
async def serving(
    folder: Path, rules: str = "", *, tiers: tuple[Isolation, ...] = ALL, floor: str = "process"
) -> AsyncIterator[Services]:
    from contextlib import AsyncExitStack

    path = folder / "rules.toml"
    path.write_text(rules)
    async with AsyncExitStack() as stack:
        settings = Settings(state=folder / "state", isolation_rules=str(path) if rules else "", isolation_floor=floor)
        made: dict[Isolation, Tier] = {tier: FakeTier(tier) for tier in tiers}
        services = await open_services(stack, settings, made, unavailable={Isolation.GVISOR: "runsc is missing"})
        await services.functions.recover()
        await services.start(stack)
        for tier in made.values():
            stack.push_async_callback(tier.close)
        yield services


async def tier_of(services: Services, name: str, version: str = LATEST) -> tuple[Isolation, str]:
    found = await services.functions.get(services.tenants.default.id, name, version)
    return found.isolation, found.cause


async def test_built_in_everything_runs_in_a_vm_and_says_so(tmp_path: Path) -> None:
    async with serving(tmp_path) as services:
        tenant = services.tenants.default.id
        await services.functions.create(tenant, "f", HELLO, NODE, publish=True)
        for version in (LATEST, "1"):
            assert await tier_of(services, "f", version) == (Isolation.VM, "default")
        result = await services.dispatcher.invoke(await services.functions.get(tenant, "f"), b"1")
        assert "vm, for the rules' default is vm" in result.why


async def test_the_rules_decide_at_create_update_and_publish(tmp_path: Path) -> None:
    rules = LOOSE + '[development]\nlatest = true\nisolation = "gvisor"\n'
    async with serving(tmp_path, rules) as services:
        tenant, functions = services.tenants.default.id, services.functions
        await functions.create(tenant, "f", HELLO, NODE)
        assert await tier_of(services, "f") == (Isolation.GVISOR, "development")
        await functions.publish(tenant, "f")
        assert await tier_of(services, "f", "1") == (Isolation.PROCESS, "default")
        await functions.publish(tenant, "f")
        with pytest.raises(Exception, match="not found"):
            await functions.get(tenant, "f", "2")
        await functions.update_configuration(tenant, "f", PYTHON)
        assert await tier_of(services, "f") == (Isolation.VM, "language")


async def test_a_tenant_can_raise_and_never_lower(tmp_path: Path) -> None:
    async with serving(tmp_path, LOOSE) as services:
        tenant, functions = services.tenants.default.id, services.functions
        await functions.create(tenant, "f", HELLO, NODE, tags={"alcove:isolation": "gvisor"})
        assert await tier_of(services, "f") == (Isolation.GVISOR, "request")
        await functions.set_tags(tenant, "f", lambda tags: tags.update({"alcove:isolation": "vm"}))
        assert await tier_of(services, "f") == (Isolation.VM, "request")
        with pytest.raises(InvalidRequest, match="no safe sandbox"):
            await functions.create(tenant, "p", HELLO, PYTHON, tags={"alcove:isolation": "process"})
        await functions.create(tenant, "p", HELLO, PYTHON)
        with pytest.raises(InvalidRequest, match="not allowed"):
            await functions.set_tags(tenant, "p", lambda tags: tags.update({"alcove:isolation": "gvisor"}))
        assert (await functions.get(tenant, "p")).tags == {}


async def test_the_operator_chooses_for_one_function_but_not_below_the_floor(tmp_path: Path) -> None:
    async with serving(tmp_path, floor="gvisor") as services:
        tenant, functions = services.tenants.default.id, services.functions
        chosen = FunctionChange(runtime="python3.11", handler="echo", isolation="gvisor")
        await functions.create(tenant, "f", HELLO, chosen)
        assert await tier_of(services, "f") == (Isolation.GVISOR, "floor")
        with pytest.raises(InvalidRequest, match="floor"):
            await functions.update_configuration(tenant, "f", FunctionChange(isolation="process"))
        await functions.update_configuration(tenant, "f", FunctionChange(isolation="rules"))
        assert await tier_of(services, "f") == (Isolation.VM, "default")


async def test_a_tenants_floor_moves_its_functions_alone(tmp_path: Path) -> None:
    async with serving(tmp_path, LOOSE) as services:
        mine, theirs = services.tenants.default.id, (await services.tenants.create("other")).id
        for tenant in (mine, theirs):
            await services.functions.create(tenant, "f", HELLO, NODE)
        await services.functions.moves.raise_floor(mine, Isolation.VM, operator=False)
        assert (await services.functions.get(mine, "f")).isolation is Isolation.VM
        assert (await services.functions.get(theirs, "f")).isolation is Isolation.PROCESS
        with pytest.raises(InvalidRequest, match="only be raised"):
            await services.functions.moves.raise_floor(mine, Isolation.GVISOR, operator=False)
        await services.functions.moves.raise_floor(mine, Isolation.PROCESS, operator=True)
        assert (await services.functions.get(mine, "f")).isolation is Isolation.PROCESS


async def test_a_tier_that_does_not_work_here_is_an_error_with_the_reason(tmp_path: Path) -> None:
    rules = 'default = "gvisor"\n'
    async with serving(tmp_path, rules, tiers=(Isolation.VM, Isolation.PROCESS)) as services:
        tenant = services.tenants.default.id
        with pytest.raises(HostError, match="runsc is missing"):
            await services.functions.create(tenant, "f", HELLO, NODE)
        await services.functions.create(tenant, "f", HELLO, NODE, tags={"alcove:isolation": "vm"})


async def test_new_rules_are_applied_at_the_start_and_move_published_versions(tmp_path: Path) -> None:
    async with serving(tmp_path, LOOSE) as services:
        tenant = services.tenants.default.id
        await services.functions.create(tenant, "f", HELLO, NODE, publish=True)
        before = await services.functions.get(tenant, "f", "1")
        assert before.isolation is Isolation.PROCESS
    async with serving(tmp_path) as services:
        after = await services.functions.get(tenant, "f", "1")
        assert (after.isolation, after.cause) == (Isolation.VM, "default")
        assert after.revision != before.revision
        assert after.revision_id == before.revision_id
    async with serving(tmp_path, LOOSE, tiers=(Isolation.VM,)) as services:
        function = await services.functions.get(tenant, "f", "1")
        assert function.isolation is Isolation.PROCESS
        with pytest.raises(HostError, match="process does not work"):
            await services.dispatcher.invoke(function, b"1")


async def test_a_version_that_moves_leaves_its_instances(tmp_path: Path) -> None:
    async with serving(tmp_path, LOOSE) as services:
        tenant = services.tenants.default.id
        await services.functions.create(tenant, "f", HELLO, NODE)
        await services.dispatcher.invoke(await services.functions.resolve(tenant, "f"), b"1")
        assert [one["isolation"] for one in services.dispatcher.instances()] == ["process"]
        await services.functions.set_tags(tenant, "f", lambda tags: tags.update({"alcove:isolation": "vm"}))
        result = await services.dispatcher.invoke(await services.functions.resolve(tenant, "f"), b"1")
        assert result.start != "warm"
        assert [one["isolation"] for one in services.dispatcher.instances()] == ["vm"]


async def test_explain_lists_every_demand_the_strongest_first(tmp_path: Path) -> None:
    async with serving(tmp_path, LOOSE) as services:
        tenant = services.tenants.default.id
        function = await services.functions.create(tenant, "f", HELLO, PYTHON, tags={"alcove:isolation": "vm"})
        found = [(str(one.isolation), str(one.case)) for one in await services.functions.moves.explain(function)]
        assert found == [("vm", "language"), ("vm", "request"), ("process", "default")]


async def test_a_version_is_for_development_while_an_alias_says_so(tmp_path: Path) -> None:
    rules = 'default = "process"\n[development]\naliases = ["dev*"]\n'
    async with serving(tmp_path, rules) as services:
        tenant = services.tenants.default.id
        await services.functions.create(tenant, "f", HELLO, NODE, publish=True)
        await services.aliases.create(tenant, "f", "live", AliasChange("1"))
        assert await tier_of(services, "f", "1") == (Isolation.PROCESS, "default")
        await services.aliases.create(tenant, "f", "devel", AliasChange("1"))
        assert await tier_of(services, "f", "1") == (Isolation.VM, "development")
        assert await tier_of(services, "f", "live") == (Isolation.VM, "development")
        await services.aliases.delete(tenant, "f", "devel")
        assert await tier_of(services, "f", "1") == (Isolation.PROCESS, "default")
