"""From an HTTP request to the event of CFC's HTTP triggers: the shape of API Gateway's proxy integration, version 1.

Source: "HTTP triggers, developer reference" in the CFC documentation.
"""

from __future__ import annotations

import json
from typing import Any

from alcove.api.web_event import event_body, event_headers, event_query
from alcove.gateway.message import Request
from alcove.triggers.http_source import Answerer


def make_cfc_event(answerer: Answerer, request: Request, *, path: str, names: dict[str, str], request_id: str) -> bytes:
    """Return the event as JSON; ``names`` is what the path's named segments stand for."""
    body, encoded = event_body(request) if request.body else ("", False)
    document: dict[str, Any] = {
        "resource": answerer.resource,
        "path": path,
        "httpMethod": request.method,
        "headers": event_headers(request, signed=answerer.auth != "NONE"),
        "queryStringParameters": event_query(request.raw_query),
        "pathParameters": names,
        "requestContext": {
            "stage": "cfc",
            "requestId": request_id,
            "resourcePath": answerer.resource,
            "httpMethod": request.method,
            "apiId": answerer.relation.row.endpoint,
            "sourceIp": request.peer.address or "127.0.0.1",
        },
        "body": body,
        "isBase64Encoded": encoded,
    }
    return json.dumps(document).encode()
