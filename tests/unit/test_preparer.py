"""A runtime whose guest image is not built yet: its functions are Pending until it is, or Failed with the reason."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from tests.fakes import FakeKernelTier, FakeTier

from alcove.functions.preparing import ACTIVE, Preparer
from alcove.sandbox.protocol import Isolation, Runtime


class Function:
    isolation = Isolation.VM
    runtime = Runtime.JAVA
    kernel = ""


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


async def test_what_waits_for_it_is_done_after_it() -> None:
    preparer, tier, function = lacking()
    done: list[str] = []

    async def work() -> None:
        done.append("snapshot")

    assert not preparer.after(function, work)
    preparer.expect(function)
    assert preparer.after(function, work)
    await settle()
    assert done == []
    tier.building.set()
    await settle()
    await settle()
    assert done == ["snapshot"]
    assert not preparer.after(function, work)


async def test_what_waits_for_what_cannot_be_made_is_not_done() -> None:
    preparer, tier, function = lacking()
    tier.fail = True
    preparer.expect(function)

    async def work() -> None:
        raise AssertionError("it was done")

    assert preparer.after(function, work)
    tier.building.set()
    await settle()
    await settle()
    assert preparer.state(function).name == "Failed"


async def test_a_stop_ends_what_waits_for_it_too() -> None:
    preparer, _, function = lacking()
    done: list[str] = []

    async def work() -> None:
        done.append("snapshot")

    preparer.expect(function)
    assert preparer.after(function, work)
    await settle()
    await preparer.close()
    await settle()
    assert done == []


class OwnKernel:
    isolation = Isolation.VM
    runtime = Runtime.PYTHON

    def __init__(self, kernel: str = "a" * 64) -> None:
        self.kernel = kernel


async def test_a_kernels_first_machine_is_made_before_the_first_call() -> None:
    tier, function = FakeKernelTier(), OwnKernel()
    preparer = Preparer({Isolation.VM: tier})
    preparer.expect(function)
    assert preparer.state(function).name == "Pending"
    assert "its own kernel" in preparer.state(function).reason
    await settle()
    assert preparer.state(function) == ACTIVE
    assert tier.has_kernel(Runtime.PYTHON, function.kernel)


async def test_a_kernel_that_does_not_boot_says_so_until_one_does() -> None:
    tier, function = FakeKernelTier(), OwnKernel()
    preparer = Preparer({Isolation.VM: tier})
    tier.refused[function.kernel] = "the machine did not boot"
    preparer.expect(function)
    await settle()
    state = preparer.state(function)
    assert (state.name, "the machine did not boot" in state.reason) == ("Failed", True)
    # A call has made it meanwhile.
    tier.kernels.add((Runtime.PYTHON, function.kernel))
    assert preparer.state(function) == ACTIVE


async def test_kernels_boot_one_at_a_time() -> None:
    tier = FakeKernelTier()
    preparer = Preparer({Isolation.VM: tier})
    plain = Function()
    plain.runtime = Runtime.PYTHON
    functions = [OwnKernel(digit * 64) for digit in "abc"]
    preparer.expect_kernels([*functions, plain])
    for _ in range(10):
        await settle()
    assert len(tier.kernels) == 3
    assert tier.most_boots == 1
    assert [preparer.state(one) for one in functions] == [ACTIVE] * 3
