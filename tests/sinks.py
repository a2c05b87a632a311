"""Stand-ins for the queue of asynchronous invocations."""

from __future__ import annotations

import asyncio
import sqlite3
import uuid
from dataclasses import dataclass
from pathlib import Path

from alcove.errors import AlcoveError, TooLarge
from alcove.events.sink import EventSink
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
        if len(event) > 256 * 1024:
            raise TooLarge("too large")
        self.accepted.setdefault(one.request_id, one)
        return one.request_id

    @property
    def events(self) -> list[Submitted]:
        return list(self.accepted.values())


class FileSink:
    """Durable: what was accepted is in a database of its own, which the crash tests read."""

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None)
        self._connection.execute("PRAGMA journal_mode=WAL")
        self._connection.execute("CREATE TABLE IF NOT EXISTS accepted (id TEXT PRIMARY KEY, function TEXT, event BLOB)")
        self._connection.execute("CREATE TABLE IF NOT EXISTS tries (id TEXT)")

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
        self._connection.execute("INSERT INTO tries VALUES (?)", (request_id,))
        self._connection.execute("INSERT OR IGNORE INTO accepted VALUES (?, ?, ?)", (request_id, function, event))
        await asyncio.sleep(0.002)
        return request_id

    def close(self) -> None:
        self._connection.close()


_: type[EventSink] = FakeSink
_also: type[EventSink] = FileSink
