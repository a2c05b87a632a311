"""Quotas of functions and code, held against what a tenant has, in the transaction of each change."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import TypeVar

from alcove.sandbox.protocol import TenantId
from alcove.store.database import Database
from alcove.store.functions import usage
from alcove.tenants.quotas import Quotas, require_code_bytes, require_functions

T = TypeVar("T")
Change = Callable[[sqlite3.Connection], T]


class UsageGuard:
    """``quotas`` says what a tenant may have."""

    def __init__(self, database: Database, quotas: Callable[[TenantId], Quotas]) -> None:
        self._database = database
        self._quotas = quotas

    async def write(self, tenant: TenantId, change: Change[T]) -> T:
        """Run ``change`` as one transaction; undo it with ``QuotaExceeded`` where it adds more than there is room for.
        What a tenant has above a quota that was lowered does not keep it from other changes.
        """

        def guarded(connection: sqlite3.Connection) -> T:
            functions, code_bytes = usage(connection, tenant)
            result = change(connection)
            functions_then, code_bytes_then = usage(connection, tenant)
            self._require(tenant, functions, functions_then, code_bytes, code_bytes_then)
            return result

        return await self._database.write(guarded)

    async def require_room(self, tenant: TenantId, *, functions: int = 0, code_bytes: int) -> None:
        """Refuse, before the work is done, what would be refused after it. Raises ``QuotaExceeded``."""
        known, size = await self._database.read(lambda connection: usage(connection, tenant))
        self._require(tenant, known, known + functions, size, size + code_bytes)

    def _require(self, tenant: TenantId, functions: int, functions_then: int, size: int, size_then: int) -> None:
        quotas = self._quotas(tenant)
        if functions_then > functions:
            require_functions(functions_then, quotas)
        if size_then > size:
            require_code_bytes(size_then, quotas)
