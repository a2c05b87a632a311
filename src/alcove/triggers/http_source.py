"""The source of relations that answer HTTP: ``cfc-http-trigger/v1/CFCAPI``, and who answers a request.

Each relation has a path of literal segments, ``{name}`` for one segment and, last, ``{name+}`` for all the rest, and a
set of methods. All HTTP relations of a function share one address. Literal segments win over named ones, these over
the rest. Source: "HTTP triggers" in the CFC developer guide.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from alcove.errors import Conflict, InvalidRequest
from alcove.triggers.endpoint import Auth
from alcove.triggers.relation import Address, Relation, text

NAME = "cfc-http-trigger/v1/CFCAPI"
METHODS = ("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT")
_AUTH = {"anonymous": Auth.NONE, "iam": Auth.IAM}
_SEGMENT = re.compile(r"\{[A-Za-z_][A-Za-z0-9_]{0,63}\+?\}|[A-Za-z0-9._~!$&'()*,;=:@-]{1,128}")
SEGMENT_LIMIT = 32


@dataclass(frozen=True)
class Answerer:
    """One relation as requests are matched with it."""

    relation: Relation
    segments: tuple[str, ...]
    methods: frozenset[str]
    auth: Auth

    @property
    def resource(self) -> str:
        return "/" + "/".join(self.segments)

    @property
    def rank(self) -> tuple[int, ...]:
        """Sorts before those that it wins over."""
        return (*(_kind(segment) for segment in self.segments), 3)

    def match(self, path: list[str]) -> dict[str, str] | None:
        """Return what the path's named segments stand for, or None."""
        found: dict[str, str] = {}
        for at, segment in enumerate(self.segments):
            if _kind(segment) == 2:
                found[segment[1:-2]] = "/".join(path[at:])
                return found if len(path) > at else None
            if at >= len(path) or (_kind(segment) == 0 and segment != path[at]):
                return None
            if _kind(segment) == 1:
                found[segment[1:-1]] = path[at]
        return found if len(path) == len(self.segments) else None


class HttpSource:
    """Data: ResourcePath, Method (names, comma-separated), AuthType (``anonymous`` or ``iam``)."""

    address = Address.FUNCTION
    signed = False

    def __init__(self) -> None:
        self._held: dict[str, list[Answerer]] = {}

    def check(self, data: Mapping[str, Any]) -> dict[str, Any]:
        segments, methods, _ = _read(data)
        names = [segment.strip("{+}") for segment in segments if _kind(segment)]
        if len(set(names)) != len(names) or any(_kind(segment) == 2 for segment in segments[:-1]):
            raise InvalidRequest("Data.ResourcePath names a segment twice, or goes on after the rest.")
        return {**data, "ResourcePath": "/" + "/".join(segments), "Method": ",".join(sorted(methods))}

    async def attach(self, relation: Relation) -> None:
        answerer = Answerer(relation, *_read(relation.data))
        held = [one for one in self._held.get(relation.row.endpoint, ()) if one.relation.id != relation.id]
        for other in held:
            if _shape(other.segments) == _shape(answerer.segments) and other.methods & answerer.methods:
                raise Conflict(f"{other.resource} is answered by another relation of the function.")
        self._held[relation.row.endpoint] = sorted([*held, answerer], key=lambda one: one.rank)

    async def detach(self, relation: Relation) -> None:
        address = relation.row.endpoint
        left = [one for one in self._held.get(address, ()) if one.relation.id != relation.id]
        if left:
            self._held[address] = left
        else:
            self._held.pop(address, None)

    def find(self, address: str, method: str, raw_path: str) -> tuple[Answerer, dict[str, str]] | None:
        path = [unquote(segment) for segment in raw_path.split("/")[1:]]
        if path and not path[-1]:
            path.pop()
        for answerer in self._held.get(address, ()):
            if method in answerer.methods:
                found = answerer.match(path)
                if found is not None:
                    return answerer, found
        return None


def _read(data: Mapping[str, Any]) -> tuple[tuple[str, ...], frozenset[str], Auth]:
    """Return path, methods and who may call. Raises ``InvalidRequest``."""
    path = text(data, "ResourcePath").strip("/")
    segments = tuple(path.split("/")) if path else ()
    if len(segments) > SEGMENT_LIMIT or not all(_SEGMENT.fullmatch(one) for one in segments):
        raise InvalidRequest("Data.ResourcePath must be a path such as /user/{id}/posts or /files/{path+}.")
    if any(one in (".", "..") for one in segments):
        raise InvalidRequest("Data.ResourcePath must not have . or .. as a segment.")
    methods = frozenset(one.strip().upper() for one in text(data, "Method").split(","))
    if not methods <= set(METHODS):
        raise InvalidRequest(f"Data.Method must be made of {', '.join(METHODS)}.")
    auth = _AUTH.get(text(data, "AuthType", default="anonymous"))
    if auth is None:
        raise InvalidRequest("Data.AuthType must be anonymous or iam.")
    return segments, methods, auth


def _kind(segment: str) -> int:
    """0: literal; 1: any one; 2: all the rest."""
    if not segment.startswith("{"):
        return 0
    return 2 if segment.endswith("+}") else 1


def _shape(segments: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(segment if _kind(segment) == 0 else "{}"[: _kind(segment)] for segment in segments)
