"""Reserved and provisioned concurrency, as the control plane sets them: checked, written, then put into force.

Rules and wording of refusals are AWS's ("Configuring reserved concurrency", "Configuring provisioned concurrency").
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable

from alcove.errors import InvalidRequest, NotFound
from alcove.functions.admission import Admission
from alcove.functions.model import LATEST, FunctionVersion
from alcove.functions.provisioning import Allocation, Provisioner
from alcove.functions.service import FunctionService
from alcove.host.clock import now_ms
from alcove.sandbox.protocol import TenantId
from alcove.store import concurrency as rows
from alcove.store.database import Database


class NoProvisionedConcurrency(NotFound):
    """The version or alias has none."""


class ConcurrencyService:
    """``minimum`` is what must be left of a tenant's concurrency for functions that reserve nothing."""

    def __init__(
        self,
        database: Database,
        functions: FunctionService,
        admission: Admission,
        provisioner: Provisioner,
        *,
        minimum: int = 100,
    ) -> None:
        self.provisioner = provisioner
        self._database = database
        self._functions = functions
        self._admission = admission
        self._minimum = minimum
        self._turn = asyncio.Lock()

    async def start(self) -> None:
        """Put into force what the store holds."""
        for row in await self._database.read(rows.all_reserved):
            self._admission.reserve(TenantId(row.tenant_id), row.function_id, row.calls)
        await self.provisioner.start()

    async def close(self) -> None:
        await self.provisioner.close()

    # Reserved

    async def reserved(self, tenant: TenantId, name: str) -> int | None:
        """Return what the function has reserved, None: nothing. Raises ``NotFound``."""
        return self._admission.reserved((await self._functions.resolve(tenant, name)).function_id)

    async def reserve(self, tenant: TenantId, name: str, calls: int | None) -> None:
        """Reserve so many calls for the function; None: no longer any. 0 lets none run."""
        async with self._turn:
            function = await self._functions.resolve(tenant, name)
            if calls is not None:
                self._check_reserved(function, calls)
            await self._write(function, lambda connection: rows.put_reserved(connection, function.function_id, calls))
            self._admission.reserve(tenant, function.function_id, calls)

    def _check_reserved(self, function: FunctionVersion, calls: int) -> None:
        if calls < 0:
            raise InvalidRequest("'ReservedConcurrentExecutions' must be at least 0.")
        provisioned = self._admission.provisioned(function.function_id)
        if calls < provisioned:
            raise InvalidRequest(
                f"Specified ReservedConcurrentExecutions for function is lower than its provisioned "
                f"concurrency ({provisioned})."
            )
        before = self._admission.reserved(function.function_id)
        taken = provisioned if before is None else before
        self._check_rest(function.tenant, calls - taken, "ReservedConcurrentExecutions")

    def _check_rest(self, tenant: TenantId, more: int, what: str) -> None:
        if more > 0 and self._admission.rest(tenant) - more < self._minimum:
            raise InvalidRequest(
                f"Specified {what} for function decreases account's UnreservedConcurrentExecution below its minimum "
                f"value of [{self._minimum}].",
                hint="the operator sets these limits with --concurrency and --unreserved-concurrency",
            )

    # Provisioned

    async def provision(self, tenant: TenantId, name: str, qualifier: str, calls: int) -> Allocation:
        """Have so many instances of a version or alias ready, from now on."""
        if calls < 1:
            raise InvalidRequest("'ProvisionedConcurrentExecutions' must be at least 1.")
        if qualifier in ("", LATEST):
            raise InvalidRequest(
                "Provisioned Concurrency Configs cannot be applied to unpublished function versions.",
                hint="publish a version and name it, or an alias, as the qualifier",
            )
        async with self._turn:
            function = await self._functions.get(tenant, name, qualifier)
            self._check_provisioned(function, qualifier, calls)
            await self._write(
                function,
                lambda connection: rows.put_provisioned(connection, function.function_id, qualifier, calls, now_ms()),
            )
            await self.provisioner.look()
        return (await self.provisioned(tenant, name))[qualifier]

    def _check_provisioned(self, function: FunctionVersion, qualifier: str, calls: int) -> None:
        others = [other for other in self.provisioner.kept_for(function) if other != qualifier]
        if others:
            raise InvalidRequest(
                f"Version {function.version} is provisioned already, by {others[0]}: one configuration for a version."
            )
        before = self.provisioner.allocations(function.function_id).get(qualifier)
        more = calls - (0 if before is None else before.requested)
        reserved = self._admission.reserved(function.function_id)
        if reserved is None:
            self._check_rest(function.tenant, more, "ProvisionedConcurrentExecutions")
        elif self._admission.provisioned(function.function_id) + more > reserved:
            raise InvalidRequest(
                "Requested Provisioned Concurrency should not be greater than the reservedConcurrentExecution for "
                f"function ({reserved})."
            )

    async def provisioned(self, tenant: TenantId, name: str) -> dict[str, Allocation]:
        """Return the function's configurations, by qualifier."""
        return self.provisioner.allocations((await self._functions.resolve(tenant, name)).function_id)

    async def unprovision(self, tenant: TenantId, name: str, qualifier: str) -> None:
        """Keep none ready any more. Raises ``NoProvisionedConcurrency``."""
        async with self._turn:
            function = await self._functions.resolve(tenant, name)
            if qualifier not in self.provisioner.allocations(function.function_id):
                raise NoProvisionedConcurrency(
                    f"No Provisioned Concurrency Config found for this function: {qualifier}"
                )
            await self._write(
                function, lambda connection: rows.delete_provisioned(connection, function.function_id, qualifier)
            )
            await self.provisioner.look()

    async def _write(self, function: FunctionVersion, change: Callable[[sqlite3.Connection], None]) -> None:
        try:
            await self._database.write(change)
        except sqlite3.IntegrityError:
            raise NotFound(f"Function not found: {function.function_arn}") from None
