"""How many sandboxes there are, for whom, and whether one more may be started."""

from __future__ import annotations

from collections import Counter

from alcove.sandbox.protocol import TenantId


class Room:
    """Counts sandboxes that start, run or end; ``held`` are those of each tenant, without those that end."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.held: Counter[TenantId] = Counter()
        self.ending = 0
        self._total = 0

    @property
    def full(self) -> bool:
        return self._total >= self.most

    def take(self, tenant: TenantId) -> None:
        self._total += 1
        self.held[tenant] += 1

    def give_up(self, tenant: TenantId) -> None:
        """One of the tenant's ends; it takes room until ``ended``."""
        self.held[tenant] -= 1
        if not self.held[tenant]:
            del self.held[tenant]
        self.ending += 1

    def ended(self) -> None:
        self.ending -= 1
        self._total -= 1

    def share_of(self, tenant: TenantId, others: set[TenantId]) -> int:
        """Return how many more the tenant may expect to get, where it and the others share alike."""
        return self.most // len(self.held.keys() | others | {tenant}) - self.held[tenant]
