"""Rows of buckets, objects and uploads. Each function runs inside ``Database.write`` or ``read``."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from dataclasses import astuple, dataclass
from sqlite3 import Connection


@dataclass(frozen=True, slots=True)
class BucketRow:
    """Field order is column order."""

    id: str
    tenant_id: str
    name: str
    notification: str
    created_ms: int


@dataclass(frozen=True, slots=True)
class ObjectRow:
    id: int
    bucket_id: str
    key: str
    size: int
    etag: str
    modified_ms: int
    attributes: str


@dataclass(frozen=True, slots=True)
class UploadRow:
    id: str
    bucket_id: str
    key: str
    attributes: str
    created_ms: int
    plan: str = ""


@dataclass(frozen=True, slots=True)
class PartRow:
    upload_id: str
    number: int
    blob: str
    size: int
    etag: str
    modified_ms: int
    checksum: str = ""


# Buckets


def insert_bucket(connection: Connection, row: BucketRow) -> None:
    """Raises ``sqlite3.IntegrityError`` where the tenant has a bucket of that name."""
    connection.execute("INSERT INTO buckets VALUES (?, ?, ?, ?, ?)", astuple(row))


def find_bucket(connection: Connection, tenant_id: str, name: str) -> BucketRow | None:
    row = connection.execute("SELECT * FROM buckets WHERE tenant_id = ? AND name = ?", (tenant_id, name)).fetchone()
    return None if row is None else BucketRow(*row)


def list_buckets(connection: Connection, tenant_id: str) -> list[BucketRow]:
    rows = connection.execute("SELECT * FROM buckets WHERE tenant_id = ? ORDER BY name", (tenant_id,))
    return [BucketRow(*row) for row in rows]


def list_ungranted(connection: Connection) -> list[BucketRow]:
    """Return the buckets whose notifications may lack the permission that they need."""
    rows = connection.execute("SELECT b.* FROM buckets b JOIN ungranted u ON u.bucket_id = b.id ORDER BY b.id")
    return [BucketRow(*row) for row in rows]


def delete_ungranted(connection: Connection, bucket_id: str) -> None:
    connection.execute("DELETE FROM ungranted WHERE bucket_id = ?", (bucket_id,))


def is_empty(connection: Connection, bucket_id: str) -> bool:
    return connection.execute("SELECT 1 FROM objects WHERE bucket_id = ? LIMIT 1", (bucket_id,)).fetchone() is None


def delete_bucket(connection: Connection, bucket_id: str) -> None:
    connection.execute("DELETE FROM buckets WHERE id = ?", (bucket_id,))


def set_notification(connection: Connection, bucket_id: str, notification: str) -> None:
    connection.execute("UPDATE buckets SET notification = ? WHERE id = ?", (notification, bucket_id))


# Objects


def next_sequence(connection: Connection) -> int:
    row = connection.execute("UPDATE sequencer SET value = value + 1 RETURNING value").fetchone()
    return int(row[0])


def insert_object(connection: Connection, row: ObjectRow, segments: Iterable[tuple[str, int, str]]) -> None:
    connection.execute(
        "INSERT INTO objects VALUES (?, ?, ?, ?, ?, ?, ?)",
        astuple(row),
    )
    connection.executemany(
        "INSERT INTO segments VALUES (?, ?, ?, ?, ?)",
        [(row.id, place, *segment) for place, segment in enumerate(segments)],
    )


def find_object(connection: Connection, bucket_id: str, key: str) -> ObjectRow | None:
    row = connection.execute("SELECT * FROM objects WHERE bucket_id = ? AND key = ?", (bucket_id, key)).fetchone()
    return None if row is None else ObjectRow(*row)


def find_segments(connection: Connection, object_id: int) -> list[tuple[str, int, str]]:
    """Return (blob, size, checksum) of each."""
    rows = connection.execute(
        "SELECT blob, size, checksum FROM segments WHERE object_id = ? ORDER BY place", (object_id,)
    )
    return [(row[0], row[1], row[2]) for row in rows]


def delete_object(connection: Connection, object_id: int) -> None:
    connection.execute("DELETE FROM objects WHERE id = ?", (object_id,))


# Of an object's attributes, what a listing shows: headers and metadata may be large. Old rows may lack both.
_CHECKSUMS = (
    "json_object('checksums', json(coalesce(json_extract(attributes, '$.checksums'), '{}')), "
    "'checksum_kind', coalesce(json_extract(attributes, '$.checksum_kind'), 'FULL_OBJECT'))"
)


def scan_objects(connection: Connection, bucket_id: str, start: str, *, inclusive: bool, limit: int) -> list[ObjectRow]:
    """Objects in the order of their keys' bytes, from ``start`` on; of their attributes, their checksums alone."""
    comparison = ">=" if inclusive else ">"
    rows = connection.execute(
        f"SELECT id, bucket_id, key, size, etag, modified_ms, {_CHECKSUMS} FROM objects "  # noqa: S608
        f"WHERE bucket_id = ? AND key {comparison} ? ORDER BY key LIMIT ?",
        (bucket_id, start, limit),
    )
    return [ObjectRow(*row) for row in rows]


