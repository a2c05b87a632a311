"""A server that holds each of its answers against the OpenAPI document, whoever asked for it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import jsonschema_rs

from alcove.api import openapi
from alcove.api.app import ROUTES, App
from alcove.api.router import Router
from alcove.gateway.message import Request, Response

HELP = "say so in the Detail of the route"
Validate = Callable[[Any], None]


def shape(path: str) -> str:
    """Return the path without the names of its parameters."""
    return re.sub(r"\{[^}]*\}", "{}", path)


def anything(document: Any) -> None:
    """Nothing is asked of it."""


class Contract:
    """The document, as a judge of answers."""

    def __init__(self) -> None:
        self._document = openapi.document(ROUTES)
        self._router = Router(ROUTES)
        self._paths = {shape(path): path for path in self._document["paths"]}
        self._known: dict[tuple[str, str, int], tuple[str, Validate] | str] = {}

    def fault(self, request: Request, response: Response) -> str:
        """Return what of the answer is not in the document, "" where all is."""
        found = self._router.match(request.method, request.raw_path)
        path = self._paths.get(shape(found[0].path)) if found else None
        told = self._fault(request.method.lower(), path, response) if path else ""
        return told and f"{request.method} {request.raw_path} answers {response.status}: {told}"

    def _fault(self, method: str, path: str, response: Response) -> str:
        key = (method, path, response.status)
        if key not in self._known:
            self._known[key] = self._expect(*key)
        expected = self._known[key]
        if isinstance(expected, str):
            return expected if expected or not response.body else "nothing was to be answered"
        media, validate = expected
        if not response.headers.get("Content-Type", "").startswith(media):
            return f"{response.headers.get('Content-Type')!r} is not {media}"
        if media != openapi.JSON or validate is anything:
            return ""
        try:
            validate(json.loads(response.body))
        except jsonschema_rs.ValidationError as error:
            return f"{error.message}; {HELP}"
        return ""

    def _expect(self, method: str, path: str, status: int) -> tuple[str, Validate] | str:
        """Return the type of the answer and what looks at it; "" where it is empty; else what is wrong."""
        answers, components = self._document["paths"][path][method]["responses"], self._document["components"]
        if str(status) not in answers:
            return f"the status is not in the document; {HELP}"
        answer = answers[str(status)]
        if "$ref" in answer:
            answer = components["responses"][answer["$ref"].rpartition("/")[2]]
        if "content" not in answer:
            return ""
        ((media, content),) = answer["content"].items()
        if not content["schema"]:
            # A function's own answer: any bytes.
            return media, anything
        return media, jsonschema_rs.validator_for({**content["schema"], "components": components}).validate


class ConformingApp(App):
    """``faults`` gathers what was answered and is not in the document."""

    def __init__(self, host: Any, services: Any) -> None:
        super().__init__(host, services)
        self.faults: list[str] = []
        self._contract = Contract()

    async def handle(self, request: Request) -> Response:
        response = await super().handle(request)
        if self._web.place(request) is None and "x-amz-target" not in request.headers:
            fault = self._contract.fault(request, response)
            if fault and fault not in self.faults:
                self.faults.append(fault)
        return response
