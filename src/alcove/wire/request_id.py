"""Ids of requests: random UUIDs (RFC 9562, version 4), whose randomness is fetched for many at once."""

from __future__ import annotations

import os

_AT_ONCE = 256
_pool = ""
_used = 0


def new_request_id() -> str:
    global _pool, _used
    at = _used
    if at == len(_pool):
        _pool, at = os.urandom(_AT_ONCE * 16).hex(), 0
    _used = at + 32
    digits = _pool[at : at + 32]
    # The variant's two bits are 10.
    variant = "89ab"[int(digits[16], 16) & 3]
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:]}"
