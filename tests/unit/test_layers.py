"""Layers: what they may be, who may use them, and what becomes of the packages and images behind them."""

from __future__ import annotations

import asyncio
import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.plane import PYTHON, Plane, zipped
from tests.unit.test_code_image import zipped as zip_of

from alcove.errors import Conflict, InvalidRequest, NotFound
from alcove.functions import code_keeper
from alcove.functions.layering import LayerName, parse_layer, parse_layer_version
from alcove.functions.layers import LayerFacts, LayerService, LayerVersion
from alcove.functions.model import FunctionChange
from alcove.functions.statements import Statement
from alcove.images import code_layers
from alcove.images.code_layers import merge
from alcove.sandbox.protocol import TenantId
from alcove.tenants.directory import TenantDirectory

NONE = LayerFacts()


def service(plane: Plane) -> LayerService:
    return LayerService(plane.database, plane.service)


async def publish(plane: Plane, name: str = "tools", text: str = "x", tenant: TenantId | None = None) -> LayerVersion:
    owner = tenant or plane.tenant
    return await service(plane).publish(owner, LayerName(owner, name), zip_of({"data": text.encode()}), NONE)


def named(layer: LayerVersion) -> LayerName:
    return parse_layer_version(layer.arn)


def using(*layers: LayerVersion) -> FunctionChange:
    return FunctionChange(layers=tuple(layer.arn for layer in layers))


def contents(image: Path) -> set[str]:
    listed = subprocess.run(["unsquashfs", "-l", "-d", "", str(image)], capture_output=True, text=True, check=True)
    return set(listed.stdout.split())


@given(st.text(max_size=80))
def test_names_never_break_the_parser(text: str) -> None:
    for parse in (parse_layer_version, lambda text: parse_layer(text, TenantId("1"))):
        try:
            found = parse(text)
        except InvalidRequest:
            continue
        assert found.name.replace("-", "").replace("_", "").isalnum() or set(found.name) <= {"-", "_"}


@pytest.mark.parametrize(
    "text",
    ["tools", "arn:aws:lambda:r:1:layer:tools", "arn:aws:lambda:r:1:layer:tools:0", "arn:aws:lambda:r:1:layer:../x:1",
     "arn:aws:lambda:r:1:function:tools:1", "arn:aws:lambda:r:1:layer:tools:1:2", "arn:aws:lambda:r:1:layer:tools:x"],
)  # fmt: skip
def test_what_names_no_layer_version(text: str) -> None:
    with pytest.raises(InvalidRequest):
        parse_layer_version(text)


