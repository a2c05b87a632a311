"""The state file: durable, private, migrated, and clear about what is wrong with the disk."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from alcove.errors import CapacityError, Conflict, HostError, NotFound
from alcove.store import code
from alcove.store import functions as rows
from alcove.store.database import Database, migrations
from alcove.tenants.directory import TenantDirectory

FUNCTION = rows.FunctionRow("id1", "", "hello", 1, {"a": "b"}, 5)
VERSION = rows.VersionRow("id1", "$LATEST", "r", 5, "", "python3.11", "m.h", 128, 3, "{}", "", "vm", 1, "p", 10, "i")


async def test_file_is_private_and_migrated_once(tmp_path: Path) -> None:
    path = tmp_path / "state" / "alcove.db"
    for _ in range(2):
        database = await Database.open(path)
        version = await database.read(lambda c: c.execute("PRAGMA user_version").fetchone()[0])
        mode = await database.write(lambda c: c.execute("PRAGMA synchronous").fetchone()[0])
        await database.close()
        assert version == len(migrations())
        assert mode == 2
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


async def test_a_failed_change_leaves_nothing(tmp_path: Path) -> None:
    database = await Database.open(tmp_path / "alcove.db")
    tenants = await TenantDirectory.open(database)

    def change(connection: sqlite3.Connection) -> None:
        rows.insert_function(connection, replace(FUNCTION, tenant_id=tenants.default.id))
        raise RuntimeError("half-way")

    with pytest.raises(RuntimeError):
        await database.write(change)
    found = await database.read(lambda c: rows.find_function(c, tenants.default.id, "hello"))
    assert found is None
    await database.close()


async def test_published_versions_are_immutable(tmp_path: Path) -> None:
    database = await Database.open(tmp_path / "alcove.db")
    tenants = await TenantDirectory.open(database)
    function = replace(FUNCTION, tenant_id=tenants.default.id)
    await database.write(lambda c: rows.insert_function(c, function))
    await database.write(lambda c: rows.put_version(c, VERSION))
    await database.write(lambda c: rows.put_version(c, replace(VERSION, memory_mib=256)))
    await database.write(lambda c: rows.put_version(c, replace(VERSION, version="1")))
    with pytest.raises(sqlite3.IntegrityError):
        await database.write(lambda c: rows.put_version(c, replace(VERSION, version="1")))
    with pytest.raises(sqlite3.IntegrityError, match="immutable"):
        await database.write(lambda c: c.execute("UPDATE versions SET memory_mib = 1"))
    listed = await database.read(lambda c: rows.list_versions(c, "id1"))
    assert [(row.version, row.memory_mib) for row in listed] == [("$LATEST", 256), ("1", 128)]
    assert await database.read(code.code_in_use) == ({"p"}, {"i"})
    await database.write(lambda c: rows.delete_function(c, "id1"))
    assert await database.read(code.code_in_use) == (set(), set())
    await database.close()


async def test_a_full_disk_says_so(tmp_path: Path) -> None:
    database = await Database.open(tmp_path / "alcove.db")
    await database.write(lambda c: c.execute("PRAGMA max_page_count=1"))

    def change(connection: sqlite3.Connection) -> None:
        connection.execute("CREATE TABLE filler (x)")
        connection.executemany("INSERT INTO filler VALUES (?)", [("x" * 4000,)] * 100)

    with pytest.raises(CapacityError) as caught:
        await database.write(change)
    assert "free disk space" in caught.value.hint
    await database.close()


async def test_a_newer_or_broken_file_says_so(tmp_path: Path) -> None:
    path = tmp_path / "alcove.db"
    database = await Database.open(path)
    await database.write(lambda c: c.execute("PRAGMA user_version=99"))
    await database.close()
    with pytest.raises(HostError, match="newer"):
        await Database.open(path)
    broken = tmp_path / "broken.db"
    broken.write_bytes(b"not a database at all" * 100)
    with pytest.raises(HostError):
        await Database.open(broken)
    (tmp_path / "link.db").symlink_to(path)
    with pytest.raises(HostError):
        await Database.open(tmp_path / "link.db")


async def test_tenants_and_keys_survive(tmp_path: Path) -> None:
    database = await Database.open(tmp_path / "alcove.db")
    tenants = await TenantDirectory.open(database)
    other = await tenants.create("other")
    key = await tenants.create_key(other.id)
    with pytest.raises(Conflict):
        await tenants.create("other")
    assert key.secret not in repr(key)
    await database.close()

    database = await Database.open(tmp_path / "alcove.db")
    again = await TenantDirectory.open(database)
    assert again.default == tenants.default
    assert again.secret_of(key.access_key) == key.secret
    assert again.owner_of(key.access_key) == other == again.find("other") == again.find(other.id)
    assert len(again.keys_of(other.id)) == 2
    assert len(other.id) == 12
    await again.delete_key(key.access_key)
    assert again.secret_of(key.access_key) is None
    with pytest.raises(NotFound):
        again.find("nobody")
    await database.close()
