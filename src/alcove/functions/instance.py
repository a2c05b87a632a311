"""A function instance: one loaded sandbox, the version it serves, and what it printed."""

from __future__ import annotations

import time
from typing import Any

from alcove.functions.model import FunctionVersion
from alcove.functions.request_log import RequestLog
from alcove.sandbox.protocol import Sandbox


class Instance:
    """Serves ``capacity`` requests at a time, ``active`` of them now. ``served`` counts the answers; ``gone`` is why it
    ended, or None. ``start``, ``why`` and ``phases_ms`` say how it came to be.
    """

    __slots__ = (
        "active",
        "capacity",
        "function",
        "gone",
        "idle_since",
        "log",
        "phases_ms",
        "sandbox",
        "served",
        "start",
        "why",
    )

    def __init__(self, function: FunctionVersion, sandbox: Sandbox, start: str = "adopted", why: str = "") -> None:
        self.function = function
        self.sandbox = sandbox
        self.start = start
        self.why = why
        self.phases_ms: dict[str, float] = {}
        self.log = RequestLog()
        self.active = 0
        self.capacity = 1
        self.served = 0
        self.idle_since = time.monotonic()
        self.gone: str | None = None

    @property
    def free(self) -> bool:
        """Whether one more request may enter."""
        return self.active < self.capacity and self.gone is None

    def describe(self) -> dict[str, Any]:
        busy = self.active > 0
        return {
            "sandbox": self.sandbox.id,
            "function": self.function.name,
            "version": self.function.version,
            "tenant": self.function.tenant,
            "isolation": str(self.sandbox.isolation),
            "runtime": str(self.sandbox.runtime),
            "start": str(self.sandbox.start),
            "state": "busy" if busy else "idle",
            "requests": self.active,
            "served": self.served,
            "memory_mib": self.function.memory_mib,
            "memory_peak_mib": self.sandbox.memory_peak_mib(),
            "idle_s": 0.0 if busy else round(time.monotonic() - self.idle_since, 1),
        }
