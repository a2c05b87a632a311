"""How much each tenant's queues hold, and how much they may: in memory, from the rows at the start."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from alcove.queues.faults import QueueFull
from alcove.sandbox.protocol import TenantId

# Of one tenant.
MESSAGES_LIMIT = 1_000_000
BYTES_LIMIT = 1 << 30


class Room:
    """``held``: number of messages and their bytes, by tenant. Sizes are those of single messages, in bytes."""

    def __init__(self, held: Mapping[str, tuple[int, int]]) -> None:
        self._messages = Counter({tenant: count for tenant, (count, _) in held.items()})
        self._bytes = Counter({tenant: size for tenant, (_, size) in held.items()})

    @property
    def messages(self) -> int:
        """Of all tenants together."""
        return self._messages.total()

    @property
    def bytes(self) -> int:
        return self._bytes.total()

    def check(self, tenant: TenantId, sizes: Sequence[int]) -> None:
        """Raises ``QueueFull``."""
        many = self._messages[tenant] + len(sizes) > MESSAGES_LIMIT
        if many or self._bytes[tenant] + sum(sizes) > BYTES_LIMIT:
            raise QueueFull("The queues of this tenant are full.", hint="receive and delete messages, or purge a queue")

    def add(self, tenant: TenantId, sizes: Sequence[int]) -> None:
        self._messages[tenant] += len(sizes)
        self._bytes[tenant] += sum(sizes)

    def remove(self, tenant: TenantId, sizes: Sequence[int]) -> None:
        self._messages[tenant] -= len(sizes)
        self._bytes[tenant] -= sum(sizes)
