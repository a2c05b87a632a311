"""What was used and what of it is to be paid, in Alcove's own API: /alcove/v1/usage, and of instances below it."""

from __future__ import annotations

import logging
import re
from datetime import UTC, datetime
from typing import Any

from alcove.api.body import number
from alcove.api.context import Call, answer
from alcove.api.dialect import AWS
from alcove.api.router import Route
from alcove.api.schema import DECIMAL, NUMBER, TEXT, Detail, Schema, list_of, or_null, record
from alcove.errors import AlcoveError, InvalidRequest, NotFound
from alcove.functions.names import check_name
from alcove.gateway.message import Response
from alcove.instances.manifest import POD_NAME
from alcove.metering.bill import bill, describe, describe_pod
from alcove.store.metering import UsageQuery, UsageRow, list_usage, sum_usage
from alcove.store.pod_usage import list_intervals, list_pod_usage, sum_pod_usage

log = logging.getLogger(__name__)

PAGE_LIMIT = 1000
_MONTH = re.compile(r"20[0-9]{2}-(0[1-9]|1[0-2])")
_MARKER = re.compile(r"([0-9-]{7})/([0-9]{12})/([a-zA-Z0-9_-]{1,64})")
_POD_MARKER = re.compile(r"([0-9-]{7})/([0-9]{12})/([-a-z0-9.]{0,253})")


async def usage(call: Call) -> Response:
    """Rows by month, tenant and function, a page at a time; with the first page, each tenant's bill for each month.

    A tenant sees its own; the operator all of them, or the one that ``tenant`` names.
    """
    text = call.request.query
    query = UsageQuery(_month(text.get("month", "")), _tenant(call), _function(text.get("function", "")))
    after = _after(text.get("after", ""), _MARKER)
    limit = max(1, min(PAGE_LIMIT, number(text, "limit", PAGE_LIMIT)))
    meter = call.faces.services.meter
    await meter.fold()
    found = await meter.database.read(lambda connection: list_usage(connection, query, after, limit + 1))
    last = found[limit - 1] if len(found) > limit else None
    document: dict[str, Any] = {
        "usage": [_named(call, describe(row)) for row in found[:limit]],
        "after": None if last is None else f"{last.month}/{last.tenant_id}/{last.function}",
    }
    if after == ("", "", ""):
        document["bills"] = await _bills(call, query)
    return answer(document, 200, call.request_id)


async def _bills(call: Call, query: UsageQuery) -> list[dict[str, Any]]:
    """What is free is free for all functions of a tenant together: there is no bill for one of them."""
    if query.function:
        return []
    services = call.faces.services
    await _look(call)
    totals = await services.meter.database.read(lambda connection: sum_usage(connection, query))
    of_pods = await services.instances.database.read(lambda c: sum_pod_usage(c, query.month, query.tenant_id))
    calls = {(one.month, one.tenant_id): one for one in totals}
    pods = {(one.month, one.tenant_id): one for one in of_pods}
    return [
        _named(call, bill(calls.get(key) or UsageRow(*key, "", 0, 0, 0, 0, 0), services.tariff, pods.get(key)))
        for key in sorted(calls.keys() | pods.keys())
    ]


async def pod_usage(call: Call) -> Response:
    """Rows of instances by month, tenant and name, a page at a time."""
    text = call.request.query
    month, tenant, name = _month(text.get("month", "")), _tenant(call), _pod_name(text.get("instance", ""))
    after = _after(text.get("after", ""), _POD_MARKER)
    limit = max(1, min(PAGE_LIMIT, number(text, "limit", PAGE_LIMIT)))
    await _look(call)
    found = await call.faces.services.instances.database.read(
        lambda connection: list_pod_usage(connection, month, tenant, name, after, limit + 1)
    )
    last = found[limit - 1] if len(found) > limit else None
    document = {
        "instances": [_named(call, describe_pod(row)) for row in found[:limit]],
        "after": None if last is None else f"{last.month}/{last.tenant_id}/{last.name}",
    }
    return answer(document, 200, call.request_id)


async def pod_intervals(call: Call) -> Response:
    """The times that an instance was billed for, the newest first; of a tenant's all, where none is named."""
    text = call.request.query
    tenant, name = _tenant(call) or call.tenant, _pod_name(text.get("instance", ""))
    limit = max(1, min(PAGE_LIMIT, number(text, "limit", PAGE_LIMIT)))
    await _look(call)
    found = await call.faces.services.instances.database.read(lambda c: list_intervals(c, tenant, name, limit))
    items = [
        {
            "id": one.sandbox,
            "instance": one.name,
            "uid": one.uid,
            "begin_ms": one.begin_ms,
            "until_ms": one.until_ms,
            "milli_vcpu": one.milli_cpus,
            "memory_mib": one.memory_mib,
            "disk_mib": one.disk_mib,
            "received_bytes": one.received_bytes,
            "sent_bytes": one.sent_bytes,
        }
        for one in found
    ]
    return answer({"intervals": items}, 200, call.request_id)