def test_later_layers_replace_what_they_bring(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    for path, text in (
        (first / "both/a", "1"), (first / "both/b", "1"), (first / "file", "1"), (first / "folder/x", "1"),
        (second / "both/b", "2"), (second / "file/y", "2"), (second / "folder", "2"),
    ):  # fmt: skip
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    merge(second, first)
    found = {str(path.relative_to(first)): path.read_text() for path in first.rglob("*") if path.is_file()}
    assert found == {"both/a": "1", "both/b": "2", "file/y": "2", "folder": "2"}


async def test_numbers_go_up_and_are_not_used_again(plane: Plane) -> None:
    layers = service(plane)
    for number in (1, 2):
        assert (await publish(plane, text=str(number))).row.version == number
    await publish(plane, "other")
    assert [one.row.version for one in (await layers.list(plane.tenant)).items] == [1, 2]
    page = await layers.list_versions(plane.tenant, LayerName(plane.tenant, "tools"), limit=1)
    rest = await layers.list_versions(plane.tenant, LayerName(plane.tenant, "tools"), page.marker or "")
    assert [one.row.version for one in [*page.items, *rest.items]] == [2, 1]
    for number in (1, 2):
        assert await layers.delete(plane.tenant, LayerName(plane.tenant, "tools", number))
    assert not await layers.delete(plane.tenant, LayerName(plane.tenant, "tools", 2))
    assert [one.row.layer.name for one in (await layers.list(plane.tenant)).items] == ["other"]
    assert (await publish(plane)).row.version == 3


@pytest.mark.parametrize("entries", [{"alcove/x": b""}, {"alcove": b""}, {"../x": b""}, {}])
async def test_a_layer_that_is_refused_leaves_nothing(plane: Plane, entries: dict[str, bytes]) -> None:
    with pytest.raises(InvalidRequest):
        await service(plane).publish(plane.tenant, LayerName(plane.tenant, "tools"), zip_of(entries), NONE)
    assert (await service(plane).list(plane.tenant)).items == []
    assert list((plane.service.code.store.folder / "packages").iterdir()) == []


async def test_one_image_holds_code_and_layers(plane: Plane, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = await publish(plane, "a", "1"), await publish(plane, "b", "22")
    made = await plane.service.create(plane.tenant, "f", zipped("1"), PYTHON)
    assert not made.code.layered
    changed = await plane.service.update_configuration(plane.tenant, "f", using(first, second))
    assert changed.code.layered
    assert {"/task/app.py", "/opt/data", "/opt/alcove"} <= contents(changed.code.path)
    assert [layer.arn for layer in changed.layers] == [first.arn, second.arn]
    # In the other order it is another image; the one before stays for calls that are about to start with it.
    swapped = await plane.service.update_configuration(plane.tenant, "f", using(second, first))
    assert swapped.code.digest != changed.code.digest
    await plane.service.code.collect()
    assert changed.code.path.exists()
    monkeypatch.setattr(code_keeper, "REPLACED_S", 0.0)
    await plane.service.code.collect()
    assert swapped.code.path.exists()
    assert not changed.code.path.exists()
    # New code and a new runtime keep the layers, a version keeps its own.
    await plane.service.publish(plane.tenant, "f")
    updated = await plane.service.update_code(plane.tenant, "f", zipped("2"))
    assert (updated.layers, updated.code.layered) == (swapped.layers, True)
    node = await plane.service.update_configuration(plane.tenant, "f", FunctionChange(runtime="nodejs18.x"))
    assert (node.layers, node.code.layered) == (swapped.layers, True)
    without = await plane.service.update_configuration(plane.tenant, "f", FunctionChange(layers=()))
    assert (without.layers, without.code.layered) == ((), False)
    assert (await plane.service.get(plane.tenant, "f", "1")).layers == swapped.layers


async def test_a_deleted_layer_serves_those_that_have_it(plane: Plane) -> None:
    layer = await publish(plane)
    await plane.service.create(plane.tenant, "f", zipped("1"), PYTHON)
    await plane.service.update_configuration(plane.tenant, "f", using(layer))
    package = plane.service.code.store.package_path(layer.row.package_sha256)
    await service(plane).delete(plane.tenant, named(layer))
    assert package.exists()
    updated = await plane.service.update_code(plane.tenant, "f", zipped("2"))
    assert [one.arn for one in updated.layers] == [layer.arn]
    await plane.service.update_configuration(plane.tenant, "f", using(layer))
    with pytest.raises(InvalidRequest, match="does not exist"):
        await plane.service.create(
            plane.tenant, "g", zipped("1"), FunctionChange("python3.11", "a.b", layers=(layer.arn,))
        )
    await plane.service.delete(plane.tenant, "f")
    assert not package.exists()


async def test_anothers_layer_is_used_only_where_it_is_shared(plane: Plane) -> None:
    other = (await TenantDirectory(plane.database).create("other")).id
    layers, theirs = service(plane), await publish(plane, tenant=other)
    await plane.service.create(plane.tenant, "f", zipped("1"), PYTHON)

    async def refused() -> None:
        with pytest.raises(InvalidRequest) as foreign:
            await plane.service.update_configuration(plane.tenant, "f", using(theirs))
        missing = theirs.arn.replace("tools", "nobody")
        with pytest.raises(InvalidRequest) as absent:
            await plane.service.update_configuration(plane.tenant, "f", FunctionChange(layers=(missing,)))
        # What is not shared looks like what is not there.
        assert str(foreign.value) == str(absent.value).replace("nobody", "tools")
        with pytest.raises(NotFound):
            await layers.get(plane.tenant, named(theirs))

    await refused()
    shared = Statement("s", plane.tenant, "lambda:GetLayerVersion")
    with pytest.raises(NotFound):
        await layers.allow(plane.tenant, named(theirs), shared)
    with pytest.raises(InvalidRequest):
        await layers.allow(other, named(theirs), Statement("s", plane.tenant, "lambda:*"))
    await layers.allow(other, named(theirs), shared)
    with pytest.raises(Conflict):
        await layers.allow(other, named(theirs), shared)
    assert (await layers.get(plane.tenant, named(theirs))).arn == theirs.arn
    await plane.service.update_configuration(plane.tenant, "f", using(theirs))
    await layers.disallow(other, named(theirs), "s")
    # Those that have it keep it.
    await plane.service.update_configuration(plane.tenant, "f", using(theirs))
    await plane.service.update_configuration(plane.tenant, "f", FunctionChange(layers=()))
    await refused()
    assert not await layers.delete(plane.tenant, named(theirs))


async def test_five_layers_one_version_of_each(plane: Plane) -> None:
    made = [await publish(plane, f"l{number}") for number in range(6)]
    again = await publish(plane, "l0", "again")
    await plane.service.create(plane.tenant, "f", zipped("1"), PYTHON)
    for change in (using(*made), using(made[0], again), using(made[0], made[0])):
        with pytest.raises(InvalidRequest):
            await plane.service.update_configuration(plane.tenant, "f", change)
    assert len((await plane.service.update_configuration(plane.tenant, "f", using(*made[:5]))).layers) == 5


async def test_all_together_has_one_limit(plane: Plane, monkeypatch: pytest.MonkeyPatch) -> None:
    layers = service(plane)
    half = os.urandom(600)
    made = [
        await layers.publish(plane.tenant, LayerName(plane.tenant, name), zip_of({name: half}), NONE) for name in "ab"
    ]
    await plane.service.create(plane.tenant, "f", zipped("1"), PYTHON)
    monkeypatch.setattr(code_layers, "UNPACKED_LIMIT", 1000)
    await plane.service.update_configuration(plane.tenant, "f", using(made[0]))
    with pytest.raises(InvalidRequest, match="combined with layers"):
        await plane.service.update_configuration(plane.tenant, "f", using(*made))


async def test_a_change_beside_a_build_is_not_lost(plane: Plane) -> None:
    """Code that was built for other layers than those that are there when it is written is refused."""
    layer = await publish(plane)
    await plane.service.create(plane.tenant, "f", zipped("1"), PYTHON)
    results = await asyncio.gather(
        plane.service.update_code(plane.tenant, "f", zipped("2")),
        plane.service.update_configuration(plane.tenant, "f", using(layer)),
        return_exceptions=True,
    )
    assert sum(isinstance(result, Conflict) for result in results) == 1
    found = await plane.service.get(plane.tenant, "f")
    assert found.code.layered is bool(found.layers)
    assert ("/opt/data" in contents(found.code.path)) is bool(found.layers)


async def test_layers_count_as_code_and_go_with_their_tenant(plane: Plane) -> None:
    layer = await publish(plane)
    again = await publish(plane, text="again")
    size = layer.row.package_bytes + again.row.package_bytes
    assert await plane.service.usage(plane.tenant) == (0, size)
    await service(plane).delete(plane.tenant, named(layer))
    assert await plane.service.usage(plane.tenant) == (0, again.row.package_bytes)
    await service(plane).delete_every(plane.tenant)
    assert await plane.service.usage(plane.tenant) == (0, 0)
    assert (await publish(plane)).row.version == 1
    assert not plane.service.code.store.package_path(again.row.package_sha256).exists()
