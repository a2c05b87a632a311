"""Pods of a tenant, the newest first, a page at a time; by their ids; by their groups."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

from alcove.store.instances import COLUMNS, PodRow


@dataclass(frozen=True, slots=True)
class PagePlace:
    """The pod that a page begins with, or what was there before it was removed."""

    created_ms: int
    instance_id: str


@dataclass(frozen=True, slots=True)
class Filter:
    """``name`` is part of a pod's name, ``instance`` the beginning of an instance's id."""

    name: str = ""
    instance: str = ""


def list_newest(
    connection: sqlite3.Connection, tenant: str, place: PagePlace | None, limit: int, wanted: Filter
) -> Sequence[PodRow]:
    """The index holds all that is asked for: only rows of the page are read."""
    conditions = ["tenant_id=?"]
    values: list[str | int] = [tenant]
    if place is not None:
        conditions.append("(created_ms, instance_id) <= (?, ?)")
        values += [place.created_ms, place.instance_id]
    if wanted.name:
        conditions.append("instr(name, ?) > 0")
        values.append(wanted.name)
    if wanted.instance:
        conditions.append("substr(instance_id, 1, ?) = ?")
        values += [len(wanted.instance), wanted.instance]
    chosen = f"SELECT rowid FROM pods WHERE {' AND '.join(conditions)}"  # noqa: S608
    chosen += " ORDER BY created_ms DESC, instance_id DESC LIMIT ?"
    query = f"SELECT {COLUMNS} FROM pods WHERE rowid IN ({chosen}) ORDER BY created_ms DESC, instance_id DESC"  # noqa: S608
    return [PodRow(*row) for row in connection.execute(query, (*values, limit))]


def find_instance(connection: sqlite3.Connection, tenant: str, instance_id: str) -> PodRow | None:
    query = f"SELECT {COLUMNS} FROM pods WHERE tenant_id=? AND instance_id=?"  # noqa: S608
    found = connection.execute(query, (tenant, instance_id)).fetchone()
    return None if found is None else PodRow(*found)


def list_group(connection: sqlite3.Connection, tenant: str, group_id: str) -> Sequence[PodRow]:
    """Return the copies that are wanted, the oldest first."""
    query = (
        f"SELECT {COLUMNS} FROM pods WHERE tenant_id=? AND group_id=? AND group_id != '' "  # noqa: S608
        "AND deleted_ms=0 ORDER BY rowid"
    )
    return [PodRow(*row) for row in connection.execute(query, (tenant, group_id))]


def set_group(connection: sqlite3.Connection, uid: str, group_id: str) -> None:
    connection.execute("UPDATE pods SET group_id=? WHERE uid=?", (group_id, uid))
