"""How fast a tenant may send to its FIFO queues: each message leaves its deduplication id behind for five minutes, also
where it is deleted at once, so their number is bounded by this.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from alcove.queues.faults import QueueThrottled
from alcove.sandbox.protocol import TenantId

# "Amazon SQS FIFO queue quotas": with batching. A tenant's queues have it together here.
MESSAGES_A_SECOND = 3000.0


class Pace:
    """Messages of a second may come at once."""

    def __init__(self, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._clock_s = clock_s
        self._left: dict[TenantId, tuple[float, float]] = {}

    def take(self, tenant: TenantId, count: int) -> None:
        """Raises ``QueueThrottled``."""
        now_s = self._clock_s()
        left, then_s = self._left.get(tenant, (MESSAGES_A_SECOND, now_s))
        left = min(MESSAGES_A_SECOND, left + (now_s - then_s) * MESSAGES_A_SECOND)
        if left < count:
            raise QueueThrottled(
                "Too many messages at once for the FIFO queues of this tenant.",
                hint=f"try again later; {MESSAGES_A_SECOND:.0f} a second are taken",
            )
        self._left[tenant] = (left - count, now_s)
