"""Trace context: which request of a larger whole an invocation is part of.

Read from ``traceparent`` (W3C Trace Context, version 00) or ``X-Amzn-Trace-Id`` (AWS X-Ray), and written as both. An
X-Ray root is ``1-`` eight hex digits of Unix time ``-`` 24 more: together the 32 digits of a W3C trace id.
"""

from __future__ import annotations

import random
import re
import time

import msgspec

_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_ROOT = re.compile(r"1-([0-9a-f]{8})-([0-9a-f]{24})")
_SPAN = re.compile(r"[0-9a-f]{16}")
# More than any client of ours or of the clouds sends.
LONGEST_HEADER = 1024
# Ids must differ, not be secret: each invocation needs two.
_random = random.Random()


class TraceContext(msgspec.Struct, frozen=True):
    """``trace_id`` has 32 hex digits, ``span_id`` 16: it is the span that acts now; ``parent_id`` may be empty.
    ``sampled`` None: nobody decided.
    """

    trace_id: str
    span_id: str
    parent_id: str = ""
    sampled: bool | None = None

    @property
    def traceparent(self) -> str:
        return f"00-{self.trace_id}-{self.span_id}-{'01' if self.sampled else '00'}"

    @property
    def xray(self) -> str:
        """As ``X-Amzn-Trace-Id`` and ``_X_AMZN_TRACE_ID`` have it."""
        root = f"1-{self.trace_id[:8]}-{self.trace_id[8:]}"
        return f"Root={root};Parent={self.span_id};Sampled={1 if self.sampled else 0}"


def read_traceparent(header: str) -> TraceContext | None:
    """Return the caller's span; None for what is not a valid ``traceparent``."""
    found = _TRACEPARENT.fullmatch(header[:LONGEST_HEADER].strip())
    if found is None:
        return None
    version, trace_id, span_id, flags, more = found.groups()
    if version == "ff" or (version == "00" and more) or not int(trace_id, 16) or not int(span_id, 16):
        return None
    return TraceContext(trace_id, span_id, sampled=bool(int(flags, 16) & 1))


def read_xray(header: str) -> TraceContext | None:
    """Return the caller's span (empty where it names none); None for what has no valid root."""
    fields = dict(part.strip().partition("=")[::2] for part in header[:LONGEST_HEADER].split(";"))
    root = _ROOT.fullmatch(fields.get("Root", ""))
    if root is None or not int(root[1] + root[2], 16):
        return None
    parent = fields.get("Parent", "")
    sampled = {"1": True, "0": False}.get(fields.get("Sampled", ""))
    return TraceContext(root[1] + root[2], parent if _SPAN.fullmatch(parent) else "", sampled=sampled)


def read_trace(header: str) -> TraceContext | None:
    """Read either of the two headers."""
    return (read_xray(header) if "=" in header else read_traceparent(header)) if header else None


def continue_trace(header: str, *, sample: bool) -> TraceContext:
    """Return a new span: of the caller's trace, or of a new one; ``sample`` decides where the caller did not."""
    caller = read_trace(header)
    span_id = f"{_random.getrandbits(64) or 1:016x}"
    if caller is None:
        trace_id = f"{int(time.time()) & 0xFFFFFFFF:08x}{_random.getrandbits(96):024x}"
        return TraceContext(trace_id, span_id, sampled=sample)
    sampled = sample if caller.sampled is None else caller.sampled
    return TraceContext(caller.trace_id, span_id, caller.span_id, sampled)
