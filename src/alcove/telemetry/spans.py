"""From what was seen of an invocation to OpenTelemetry's spans, by its semantic conventions for functions (faas.*)."""

from __future__ import annotations

import random
from collections.abc import Iterator

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

from alcove.functions.observed import Observation

_random = random.Random()


def spans_of(seen: Observation, resource: Resource) -> Iterator[ReadableSpan]:
    """Yield the invocation's span, then one for each phase, end to end in their order."""
    trace = seen.trace
    ended_ns = seen.began_ns + int(seen.duration_s * 1e9)
    context = _context(trace.trace_id, trace.span_id)
    yield ReadableSpan(
        name=seen.function.name,
        context=context,
        parent=_context(trace.trace_id, trace.parent_id, remote=True) if trace.parent_id else None,
        resource=resource,
        attributes=_attributes(seen),
        kind=SpanKind.SERVER,
        status=Status(StatusCode.OK if seen.result.error is None else StatusCode.ERROR),
        start_time=seen.began_ns,
        end_time=ended_ns,
    )
    at_ns = seen.began_ns
    for phase, spent_ms in seen.result.phases_ms.items():
        until_ns = min(ended_ns, at_ns + int(max(0.0, spent_ms) * 1e6))
        yield ReadableSpan(
            name=phase,
            context=_context(trace.trace_id, f"{_random.getrandbits(64) or 1:016x}"),
            parent=context,
            resource=resource,
            kind=SpanKind.INTERNAL,
            start_time=at_ns,
            end_time=until_ns,
        )
        at_ns = until_ns


def _attributes(seen: Observation) -> dict[str, str | int | bool]:
    function, result = seen.function, seen.result
    return {
        "faas.name": function.name,
        "faas.version": result.executed_version,
        "faas.invocation_id": result.request_id,
        "faas.coldstart": result.start != "warm",
        "cloud.account.id": function.tenant,
        "cloud.resource_id": function.arn,
        "alcove.start": result.start,
        "alcove.cause": result.why,
        "alcove.isolation": str(function.isolation),
        "alcove.sandbox": result.sandbox_id,
        "alcove.billed_ms": result.billed_ms,
    }


def _context(trace_id: str, span_id: str, *, remote: bool = False) -> SpanContext:
    return SpanContext(int(trace_id, 16), int(span_id, 16), remote, TraceFlags(TraceFlags.SAMPLED))
