"""Custom routes: a host and a path prefix that a tenant's function answers.

A host is a name, or ``*.`` and a name: every name under it. Names are held by the tenant that asked first, with all
names under them, until it gives them up: nobody takes another's host, nor one that was left for a moment. Tenants may
ask for names under the operator's ``--route-domains``; the operator, for any name. Of all routes that match a
request the one with the longest host wins (a name before a pattern), then the one with the longest path.
"""

from __future__ import annotations

import functools
import re
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, replace
from urllib.parse import unquote

from alcove.errors import Conflict, InvalidRequest, NotFound
from alcove.functions.model import LATEST, FunctionResolver
from alcove.host.clock import now_ms
from alcove.sandbox.protocol import TenantId
from alcove.store import routes as rows
from alcove.store.database import Database
from alcove.triggers.endpoint import Auth, Cors, Endpoint, Mode

HOST_LIMIT = 100
ROUTE_LIMIT = 1000
PAGE_LIMIT = 100
PATH_LIMIT = 512
_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_SEGMENT = re.compile(r"[A-Za-z0-9._~!$&'()+,;=:@-]+")


@dataclass(frozen=True, slots=True)
class RouteSpec:
    """What a client says of a route. ``path`` begins with a slash."""

    host: str
    path: str
    function: str
    qualifier: str = ""
    auth: Auth = Auth.NONE
    mode: Mode = Mode.BUFFERED
    cors: Cors | None = None


class RouteTable:
    """The routes in memory: for each host its path prefixes, longest first."""

    def __init__(self) -> None:
        self._hosts: dict[str, list[tuple[tuple[str, ...], Endpoint]]] = {}

    def put(self, row: rows.RouteRow, tenant: str) -> None:
        self.drop(row.host, row.path)
        segments = _segments(row.path)
        held = self._hosts.setdefault(row.host, [])
        held.append((segments, _endpoint(row, tenant)))
        held.sort(key=lambda one: -len(one[0]))

    def drop(self, host: str, path: str) -> None:
        held = [one for one in self._hosts.get(host, ()) if one[0] != _segments(path)]
        if held:
            self._hosts[host] = held
        else:
            self._hosts.pop(host, None)

    def holds(self, host: str) -> bool:
        """Tell whether some route names this host, whatever its path."""
        return bool(self._hosts) and any(pattern in self._hosts for pattern in patterns(host))

    def find(self, host: str, raw_path: str) -> Endpoint | None:
        path = tuple(unquote(segment) for segment in raw_path.split("/")[1:])
        for pattern in patterns(host):
            for segments, endpoint in self._hosts.get(pattern, ()):
                if path[: len(segments)] == segments:
                    return endpoint
        return None


class RouteService:
    """Open with ``await RouteService.open(...)``. Methods are scoped by tenant; they raise the ``RequestError`` that
    fits.
    """

    def __init__(self, database: Database, functions: FunctionResolver, domains: Sequence[str]) -> None:
        self._database = database
        self._functions = functions
        self._domains = tuple(domain.lower().strip(".") for domain in domains)
        self.table = RouteTable()

    @classmethod
    async def open(cls, database: Database, functions: FunctionResolver, domains: Sequence[str]) -> RouteService:
        service = cls(database, functions, domains)
        for row, tenant in await database.read(rows.all_routes):
            service.table.put(row, tenant)
        return service

    async def put(self, tenant: TenantId, spec: RouteSpec, *, operator: bool = False) -> rows.RouteRow:
        """Make a route, or change the one of this host and path. Raises ``Conflict`` for a host that another
        tenant holds.
        """
        host = check_host(spec.host)
        name = host.removeprefix("*.")
        path = check_path(spec.path)
        if not operator and not any(name.endswith(f".{domain}") for domain in self._domains):
            raise InvalidRequest(
                f"Hosts must lie under one of: {', '.join(self._domains) or '(none)'}.",
                hint="the operator sets --route-domains, and may make routes for any host",
            )
        await self._functions.resolve(tenant, spec.function, spec.qualifier or LATEST)
        cors = "" if spec.cors is None else spec.cors.check().to_json()
        row = rows.RouteRow(host, path, name, spec.function, spec.qualifier, spec.auth, spec.mode, now_ms(), cors)
        written = await self._database.write(lambda connection: _write(connection, tenant, row))
        self.table.put(written, tenant)
        return written

    async def list(
        self, tenant: TenantId, after: tuple[str, str] = ("", ""), limit: int = PAGE_LIMIT
    ) -> tuple[list[rows.RouteRow], bool]:
        """Return routes by host and path, and whether there are more."""
        found = await self._database.read(lambda connection: rows.list_routes(connection, tenant, after, limit + 1))
        return found[:limit], len(found) > limit

    async def remove(self, tenant: TenantId, host: str, path: str) -> None:
        """Remove a route; its host stays the tenant's."""
        host, path = check_host(host), check_path(path)
        if not await self._database.write(lambda connection: rows.delete_route(connection, tenant, host, path)):
            raise NotFound(f"There is no route {host}{path or '/'}.")
        self.table.drop(host, path)

    async def hosts(self, tenant: TenantId) -> Sequence[rows.HostRow]:
        return await self._database.read(lambda connection: rows.list_hosts(connection, tenant))

    async def release(self, tenant: TenantId, name: str) -> None:
        """Give a host up, with its routes: anyone may then ask for it."""
        name = check_host(name)

        def change(connection: sqlite3.Connection) -> list[tuple[rows.RouteRow, str]]:
            gone = [(row, owner) for row, owner in rows.all_routes(connection) if row.name == name]
            if not rows.delete_host(connection, tenant, name):
                raise NotFound(f"You hold no host {name}.")
            return gone

        for row, _ in await self._database.write(change):
            self.table.drop(row.host, row.path)

    async def release_every(self, tenant: TenantId) -> None:
        """Give up all hosts of the tenant, with their routes."""
        for host in await self.hosts(tenant):
            await self.release(tenant, host.name)


