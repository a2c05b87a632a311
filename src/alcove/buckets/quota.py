"""How much a tenant may store, what is on its way included."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from alcove.buckets.errors import QuotaExceeded, SlowDown
from alcove.buckets.model import Limits
from alcove.sandbox.protocol import TenantId
from alcove.store import buckets as rows

# Objects of one tenant that may be on their way at once, so that none takes all the threads and memory.
UPLOADS_AT_ONCE = 32


class Quota:
    """``promise`` before an object arrives, ``count`` in the transaction that makes it one."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._promised: Counter[TenantId] = Counter()
        self._uploads: Counter[TenantId] = Counter()

    @contextmanager
    def promise(self, tenant: TenantId, stored: tuple[int, int], size: int) -> Iterator[None]:
        """Raises ``QuotaExceeded``, ``SlowDown``."""
        if self._uploads[tenant] >= UPLOADS_AT_ONCE:
            raise SlowDown("Please reduce your request rate.", hint=f"at most {UPLOADS_AT_ONCE} uploads at once")
        # How many objects there are is known when it is known whether this one replaces another.
        self._check(stored[0] + self._promised[tenant] + size, 0)
        self._promised[tenant] += size
        self._uploads[tenant] += 1
        try:
            yield
        finally:
            self._promised[tenant] -= size
            self._uploads[tenant] -= 1

    def count(self, connection: sqlite3.Connection, tenant: TenantId, size: int, objects: int) -> None:
        """Runs inside ``Database.write``. Raises ``QuotaExceeded`` where more is stored then and it is too much."""
        held = rows.add_stored(connection, tenant, size, objects)
        if size > 0 or objects > 0:
            self._check(held[0], held[1] - 1)

    def _check(self, size: int, objects: int) -> None:
        if size > self._limits.bytes:
            raise QuotaExceeded(
                f"The account would store more than its {self._limits.bytes >> 20} MiB.", hint="delete objects"
            )
        if objects >= self._limits.objects:
            raise QuotaExceeded(f"The account has its {self._limits.objects} objects.", hint="delete objects")
