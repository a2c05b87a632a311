"""What a request says of an event source mapping: its source, batches, failures and access."""

from __future__ import annotations

from collections.abc import Mapping as Fields
from dataclasses import replace
from typing import Any

from alcove.api.body import field
from alcove.api.event_invoke import destination
from alcove.api.schema import FLAG, NUMBER, TEXT, TEXTS, object_of, one_of
from alcove.errors import InvalidRequest
from alcove.sources.spec import SourceKind, SourceSpec
from alcove.sources.tls import CA_LIMIT

_UNSUPPORTED = (
    "TumblingWindowInSeconds",
    "BisectBatchOnFunctionError",
    "KMSKeyArn",
    "MaximumRecordAgeInSeconds",
)
HIDDEN = "********"
_CA = "SERVER_ROOT_CA_CERTIFICATE"


def _one_text(document: Fields[str, Any], name: str) -> str | None:
    """Return the only text of a list."""
    found = field(document, name, list)
    if found is None:
        return None
    if len(found) != 1 or not isinstance(found[0], str):
        raise InvalidRequest(f"'{name}' must name one.")
    return found[0]


def read_source(document: Fields[str, Any]) -> SourceSpec:
    """Return the source that a mapping is made for, its other fields at their defaults."""
    arn = field(document, "EventSourceArn", str) or field(document, "EventSourceBrn", str)
    outside = field(document, "SelfManagedEventSource", dict)
    if arn and outside is None:
        return SourceSpec(SourceKind.QUEUE, arn, batch_size=SourceKind.QUEUE.batch_size, concurrency=5)
    endpoints = field(outside or {}, "Endpoints", dict) or {}
    kinds = [kind for kind in SourceKind if kind.endpoint_key and kind.endpoint_key in endpoints]
    if arn or len(kinds) != 1 or len(endpoints) != 1:
        raise InvalidRequest(
            "One source must be named: EventSourceArn of a queue, or SelfManagedEventSource.",
            hint="Endpoints are REDIS_SERVERS or RABBITMQ_BROKERS, each a list of one HOST:PORT "
            "(rediss:// or amqps:// in front: TLS)",
        )
    (kind,) = kinds
    endpoint = _one_text(endpoints, kind.endpoint_key) or ""
    name = _one_text(document, "Topics" if kind is SourceKind.REDIS else "Queues") or ""
    start = field(document, "StartingPosition", str) or ("LATEST" if kind is SourceKind.REDIS else "TRIM_HORIZON")
    tls = endpoint.startswith(kind.scheme)
    return SourceSpec(kind, name, endpoint.removeprefix(kind.scheme), tls=tls, start=start, batch_size=kind.batch_size)


def _access(document: Fields[str, Any], spec: SourceSpec) -> SourceSpec:
    for one in field(document, "SourceAccessConfigurations", list) or []:
        kind, text = (one.get("Type"), one.get("URI")) if isinstance(one, dict) else (None, None)
        if not isinstance(text, str) or len(text) > (CA_LIMIT if kind == _CA else 200):
            raise InvalidRequest("SourceAccessConfigurations must have a Type and a URI each.")
        if kind == "BASIC_AUTH":
            user, _, password = text.partition(":")
            # What was shown with its password hidden changes nothing.
            if password != HIDDEN:
                spec = replace(spec, username=user, password=password)
        elif kind == "VIRTUAL_HOST" and spec.kind is SourceKind.RABBITMQ:
            spec = replace(spec, virtual_host=text)
        elif kind == _CA and spec.kind is not SourceKind.QUEUE:
            spec = replace(spec, ca=text)
        else:
            raise InvalidRequest(f"The access type {str(kind)[:40]!r} is not offered for this source.")
    return spec


def _filters(document: Fields[str, Any]) -> tuple[str, ...] | None:
    """Return the patterns of ``FilterCriteria``, none of an empty one, None where it is absent."""
    criteria = field(document, "FilterCriteria", dict)
    if criteria is None:
        return None
    found = field(criteria, "Filters", list) or []
    if not all(isinstance(one, dict) and isinstance(one.get("Pattern"), str) for one in found):
        raise InvalidRequest("FilterCriteria must have Filters with a Pattern each.")
    return tuple(one["Pattern"] for one in found)


def read_changes(document: Fields[str, Any], spec: SourceSpec) -> SourceSpec:
    """Return the spec with what the document says of batches, failures and access."""
    for name in _UNSUPPORTED:
        if document.get(name):
            raise InvalidRequest(f"'{name}' is not offered.")
    scaling = field(document, "ScalingConfig", dict) or {}
    concurrency = field(scaling, "MaximumConcurrency", int) or field(document, "ParallelizationFactor", int)
    responses = field(document, "FunctionResponseTypes", list)
    if responses is not None and not set(map(str, responses)) <= {"ReportBatchItemFailures"}:
        raise InvalidRequest("'FunctionResponseTypes' may have ReportBatchItemFailures.")
    on_failure = destination(document, "OnFailure")
    changes = {
        "batch_size": field(document, "BatchSize", int),
        "window_s": field(document, "MaximumBatchingWindowInSeconds", int),
        "retries": field(document, "MaximumRetryAttempts", int),
        "report_failures": None if responses is None else bool(responses),
        "on_failure": on_failure,
        "concurrency": concurrency,
        "filters": _filters(document),
    }
    given: dict[str, Any] = {name: value for name, value in changes.items() if value is not None}
    return _access(document, replace(spec, **given))


_BATCHES = {
    "FunctionName": TEXT,
    "FunctionBrn": TEXT,
    "Enabled": FLAG,
    "BatchSize": NUMBER,
    "MaximumBatchingWindowInSeconds": NUMBER,
    "MaximumRetryAttempts": NUMBER,
    "ParallelizationFactor": NUMBER,
    "ScalingConfig": object_of(MaximumConcurrency=NUMBER),
    "FilterCriteria": object_of(Filters={"type": "array", "items": object_of(Pattern=TEXT)}),
    "FunctionResponseTypes": {"type": "array", "items": one_of("ReportBatchItemFailures")},
    "DestinationConfig": object_of(OnFailure=object_of(Destination=TEXT)),
    "SourceAccessConfigurations": {
        "type": "array",
        "items": object_of(Type=one_of("BASIC_AUTH", _CA, "VIRTUAL_HOST"), URI=TEXT),
    },
}
_SOURCES = {
    "EventSourceArn": TEXT,
    "EventSourceBrn": TEXT,
    "SelfManagedEventSource": object_of(Endpoints=object_of(REDIS_SERVERS=TEXTS, RABBITMQ_BROKERS=TEXTS)),
    "Topics": TEXTS,
    "Queues": TEXTS,
    "StartingPosition": one_of("LATEST", "TRIM_HORIZON"),
}
MADE = object_of(**_SOURCES, **_BATCHES)
CHANGED = object_of(**_BATCHES)