def _write(connection: sqlite3.Connection, tenant: TenantId, row: rows.RouteRow) -> rows.RouteRow:
    """Write a route under the host that the tenant holds, which is taken where nobody does."""
    labels = row.name.split(".")
    parents = [".".join(labels[at:]) for at in range(1, len(labels))]
    holders = rows.holders(connection, row.name, parents)
    if any(holder.tenant_id != tenant for holder in holders):
        raise Conflict(f"The host {row.name} is another tenant's.", hint="choose another name")
    if rows.count_routes(connection, tenant) >= ROUTE_LIMIT:
        raise Conflict(f"A tenant has at most {ROUTE_LIMIT} routes.", hint="remove one that is not needed")
    above = [holder.name for holder in holders if len(holder.name) <= len(row.name)]
    if not above:
        if len(rows.list_hosts(connection, tenant)) >= HOST_LIMIT:
            raise Conflict(f"A tenant holds at most {HOST_LIMIT} hosts.", hint="alcove route release gives one up")
        rows.insert_host(connection, rows.HostRow(row.name, tenant, row.created_ms))
    held = above[0] if above else row.name
    written = replace(row, name=held)
    rows.put_route(connection, written)
    return written


@functools.lru_cache(maxsize=4096)
def patterns(host: str) -> tuple[str, ...]:
    """Return the patterns that a host matches, longest first."""
    labels = host.split(".")
    return (host, *(f"*.{'.'.join(labels[at:])}" for at in range(1, min(len(labels), 10))))


def check_host(text: str) -> str:
    """Return a host or ``*.`` and a host, in lower case. Raises ``InvalidRequest``, also for what is ours."""
    host = text.lower().rstrip(".")
    labels = host.removeprefix("*.").split(".")
    if len(host) > 253 or len(labels) > 9 or not all(_LABEL.fullmatch(label) for label in labels):
        raise InvalidRequest(f"{text[:80]!r} is not a host name.", hint="for example: shop.apps.localhost")
    if len(labels) < 2 or labels[-1].isdigit() or {"lambda-url", "cfc-execute"} & set(labels):
        raise InvalidRequest(
            f"{text[:80]!r} cannot be given to a function.", hint="addresses, single names and URLs' hosts cannot"
        )
    return host


def check_path(text: str) -> str:
    """Return a prefix of whole segments, without a last slash. Raises ``InvalidRequest``."""
    path = text.rstrip("/")
    if path and (not path.startswith("/") or len(path) > PATH_LIMIT):
        raise InvalidRequest(f"A path begins with a slash and has at most {PATH_LIMIT} characters.")
    for segment in path.split("/")[1:]:
        if not _SEGMENT.fullmatch(segment) or segment in (".", ".."):
            raise InvalidRequest(f"{segment[:40]!r} cannot be a segment of a path.")
    return path


def _segments(path: str) -> tuple[str, ...]:
    return tuple(path.split("/")[1:])


def _endpoint(row: rows.RouteRow, tenant: str) -> Endpoint:
    return Endpoint(
        tenant=TenantId(tenant),
        function=row.function,
        qualifier=row.qualifier,
        auth=Auth(row.auth),
        mode=Mode(row.mode),
        api_id=row.host,
        route=f"ANY {row.path or ''}/{{proxy+}}",
        cors=Cors.from_json(row.cors),
    )