async def _look(call: Call) -> None:
    """What runs is counted until now; where the runtime does not answer, until it last did."""
    try:
        await call.faces.services.instances.ledger.look()
    except AlcoveError as error:
        log.warning("what instances use cannot be looked up now: %s", error)


def _month(text: str) -> str:
    """Return the month that is asked for: this one where none is, any where it is ``all``."""
    if not text:
        return f"{datetime.now(UTC):%Y-%m}"
    if text != "all" and not _MONTH.fullmatch(text):
        raise InvalidRequest("'month' must be like 2026-11, or 'all'.")
    return "" if text == "all" else text


def _tenant(call: Call) -> str:
    """A tenant that was removed is named by its id."""
    named = call.request.query.get("tenant", "")
    if not call.operator:
        return call.tenant
    if not named or re.fullmatch(r"[0-9]{12}", named):
        return named
    try:
        return call.faces.services.tenants.find(named).id
    except NotFound as error:
        raise NotFound(str(error), hint="one that was removed is named by its id") from None


def _function(text: str) -> str:
    return check_name(text) if text else ""


def _pod_name(text: str) -> str:
    if text and not POD_NAME.fullmatch(text):
        raise InvalidRequest("'instance' must be the name of an instance.")
    return text


def _after(text: str, form: re.Pattern[str]) -> tuple[str, str, str]:
    found = form.fullmatch(text)
    if text and found is None:
        raise InvalidRequest("The marker is not one that was given out.")
    return ("", "", "") if found is None else (found[1], found[2], found[3])


def _named(call: Call, row: dict[str, Any]) -> dict[str, Any]:
    """Add the tenant's name, while it has one."""
    try:
        return {**row, "tenant_name": call.faces.services.tenants.find(row["tenant"]).name}
    except NotFound:
        return {**row, "tenant_name": ""}


_SUMS: dict[str, Schema] = {
    "month": TEXT,
    "tenant": TEXT,
    "tenant_name": TEXT,
    "calls": NUMBER,
    "errors": NUMBER,
    "billed_ms": NUMBER,
    "mib_ms": NUMBER,
    "gb_s": DECIMAL,
    "streamed_bytes": NUMBER,
}
_POD_SUMS: dict[str, Schema] = {
    "run_ms": NUMBER,
    "milli_vcpu_ms": NUMBER,
    "mib_ms": NUMBER,
    "disk_mib_ms": NUMBER,
    "vcpu_s": DECIMAL,
    "gb_s": DECIMAL,
    "disk_gb_s": DECIMAL,
    "received_bytes": NUMBER,
    "sent_bytes": NUMBER,
}
_BILL = record(
    {"cost": DECIMAL},
    **_SUMS,
    free_calls=NUMBER,
    billable_calls=NUMBER,
    free_gb_s=DECIMAL,
    billable_mib_ms=NUMBER,
    billable_gb_s=DECIMAL,
    instances=record(**_POD_SUMS),
)
_USAGE = Detail(
    query=("month", "tenant", "function", "after", "limit"),
    answer=record({"bills": list_of(_BILL)}, usage=list_of(record(**_SUMS, function=TEXT)), after=or_null(TEXT)),
)

_PODS = Detail(
    query=("month", "tenant", "instance", "after", "limit"),
    answer=record(
        instances=list_of(record(month=TEXT, tenant=TEXT, tenant_name=TEXT, instance=TEXT, **_POD_SUMS)),
        after=or_null(TEXT),
    ),
)
_INTERVAL: dict[str, Schema] = {
    **dict.fromkeys(("id", "instance", "uid"), TEXT),
    **dict.fromkeys(("begin_ms", "until_ms", "milli_vcpu", "memory_mib", "disk_mib"), NUMBER),
    **dict.fromkeys(("received_bytes", "sent_bytes"), NUMBER),
}
_INTERVALS = Detail(query=("tenant", "instance", "limit"), answer=record(intervals=list_of(record(**_INTERVAL))))

ROUTES = (
    Route("GET", "/alcove/v1/usage", usage, AWS, detail=_USAGE),
    Route("GET", "/alcove/v1/usage/instances", pod_usage, AWS, detail=_PODS),
    Route("GET", "/alcove/v1/usage/intervals", pod_intervals, AWS, detail=_INTERVALS),
)
