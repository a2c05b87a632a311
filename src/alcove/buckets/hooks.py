"""Doors through which object stores elsewhere tell of changes, in S3's notification format (as MinIO sends it).

A hook has an id, which is in its URL, and a token, of which only the SHA-256 is kept. A store that sends the same
document again, for it did not get the answer, calls the function once: the id of the event is derived from the
document, where its records carry sequencers.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import sqlite3
import uuid
from dataclasses import dataclass
from typing import Any

from alcove.errors import AccessDenied, Conflict, InvalidRequest, NotFound
from alcove.events.sink import EventSink
from alcove.functions.model import FunctionResolver
from alcove.functions.names import Reference
from alcove.host.clock import now_ms
from alcove.sandbox.protocol import TenantId
from alcove.store import outbox as rows
from alcove.store.database import Database

HOOKS_LIMIT = 100
RECORDS_LIMIT = 1000
_SPACE = uuid.UUID("6a1d6c52-5f0e-5d6b-8d0a-0d0a4f3a9b21")


@dataclass(frozen=True, slots=True)
class Hook:
    id: str
    name: str
    function: str
    qualifier: str


class HookService:
    def __init__(self, database: Database, sink: EventSink, functions: FunctionResolver) -> None:
        self._database = database
        self._sink = sink
        self._functions = functions

    async def add(self, tenant: TenantId, name: str, function: Reference) -> tuple[Hook, str]:
        """Make a hook; return it with its token, which is not told again. Raises ``Conflict``, ``NotFound``."""
        if not 1 <= len(name) <= 64 or not name.isprintable():
            raise InvalidRequest("a hook's name has 1 to 64 printable characters")
        await self._functions.resolve(tenant, function.name, function.version)
        token = secrets.token_urlsafe(32)
        hook = Hook(secrets.token_hex(16), name, function.name, function.version)
        row = rows.HookRow(hook.id, tenant, name, hook.function, hook.qualifier, _digest(token), now_ms())

        def change(connection: sqlite3.Connection) -> None:
            if len(rows.list_hooks(connection, tenant)) >= HOOKS_LIMIT:
                raise Conflict(f"there are {HOOKS_LIMIT} hooks already", hint="remove one first")
            rows.insert_hook(connection, row)

        try:
            await self._database.write(change)
        except sqlite3.IntegrityError:
            raise Conflict(f"a hook named {name!r} exists", hint="remove it first, or choose another name") from None
        return hook, token

    async def list(self, tenant: TenantId) -> list[Hook]:
        found = await self._database.read(lambda connection: rows.list_hooks(connection, tenant))
        return [Hook(row.id, row.name, row.function, row.qualifier) for row in found]

    async def remove(self, tenant: TenantId, name: str) -> None:
        if not await self._database.write(lambda connection: rows.delete_hook(connection, tenant, name)):
            raise NotFound(f"no hook {name!r}", hint="alcove bucket hook list shows them")

    async def receive(self, hook_id: str, token: str, body: bytes) -> str:
        """Accept what a store tells; return the event's request id. Raises ``AccessDenied`` where hook or token are
        wrong, and does not say which.
        """
        row = await self._database.read(lambda connection: rows.find_hook(connection, hook_id))
        known = _digest("") if row is None else row.token_sha256
        if not hmac.compare_digest(_digest(token), known) or row is None or not token:
            raise AccessDenied("there is no such hook, or its token is another", code="unknown_key")
        records = _records(body)
        told = json.dumps({"Records": records}, ensure_ascii=False).encode()
        return await self._sink.submit(
            TenantId(row.tenant_id),
            row.function,
            told,
            qualifier=row.qualifier,
            source="s3",
            request_id=_request_id(row.id, records, told),
        )


def _records(body: bytes) -> list[dict[str, Any]]:
    """Raises ``InvalidRequest``."""
    try:
        records = json.loads(body)["Records"]
        if not 1 <= len(records) <= RECORDS_LIMIT:
            raise ValueError
        for one in records:
            named = (one["eventName"], one["s3"]["bucket"]["name"], one["s3"]["object"]["key"])
            if not all(isinstance(text, str) for text in named):
                raise ValueError
    except (ValueError, KeyError, TypeError, RecursionError):
        raise InvalidRequest(
            f"The body is not an S3 notification of 1 to {RECORDS_LIMIT} records.",
            hint="set the store's webhook to the S3 format",
        ) from None
    return list(records)


def _request_id(hook: str, records: list[dict[str, Any]], told: bytes) -> str:
    if all(one["s3"]["object"].get("sequencer") for one in records):
        return str(uuid.uuid5(_SPACE, f"{hook}/{hashlib.sha256(told).hexdigest()}"))
    return str(uuid.uuid4())


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
