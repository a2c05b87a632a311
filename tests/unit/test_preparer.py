"""A runtime whose guest image is not built yet: its functions are Pending until it is, or Failed with the reason."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, cast

from tests.fakes import FakeKernelTier, FakeTier
from tests.plane import zipped

from alcove.composition import open_services
from alcove.errors import HostError
from alcove.functions.model import FunctionChange
from alcove.functions.preparing import ACTIVE, Preparer
from alcove.sandbox.protocol import Isolation, Runtime
from alcove.settings import Settings


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
    preparer.expect_again([*functions, plain])
    for _ in range(10):
        await settle()
    assert len(tier.kernels) == 3
    assert tier.most_boots == 1
    assert [preparer.state(one) for one in functions] == [ACTIVE] * 3


async def test_a_start_makes_what_is_gone_one_after_the_other() -> None:
    """After an upgrade: images that functions need are built anew, templates looked at; what nobody uses is left."""
    preparer, tier, java = lacking()
    tier.images.remove(Runtime.PHP)
    php, node, elsewhere = Function(), Function(), Function()
    php.runtime, node.runtime, elsewhere.isolation = Runtime.PHP, Runtime.NODE, Isolation.GVISOR
    preparer.expect_again([java, php, node, elsewhere])
    # Whose image is there is called as ever.
    states = [preparer.state(one).name for one in (java, php, node, elsewhere)]
    assert states == ["Pending", "Pending", "Active", "Active"]
    await settle()
    assert sorted(tier.prepared) == [Runtime.JAVA, Runtime.NODE]
    tier.building.set()
    await settle()
    await settle()
    assert sorted(tier.prepared) == [Runtime.JAVA, Runtime.NODE, Runtime.PHP]
    assert preparer.state(php) == preparer.state(java) == ACTIVE


async def test_a_template_that_cannot_be_made_ahead_stops_nobody() -> None:
    tier = FakeTier()
    preparer, function = Preparer({Isolation.VM: cast(Any, tier)}), Function()

    async def fail(*arguments: Any) -> None:
        tier.prepared.append(arguments[0])
        raise HostError("the machine did not boot")

    tier.prepare = fail  # type: ignore[method-assign]
    preparer.expect_again([function])
    await settle()
    assert tier.prepared == [Runtime.JAVA]
    assert preparer.state(function) == ACTIVE


async def test_a_daemon_that_starts_prepares_for_the_functions_that_there_are(tmp_path: Path) -> None:
    for started in (1, 2):
        tier = FakeTier()
        async with AsyncExitStack() as stack:
            services = await open_services(stack, Settings(state=tmp_path), {Isolation.VM: cast(Any, tier)})
            tenant, functions = services.tenants.default.id, services.functions
            if started == 1:
                await functions.create(tenant, "j", zipped("x = 1"), FunctionChange(runtime="java17", handler="a.B"))
                await functions.create(tenant, "k", zipped("x = 1"), FunctionChange(runtime="java17", handler="a.B"))
            tier.images.remove(Runtime.JAVA)
            await functions.recover()
            await services.start(stack)
            found = await functions.get(tenant, "j")
            assert functions.preparer.state(found).name == "Pending"
            await settle()
            assert tier.prepared == [Runtime.JAVA]
