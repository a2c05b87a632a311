"""Paths to operations. A dialect is a table of routes; the first that fits method and path is
called.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from urllib.parse import unquote

from alcove.errors import InvalidRequest
from alcove.gateway.message import Request, Response
from alcove.tenants.model import Tenant


@dataclass(frozen=True, slots=True)
class Call:
    """A request whose sender is known. ``values`` are the decoded parts of the path, by name."""

    request: Request
    tenant: Tenant
    request_id: str
    values: dict[str, str]

    def query(self, name: str) -> str | None:
        """A query parameter, whatever its case: the Go clients of CFC write theirs in lower case."""
        query = self.request.query
        if name in query:
            return query[name]
        lowered = name.lower()
        return next((value for key, value in query.items() if key.lower() == lowered), None)

    def number(self, name: str, default: int) -> int:
        text = self.query(name)
        if not text:
            return default
        if not (text.isascii() and text.isdigit() and len(text) < 10):
            raise InvalidRequest(f"{name} must be a number.")
        return int(text)


Operation = Callable[[Call], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Route:
    method: str
    pattern: re.Pattern[str]
    operation: Operation


def route(method: str, path: str, operation: Operation) -> Route:
    """``path`` has ``{name}`` for one segment; a trailing slash is accepted."""
    pattern = re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", path)
    return Route(method, re.compile(pattern + "/?"), operation)


class Router:
    def __init__(self, routes: Iterable[Route]) -> None:
        self._routes: dict[str, list[Route]] = {}
        for entry in routes:
            self._routes.setdefault(entry.method, []).append(entry)

    def find(self, request: Request) -> tuple[Operation, dict[str, str]] | None:
        """Match on the raw path, so that an encoded slash stays within its segment."""
        for entry in self._routes.get(request.method, ()):
            match = entry.pattern.fullmatch(request.raw_path)
            if match is not None:
                values = match.groupdict()
                return entry.operation, {name: unquote(text) for name, text in values.items()}
        return None
