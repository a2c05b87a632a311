"""Instances by age and by their ids, as clients of BCI ask for them."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

from alcove.errors import InvalidRequest, NotFound
from alcove.sandbox.protocol import TenantId
from alcove.store import instance_lists as rows
from alcove.store.database import Database
from alcove.store.instance_lists import Filter, PagePlace
from alcove.store.instances import PodRow

PAGE_LIMIT = 1000
BATCH_LIMIT = 1000
_MARKER = re.compile(r"(p-[0-9a-z]{1,16})(?:\.([0-9]{1,15}))?")


@dataclass(frozen=True, slots=True)
class Page:
    rows: Sequence[PodRow]
    next_marker: str = ""


async def page(database: Database, tenant: TenantId, marker: str, limit: int, wanted: Filter) -> Page:
    """Return a page, the newest first. Raises ``InvalidRequest`` for a marker that is none of ours."""
    limit = max(1, min(limit, PAGE_LIMIT))

    def read(connection: sqlite3.Connection) -> Sequence[PodRow]:
        place = _place(connection, tenant, marker) if marker else None
        return rows.list_newest(connection, tenant, place, limit + 1, wanted)

    found = await database.read(read)
    following = found[limit] if len(found) > limit else None
    return Page(found[:limit], "" if following is None else _marker(following))


async def find_all(database: Database, tenant: TenantId, ids: Sequence[str]) -> list[PodRow]:
    """Return the instances with these ids. Raises ``NotFound`` where one is not there."""
    if len(ids) > BATCH_LIMIT:
        raise InvalidRequest(f"At most {BATCH_LIMIT} instances may be named at once.")

    def read(connection: sqlite3.Connection) -> list[PodRow]:
        return [_find(connection, tenant, one) for one in dict.fromkeys(ids)]

    return await database.read(read)


def _find(connection: sqlite3.Connection, tenant: str, instance_id: str) -> PodRow:
    found = rows.find_instance(connection, tenant, instance_id)
    if found is None:
        raise NotFound(f"There is no instance {instance_id[:80]!r}.", hint="list the instances")
    return found


def _marker(row: PodRow) -> str:
    """With its age, so that the next page is found where this instance is gone by then."""
    return f"{row.instance_id}.{row.created_ms}"


def _place(connection: sqlite3.Connection, tenant: str, marker: str) -> PagePlace:
    found = _MARKER.fullmatch(marker)
    if found is None:
        raise InvalidRequest("'marker' must be one that a list told.")
    if found[2] is not None:
        return PagePlace(int(found[2]), found[1])
    row = rows.find_instance(connection, tenant, found[1])
    if row is None:
        raise InvalidRequest("'marker' names no instance.", hint="begin the list again")
    return PagePlace(row.created_ms, row.instance_id)
