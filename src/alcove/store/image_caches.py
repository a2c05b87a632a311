"""Rows of caches of images: what shall be here before instances ask for it."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

CREATING, READY, FAILED = "creating", "ready", "failed"


@dataclass(frozen=True, slots=True)
class CacheRow:
    """``images`` and ``secrets`` are JSON. ``done`` counts images that are here."""

    cache_id: str
    tenant_id: str
    name: str
    images: str
    created_ms: int
    secrets: str = field(default="", repr=False)
    state: str = CREATING
    done: int = 0
    message: str = ""
    matched_ms: int = 0

    @property
    def names(self) -> list[str]:
        return list(json.loads(self.images))


_COLUMNS = "cache_id, tenant_id, name, images, created_ms, secrets, state, done, message, matched_ms"


def insert_cache(connection: sqlite3.Connection, row: CacheRow) -> None:
    connection.execute(
        f"INSERT INTO image_caches ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608
        (
            *(row.cache_id, row.tenant_id, row.name, row.images, row.created_ms),
            *(row.secrets, row.state, row.done, row.message, row.matched_ms),
        ),
    )


def find_cache(connection: sqlite3.Connection, tenant: str, cache_id: str) -> CacheRow | None:
    query = f"SELECT {_COLUMNS} FROM image_caches WHERE tenant_id=? AND cache_id=?"  # noqa: S608
    row = connection.execute(query, (tenant, cache_id)).fetchone()
    return None if row is None else CacheRow(*row)


def list_caches(connection: sqlite3.Connection, tenant: str, *, skip: int = 0, limit: int = -1) -> Sequence[CacheRow]:
    """The newest first."""
    query = f"SELECT {_COLUMNS} FROM image_caches WHERE tenant_id=?"  # noqa: S608
    query += " ORDER BY created_ms DESC, cache_id LIMIT ? OFFSET ?"
    return [CacheRow(*row) for row in connection.execute(query, (tenant, limit, skip))]


def list_creating(connection: sqlite3.Connection) -> Sequence[CacheRow]:
    query = f"SELECT {_COLUMNS} FROM image_caches WHERE state=? ORDER BY created_ms"  # noqa: S608
    return [CacheRow(*row) for row in connection.execute(query, (CREATING,))]


def count_caches(connection: sqlite3.Connection, tenant: str) -> int:
    (count,) = connection.execute("SELECT count(*) FROM image_caches WHERE tenant_id=?", (tenant,)).fetchone()
    return int(count)


def progress(connection: sqlite3.Connection, cache_id: str, state: str, done: int, message: str = "") -> None:
    """Write how far a cache has come; what is no longer fetched needs no credentials."""
    connection.execute(
        "UPDATE image_caches SET state=?, done=?, message=?, secrets=CASE ? WHEN ? THEN secrets ELSE '' END "
        "WHERE cache_id=?",
        (state, done, message, state, CREATING, cache_id),
    )


def match(connection: sqlite3.Connection, tenant: str, images: Collection[str], moment_ms: int) -> None:
    """Note that a pod uses some of these images."""
    for row in list_caches(connection, tenant):
        if set(images) & set(row.names):
            connection.execute("UPDATE image_caches SET matched_ms=? WHERE cache_id=?", (moment_ms, row.cache_id))


def delete_cache(connection: sqlite3.Connection, cache_id: str) -> None:
    connection.execute("DELETE FROM image_caches WHERE cache_id=?", (cache_id,))


def is_used(connection: sqlite3.Connection, image: str) -> bool:
    """Tell whether a cache or a pod of anyone names this image."""
    text = json.dumps(image)
    for table, column in (("image_caches", "images"), ("pods", "manifest")):
        query = f"SELECT 1 FROM {table} WHERE instr({column}, ?) > 0 LIMIT 1"  # noqa: S608
        if connection.execute(query, (text,)).fetchone() is not None:
            return True
    return False


def note_brought(connection: sqlite3.Connection, image: str) -> None:
    """Say that an image comes for caches alone."""
    connection.execute("INSERT OR IGNORE INTO cached_images (image) VALUES (?)", (image,))


def take_unused(connection: sqlite3.Connection, image: str) -> bool:
    """Tell whether an image came for caches alone and nobody names it any more; then it is forgotten here."""
    if is_used(connection, image):
        return False
    return connection.execute("DELETE FROM cached_images WHERE image=?", (image,)).rowcount > 0
