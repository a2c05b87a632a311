"""JSON bodies: decoded into typed documents, encoded into answers."""

from __future__ import annotations

import asyncio
from typing import Any, TypeVar

import msgspec

from alcove.api.failures import MalformedDocument
from alcove.errors import InvalidRequest
from alcove.gateway.message import Response

T = TypeVar("T")
_LARGE_BODY = 256 << 10


async def decode(body: bytes, kind: type[T]) -> T:
    """Decode a JSON object; an empty body is an empty object. Raises ``InvalidRequest``."""
    if len(body) > _LARGE_BODY:
        return await asyncio.to_thread(_decode, body, kind)
    return _decode(body, kind)


def _decode(body: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(body or b"{}", type=kind)
    except msgspec.ValidationError as error:
        raise InvalidRequest(f"The request's body does not fit: {error}") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedDocument(f"Could not parse request body into json: {error}") from error


def check_json(body: bytes) -> None:
    """Raises ``MalformedDocument`` where the event is not JSON; nothing is built from it."""
    try:
        msgspec.json.decode(body, type=msgspec.Raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedDocument(f"Could not parse request body into json: {error}") from error


def answer(document: Any, status: int = 200) -> Response:
    headers = {"Content-Type": "application/json"}
    return Response(status, headers, msgspec.json.encode(document))
