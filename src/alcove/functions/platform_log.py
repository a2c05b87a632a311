"""The lines that the platform itself writes around a request: as text, or as AWS's JSON events of a level and above."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import msgspec

from alcove.functions.answers import billed
from alcove.functions.model import FunctionVersion

Lines = tuple[str, ...]


class Spent(msgspec.Struct, frozen=True):
    """What a request took, in milliseconds; the first one of an instance also has its start's share."""

    duration_ms: float
    init_ms: float | None = None
    restore_ms: float | None = None


def around(
    function: FunctionVersion, request_id: str, spent: Spent, peak_mib: int | None = None
) -> tuple[Lines, Lines]:
    """Return the lines before and after the function's own output. ``peak_mib`` is the most that its instance has
    used; what serves it there may have its share in that, so that is shown up to the limit.
    """
    if peak_mib is not None:
        peak_mib = min(peak_mib, function.memory_mib)
    if function.logging.format == "JSON":
        return _events(function, request_id, spent, peak_mib)
    report = (
        f"REPORT RequestId: {request_id}\tDuration: {spent.duration_ms:.2f} ms\t"
        f"Billed Duration: {billed(spent.duration_ms)} ms\tMemory Size: {function.memory_mib} MB"
    )
    if peak_mib is not None:
        report += f"\tMax Memory Used: {peak_mib} MB"
    if spent.init_ms is not None:
        report += f"\tInit Duration: {spent.init_ms:.2f} ms"
    if spent.restore_ms is not None:
        report += f"\tRestore Duration: {spent.restore_ms:.2f} ms"
    start = f"START RequestId: {request_id} Version: {function.version}"
    return (start,), (f"END RequestId: {request_id}", report)


def _events(function: FunctionVersion, request_id: str, spent: Spent, peak_mib: int | None) -> tuple[Lines, Lines]:
    # Both are of the level INFO.
    if function.logging.system_level == "WARN":
        return (), ()
    metrics = {
        "durationMs": round(spent.duration_ms, 3),
        "billedDurationMs": billed(spent.duration_ms),
        "memorySizeMB": function.memory_mib,
        **({} if peak_mib is None else {"maxMemoryUsedMB": peak_mib}),
        **({} if spent.init_ms is None else {"initDurationMs": round(spent.init_ms, 3)}),
        **({} if spent.restore_ms is None else {"restoreDurationMs": round(spent.restore_ms, 3)}),
    }
    start = _event("platform.start", {"requestId": request_id, "version": function.version})
    return (start,), (_event("platform.report", {"requestId": request_id, "metrics": metrics}),)


def _event(kind: str, record: dict[str, Any]) -> str:
    stamp = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return json.dumps({"time": stamp, "type": kind, "record": record})
