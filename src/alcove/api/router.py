"""From a request's method and path to the operation that answers it.

Each face lists its own ``ROUTES``; the router is one tree of path segments for each method, so that finding one costs
the same however many there are. A segment ``{name}`` stands for any one, a last ``{name*}`` for all the rest. A
trailing slash makes no difference.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from urllib.parse import unquote

from alcove.api.dialect import Dialect
from alcove.api.schema import NO_DETAIL, Detail
from alcove.errors import NotFound
from alcove.gateway.message import Response

SMALL_BODY = 1 << 20
# Paths that are remembered with their routes, and how long one may be.
KNOWN_PATHS = 4096
KNOWN_PATH = 256
Act = Callable[..., Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Route:
    """``act`` is called with a ``Call`` and what the path names. ``body_limit`` is in bytes. Where ``signed`` is False
    anyone may call, as no tenant: the operation then decides by itself (``act`` gets an ``OpenCall``). ``service`` is
    the one that a SigV4 signature must be for; ``detail`` is for the OpenAPI document. ``audited`` None: signed calls
    that are not GET, and do not just invoke, are.
    """

    method: str
    path: str
    act: Act
    dialect: Dialect
    body_limit: int = SMALL_BODY
    signed: bool = True
    service: str = "lambda"
    detail: Detail = NO_DETAIL
    audited: bool | None = None


class _Node:
    __slots__ = ("children", "parameter", "rest", "route")

    def __init__(self) -> None:
        self.children: dict[str, _Node] = {}
        self.parameter: _Node | None = None
        self.route: Route | None = None
        self.rest: Route | None = None


class Router:
    def __init__(self, routes: Iterable[Route]) -> None:
        self._methods: dict[str, _Node] = {}
        self._known: dict[tuple[str, str], tuple[Route, dict[str, str]]] = {}
        for route in routes:
            self._add(route)

    def match(self, method: str, raw_path: str) -> tuple[Route, dict[str, str]] | None:
        """Return the route and what the path names (percent-decoded), or None.

        Each request asks twice, and busy paths are few: the last ones are remembered.
        """
        key = (method, raw_path)
        if key in self._known:
            return self._known[key]
        found = self._search(method, raw_path)
        if found is not None and len(raw_path) <= KNOWN_PATH:
            if len(self._known) >= KNOWN_PATHS:
                self._known.clear()
            self._known[key] = found
        return found

    def _search(self, method: str, raw_path: str) -> tuple[Route, dict[str, str]] | None:
        root = self._methods.get(method)
        if root is None:
            return None
        segments = raw_path.split("/")[1:]
        values: list[str] = []
        route = _walk(root, segments, 0, values)
        if route is None:
            return None
        names = (part[1:-1].removesuffix("*") for part in route.path.split("/") if part.startswith("{"))
        return route, {name: unquote(value) for name, value in zip(names, values, strict=True)}

    def find(self, method: str, raw_path: str) -> tuple[Route, dict[str, str]]:
        """As ``match``. Raises ``NotFound``."""
        found = self._known.get((method, raw_path)) or self.match(method, raw_path)
        if found is None:
            raise NotFound(
                f"There is no {method} {unquote(raw_path)[:200]} here.", hint="check the endpoint and the API's version"
            )
        return found

    def _add(self, route: Route) -> None:
        node = self._methods.setdefault(route.method, _Node())
        for segment in route.path.split("/")[1:]:
            if segment.endswith("*}"):
                assert node.rest is None, f"two routes for {route.method} {route.path}"
                node.rest = route
                return
            if segment.startswith("{"):
                node.parameter = node.parameter or _Node()
                node = node.parameter
            else:
                node = node.children.setdefault(segment, _Node())
        assert node.route is None, f"two routes for {route.method} {route.path}"
        node.route = route


def _walk(node: _Node, segments: list[str], at: int, values: list[str]) -> Route | None:
    """Return the route of the segments from ``at`` on, literal ones first; ``values`` gets the parameters."""
    if at == len(segments) or (at == len(segments) - 1 and segments[at] == "" and node.route is not None):
        return node.route
    segment = segments[at]
    child = node.children.get(segment)
    if child is not None:
        found = _walk(child, segments, at + 1, values)
        if found is not None:
            return found
    if node.parameter is not None and segment:
        values.append(segment)
        found = _walk(node.parameter, segments, at + 1, values)
        if found is not None:
            return found
        values.pop()
    if node.rest is not None:
        values.append("/".join(segments[at:]))
        return node.rest
    return None