# Uploads


def insert_upload(connection: Connection, row: UploadRow) -> None:
    connection.execute("INSERT INTO uploads VALUES (?, ?, ?, ?, ?, ?)", astuple(row))


def find_upload(connection: Connection, bucket_id: str, key: str, upload_id: str) -> UploadRow | None:
    row = connection.execute(
        "SELECT * FROM uploads WHERE id = ? AND bucket_id = ? AND key = ?", (upload_id, bucket_id, key)
    ).fetchone()
    return None if row is None else UploadRow(*row)


def find_upload_by_id(connection: Connection, upload_id: str) -> UploadRow | None:
    row = connection.execute("SELECT * FROM uploads WHERE id = ?", (upload_id,)).fetchone()
    return None if row is None else UploadRow(*row)


def old_uploads(connection: Connection, before_ms: int, limit: int = 100) -> list[tuple[str, str]]:
    """Return tenant and id of uploads that began before that moment, the oldest first."""
    rows = connection.execute(
        "SELECT tenant_id, uploads.id FROM uploads JOIN buckets ON buckets.id = bucket_id "
        "WHERE uploads.created_ms < ? ORDER BY uploads.created_ms LIMIT ?",
        (before_ms, limit),
    )
    return [(row[0], row[1]) for row in rows]


def list_uploads(connection: Connection, bucket_id: str) -> list[UploadRow]:
    rows = connection.execute("SELECT * FROM uploads WHERE bucket_id = ? ORDER BY key, id", (bucket_id,))
    return [UploadRow(*row) for row in rows]


def delete_upload(connection: Connection, upload_id: str) -> None:
    connection.execute("DELETE FROM uploads WHERE id = ?", (upload_id,))


def find_part(connection: Connection, upload_id: str, number: int) -> PartRow | None:
    row = connection.execute("SELECT * FROM parts WHERE upload_id = ? AND number = ?", (upload_id, number)).fetchone()
    return None if row is None else PartRow(*row)


def list_parts(connection: Connection, upload_id: str, after: int = 0, limit: int = -1) -> list[PartRow]:
    rows = connection.execute(
        "SELECT * FROM parts WHERE upload_id = ? AND number > ? ORDER BY number LIMIT ?", (upload_id, after, limit)
    )
    return [PartRow(*row) for row in rows]


def put_part(connection: Connection, row: PartRow) -> None:
    connection.execute(
        "INSERT OR REPLACE INTO parts VALUES (?, ?, ?, ?, ?, ?, ?)",
        astuple(row),
    )


# What is stored


def add_stored(connection: Connection, tenant_id: str, size: int, objects: int) -> tuple[int, int]:
    """Count what comes or goes; return the tenant's new (bytes, objects)."""
    row = connection.execute(
        "INSERT INTO stored VALUES (?1, ?2, ?3) ON CONFLICT (tenant_id) DO UPDATE "
        "SET bytes = bytes + ?2, objects = objects + ?3 RETURNING bytes, objects",
        (tenant_id, size, objects),
    ).fetchone()
    return int(row[0]), int(row[1])


def stored(connection: Connection, tenant_id: str) -> tuple[int, int]:
    row = connection.execute("SELECT bytes, objects FROM stored WHERE tenant_id = ?", (tenant_id,)).fetchone()
    return (0, 0) if row is None else (int(row[0]), int(row[1]))


def all_blobs(connection: Connection) -> set[str]:
    rows: Iterable[sqlite3.Row] = connection.execute("SELECT blob FROM segments UNION ALL SELECT blob FROM parts")
    return {row[0] for row in rows}


def forget_tenant(connection: Connection, tenant_id: str) -> None:
    """Remove what is left of a tenant whose buckets are gone."""
    for table in ("stored", "outbox", "hooks"):
        connection.execute(f"DELETE FROM {table} WHERE tenant_id = ?", (tenant_id,))  # noqa: S608
