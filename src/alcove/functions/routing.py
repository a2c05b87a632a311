"""Where an invocation by a function's name and qualifier goes: to a version, or by an alias to one of two."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, replace

from alcove.errors import Conflict, NotFound
from alcove.functions.model import LATEST, FunctionVersion
from alcove.functions.records import Records, find_function
from alcove.sandbox.protocol import TenantId
from alcove.store import aliases
from alcove.store import functions as rows


@dataclass(frozen=True, slots=True)
class Routing:
    """``first``, except for ``share`` of the invocations (0 to 1), which ``second`` serves."""

    first: FunctionVersion
    second: FunctionVersion | None = None
    share: float = 0.0

    def pick(self, chance: Callable[[], float]) -> FunctionVersion:
        """Choose for one invocation; ``chance`` returns numbers from 0 up to 1, without 1."""
        if self.second is not None and chance() < self.share:
            return self.second
        return self.first


def is_version(qualifier: str) -> bool:
    """Whether a qualifier can name a version: an alias never has such a name."""
    return qualifier == LATEST or (qualifier.isascii() and qualifier.isdigit())


def read_routing(
    connection: sqlite3.Connection, records: Records, tenant: TenantId, name: str, qualifier: str
) -> Routing:
    """Raises ``NotFound`` where there is no such function, version or alias."""
    function = find_function(connection, tenant, name)
    if is_version(qualifier):
        return Routing(records.find(connection, function, qualifier))
    alias = aliases.find_alias(connection, function.id, qualifier)
    if alias is None:
        raise NotFound(f"Function not found: {records.arn(function)}:{qualifier}")

    def find(version: str) -> FunctionVersion:
        return replace(records.find(connection, function, version), alias=qualifier)

    second = find(alias.second_version) if alias.second_version else None
    return Routing(find(alias.version), second, alias.second_share)


def check_unused(connection: sqlite3.Connection, function: rows.FunctionRow, version: str) -> None:
    """Raises ``Conflict`` where an alias leads to the version."""
    found = aliases.list_aliases(connection, function.id, version, "", 10)
    if found:
        raise Conflict(
            f"Unable to delete version {version} because the following aliases reference it: "
            f"[{', '.join(alias.name for alias in found)}]",
            hint="point the aliases at another version first",
        )
