"""What several unit tests stand on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.plane import Plane, Recorder
from tests.runtime_process import RUNTIMES, compile_java

from alcove.functions.service import FunctionService
from alcove.images.code import CodeStore
from alcove.store.database import Database
from alcove.tenants.directory import TenantDirectory


@pytest.fixture
async def plane(tmp_path: Path) -> AsyncIterator[Plane]:
    database = await Database.open(tmp_path / "alcove.db")
    tenants = await TenantDirectory.open(database)
    code = CodeStore(tmp_path / "code")
    recorder = Recorder()
    service = FunctionService(database, code, recorder)
    yield Plane(service, recorder, tenants.default.id, database)
    code.close()
    await database.close()


@pytest.fixture(scope="session")
def java_classes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Java runtime, compiled."""
    return compile_java(tmp_path_factory.mktemp("java"), *(RUNTIMES / "java/alcove").glob("*.java"))
