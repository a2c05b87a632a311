"""From an HTTP request to the event that a function gets: format 2.0 of API Gateway, as function URLs use it.

Source: "Invoking Lambda function URLs" in the AWS Lambda developer guide, "Request payload format". What is ours:
``rawPath`` is the path as it was sent, without the prefix of ``/urls/ID``.
"""

from __future__ import annotations

import base64
import functools
import re
import time
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl

import msgspec

from alcove.gateway.message import Request
from alcove.triggers.endpoint import Endpoint

# Bodies of these types are text, where they are UTF-8; all others travel as base64.
_TEXT = re.compile(r"text/.*|application/(json|xml|javascript|.*\+json|.*\+xml)")

CONTENT_TYPE_LIMIT = 512


class Caller(msgspec.Struct, frozen=True):
    """Who signed the request."""

    access_key: str
    tenant: str


def make_event(
    endpoint: Endpoint, request: Request, *, path: str, domain: str, request_id: str, caller: Caller | None
) -> bytes:
    """Return the event as JSON. ``path`` is what the function sees; ``domain`` the endpoint's name."""
    headers = event_headers(request, signed=caller is not None)
    document: dict[str, Any] = {
        "version": "2.0",
        "routeKey": endpoint.route,
        "rawPath": path,
        "rawQueryString": request.raw_query,
        "headers": headers,
        "requestContext": _context(endpoint, request, path, domain, request_id, caller),
        "isBase64Encoded": False,
    }
    if "cookie" in headers:
        cookies = [cookie.strip() for cookie in headers.pop("cookie").split(";")]
        if any(cookies):
            document["cookies"] = [cookie for cookie in cookies if cookie]
    query = event_query(request.raw_query)
    if query:
        document["queryStringParameters"] = query
    if request.body:
        document["body"], document["isBase64Encoded"] = event_body(request)
    return msgspec.json.encode(document)


def event_headers(request: Request, *, signed: bool) -> dict[str, str]:
    headers = dict(request.headers)
    if signed:
        headers.pop("authorization", None)
    forwarded = headers.get("x-forwarded-for")
    address = request.peer.address or "127.0.0.1"
    headers["x-forwarded-for"] = f"{forwarded}, {address}" if forwarded else address
    headers.setdefault("x-forwarded-proto", "http")
    return headers


def _context(
    endpoint: Endpoint, request: Request, path: str, domain: str, request_id: str, caller: Caller | None
) -> dict[str, Any]:
    now = time.time()
    context: dict[str, Any] = {
        "accountId": endpoint.tenant if caller is not None else "anonymous",
        "apiId": endpoint.api_id,
        "domainName": domain,
        "domainPrefix": domain.partition(".")[0],
        "http": {
            "method": request.method,
            "path": path,
            "protocol": f"HTTP/{request.version}",
            "sourceIp": request.peer.address or "127.0.0.1",
            "userAgent": request.headers.get("user-agent", ""),
        },
        "requestId": request_id,
        "routeKey": endpoint.route,
        "stage": "$default",
        "time": _time(int(now)),
        "timeEpoch": int(now * 1000),
    }
    if caller is not None:
        context["authorizer"] = {"iam": _identity(caller)}
    return context


@functools.lru_cache(maxsize=256)
def _is_text(content_type: str) -> bool:
    return _TEXT.fullmatch(content_type.partition(";")[0].strip().lower()) is not None


@functools.lru_cache(maxsize=4)
def _time(second: int) -> str:
    """As logs of the Common Log Format have it; cached, for many requests are of one second."""
    return datetime.fromtimestamp(second, UTC).strftime("%d/%b/%Y:%H:%M:%S +0000")


def _identity(caller: Caller) -> dict[str, Any]:
    return {
        "accessKey": caller.access_key,
        "accountId": caller.tenant,
        "callerId": caller.tenant,
        "cognitoIdentity": None,
        "principalOrgId": None,
        "userArn": f"arn:aws:iam::{caller.tenant}:root",
        "userId": caller.tenant,
    }


def event_query(raw_query: str) -> dict[str, str]:
    """Values of a repeated name are joined by commas."""
    found: dict[str, str] = {}
    if not raw_query:
        return found
    for name, value in parse_qsl(raw_query, keep_blank_values=True, errors="replace"):
        found[name] = f"{found[name]},{value}" if name in found else value
    return found


def event_body(request: Request) -> tuple[str, bool]:
    """Return the body and whether it is base64."""
    if _is_text(request.headers.get("content-type", "")[:CONTENT_TYPE_LIMIT]):
        try:
            return request.body.decode(), False
        except UnicodeDecodeError:
            pass
    return base64.b64encode(request.body).decode(), True
