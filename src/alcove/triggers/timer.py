"""A timer: what it calls, when, and with which event."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from functools import cached_property
from typing import NewType

from alcove.functions.brn import account_to_brn, region_to_brn
from alcove.sandbox.protocol import TenantId
from alcove.store.timers import TimerRow
from alcove.triggers.schedule import Schedule, parse_schedule

TimerId = NewType("TimerId", str)
# Request ids of timers are UUIDs under this name, so that one instant of one timer always has the same.
_NAMESPACE = uuid.UUID("5b0c1f4e-6c3e-5f0e-9b0a-2a6d1d1c7a11")
# A run that is less late than this was not missed: it is on its way.
GRACE_MS = 1000


class Shape(StrEnum):
    """Whose event a run without an input of its own carries."""

    AWS = "aws"
    CFC = "cfc"


@dataclass(frozen=True)
class Timer:
    """A row together with its schedule."""

    row: TimerRow

    @property
    def id(self) -> TimerId:
        return TimerId(self.row.id)

    @property
    def tenant(self) -> TenantId:
        return TenantId(self.row.tenant_id)

    @cached_property
    def schedule(self) -> Schedule:
        return parse_schedule(self.row.schedule, self.row.zone, self.row.anchor_ms)

    def next_due(self, after_ms: int) -> int | None:
        """Return the first instant later than ``after_ms`` within the timer's dates."""
        due = self.schedule.next_after(max(after_ms, (self.row.start_ms or 0) - 1))
        return None if due is None or (self.row.end_ms is not None and due > self.row.end_ms) else due

    def due_run(self, handled_ms: int, now_ms: int, window_ms: int) -> int | None:
        """Return the instant that is to be run now: of all that are due and not handled, the last one, if it is not
        older than the window. So whatever was missed, there is at most one run to catch up.
        """
        after = max(handled_ms, now_ms - max(window_ms, GRACE_MS), (self.row.start_ms or 0) - 1)
        until = now_ms if self.row.end_ms is None else min(now_ms, self.row.end_ms)
        return self.schedule.last_until(after, until)

    def request_id(self, instant_ms: int) -> str:
        return str(uuid.uuid5(_NAMESPACE, f"{self.row.id}:{instant_ms}"))

    def event(self, instant_ms: int, region: str) -> bytes:
        """Return the event of one run: the timer's own input, or the shape's document."""
        if self.row.input:
            return self.row.input.encode()
        moment = f"{datetime.fromtimestamp(instant_ms / 1000, UTC):%Y-%m-%dT%H:%M:%SZ}"
        return json.dumps(self._document(moment, instant_ms, region)).encode()

    def _document(self, moment: str, instant_ms: int, region: str) -> dict[str, object]:
        row = self.row
        if row.shape == Shape.CFC:
            # The real service sends the input alone; without one it documents no event. This one is ours.
            brn = f"brn:bce:cfc-crontab-trigger:{region_to_brn(region)}:{account_to_brn(row.tenant_id)}:{row.name}"
            return {"source": "cfc-crontab-trigger/v1/", "name": row.name, "brn": brn, "time": moment}
        # "Events from Amazon EventBridge: scheduled event" in the EventBridge user guide.
        return {
            "version": "0",
            "id": self.request_id(instant_ms),
            "detail-type": "Scheduled Event",
            "source": "aws.events",
            "account": row.tenant_id,
            "time": moment,
            "region": region,
            "resources": [f"arn:aws:events:{region}:{row.tenant_id}:rule/{row.name}"],
            "detail": {},
        }
