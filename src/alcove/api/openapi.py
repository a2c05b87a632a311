"""The OpenAPI document of every face, made from the routes themselves: a route that exists is in it.

Names of parameters are those of the first route of a path; a rest (``{key*}``) is written as one parameter, which may
hold slashes. Schemas with names and the refusals of each dialect stand once, under ``components``.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable
from typing import Any

from alcove import __version__
from alcove.api.dialect import AWS, BCE, Dialect
from alcove.api.router import Route
from alcove.api.schema import JSON, NUMBER, TEXT, TEXTS, Named, Schema, record

_PARAMETER = re.compile(r"\{([^}*]+)\*?\}")
_PREFIX = "#/components"
# The dialects of the document. SQS's is not among them: its protocol has one path for all operations.
_DIALECTS = {"Aws": AWS, "Bce": BCE}
_ERRORS: dict[str, Schema] = {
    "AwsError": record({"Reason": TEXT, "hint": TEXT}, Type=TEXT, Message=TEXT, message=TEXT),
    "BceError": record({"hint": TEXT}, code=TEXT, message=TEXT, requestId=TEXT),
}
_SECURITY = {
    "sigv4": "AWS Signature Version 4, service lambda",
    "bce": "BCE authentication version 1: bce-auth-v1/...",
}
# Parameters of queries that are no texts.
_TYPES: dict[str, Schema] = {
    **dict.fromkeys(("MaxItems", "after", "tail", "limit"), NUMBER),
    "tagKeys": TEXTS,
}
_MEANINGS = {
    401: "Not signed.",
    403: "Not signed by a known key, or not allowed.",
    404: "There is no such thing.",
    409: "It does not go with what there is.",
    412: "It was changed meanwhile.",
    413: "Too large.",
    429: "Too many at once: try later.",
}


def document(routes: Iterable[Route]) -> dict[str, Any]:
    """Return the document, ready for JSON."""
    schemas: dict[str, Any] = {name: dict(schema) for name, schema in _ERRORS.items()}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Alcove",
            "version": __version__,
            "description": "Functions, as AWS Lambda (dated paths), Baidu CFC (/v1) and we (/alcove) call them. "
            "The object store (S3) and queues (SQS) speak protocols of their own and are not in here.",
        },
        "servers": [{"url": "/"}],
        "paths": _paths(routes, schemas),
        "components": {
            "schemas": schemas,
            "responses": {
                f"{name}{status}": _refusal(name, status, codes)
                for name, dialect in _DIALECTS.items()
                for status, codes in refusals(dialect).items()
            },
            "securitySchemes": {
                name: {"type": "apiKey", "in": "header", "name": "Authorization", "description": description}
                for name, description in _SECURITY.items()
            },
        },
    }


def refusals(dialect: Dialect) -> dict[int, list[str]]:
    """Return the codes that a client may be told, by status."""
    found: dict[int, set[str]] = {}
    pairs = [*((status, code) for _, _, status, code in dialect.codes), dialect.fallback, dialect.internal]
    for status, code in [*pairs, *dialect.by_status.items()]:
        found.setdefault(status, set()).add(code)
    return {status: sorted(codes) for status, codes in sorted(found.items())}


def _paths(routes: Iterable[Route], schemas: dict[str, Any]) -> dict[str, Any]:
    paths: dict[str, dict[str, Any]] = {}
    shapes: dict[str, str] = {}
    used: set[str] = set()
    for route in routes:
        if route.dialect not in _DIALECTS.values():
            continue
        path = shapes.setdefault(_PARAMETER.sub("{}", route.path), _PARAMETER.sub(r"{\1}", route.path))
        operation = _operation(route, path, schemas)
        operation["operationId"] = _unique(operation["operationId"], used)
        paths.setdefault(path, {})[route.method.lower()] = operation
    return paths


def _operation(route: Route, path: str, schemas: dict[str, Any]) -> dict[str, Any]:
    detail = route.detail
    summary = (inspect.getdoc(route.act) or route.act.__name__.replace("_", " ").capitalize()).split("\n\n")[0]
    operation: dict[str, Any] = {
        "operationId": route.act.__name__,
        "summary": " ".join(summary.split()),
        "tags": [route.act.__module__.rpartition(".")[2]],
        "parameters": [
            *(_parameter(name, "path", required=True) for name in _PARAMETER.findall(path)),
            *(_parameter(name, "query", required=True) for name in detail.needs),
            *(_parameter(name, "query") for name in detail.query),
            *(_parameter(name, "header") for name in detail.headers),
        ],
        "responses": _responses(route, schemas),
        "security": [{name: []} for name in _SECURITY] if route.signed else [],
    }
    if detail.body is not None:
        operation["requestBody"] = {"content": {JSON: {"schema": _referred(detail.body, schemas)}}}
    return operation


def _responses(route: Route, schemas: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for status, schema in sorted(route.detail.answers.items()):
        one: dict[str, Any] = {"description": "Done."}
        found[str(status)] = one
        if schema is not None:
            one["content"] = {route.detail.media: {"schema": _referred(schema, schemas)}}
        if route.detail.tells:
            one["headers"] = {name: {"schema": dict(TEXT)} for name in route.detail.tells}
    name = "Bce" if route.dialect is BCE else "Aws"
    for status in refusals(_DIALECTS[name]):
        found.setdefault(str(status), {"$ref": f"{_PREFIX}/responses/{name}{status}"})
    return found


def _refusal(name: str, status: int, codes: list[str]) -> dict[str, Any]:
    schema = {"$ref": f"{_PREFIX}/schemas/{name}Error"}
    description = f"{_MEANINGS.get(status, 'Refused.')} One of {', '.join(codes)}."
    return {"description": description, "content": {JSON: {"schema": schema}}}


def _parameter(name: str, place: str, *, required: bool = False) -> dict[str, Any]:
    schema = _TYPES.get(name, TEXT) if place == "query" else TEXT
    return {"name": name, "in": place, "required": required, "schema": dict(schema)}


def _referred(schema: Any, schemas: dict[str, Any]) -> Any:
    """Return the schema with references in place of what has a name, which goes to ``schemas``."""
    if isinstance(schema, Named):
        if schema.name not in schemas:
            schemas[schema.name] = {}
            schemas[schema.name] = {key: _referred(value, schemas) for key, value in schema.items()}
        return {"$ref": f"{_PREFIX}/schemas/{schema.name}"}
    if isinstance(schema, dict):
        return {key: _referred(value, schemas) for key, value in schema.items()}
    return [_referred(one, schemas) for one in schema] if isinstance(schema, list) else schema


def _unique(name: str, used: set[str]) -> str:
    found, number = name, 2
    while found in used:
        found, number = f"{name}_{number}", number + 1
    used.add(found)
    return found
