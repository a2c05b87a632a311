"""Aliases: what they may be, how their calls are shared, and what stands as long as they do."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.plane import PYTHON, Plane, zipped

from alcove.errors import Conflict, InvalidRequest, NotFound
from alcove.functions.aliases import AliasChange, AliasService, apply, check_alias_name, check_weights
from alcove.functions.model import LATEST, FunctionVersion
from alcove.functions.records import RevisionMismatch
from alcove.functions.routing import Routing
from alcove.sandbox.protocol import TenantId
from alcove.store.aliases import AliasRow

BLANK = AliasRow("f", "a", "", "", 0.0, "", "", 0, 0)
STRANGER = TenantId("stranger")


def aliases(plane: Plane, **options: int) -> AliasService:
    return AliasService(plane.database, plane.service, **options)


async def published(plane: Plane, versions: int = 2) -> None:
    await plane.service.create(plane.tenant, "f", zipped("0"), PYTHON)
    for number in range(versions):
        await plane.service.update_code(plane.tenant, "f", zipped(str(number)), publish=True)


@given(st.dictionaries(st.text(max_size=3), st.floats(), max_size=3))
def test_weights_are_one_share_from_0_to_1(weights: dict[str, float]) -> None:
    valid = not weights or (len(weights) == 1 and all(key and 0 <= share <= 1 for key, share in weights.items()))
    if not valid:
        with pytest.raises(InvalidRequest):
            check_weights(weights)
        return
    version, share = check_weights(weights)
    assert ({version: share} if version else {}) == weights


@given(st.text(max_size=140))
def test_an_alias_never_has_a_versions_name(name: str) -> None:
    try:
        check_alias_name(name)
    except InvalidRequest:
        return
    assert not name.isdigit()
    assert name != LATEST
    assert set(name) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-")


@pytest.mark.parametrize("name", ["", "1", "007", "$LATEST", "a.b", "a" * 129, "ä"])
def test_names_that_are_refused(name: str) -> None:
    with pytest.raises(InvalidRequest):
        check_alias_name(name)


@pytest.mark.parametrize(
    ("version", "weights"),
    [("1", {"1": 0.5}), (LATEST, {"1": 0.5}), ("1", {LATEST: 0.5}), ("other", {}), ("1", {"other": 0.1})],
)
def test_leads_to_one_or_two_published_versions(version: str, weights: dict[str, float]) -> None:
    with pytest.raises(InvalidRequest):
        apply(BLANK, AliasChange(version, None, weights))


@given(share=st.floats(0, 1), seed=st.integers(0, 2**32))
def test_shares_calls_by_weight(share: float, seed: int) -> None:
    calls = 4000
    first, second = (object.__new__(FunctionVersion) for _ in range(2))
    routing = Routing(first, second, share)
    chance = random.Random(seed).random
    counted = Counter(id(routing.pick(chance)) for _ in range(calls))
    # Six standard deviations of a binomial distribution: once in 500 million runs by chance.
    tolerance = 6 * (share * (1 - share) / calls) ** 0.5
    assert abs(counted[id(second)] / calls - share) <= tolerance + 1e-12


async def test_resolves_to_its_versions_and_follows_changes(plane: Plane) -> None:
    await published(plane)
    service, made = plane.service, aliases(plane)
    await made.create(plane.tenant, "f", "live", AliasChange("1"))
    found = await service.resolve(plane.tenant, "f", "live")
    assert (found.version, found.alias) == ("1", "live")
    assert found.invoked_arn.endswith(":function:f:live")
    # What is loaded and saved is the version's, whichever name it was asked for by.
    plain = await service.resolve(plane.tenant, "f", "1")
    assert (found.revision, found.workload()) == (plain.revision, plain.workload())
    await made.update(plane.tenant, "f", "live", AliasChange(weights={"2": 1.0}))
    assert (await service.resolve(plane.tenant, "f", "live")).version == "2"
    assert (await service.get(plane.tenant, "f", "live")).version == "1"
    await made.update(plane.tenant, "f", "live", AliasChange(version="2", weights={}))
    assert (await service.resolve(plane.tenant, "f", "live")).version == "2"
    await made.delete(plane.tenant, "f", "live")
    with pytest.raises(NotFound):
        await service.resolve(plane.tenant, "f", "live")


async def test_a_version_in_use_is_not_deleted(plane: Plane) -> None:
    await published(plane)
    made = aliases(plane)
    await made.create(plane.tenant, "f", "live", AliasChange("1", weights={"2": 0.1}))
    for version in ("1", "2"):
        with pytest.raises(Conflict, match="live"):
            await plane.service.delete(plane.tenant, "f", version)
    await made.update(plane.tenant, "f", "live", AliasChange(weights={}))
    await plane.service.delete(plane.tenant, "f", "2")
    await plane.service.delete(plane.tenant, "f")
    await plane.service.create(plane.tenant, "f", zipped("new"), PYTHON)
    assert (await made.list(plane.tenant, "f")).items == []


async def test_what_makes_no_sense_leaves_nothing(plane: Plane) -> None:
    await published(plane)
    made = aliases(plane, limit=2)
    for change in (AliasChange(), AliasChange("7"), AliasChange("1", weights={"7": 0.5})):
        with pytest.raises((InvalidRequest, NotFound)):
            await made.create(plane.tenant, "f", "live", change)
    assert (await made.list(plane.tenant, "f")).items == []
    first = await made.create(plane.tenant, "f", "a", AliasChange("1"))
    with pytest.raises(Conflict):
        await made.create(plane.tenant, "f", "a", AliasChange("2"))
    await made.create(plane.tenant, "f", "b", AliasChange(LATEST))
    with pytest.raises(Conflict):
        await made.create(plane.tenant, "f", "c", AliasChange("1"))
    with pytest.raises(RevisionMismatch):
        await made.update(plane.tenant, "f", "a", AliasChange("2"), revision_id="other")
    assert await made.get(plane.tenant, "f", "a") == first


async def test_is_listed_in_pages_and_to_its_owner_alone(plane: Plane) -> None:
    await published(plane)
    made = aliases(plane)
    for name, version in (("a", "1"), ("b", "2"), ("c", "1")):
        await made.create(plane.tenant, "f", name, AliasChange(version))
    page = await made.list(plane.tenant, "f", limit=2)
    rest = await made.list(plane.tenant, "f", marker=page.marker or "")
    assert [item.row.name for item in [*page.items, *rest.items]] == ["a", "b", "c"]
    assert rest.marker is None
    assert [item.row.name for item in (await made.list(plane.tenant, "f", version="1")).items] == ["a", "c"]
    for call in (made.get(STRANGER, "f", "a"), made.list(STRANGER, "f"), made.delete(STRANGER, "f", "a")):
        with pytest.raises(NotFound):
            await call
