"""The documents and lines that a call ends with where the function itself did not answer, as AWS words them."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime


def billed(duration_ms: float) -> int:
    """Return whole milliseconds, rounded up, at least one."""
    return max(1, math.ceil(duration_ms))


def error_document(kind: str, message: str) -> bytes:
    return json.dumps({"errorType": kind, "errorMessage": message}).encode()


def timed_out(request_id: str, timeout_s: float) -> bytes:
    stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
    return error_document("Sandbox.Timedout", f"{stamp} {request_id} Task timed out after {timeout_s:.2f} seconds")


def init_timed_out(limit_s: float) -> bytes:
    return error_document("Sandbox.Timedout", f"Init timed out after {limit_s:.2f} seconds")


def protocol_broken(request_id: str) -> bytes:
    prefix = f"RequestId: {request_id} Error: " if request_id else ""
    return error_document("Runtime.ProtocolError", f"{prefix}Runtime broke its protocol")


def ended(request_id: str, reason: str) -> bytes:
    """Return the document that AWS shows when the runtime's process ends."""
    prefix = f"RequestId: {request_id} Error: " if request_id else ""
    match reason:
        case "out_of_memory":
            why = "Runtime exited with error: signal: killed (out of memory)"
            return error_document("Runtime.OutOfMemory", prefix + why)
        case "signal" | "killed":
            return error_document("Runtime.ExitError", f"{prefix}Runtime exited with error: signal: killed")
        case _:
            return error_document("Runtime.ExitError", f"{prefix}Runtime exited without providing a reason")
