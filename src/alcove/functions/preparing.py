"""What a function needs before its first start: its runtime's guest image, and a template of it on its kernel.

Most languages have theirs from the daemon's start. For another, and for a kernel of its own, it is made when the first
function that asks for it is deployed, in the background; until then such functions are ``Pending``, as functions are
on AWS while they are being made. A start in the meantime waits.

At the daemon's start the same is made anew for the functions that there are, where it is gone: after an upgrade the
guest image, QEMU or the accelerator is another one. Where only a template is gone its functions are not ``Pending``: it
takes a boot, and a start makes it by itself.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from typing import Any, NamedTuple, Protocol

from alcove.errors import AlcoveError
from alcove.sandbox.protocol import Isolation, KernelTier, Runtime, Tier

log = logging.getLogger(__name__)

# Templates that are made at once: each is a machine that boots. Guest images: each fills a processor for minutes.
BOOTS = 1
BUILDS = 1


class State(NamedTuple):
    """AWS's State, and StateReason where it is another than Active."""

    name: str
    reason: str = ""


ACTIVE = State("Active")


class Wanted(NamedTuple):
    """What is prepared; ``kernel`` is the digest of a kernel of its own, "" for the image's."""

    isolation: Isolation
    runtime: Runtime
    kernel: str = ""

    def __str__(self) -> str:
        """What it is, in words."""
        return f"machine of {self.runtime} on its own kernel" if self.kernel else f"guest image of {self.runtime}"


class Prepared(Protocol):
    """What is asked of a version."""

    @property
    def isolation(self) -> Isolation: ...

    @property
    def runtime(self) -> Runtime: ...

    @property
    def kernel(self) -> str: ...


class Preparer:
    """One preparation at a time for each tier, runtime and kernel."""

    def __init__(self, tiers: Mapping[Isolation, Tier]) -> None:
        self._tiers = tiers
        self._tasks: dict[Wanted, asyncio.Task[None]] = {}
        self._failed: dict[Wanted, str] = {}
        self._later: set[asyncio.Task[None]] = set()
        self._boots = asyncio.Semaphore(BOOTS)
        self._builds = asyncio.Semaphore(BUILDS)

    def expect(self, function: Prepared) -> None:
        """Begin what the function's runtime and kernel lack here; return at once."""
        wanted = _wanted(function)
        if wanted in self._tasks or not self._lacks(wanted):
            return
        self._failed.pop(wanted, None)
        self._tasks[wanted] = asyncio.create_task(self._prepare(wanted))

    def expect_again(self, functions: Iterable[Prepared]) -> None:
        """At start, when the tiers have recovered: begin what those functions lack."""
        for function in functions:
            wanted = _wanted(function)
            if self._lacks(wanted):
                self.expect(function)
            elif wanted.isolation in self._tiers and not wanted.kernel:
                self._do_later(self._refresh(wanted))

    def state(self, function: Prepared) -> State:
        wanted = _wanted(function)
        if wanted in self._tasks:
            return State("Pending", f"The {wanted} is being built.")
        if wanted in self._failed and self._lacks(wanted):
            return State("Failed", self._failed[wanted])
        return ACTIVE

    def after(self, function: Prepared, work: Callable[[], Awaitable[None]]) -> bool:
        """Have ``work`` done once what the function lacks is there, and not where that cannot be made. Return False
        where nothing is being prepared: then it is not done at all.
        """
        wanted = _wanted(function)
        preparation = self._tasks.get(wanted)
        if preparation is None:
            return False

        async def later() -> None:
            await asyncio.wait([preparation])
            if self._lacks(wanted):
                return
            try:
                await work()
            except Exception:
                log.exception("what waited for the %s failed", wanted)

        self._do_later(later())
        return True

    def _do_later(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._later.add(task)
        task.add_done_callback(self._later.discard)

    async def close(self) -> None:
        tasks = [*self._later, *self._tasks.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _lacks(self, wanted: Wanted) -> bool:
        tier = self._tiers.get(wanted.isolation)
        if tier is None:
            return False
        if wanted.kernel:
            return isinstance(tier, KernelTier) and not tier.has_kernel(wanted.runtime, wanted.kernel)
        return not tier.has_image(wanted.runtime)

    async def _prepare(self, wanted: Wanted) -> None:
        try:
            await self._make(self._tiers[wanted.isolation], wanted)
        except (AlcoveError, OSError, TimeoutError) as error:
            log.error("the %s cannot be prepared: %s", wanted, error)
            self._failed[wanted] = f"The {wanted} could not be built: {error}"
        finally:
            self._tasks.pop(wanted, None)

    async def _refresh(self, wanted: Wanted) -> None:
        """Its image is there; the template may not be."""
        try:
            async with self._boots:
                await self._tiers[wanted.isolation].prepare(wanted.runtime, log.info)
        except (AlcoveError, OSError, TimeoutError) as error:
            log.error("the first machine of %s cannot be made ahead: %s", wanted.runtime, error)

    async def _make(self, tier: Tier, wanted: Wanted) -> None:
        if not wanted.kernel:
            async with self._builds:
                await tier.prepare(wanted.runtime, log.info)
        elif isinstance(tier, KernelTier):
            async with self._boots:
                await tier.prepare_kernel(wanted.runtime, wanted.kernel, log.info)


def _wanted(function: Prepared) -> Wanted:
    return Wanted(function.isolation, function.runtime, function.kernel)
