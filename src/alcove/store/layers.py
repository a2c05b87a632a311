"""Rows of layers and who may use them. Each function runs inside ``Database.write`` or ``read``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from sqlite3 import Connection, Row


@dataclass(frozen=True, slots=True)
class LayerRow:
    id: str
    tenant_id: str
    name: str
    next_version: int


@dataclass(frozen=True, slots=True)
class LayerVersionRow:
    layer: LayerRow
    version: int
    created_ms: int
    description: str
    license: str
    runtimes: Sequence[str]
    architectures: Sequence[str]
    package_sha256: str
    package_bytes: int


@dataclass(frozen=True, slots=True)
class LayerPermissionRow:
    statement_id: str
    principal: str
    action: str


@dataclass(frozen=True, slots=True)
class Fits:
    """What a layer version must say it is compatible with; empty: anything."""

    runtime: str = ""
    architecture: str = ""

    def parameters(self) -> dict[str, str]:
        return {"runtime": self.runtime, "architecture": self.architecture}


ANY = Fits()
_FITS = (
    "(:runtime = '' OR :runtime IN (SELECT value FROM json_each(v.runtimes))) AND "
    "(:architecture = '' OR :architecture IN (SELECT value FROM json_each(v.architectures)))"
)
_JOINED = (
    "SELECT l.id, l.tenant_id, l.name, l.next_version, v.version, v.created_ms, v.description, v.license, v.runtimes, "
    "v.architectures, v.package_sha256, v.package_bytes FROM layers l JOIN layer_versions v ON v.layer_id = l.id "
)


def insert_layer(connection: Connection, row: LayerRow) -> None:
    connection.execute("INSERT INTO layers VALUES (?, ?, ?, ?)", (row.id, row.tenant_id, row.name, row.next_version))


def find_layer(connection: Connection, tenant_id: str, name: str) -> LayerRow | None:
    row = connection.execute("SELECT * FROM layers WHERE tenant_id = ? AND name = ?", (tenant_id, name)).fetchone()
    return None if row is None else LayerRow(*row)


def insert_version(connection: Connection, row: LayerVersionRow) -> None:
    """Add the layer's next version."""
    connection.execute(
        "INSERT INTO layer_versions VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            *(row.layer.id, row.version, row.created_ms, row.description, row.license, json.dumps(list(row.runtimes))),
            *(json.dumps(list(row.architectures)), row.package_sha256, row.package_bytes),
        ),
    )
    connection.execute("UPDATE layers SET next_version = ? WHERE id = ?", (row.version + 1, row.layer.id))


def find_version(connection: Connection, tenant_id: str, name: str, version: int) -> LayerVersionRow | None:
    row = connection.execute(
        _JOINED + "WHERE l.tenant_id = ? AND l.name = ? AND v.version = ?", (tenant_id, name, version)
    ).fetchone()
    return None if row is None else _version(row)


def list_layers(
    connection: Connection, tenant_id: str, after: str, limit: int, fits: Fits = ANY
) -> list[LayerVersionRow]:
    """The newest version of each layer that has one that fits, by name."""
    rows = connection.execute(
        f"{_JOINED} WHERE l.tenant_id = :tenant AND l.name > :after AND v.version = (SELECT MAX(version) "  # noqa: S608
        f"FROM layer_versions v WHERE layer_id = l.id AND {_FITS}) ORDER BY l.name LIMIT :limit",
        {"tenant": tenant_id, "after": after, "limit": limit, **fits.parameters()},
    )
    return [_version(row) for row in rows]


def list_versions(
    connection: Connection, tenant_id: str, name: str, before: int, limit: int, fits: Fits = ANY
) -> list[LayerVersionRow]:
    """Versions lower than ``before`` that fit, the newest first."""
    rows = connection.execute(
        f"{_JOINED} WHERE l.tenant_id = :tenant AND l.name = :name AND v.version < :before AND {_FITS} "
        "ORDER BY v.version DESC LIMIT :limit",
        {"tenant": tenant_id, "name": name, "before": before, "limit": limit, **fits.parameters()},
    )
    return [_version(row) for row in rows]


def delete_versions(connection: Connection, tenant_id: str, name: str) -> set[str]:
    """Remove all versions of a layer; return their packages."""
    found = connection.execute(
        "DELETE FROM layer_versions WHERE layer_id = (SELECT id FROM layers WHERE tenant_id = ? AND name = ?) "
        "RETURNING package_sha256",
        (tenant_id, name),
    )
    return {str(row[0]) for row in found}


def delete_version(connection: Connection, layer_id: str, version: int) -> None:
    connection.execute("DELETE FROM layer_versions WHERE layer_id = ? AND version = ?", (layer_id, version))


def count_layers(connection: Connection, tenant_id: str) -> tuple[int, int]:
    """Return the tenant's number of layers, also of those without a version, and of layer versions."""
    row = connection.execute(
        "SELECT COUNT(DISTINCT l.id), COUNT(v.version) FROM layers l LEFT JOIN layer_versions v ON v.layer_id = l.id "
        "WHERE l.tenant_id = ?",
        (tenant_id,),
    ).fetchone()
    return int(row[0]), int(row[1])


def delete_every(connection: Connection, tenant_id: str) -> set[str]:
    """Remove all layers of a tenant that goes, their versions first: they count while the layer says whose they are.
    Return their packages.
    """
    found = connection.execute(
        "DELETE FROM layer_versions WHERE layer_id IN (SELECT id FROM layers WHERE tenant_id = ?) "
        "RETURNING package_sha256",
        (tenant_id,),
    )
    packages = {str(row[0]) for row in found}
    connection.execute("DELETE FROM layers WHERE tenant_id = ?", (tenant_id,))
    return packages


# Who may use a layer version


def insert_permission(connection: Connection, layer_id: str, version: int, row: LayerPermissionRow) -> None:
    """Put it last. Raises ``sqlite3.IntegrityError`` where there is one of this id."""
    connection.execute(
        "INSERT INTO layer_permissions SELECT ?1, ?2, ?3, 1 + COALESCE(MAX(place), 0), ?4, ?5 FROM layer_permissions "
        "WHERE layer_id = ?1 AND version = ?2",
        (layer_id, version, row.statement_id, row.principal, row.action),
    )


def list_permissions(connection: Connection, layer_id: str, version: int) -> list[LayerPermissionRow]:
    """In the order in which they were made."""
    rows = connection.execute(
        "SELECT statement_id, principal, action FROM layer_permissions WHERE layer_id = ? AND version = ? "
        "ORDER BY place",
        (layer_id, version),
    )
    return [LayerPermissionRow(*row) for row in rows]


def delete_permission(connection: Connection, layer_id: str, version: int, statement_id: str) -> bool:
    """Return whether there was one."""
    done = connection.execute(
        "DELETE FROM layer_permissions WHERE layer_id = ? AND version = ? AND statement_id = ?",
        (layer_id, version, statement_id),
    )
    return done.rowcount > 0


def _version(row: Row) -> LayerVersionRow:
    layer = LayerRow(row[0], row[1], row[2], row[3])
    return LayerVersionRow(
        layer, row[4], row[5], row[6], row[7], json.loads(row[8]), json.loads(row[9]), row[10], row[11]
    )
