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
        """Accept an asynchronous invocation durably; return its request id. Raises NotFound, TooLarge (256 KB),
        ThrottledError (queue over its bound), CapacityError (disk full).
        """
        ...
