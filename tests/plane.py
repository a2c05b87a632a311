"""The control plane of functions over a dispatcher that only notes what it is told."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterable
from typing import Any

from alcove.functions.model import FunctionChange, FunctionVersion, InvokeResult
from alcove.functions.service import FunctionService
from alcove.sandbox.protocol import TenantId
from alcove.store.database import Database

PYTHON = FunctionChange(runtime="python3.11", handler="app.handler")


def zipped(text: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(zipfile.ZipInfo("app.py"), text)
    return buffer.getvalue()


class Recorder:
    """Notes what it is told, and what the store said at that moment."""

    def __init__(self) -> None:
        self.told: list[Any] = []
        self.snapshot_error: Exception | None = None
        self.dropped: list[str] = []

    async def invoke(self, function: FunctionVersion, event: bytes, **options: Any) -> InvokeResult:
        raise NotImplementedError

    async def forget(self, function_arn: str, version: str | None) -> None:
        self.told.append(("forget", function_arn.rpartition(":")[2], version))

    async def remove(self, functions: Iterable[FunctionVersion]) -> None:
        self.dropped += [function.version for function in functions]

    async def snapshot(self, function: FunctionVersion) -> None:
        self.told.append(("snapshot", function.name, function.version))
        if self.snapshot_error is not None:
            raise self.snapshot_error

    def instances(self) -> list[dict[str, Any]]:
        return []


class Plane:
    def __init__(self, service: FunctionService, recorder: Recorder, tenant: TenantId, database: Database) -> None:
        self.service, self.recorder, self.tenant, self.database = (
            service,
            recorder,
            tenant,
            database,
        )
