"""A runtime whose guest image is not built yet: its functions are Pending until it is, or Failed with the reason."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from tests.fakes import FakeTier

from alcove.functions.preparing import ACTIVE, Preparer
from alcove.sandbox.protocol import Isolation, Runtime


class Function:
    isolation = Isolation.VM
    runtime = Runtime.JAVA


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def lacking() -> tuple[Preparer, FakeTier, Any]:
    tier = FakeTier()
    tier.images.remove(Runtime.JAVA)
    return Preparer({Isolation.VM: cast(Any, tier)}), tier, Function()


async def test_it_is_pending_until_the_image_is_there() -> None:
    preparer, tier, function = lacking()
    assert preparer.state(function) == ACTIVE
    preparer.expect(function)
    preparer.expect(function)
    assert preparer.state(function).name == "Pending"
    tier.building.set()
    await settle()
    assert preparer.state(function) == ACTIVE
    assert tier.has_image(Runtime.JAVA)


async def test_a_build_that_fails_says_why_and_is_tried_again() -> None:
    preparer, tier, function = lacking()
    tier.fail = True
    tier.building.set()
    preparer.expect(function)
    await settle()
    state = preparer.state(function)
    assert state.name == "Failed"
    assert "the mirror does not answer" in state.reason
    tier.fail = False
    preparer.expect(function)
    await settle()
    assert preparer.state(function) == ACTIVE


async def test_nothing_is_built_for_what_is_there() -> None:
    preparer, _, function = lacking()
    function.runtime = Runtime.PHP
    preparer.expect(function)
    assert preparer.state(function) == ACTIVE
    await preparer.close()


async def test_a_stop_ends_what_waits() -> None:
    preparer, _, function = lacking()
    preparer.expect(function)
    await settle()
    await preparer.close()
    assert preparer.state(function) == ACTIVE
