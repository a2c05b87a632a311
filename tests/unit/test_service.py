"""The control plane over a recording dispatcher: order of writing and acting, cache, code in use."""

from __future__ import annotations

import asyncio

import pytest
from tests.plane import PYTHON, Plane, zipped

from alcove.errors import Conflict, HostError, InvalidRequest, NotFound
from alcove.functions import code_keeper, names
from alcove.functions.model import LATEST, FunctionChange, FunctionVersion
from alcove.sandbox.protocol import Runtime, TenantId


async def test_resolve_follows_every_change(plane: Plane) -> None:
    service, tenant = plane.service, plane.tenant
    await service.create(tenant, "f", zipped("1"), PYTHON)
    first = await service.resolve(tenant, "f")
    assert await service.resolve(tenant, "f") is first
    await service.update_configuration(tenant, "f", FunctionChange(timeout_s=9))
    assert (await service.resolve(tenant, "f")).timeout_s == 9
    await service.update_code(tenant, "f", zipped("2"))
    assert (await service.resolve(tenant, "f")).code.digest != first.code.digest
    assert plane.recorder.told == [("forget", "f", LATEST)] * 2
    await service.delete(tenant, "f")
    with pytest.raises(NotFound):
        await service.resolve(tenant, "f")
    with pytest.raises(NotFound):
        await service.resolve(TenantId("stranger"), "f")


async def test_one_of_many_creators_wins(plane: Plane) -> None:
    results = await asyncio.gather(
        *(plane.service.create(plane.tenant, "f", zipped(str(n)), PYTHON) for n in range(5)),
        return_exceptions=True,
    )
    assert sum(isinstance(result, FunctionVersion) for result in results) == 1
    assert sum(isinstance(result, Conflict) for result in results) == 4


async def test_publishing_survives_a_failed_snapshot(plane: Plane) -> None:
    await plane.service.create(plane.tenant, "f", zipped("1"), PYTHON)
    plane.recorder.snapshot_error = HostError("no room")
    published = await plane.service.publish(plane.tenant, "f")
    assert published.version == "1"
    assert (await plane.service.resolve(plane.tenant, "f", "1")).code == published.code
    again = await plane.service.publish(plane.tenant, "f")
    assert again == published
    # What lacks its snapshot gets another chance when it is published again.
    assert plane.recorder.told == [("snapshot", "f", "1")] * 2


async def test_a_deleted_version_number_is_not_used_again(plane: Plane) -> None:
    service, tenant = plane.service, plane.tenant
    await service.create(tenant, "f", zipped("1"), PYTHON, publish=True)
    await service.delete(tenant, "f", "1")
    assert (await service.publish(tenant, "f")).version == "2"
    listed = await service.listing.versions(tenant, "f")
    assert [item.version for item in listed.items] == [LATEST, "2"]


async def test_versions_are_listed_in_pages_that_a_deletion_does_not_shift(plane: Plane) -> None:
    service, tenant = plane.service, plane.tenant
    for name in ("e", "f", "g"):
        await service.create(tenant, name, zipped(name), PYTHON, publish=True)
    for number in (2, 3):
        await service.update_code(tenant, "f", zipped(str(number)), publish=True)
    first = await service.listing.versions(tenant, "f", limit=2)
    await service.delete(tenant, "f", "1")
    rest = await service.listing.versions(tenant, "f", first.marker or "", limit=2)
    assert [item.version for item in [*first.items, *rest.items]] == [LATEST, "1", "2", "3"]
    assert rest.marker is None
    found, marker = [], ""
    while True:
        page = await service.listing.all_versions(tenant, marker, limit=2)
        found += [(item.name, item.version) for item in page.items]
        if page.marker is None:
            break
        marker = page.marker
    assert found == [("e", LATEST), ("e", "1"), ("f", LATEST), ("f", "2"), ("f", "3"), ("g", LATEST), ("g", "1")]
    for bad in ("x", "-1", "f:x", "9" * 20):
        with pytest.raises(InvalidRequest):
            await service.listing.versions(tenant, "f", bad)


async def test_a_new_runtime_gets_a_new_image(plane: Plane) -> None:
    service, tenant = plane.service, plane.tenant
    made = await service.create(tenant, "f", zipped("x = 1\n"), PYTHON)
    changed = await service.update_configuration(tenant, "f", FunctionChange(runtime="nodejs18.x"))
    assert changed.runtime is Runtime.NODE
    assert changed.code.digest != made.code.digest
    assert changed.package_sha256 == made.package_sha256
    assert changed.code.path.exists()


