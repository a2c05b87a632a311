"""Function URLs: made, found by their id on every request, changed, removed.

The store is the truth; what was asked for lately is kept in memory. A URL goes with its function (by cascade): who
serves one compares ``Endpoint.function_id`` with the function that the name means now, so that a function which took
the name later is never reached by an old URL.
"""

from __future__ import annotations

import secrets
import sqlite3
import string
from collections import OrderedDict
from dataclasses import dataclass, replace

from alcove.errors import Conflict, NotFound
from alcove.functions.model import LATEST, FunctionResolver, FunctionVersion
from alcove.host.clock import now_ms
from alcove.sandbox.protocol import TenantId
from alcove.store import urls as rows
from alcove.store.database import Database
from alcove.triggers.endpoint import Auth, Cors, Endpoint, Mode

ID_LENGTH = 32
PAGE_LIMIT = 50
CACHE_LIMIT = 4096
_ALPHABET = string.ascii_lowercase + string.digits


@dataclass(frozen=True, slots=True)
class UrlChange:
    """What a client says of a URL; None leaves a field as it is. ``no_cors`` takes its CORS rules away."""

    auth: Auth | None = None
    mode: Mode | None = None
    cors: Cors | None = None
    no_cors: bool = False


@dataclass(frozen=True, slots=True)
class FunctionUrl:
    """A row together with the function that it calls."""

    row: rows.UrlRow
    function_arn: str

    @property
    def cors(self) -> Cors | None:
        return Cors.from_json(self.row.cors)


def is_url_id(text: str) -> bool:
    return len(text) == ID_LENGTH and all(one in _ALPHABET for one in text)


class UrlService:
    """All methods but ``find`` are scoped by tenant; they raise the ``RequestError`` that fits."""

    def __init__(self, database: Database, functions: FunctionResolver) -> None:
        self._database = database
        self._functions = functions
        self._known: OrderedDict[str, Endpoint] = OrderedDict()
        self._generation = 0

    async def create(self, tenant: TenantId, name: str, qualifier: str, change: UrlChange) -> FunctionUrl:
        """Raises ``Conflict`` where the function has a URL for this qualifier."""
        function = await self._functions.resolve(tenant, name, qualifier or LATEST)
        moment = now_ms()
        blank = rows.UrlRow(
            id="".join(secrets.choice(_ALPHABET) for _ in range(ID_LENGTH)),
            function_id=function.function_id,
            qualifier="" if qualifier == LATEST else qualifier,
            auth=Auth.IAM,
            mode=Mode.BUFFERED,
            cors="",
            created_ms=moment,
            modified_ms=moment,
        )
        row = _apply(blank, change)
        try:
            await self._database.write(lambda connection: rows.put_url(connection, row))
        except sqlite3.IntegrityError as error:
            raise Conflict(
                f"Failed to create function url config for [functionArn = {_arn(function, qualifier)}]. "
                "Error message:  FunctionUrlConfig exists for this Lambda function"
            ) from error
        return FunctionUrl(row, _arn(function, qualifier))

    async def get(self, tenant: TenantId, name: str, qualifier: str) -> FunctionUrl:
        function = await self._functions.resolve(tenant, name, LATEST)
        row = await self._database.read(lambda connection: _find(connection, function, qualifier))
        return FunctionUrl(row, _arn(function, qualifier))

    async def update(self, tenant: TenantId, name: str, qualifier: str, change: UrlChange) -> FunctionUrl:
        function = await self._functions.resolve(tenant, name, LATEST)

        def write(connection: sqlite3.Connection) -> rows.UrlRow:
            known = _find(connection, function, qualifier)
            row = replace(_apply(known, change), modified_ms=max(now_ms(), known.modified_ms + 1))
            rows.replace_url(connection, row)
            return row

        row = await self._database.write(write)
        self._forget(row.id)
        return FunctionUrl(row, _arn(function, qualifier))

    async def delete(self, tenant: TenantId, name: str, qualifier: str) -> None:
        function = await self._functions.resolve(tenant, name, LATEST)

        def write(connection: sqlite3.Connection) -> str:
            row = _find(connection, function, qualifier)
            rows.delete_url(connection, row.id)
            return row.id

        self._forget(await self._database.write(write))

    async def list(
        self, tenant: TenantId, name: str, marker: str = "", limit: int = PAGE_LIMIT
    ) -> tuple[list[FunctionUrl], str | None]:
        """Return the function's URLs by qualifier, and where to go on."""
        function = await self._functions.resolve(tenant, name, LATEST)
        limit = max(1, min(limit, PAGE_LIMIT))
        found = await self._database.read(
            lambda connection: rows.list_urls(connection, function.function_id, marker, limit + 1)
        )
        more = found[limit].qualifier if len(found) > limit else None
        return [FunctionUrl(row, _arn(function, row.qualifier)) for row in found[:limit]], more

    async def find(self, url_id: str) -> Endpoint:
        """Return what the URL of that id calls. Raises ``NotFound``."""
        known = self._known.get(url_id)
        if known is not None:
            self._known.move_to_end(url_id)
            return known
        if not is_url_id(url_id):
            raise NotFound("There is no such URL.")
        generation = self._generation
        found = await self._database.read(lambda connection: rows.find_target(connection, url_id))
        if found is None:
            raise NotFound("There is no such URL.")
        endpoint = _endpoint(*found)
        if generation == self._generation:
            self._known[url_id] = endpoint
            if len(self._known) > CACHE_LIMIT:
                self._known.popitem(last=False)
        return endpoint

    def _forget(self, url_id: str) -> None:
        self._generation += 1
        self._known.pop(url_id, None)


def _apply(row: rows.UrlRow, change: UrlChange) -> rows.UrlRow:
    cors = row.cors if change.cors is None else change.cors.check().to_json()
    return replace(row, auth=change.auth or row.auth, mode=change.mode or row.mode, cors="" if change.no_cors else cors)


def _find(connection: sqlite3.Connection, function: FunctionVersion, qualifier: str) -> rows.UrlRow:
    row = rows.find_url(connection, function.function_id, "" if qualifier == LATEST else qualifier)
    if row is None:
        raise NotFound("The resource you requested does not exist.", hint="make it with CreateFunctionUrlConfig")
    return row


def _endpoint(row: rows.UrlRow, tenant: str, name: str) -> Endpoint:
    return Endpoint(
        tenant=TenantId(tenant),
        function=name,
        qualifier=row.qualifier,
        auth=Auth(row.auth),
        mode=Mode(row.mode),
        api_id=row.id,
        function_id=row.function_id,
        cors=Cors.from_json(row.cors),
        asks_policy=True,
    )


def _arn(function: FunctionVersion, qualifier: str) -> str:
    return f"{function.function_arn}:{qualifier}" if qualifier not in ("", LATEST) else function.function_arn
