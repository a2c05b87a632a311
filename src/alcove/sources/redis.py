"""Redis Streams as event sources: a consumer group for each mapping, whose place in the stream is the checkpoint.

Entries are acknowledged one by one after their function succeeded. What an earlier life read and did not acknowledge is
read first, with the number of its failures. Order is kept: nothing new is read while something is to be tried again.

The event: {"eventSource": "alcove:redis", "Records": [{"id", "stream", "fields": {name: text}}]}; names and values that
are not UTF-8 are in "binaryFields" instead, as base64.
"""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from redis.asyncio import Connection, ConnectionPool, Redis
from redis.exceptions import RedisError, ResponseError

from alcove.sources.address import parse_endpoint
from alcove.sources.attempts import Attempts
from alcove.sources.outside import Outside
from alcove.sources.redis_parser import BoundedParser
from alcove.sources.retries import Retries
from alcove.sources.source import ITEM_BYTES, Item, SourceUnavailable
from alcove.sources.spec import SourceSpec
from alcove.sources.waiting import Window

CONSUMER = "alcove"
TIMEOUT_S = 10.0
READ_LIMIT = 100
Entry = tuple[bytes, dict[bytes, bytes] | None]


class _Connection(Connection):
    """Connects to the address that was checked; under TLS the certificate must be for the name."""

    def __init__(self, *, tls: ssl.SSLContext | None, name: str, **options: Any) -> None:
        super().__init__(**options)
        self._tls = {} if tls is None else {"ssl": tls, "server_hostname": name}

    def _connection_arguments(self) -> dict[str, Any]:
        return {**super()._connection_arguments(), **self._tls}


class RedisSource:
    def __init__(self, mapping: str, spec: SourceSpec, outside: Outside) -> None:
        self._group = f"alcove-{mapping}"
        self._spec = spec
        self._outside = outside
        self._attempts = Attempts(outside.database, mapping, lambda item: item.id)
        self._client: Redis | None = None
        self._recovered: str | None = "0"
        self._retries = Retries()

    async def open(self) -> None:
        await self._connect()
        async with self._asked() as client:
            start = "0" if self._spec.start == "TRIM_HORIZON" else "$"
            try:
                await client.xgroup_create(self._spec.name, self._group, id=start, mkstream=True)
            except ResponseError as error:
                if "BUSYGROUP" not in str(error):
                    raise
        await self._attempts.load()
        self._recovered, self._retries = "0", Retries()

    async def fetch(self, limit: int, *, wait_s: float, window_s: float = 0) -> list[Item]:
        window = Window(wait_s, window_s)
        found: list[Item] = []
        while len(found) < limit:
            left_s = window.left_s(found)
            found += await self._more(limit - len(found), left_s)
            if not window.left_s(found):
                break
        return found

    def event(self, items: Sequence[Item]) -> bytes:
        return json.dumps({"eventSource": "alcove:redis", "Records": [item.record for item in items]}).encode()

    async def done(self, items: Sequence[Item]) -> None:
        if items:
            async with self._asked() as client:
                await client.xack(self._spec.name, self._group, *(item.token for item in items))
            await self._attempts.forget(items)

    async def again(self, items: Sequence[Item], delay_s: float, *, counted: bool) -> None:
        if counted:
            await self._attempts.count(items)
        self._retries.put(items, delay_s)

    async def forget(self) -> None:
        await self._connect()
        try:
            async with self._asked() as client:
                await client.xgroup_destroy(self._spec.name, self._group)
        finally:
            await self.close()

    async def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()
            await client.connection_pool.disconnect()

    async def _connect(self) -> None:
        host, port = await self._outside.rule.resolve(self._spec.endpoint)
        tls = await self._outside.trust.context(self._spec.ca) if self._spec.tls else None
        pool: ConnectionPool = ConnectionPool(
            connection_class=_Connection,
            host=host,
            port=port,
            tls=tls,
            name=parse_endpoint(self._spec.endpoint)[0],
            username=self._spec.username or None,
            password=self._spec.password or None,
            parser_class=BoundedParser,
            protocol=2,
            max_connections=4,
            socket_connect_timeout=TIMEOUT_S,
            socket_timeout=2 * TIMEOUT_S,
        )
        self._client = Redis(connection_pool=pool)

    @asynccontextmanager
    async def _asked(self) -> AsyncIterator[Redis]:
        """Stop what Redis and the network raise."""
        if self._client is None:
            raise SourceUnavailable("the connection to Redis is closed")
        try:
            yield self._client
        except (RedisError, OSError, TimeoutError, ValueError, RecursionError) as error:
            raise SourceUnavailable(
                f"Redis at {self._spec.endpoint}: {str(error)[:200] or type(error).__name__}"
            ) from error

    async def _more(self, limit: int, wait_s: float) -> list[Item]:
        if self._retries:
            return await self._due(limit, wait_s)
        if self._recovered is not None:
            entries = await self._read(self._recovered, limit, 0)
            self._recovered = entries[-1][0].decode() if entries else None
            if not entries:
                await self._attempts.forget_unclaimed()
        else:
            entries = await self._read(">", limit, min(wait_s, TIMEOUT_S))
        return [self._item(entry_id, fields) for entry_id, fields in await self._present(entries)]

    async def _due(self, limit: int, wait_s: float) -> list[Item]:
        """Return what is to be tried again, waiting for it."""
        next_s = self._retries.next_s() or 0.0
        await asyncio.sleep(min(wait_s, next_s))
        return self._retries.due(limit)

    async def _read(self, after: str, limit: int, wait_s: float) -> list[Entry]:
        """Read entries: new ones (``>``) or those that were read and not acknowledged."""
        block = max(1, int(wait_s * 1000)) if wait_s else None
        async with self._asked() as client:
            found: Any = await client.xreadgroup(
                self._group, CONSUMER, {self._spec.name: after}, count=min(limit, READ_LIMIT), block=block
            )
        streams = found.items() if isinstance(found, dict) else found or []
        for _, entries in streams:
            return list(entries)
        return []

    async def _present(self, entries: Sequence[Entry]) -> list[tuple[bytes, dict[bytes, bytes]]]:
        """Return those that are there and not too large; the others are acknowledged, nobody can have them."""
        good, gone = [], []
        for entry_id, fields in entries:
            if fields and sum(len(name) + len(value) for name, value in fields.items()) <= ITEM_BYTES:
                good.append((entry_id, fields))
            else:
                gone.append(entry_id)
        if gone:
            async with self._asked() as client:
                await client.xack(self._spec.name, self._group, *gone)
        return good

    def _item(self, entry_id: bytes, fields: dict[bytes, bytes]) -> Item:
        text: dict[str, str] = {}
        binary: dict[str, str] = {}
        for name, value in fields.items():
            try:
                text[name.decode()] = value.decode()
            except UnicodeDecodeError:
                binary[name.decode(errors="replace")] = base64.b64encode(value).decode()
        record = {"id": entry_id.decode(), "stream": self._spec.name, "fields": text}
        if binary:
            record["binaryFields"] = binary
        item = Item(entry_id.decode(), record, entry_id)
        self._attempts.claim(item)
        return item
