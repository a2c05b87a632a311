"""Tenants: keys that are rotated, quotas that hold, a removal that ends whatever interrupts it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.plane import PYTHON, Recorder, zipped

from alcove.errors import AlcoveError, Conflict, HostError, InvalidRequest, NotFound, QuotaExceeded
from alcove.functions.model import FunctionChange
from alcove.functions.service import FunctionService
from alcove.images.code import CodeStore
from alcove.removal import TenantRemoval
from alcove.sandbox.protocol import TenantId
from alcove.store import functions as rows
from alcove.store.database import Database
from alcove.tenants.directory import KEY_LIMIT, TenantDirectory
from alcove.tenants.quotas import NOTHING, Quotas


class Plane:
    """The directory and the functions over one state file, opened as often as a test likes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    async def open(self) -> None:
        self.database = await Database.open(self.folder / "alcove.db")
        self.tenants = await TenantDirectory.open(self.database, Quotas(functions=5))
        self.code = CodeStore(self.folder / "code")
        self.service = FunctionService(self.database, self.code, Recorder(), quotas=self.tenants.quotas)

    async def close(self) -> None:
        self.code.close()
        await self.database.close()

    async def again(self) -> None:
        await self.close()
        await self.open()


@pytest.fixture
async def plane(tmp_path: Path) -> AsyncIterator[Plane]:
    plane = Plane(tmp_path)
    await plane.open()
    yield plane
    await plane.close()


async def test_a_rotated_key_ends_as_the_new_one_begins(plane: Plane) -> None:
    tenants = plane.tenants
    one = await tenants.create("one")
    (first,) = tenants.keys_of(one.id)
    second = await tenants.create_key(one.id, keep=True)
    assert tenants.keys_of(one.id) == [first, second]
    third = await tenants.create_key(one.id, keep=False)
    for known in (plane.tenants, await reopened(plane)):
        assert known.keys_of(one.id) == [third]
        assert known.secret_of(first.access_key) is None
        assert known.secret_of(third.access_key) == third.secret
        assert len(known.keys_of(known.default.id)) == 1


async def reopened(plane: Plane) -> TenantDirectory:
    await plane.again()
    return plane.tenants


async def test_keys_are_bounded(plane: Plane) -> None:
    one = await plane.tenants.create("one")
    for _ in range(KEY_LIMIT - 1):
        await plane.tenants.create_key(one.id)
    with pytest.raises(Conflict):
        await plane.tenants.create_key(one.id)
    await plane.tenants.create_key(one.id, keep=False)
    assert len(plane.tenants.keys_of(one.id)) == 1


async def test_quotas_are_the_tenants_own_or_the_default(plane: Plane) -> None:
    one = await plane.tenants.create("one", {"timers": 7})
    assert plane.tenants.quotas(one.id) == Quotas(functions=5, timers=7)
    await plane.tenants.set_quotas(one.id, {"events": 0})
    assert (await reopened(plane)).quotas(one.id) == Quotas(functions=5, timers=7, events=0)
    await plane.tenants.set_quotas(one.id, {"timers": None})
    assert (await reopened(plane)).quotas(one.id) == Quotas(functions=5, events=0)
    assert plane.tenants.quotas(TenantId("nobody")) == NOTHING
    for bad in ({"timers": -1}, {"timers": True}, {"timers": "7"}, {"timers": 2**60}, {"cpus": 1}):
        with pytest.raises(InvalidRequest):
            await plane.tenants.set_quotas(one.id, bad)


@pytest.mark.parametrize("name", ["", " a", "a" * 65, "a\nb", "123456789012"])
async def test_names_that_are_refused(plane: Plane, name: str) -> None:
    with pytest.raises(InvalidRequest):
        await plane.tenants.create(name)


async def test_the_quota_of_functions_holds_under_concurrent_creation(plane: Plane) -> None:
    tenant = (await plane.tenants.create("one", {"functions": 2})).id
    results = await asyncio.gather(
        *(plane.service.create(tenant, f"f{n}", zipped(str(n)), PYTHON) for n in range(6)), return_exceptions=True
    )
    refused = [result for result in results if isinstance(result, QuotaExceeded)]
    assert len(refused) == 4
    assert {error.code for error in refused} == {"functions"}
    assert await plane.service.usage(tenant) == (2, 2 * len(zipped("1")))
    # What was refused leaves no code behind.
    await plane.service.recover()
    assert len(list(plane.code.folder.glob("*.squashfs"))) == 2