async def test_code_goes_with_the_last_that_uses_it(plane: Plane) -> None:
    service, tenant = plane.service, plane.tenant
    one = await service.create(tenant, "one", zipped("1"), PYTHON)
    await service.create(tenant, "two", zipped("1"), PYTHON)
    await service.delete(tenant, "one")
    assert one.code.path.exists()
    await service.delete(tenant, "two")
    assert not one.code.path.exists()
    assert not service.code.store.package_path(one.package_sha256).exists()


async def test_code_goes_that_an_update_has_replaced(plane: Plane, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not at once: calls that were accepted before may still start with it."""
    service, tenant = plane.service, plane.tenant
    one = await service.create(tenant, "f", zipped("1"), PYTHON, publish=True)
    two = await service.update_code(tenant, "f", zipped("2"))
    three = await service.update_code(tenant, "f", zipped("3"))
    assert two.code.path.exists()
    monkeypatch.setattr(code_keeper, "REPLACED_S", 0.0)
    await service.update_configuration(tenant, "f", FunctionChange(timeout_s=9))
    assert [version.code.path.exists() for version in (one, two, three)] == [True, False, True]
    assert not service.code.store.package_path(two.package_sha256).exists()


async def test_code_that_was_built_for_nothing_goes(plane: Plane) -> None:
    service, tenant = plane.service, plane.tenant
    tried = await service.create(tenant, "f", zipped("1"), PYTHON, dry_run=True)
    await service.create(tenant, "f", zipped("2"), PYTHON)
    with pytest.raises(Conflict):
        await service.update_code(tenant, "f", zipped("3"), revision_id="another")
    assert not tried.code.path.exists()
    assert len(list(service.code.store.folder.glob("*.squashfs"))) == 1


async def test_code_stays_that_is_taken_up_while_its_last_version_goes(plane: Plane) -> None:
    service, tenant = plane.service, plane.tenant
    for number in range(10):
        await service.create(tenant, f"old-{number}", zipped("1"), PYTHON)
        await asyncio.gather(
            service.delete(tenant, f"old-{number}"), service.create(tenant, f"new-{number}", zipped("1"), PYTHON)
        )
        made = await service.get(tenant, f"new-{number}")
        assert made.code.path.exists()
        assert service.code.store.package_path(made.package_sha256).exists()
        await service.delete(tenant, f"new-{number}")


async def test_a_crash_between_image_and_row_leaves_nothing(plane: Plane) -> None:
    """The image was built, the row was not written: the next start removes it."""
    built = await plane.service.code.store.build(zipped("1"), python=True)
    await plane.service.recover()
    assert not built.path.exists()


async def test_a_refused_function_leaves_no_code(plane: Plane) -> None:
    with pytest.raises(InvalidRequest):
        await plane.service.create(plane.tenant, "f", zipped("1"), FunctionChange(runtime="cobol", handler="x"))
    with pytest.raises(InvalidRequest):
        await plane.service.create(plane.tenant, "f", zipped("1"), FunctionChange(runtime="python3.11"))
    assert list(plane.service.code.store.folder.glob("*.squashfs")) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("f", names.Reference("f")),
        ("f:1", names.Reference("f", "1")),
        ("function:f", names.Reference("f")),
        ("function:f:1", names.Reference("f", "1")),
        ("123456789012:function:f", names.Reference("f", None, "123456789012")),
        ("123456789012:f", names.Reference("f", None, "123456789012")),
        ("arn:aws:lambda:r:1:function:f", names.Reference("f", None, "1")),
        ("arn:aws:lambda:r:1:function:f:$LATEST", names.Reference("f", "$LATEST", "1")),
        ("brn:bce:cfc:bj:1:function:f:2", names.Reference("f", "2", "1")),
    ],
)
def test_names(text: str, expected: names.Reference) -> None:
    assert names.parse(text) == expected


@pytest.mark.parametrize("text", ["", "a b", "a/b", "..", "arn:aws:s3:::x", "x" * 65, "f:$OTHER", "a:b:c:d:e"])
def test_names_that_are_refused(text: str) -> None:
    with pytest.raises(InvalidRequest):
        names.parse(text)
    with pytest.raises(InvalidRequest):
        names.parse("f:1", "2")


async def test_every_version_is_every_version(plane: Plane) -> None:
    service, tenant = plane.service, plane.tenant
    await service.create(tenant, "a", zipped("1"), PYTHON, publish=True)
    await service.create(tenant, "b", zipped("2"), PYTHON, tags={"k": "v"})
    found = {(version.name, version.version): version for version in await service.listing.every_version(tenant)}
    assert sorted(found) == [("a", LATEST), ("a", "1"), ("b", LATEST)]
    assert found["b", LATEST] == await service.get(tenant, "b")
    assert await service.listing.every_version(TenantId("nobody")) == []
