"""What triggers ask of asynchronous invocation."""

from __future__ import annotations

from typing import Protocol

from alcove.sandbox.protocol import TenantId


class EventSink(Protocol):
    async def submit(
        self,
        tenant: TenantId,
        function: str,
        event: bytes,
        *,
        qualifier: str = "",
        source: str = "invoke",
        request_id: str = "",
        trace_id: str = "",
        client_context: str = "",
    ) -> str:
        """Accept an asynchronous invocation durably; return its request id. An id that is given twice is accepted once.

        Raises ``TooLarge`` (over ``policy.EVENT_LIMIT``), ``ThrottledError`` (too many wait), ``CapacityError`` (the
        disk is full).
        """
        ...
