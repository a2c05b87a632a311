"""Policies of functions, as AWS Lambda has them: by statement at /2015-03-31/functions/{name}/policy, as a whole at
/2026-07-09/resource-policy/{arn}.
"""

from __future__ import annotations

import json
from typing import Any

from alcove.api import aws_shapes, shapes
from alcove.api.body import field, read_object
from alcove.api.context import Call, answer
from alcove.api.dialect import AWS
from alcove.api.router import Route
from alcove.api.schema import FLAG, TEXT, Detail, object_of, one_of
from alcove.errors import InvalidRequest
from alcove.functions.names import Reference
from alcove.functions.permissions import Policy
from alcove.functions.statements import Statement
from alcove.gateway.message import Response

_CONDITIONS = {
    "SourceArn": "source_arn",
    "SourceAccount": "source_account",
    "EventSourceToken": "event_source_token",
    "FunctionUrlAuthType": "url_auth_type",
    "PrincipalOrgID": "organization",
}


def required(document: dict[str, Any], name: str) -> str:
    found = field(document, name, str)
    if not found:
        raise InvalidRequest(f"'{name}' is required.")
    return found


def _statement(document: dict[str, Any]) -> Statement:
    conditions = {ours: value for name, ours in _CONDITIONS.items() if (value := field(document, name, str))}
    if conditions.get("url_auth_type", "NONE") not in ("NONE", "AWS_IAM"):
        raise InvalidRequest("'FunctionUrlAuthType' must be NONE or AWS_IAM.")
    via_url = field(document, "InvokedViaFunctionUrl", bool)
    if via_url is not None:
        conditions["via_url"] = "true" if via_url else "false"
    return Statement(
        required(document, "StatementId"), required(document, "Principal"), required(document, "Action"), conditions
    )


def _named(call: Call, name: str) -> Reference:
    return call.reference(name, call.request.query.get("Qualifier"))


async def add_permission(call: Call, name: str) -> Response:
    document, named = read_object(call.request), _named(call, name)
    statement = _statement(document)
    changed = await call.faces.services.permissions.add(
        call.tenant,
        named.name,
        named.qualifier or "",
        statement,
        revision_id=field(document, "RevisionId", str),
    )
    text = json.dumps(statement.document(changed.resource), separators=(",", ":"))
    return answer({"Statement": text}, 201, call.request_id)


def _of(call: Call, arn: str) -> Reference:
    """Return the function, version or alias of a whole ARN."""
    if not arn.startswith("arn:"):
        raise InvalidRequest(f"{arn[:200]!r} is not the ARN of a function.", hint="see FunctionArn")
    return call.reference(arn)


async def get_resource_policy(call: Call, arn: str) -> Response:
    named = _of(call, arn)
    return _show(call, await call.faces.services.permissions.get(call.tenant, named.name, named.qualifier or ""))


async def put_resource_policy(call: Call, arn: str) -> Response:
    named, document = _of(call, arn), read_object(call.request)
    written = await call.faces.services.permissions.put(
        call.tenant,
        named.name,
        named.qualifier or "",
        required(document, "Policy"),
        revision_id=field(document, "RevisionId", str),
    )
    return _show(call, written)


async def delete_resource_policy(call: Call, arn: str) -> Response:
    named = _of(call, arn)
    await call.faces.services.permissions.delete(
        call.tenant, named.name, named.qualifier or "", revision_id=call.request.query.get("RevisionId")
    )
    return Response(204, {"x-amzn-RequestId": call.request_id})


async def get_policy(call: Call, name: str) -> Response:
    named = _named(call, name)
    return _show(call, await call.faces.services.permissions.get(call.tenant, named.name, named.qualifier or ""))


def _show(call: Call, policy: Policy) -> Response:
    return answer({"Policy": policy.text, "RevisionId": policy.revision_id}, 200, call.request_id)


async def remove_permission(call: Call, name: str, statement: str) -> Response:
    named = _named(call, name)
    await call.faces.services.permissions.remove(
        call.tenant,
        named.name,
        named.qualifier or "",
        statement,
        revision_id=call.request.query.get("RevisionId"),
    )
    return Response(204, {"x-amzn-RequestId": call.request_id})


_WHOLE = "/2026-07-09/resource-policy/{arn}"
_PATH = "/2015-03-31/functions/{name}/policy"
_STATEMENT = object_of(
    "StatementId",
    "Action",
    "Principal",
    StatementId=TEXT,
    Action=TEXT,
    Principal=TEXT,
    SourceArn=TEXT,
    SourceAccount=TEXT,
    EventSourceToken=TEXT,
    FunctionUrlAuthType=one_of("NONE", "AWS_IAM"),
    InvokedViaFunctionUrl=FLAG,
    PrincipalOrgID=TEXT,
    RevisionId=TEXT,
)
_ADD = Detail(_STATEMENT, query=shapes.QUALIFIER, status=201, answer=aws_shapes.STATEMENT)
_GET = Detail(query=shapes.QUALIFIER, answer=aws_shapes.POLICY)
_REMOVE = Detail(query=("Qualifier", "RevisionId"), status=204)
_PUT = Detail(object_of("Policy", Policy=TEXT, RevisionId=TEXT), answer=aws_shapes.POLICY)

ROUTES = (
    Route("POST", _PATH, add_permission, AWS, detail=_ADD),
    Route("GET", _PATH, get_policy, AWS, detail=_GET),
    Route("DELETE", _PATH + "/{statement}", remove_permission, AWS, detail=_REMOVE),
    Route("GET", _WHOLE, get_resource_policy, AWS, detail=Detail(answer=aws_shapes.POLICY)),
    Route("PUT", _WHOLE, put_resource_policy, AWS, detail=_PUT),
    Route("DELETE", _WHOLE, delete_resource_policy, AWS, detail=Detail(query=("RevisionId",), status=204)),
)
