"""A function instance: one loaded sandbox, the version it serves, and what it printed."""

from __future__ import annotations

import time
from typing import Any

from alcove.functions.logs import RequestLog
from alcove.functions.model import FunctionVersion
from alcove.sandbox.protocol import Sandbox


class Instance:
    """Serves one request at a time. ``served`` counts the answers; ``gone`` is why it ended, or None."""

    __slots__ = ("busy", "function", "gone", "idle_since", "log", "retired", "sandbox", "served")

    def __init__(self, function: FunctionVersion, sandbox: Sandbox) -> None:
        self.function = function
        self.sandbox = sandbox
        self.log = RequestLog()
        self.busy = True
        self.retired = False
        self.served = 0
        self.idle_since = time.monotonic()
        self.gone: str | None = None

    def describe(self) -> dict[str, Any]:
        return {
            "sandbox": self.sandbox.id,
            "function": self.function.name,
            "version": self.function.version,
            "tenant": self.function.tenant,
            "isolation": str(self.sandbox.isolation),
            "runtime": str(self.sandbox.runtime),
            "start": str(self.sandbox.start),
            "state": "busy" if self.busy else "idle",
            "served": self.served,
            "idle_s": 0.0 if self.busy else round(time.monotonic() - self.idle_since, 1),
        }
