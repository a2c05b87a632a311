"""What was used and what of it is to be paid, in Alcove's own API: /alcove/v1/usage."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

from alcove.api.body import number
from alcove.api.context import Call, answer
from alcove.api.dialect import AWS
from alcove.api.router import Route
from alcove.api.schema import DECIMAL, NUMBER, TEXT, Detail, Schema, list_of, or_null, record
from alcove.errors import InvalidRequest, NotFound
from alcove.functions.names import check_name
from alcove.gateway.message import Response
from alcove.metering.bill import bill, describe
from alcove.store.metering import UsageQuery, list_usage, sum_usage

PAGE_LIMIT = 1000
_MONTH = re.compile(r"20[0-9]{2}-(0[1-9]|1[0-2])")
_MARKER = re.compile(r"([0-9-]{7})/([0-9]{12})/([a-zA-Z0-9_-]{1,64})")


async def usage(call: Call) -> Response:
    """Rows by month, tenant and function, a page at a time; with the first page, each tenant's bill for each month.

    A tenant sees its own; the operator all of them, or the one that ``tenant`` names.
    """
    text = call.request.query
    query = UsageQuery(_month(text.get("month", "")), _tenant(call), _function(text.get("function", "")))
    after = _after(text.get("after", ""))
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
    totals = await call.faces.services.meter.database.read(lambda connection: sum_usage(connection, query))
    return [_named(call, bill(total, call.faces.services.tariff)) for total in totals]


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


def _after(text: str) -> tuple[str, str, str]:
    found = _MARKER.fullmatch(text)
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
_BILL = record(
    {"cost": DECIMAL},
    **_SUMS,
    free_calls=NUMBER,
    billable_calls=NUMBER,
    free_gb_s=DECIMAL,
    billable_mib_ms=NUMBER,
    billable_gb_s=DECIMAL,
)
_USAGE = Detail(
    query=("month", "tenant", "function", "after", "limit"),
    answer=record({"bills": list_of(_BILL)}, usage=list_of(record(**_SUMS, function=TEXT)), after=or_null(TEXT)),
)

ROUTES = (Route("GET", "/alcove/v1/usage", usage, AWS, detail=_USAGE),)
