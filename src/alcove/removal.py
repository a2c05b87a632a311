"""The removal of a tenant with all that it has.

First the tenant is shut out: its keys are revoked and its row is marked, in one transaction. Then each part that keeps
something of a tenant deletes it, in an order in which nothing that still runs makes more; at last the row goes. A
crash at any point is carried on from at the next start. What was metered and audited stays: it is the operator's.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence

from alcove.errors import AlcoveError
from alcove.sandbox.protocol import TenantId
from alcove.tenants.directory import TenantDirectory

log = logging.getLogger(__name__)

# Deletes what one part has of a tenant; done again after a crash, so it must not mind what is gone already.
Step = Callable[[TenantId], Awaitable[None]]


class TenantRemoval:
    """``steps``, in this order."""

    def __init__(self, tenants: TenantDirectory, steps: Sequence[Step]) -> None:
        self._tenants = tenants
        self._steps = tuple(steps)

    async def remove(self, name_or_id: str, *, force: bool = False) -> None:
        """Remove the tenant; return when nothing is left. Raises ``Conflict`` where it has functions, unless
        ``force``. One whose removal was cut short can be removed again.
        """
        await self._finish(await self._tenants.begin_removal(name_or_id, force=force))

    async def resume(self) -> None:
        """At start: end what was begun. What cannot be ended now is tried at the next start."""
        for tenant in self._tenants.removing():
            try:
                await self._finish(tenant.id)
            except AlcoveError as error:
                log.warning("the tenant %s cannot be removed yet: %s", tenant.name, error)

    async def _finish(self, tenant: TenantId) -> None:
        for step in self._steps:
            await step(tenant)
        await self._tenants.end_removal(tenant)
        log.info("the tenant %s is removed", tenant)
