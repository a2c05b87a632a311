"""A stand-in for the queue of asynchronous invocations. It passes the same contract suite as the real one."""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import dataclass

from alcove.errors import AlcoveError, TooLarge
from alcove.events.policy import EVENT_LIMIT
from alcove.sandbox.protocol import TenantId


@dataclass(frozen=True)
class Submitted:
    tenant: str
    function: str
    event: bytes
    qualifier: str
    source: str
    request_id: str


class FakeSink:
    """Keeps what it accepts, once for each request id; ``tries`` has every attempt; ``fail`` is raised while set."""

    def __init__(self) -> None:
        self.accepted: dict[str, Submitted] = {}
        self.tries: list[Submitted] = []
        self.fail: AlcoveError | None = None

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
        await asyncio.sleep(0)
        one = Submitted(tenant, function, event, qualifier, source, request_id or str(uuid.uuid4()))
        self.tries.append(one)
        if self.fail is not None:
            raise self.fail
        if len(event) > EVENT_LIMIT:
            raise TooLarge("too large")
        self.accepted.setdefault(one.request_id, one)
        return one.request_id

    @property
    def events(self) -> list[Submitted]:
        return list(self.accepted.values())
