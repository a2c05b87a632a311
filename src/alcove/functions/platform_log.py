"""The lines that the platform itself writes around a request: as text, or as AWS's JSON events of a level and above."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from alcove.functions.answers import billed
from alcove.functions.model import FunctionVersion

Lines = tuple[str, ...]


def around(function: FunctionVersion, request_id: str, duration_ms: float) -> tuple[Lines, Lines]:
    """Return the lines before and after the function's own output."""
    if function.logging.format == "JSON":
        return _events(function, request_id, duration_ms)
    report = (
        f"REPORT RequestId: {request_id}\tDuration: {duration_ms:.2f} ms\t"
        f"Billed Duration: {billed(duration_ms)} ms\tMemory Size: {function.memory_mib} MB"
    )
    start = f"START RequestId: {request_id} Version: {function.version}"
    return (start,), (f"END RequestId: {request_id}", report)


def _events(function: FunctionVersion, request_id: str, duration_ms: float) -> tuple[Lines, Lines]:
    # Both are of the level INFO.
    if function.logging.system_level == "WARN":
        return (), ()
    metrics = {
        "durationMs": round(duration_ms, 3),
        "billedDurationMs": billed(duration_ms),
        "memorySizeMB": function.memory_mib,
    }
    start = _event("platform.start", {"requestId": request_id, "version": function.version})
    return (start,), (_event("platform.report", {"requestId": request_id, "metrics": metrics}),)


def _event(kind: str, record: dict[str, Any]) -> str:
    stamp = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return json.dumps({"time": stamp, "type": kind, "record": record})