async def test_the_quota_of_code_counts_every_version(plane: Plane) -> None:
    size = len(zipped("1"))
    tenant = (await plane.tenants.create("one", {"code_bytes": 2 * size})).id
    await plane.service.create(tenant, "f", zipped("1"), PYTHON, publish=True)
    for change in (
        plane.service.create(tenant, "g", zipped("2"), PYTHON),
        plane.service.update_code(tenant, "f", zipped("12")),
    ):
        with pytest.raises(QuotaExceeded) as caught:
            await change
        assert caught.value.code == "code_bytes"
    await plane.service.update_code(tenant, "f", zipped("3"))
    with pytest.raises(QuotaExceeded):
        await plane.service.publish(tenant, "f")
    assert await plane.service.usage(tenant) == (1, 2 * size)
    # A quota below what there is refuses growth alone.
    await plane.tenants.set_quotas(tenant, {"code_bytes": 1, "functions": 0})
    assert (await plane.service.update_configuration(tenant, "f", FunctionChange(timeout_s=9))).timeout_s == 9
    await plane.service.update_code(tenant, "f", zipped(""))
    await plane.service.delete(tenant, "f", "1")
    await plane.service.delete(tenant, "f")
    assert await plane.service.usage(tenant) == (0, 0)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    steps=st.lists(
        st.tuples(st.sampled_from(["function", "version", "latest", "drop", "drop version"]), st.integers(0, 2)),
        max_size=20,
    )
)
async def test_what_is_counted_is_what_there_is(tmp_path: Path, steps: list[tuple[str, int]]) -> None:
    """Over any order of changes the counts are the sums that they stand for."""
    (tmp_path / "alcove.db").unlink(missing_ok=True)
    database = await Database.open(tmp_path / "alcove.db")
    tenants = await TenantDirectory.open(database)
    owner = tenants.default.id
    version = {
        "revision_id": "r",
        "modified_ms": 0,
        "description": "",
        "runtime_name": "python3.11",
        "handler": "h",
        "memory_mib": 128,
        "timeout_s": 3,
        "environment": "{}",
        "role": "",
        "isolation": "vm",
        "network": 1,
        "package_sha256": "p",
        "image_digest": "i",
    }
    for at, (step, number) in enumerate(steps):
        function_id = f"id{number}"

        def change(connection, step=step, at=at, number=number, function_id=function_id) -> None:  # type: ignore
            exists = connection.execute("SELECT 1 FROM functions WHERE id = ?", (function_id,)).fetchone()
            if step == "function" and not exists:
                rows.insert_function(connection, rows.FunctionRow(function_id, owner, f"f{number}", 1, {}, 0))
            elif step == "drop":
                rows.delete_function(connection, function_id)
            elif step == "drop version":
                rows.delete_version(connection, function_id, "$LATEST")
            elif exists:
                name = "$LATEST" if step == "latest" else str(at)
                rows.put_version(
                    connection,
                    rows.VersionRow(function_id=function_id, version=name, package_bytes=2**at, **version),
                )

        await database.write(change)
        counted = await database.read(lambda c: rows.usage(c, owner))
        summed = await database.read(
            lambda c: c.execute(
                "SELECT (SELECT COUNT(*) FROM functions), (SELECT COALESCE(SUM(package_bytes), 0) FROM versions)"
            ).fetchone()
        )
        assert counted == tuple(summed)
    await database.close()


async def test_a_tenant_with_functions_is_not_removed_unasked(plane: Plane) -> None:
    one = await plane.tenants.create("one")
    await plane.service.create(one.id, "f", zipped("1"), PYTHON)
    removal = TenantRemoval(plane.tenants, (plane.service.delete_every,))
    with pytest.raises(Conflict) as caught:
        await removal.remove("one")
    assert "--force" in caught.value.hint
    assert plane.tenants.find("one") == one
    assert plane.tenants.keys_of(one.id)
    await removal.remove("one", force=True)
    assert list(plane.code.folder.glob("*.squashfs")) == []
    with pytest.raises(NotFound):
        await removal.remove("one")
    with pytest.raises(Conflict):
        await removal.remove("default", force=True)
    assert (await plane.tenants.create("one")).id != one.id


@pytest.mark.parametrize("broken", [0, 1, 2])
async def test_a_removal_that_is_interrupted_ends_at_the_next_start(plane: Plane, broken: int) -> None:
    one = await plane.tenants.create("one")
    (key,) = plane.tenants.keys_of(one.id)
    await plane.service.create(one.id, "f", zipped("1"), PYTHON)
    done: list[str] = []

    def steps(fails: int | None) -> list[object]:
        async def note(tenant: TenantId) -> None:
            done.append(tenant)

        async def fail(tenant: TenantId) -> None:
            raise HostError("the machine stops here")

        found = [note, plane.service.delete_every, note]
        if fails is not None:
            found.insert(fails, fail)
        return found

    with pytest.raises(AlcoveError):
        await TenantRemoval(plane.tenants, steps(broken)).remove("one", force=True)  # type: ignore[arg-type]
    for again in (False, True):
        known = await reopened(plane) if again else plane.tenants
        assert known.secret_of(key.access_key) is None
        assert known.quotas(one.id) == NOTHING
        with pytest.raises(NotFound):
            known.find("one")
        with pytest.raises(Conflict, match="being removed"):
            await known.create("one")
    with pytest.raises(QuotaExceeded):
        await plane.service.create(one.id, "late", zipped("1"), PYTHON)
    await TenantRemoval(plane.tenants, steps(None)).resume()  # type: ignore[arg-type]
    assert plane.tenants.removing() == []
    for table in ("tenants", "access_keys", "functions", "versions", "usage", "quotas"):
        query = f"SELECT * FROM {table}"
        found = await plane.database.read(lambda c, query=query: [tuple(row) for row in c.execute(query)])
        assert not any(one.id in row for row in found), table
    assert (await reopened(plane)).removing() == []
