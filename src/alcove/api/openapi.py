"""The OpenAPI document of every face, made from the routes themselves: a route that exists is in it.

Names of parameters are those of the first route of a path; a rest (``{key*}``) is written as one parameter, which may
hold slashes.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable
from typing import Any

from alcove import __version__
from alcove.api.dialect import BCE
from alcove.api.operations import DETAILS
from alcove.api.router import Route

_PARAMETER = re.compile(r"\{([^}*]+)\*?\}")
_ERRORS = {
    "AwsError": {"Type": "string", "Message": "string", "hint": "string"},
    "BceError": {"code": "string", "message": "string", "requestId": "string", "hint": "string"},
}
_SECURITY = {
    "sigv4": "AWS Signature Version 4, service lambda",
    "bce": "BCE authentication version 1: bce-auth-v1/...",
}


def document(routes: Iterable[Route]) -> dict[str, Any]:
    """Return the document, ready for JSON."""
    paths: dict[str, dict[str, Any]] = {}
    shapes: dict[str, str] = {}
    used: set[str] = set()
    for route in routes:
        path = shapes.setdefault(_PARAMETER.sub("{}", route.path), _PARAMETER.sub(r"{\1}", route.path))
        operation = _operation(route, path)
        operation["operationId"] = _unique(operation["operationId"], used)
        paths.setdefault(path, {})[route.method.lower()] = operation
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Alcove",
            "version": __version__,
            "description": "Functions, as AWS Lambda (dated paths), Baidu CFC (/v1) and we (/alcove) call them.",
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": {name: _strings(fields) for name, fields in _ERRORS.items()},
            "securitySchemes": {
                name: {"type": "apiKey", "in": "header", "name": "Authorization", "description": description}
                for name, description in _SECURITY.items()
            },
        },
    }


def _operation(route: Route, path: str) -> dict[str, Any]:
    detail = DETAILS.get(route.act, route.detail)
    summary = (inspect.getdoc(route.act) or route.act.__name__.replace("_", " ").capitalize()).split("\n\n")[0]
    error = "BceError" if route.dialect is BCE else "AwsError"
    schema = {"$ref": f"#/components/schemas/{error}"}
    operation: dict[str, Any] = {
        "operationId": route.act.__name__,
        "summary": " ".join(summary.split()),
        "tags": [route.act.__module__.rpartition(".")[2]],
        "parameters": [
            *(_parameter(name, "path") for name in _PARAMETER.findall(path)),
            *(_parameter(name, "query") for name in detail.query),
            *(_parameter(name, "header") for name in detail.headers),
        ],
        "responses": {
            str(detail.status): {"description": "Done."},
            "default": {"description": "Refused.", "content": {"application/json": {"schema": schema}}},
        },
        "security": [{name: []} for name in _SECURITY] if route.signed else [],
    }
    if detail.body is not None:
        operation["requestBody"] = {"content": {"application/json": {"schema": detail.body}}}
    return operation


def _parameter(name: str, place: str) -> dict[str, Any]:
    return {"name": name, "in": place, "required": place == "path", "schema": {"type": "string"}}


def _strings(fields: dict[str, str]) -> dict[str, Any]:
    return {"type": "object", "properties": {name: {"type": kind} for name, kind in fields.items()}}


def _unique(name: str, used: set[str]) -> str:
    found, number = name, 2
    while found in used:
        found, number = f"{name}_{number}", number + 1
    used.add(found)
    return found
