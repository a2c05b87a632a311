"""What a runtime needs before its first function can start: its guest image, and a template of it.

Most languages have theirs from the daemon's start. For another it is made when the first function of it is deployed,
in the background; until then such functions are ``Pending``, as functions are on AWS while they are being made. A
start in the meantime waits.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import NamedTuple

from alcove.errors import AlcoveError
from alcove.functions.model import FunctionVersion
from alcove.sandbox.protocol import Isolation, Runtime, Tier

log = logging.getLogger(__name__)


class State(NamedTuple):
    """AWS's State, and StateReason where it is another than Active."""

    name: str
    reason: str = ""


ACTIVE = State("Active")


class Preparer:
    """One preparation at a time for each tier and runtime."""

    def __init__(self, tiers: Mapping[Isolation, Tier]) -> None:
        self._tiers = tiers
        self._tasks: dict[tuple[Isolation, Runtime], asyncio.Task[None]] = {}
        self._failed: dict[tuple[Isolation, Runtime], str] = {}

    def expect(self, function: FunctionVersion) -> None:
        """Begin what the function's runtime lacks here; return at once."""
        key = (function.isolation, function.runtime)
        tier = self._tiers.get(function.isolation)
        if tier is None or key in self._tasks or tier.has_image(function.runtime):
            return
        self._failed.pop(key, None)
        self._tasks[key] = asyncio.create_task(self._prepare(key, tier))

    def state(self, function: FunctionVersion) -> State:
        key = (function.isolation, function.runtime)
        if key in self._tasks:
            return State("Pending", f"The guest image of {function.runtime} is being built.")
        tier = self._tiers.get(function.isolation)
        if key in self._failed and tier is not None and not tier.has_image(function.runtime):
            return State("Failed", self._failed[key])
        return ACTIVE

    async def close(self) -> None:
        for task in list(self._tasks.values()):
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def _prepare(self, key: tuple[Isolation, Runtime], tier: Tier) -> None:
        try:
            await tier.prepare(key[1], log.info)
        except (AlcoveError, OSError, TimeoutError) as error:
            log.error("runtime %s cannot be prepared: %s", key[1], error)
            self._failed[key] = f"The guest image of {key[1]} could not be built: {error}"
        finally:
            self._tasks.pop(key, None)
