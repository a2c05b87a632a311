"""A relation of Baidu CFC: a source of events, a function that they call, and the source's own settings."""

from __future__ import annotations

import json
import secrets
import string
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Any, Protocol

from alcove.errors import InvalidRequest
from alcove.sandbox.protocol import TenantId
from alcove.store.relations import RelationRow

DATA_LIMIT = 16 * 1024
_ALPHABET = string.ascii_lowercase + string.digits


@dataclass(frozen=True)
class Relation:
    """A row together with its settings."""

    row: RelationRow

    @property
    def id(self) -> str:
        return self.row.id

    @property
    def tenant(self) -> TenantId:
        return TenantId(self.row.tenant_id)

    @cached_property
    def data(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.row.data)
        return found


class Address(StrEnum):
    """Where a source's events come to by HTTP: nowhere, to an address of each relation, or of each function."""

    NONE = "none"
    RELATION = "relation"
    FUNCTION = "function"


class Source(Protocol):
    """One kind of source. ``attach`` and ``detach`` may be called again for what they have done already: after a
    crash every relation is attached anew. ``signed``: its events are signed with the relation's secret.
    """

    address: Address
    signed: bool

    def check(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """Return the settings as they are stored. Raises ``InvalidRequest``."""
        ...

    async def attach(self, relation: Relation) -> None:
        """Let the source's events call the function from now on. Raises the ``RequestError`` that fits."""
        ...

    async def detach(self, relation: Relation) -> None: ...


def text(data: Mapping[str, Any], name: str, *, default: str | None = None) -> str:
    """Return a setting that is text. Raises ``InvalidRequest``."""
    value = data.get(name, default)
    if not isinstance(value, str) or (not value and default is None):
        raise InvalidRequest(f"Data.{name} must be a string." if name in data else f"Data.{name} is required.")
    return value


def texts(data: Mapping[str, Any], name: str) -> list[str]:
    """Return a setting that is text or a list of texts, as a list; empty where it is absent."""
    value = data.get(name)
    if value is None:
        return []
    found = [value] if isinstance(value, str) else value
    if not isinstance(found, list) or not all(isinstance(one, str) and one for one in found) or len(found) > 100:
        raise InvalidRequest(f"Data.{name} must be a string or a list of strings.")
    return found


def enabled(data: Mapping[str, Any], name: str) -> bool:
    """Read ``Enabled``/``Disabled`` or ``enabled``/``disabled``; without it, enabled."""
    word = text(data, name, default="enabled").lower()
    if word not in ("enabled", "disabled"):
        raise InvalidRequest(f"Data.{name} must be enabled or disabled.")
    return word == "enabled"


def new_endpoint() -> str:
    """Return 32 characters (165 bits) that nobody can guess."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(32))


def new_secret() -> str:
    return secrets.token_hex(32)
