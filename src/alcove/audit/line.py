"""One change, as the audit keeps it: who asked for what, and what became of it. Never what was sent or answered."""

from __future__ import annotations

import msgspec

DONE = "done"
# The process ended before it was known.
UNKNOWN = "unknown"


class AuditLine(msgspec.Struct, frozen=True, kw_only=True):
    """``number`` rises by one from line to line, over all tenants, in the order in which changes ended; 0: not yet.

    ``scope`` is whose audit it is in: a tenant's id, or ``operator``. ``by`` is ``tenant`` or ``operator``; ``key`` the
    access key, and ``address`` where the request came from (of the operator: user and process). ``outcome`` is
    ``done``, ``unknown``, or the code of the refusal.
    """

    number: int = 0
    time_ms: int
    request_id: str
    scope: str
    by: str
    key: str
    address: str
    operation: str
    resource: str
    outcome: str = UNKNOWN


_encode = msgspec.json.Encoder().encode
_decoder = msgspec.json.Decoder(AuditLine)


def encode_line(line: AuditLine) -> bytes:
    return _encode(line) + b"\n"


def decode_line(data: bytes) -> AuditLine | None:
    """Return the line; None for what was torn."""
    try:
        return _decoder.decode(data)
    except (msgspec.DecodeError, ValueError):
        return None
