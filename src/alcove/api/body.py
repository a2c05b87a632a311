"""JSON bodies: read field by field, each with a clear refusal."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, cast

from alcove.api.dialect import MalformedDocument
from alcove.errors import InvalidRequest
from alcove.functions.model import FunctionChange
from alcove.gateway.message import Request
from alcove.sandbox.protocol import Logging

T = TypeVar("T")
A = TypeVar("A")


async def beside(work: Callable[[A], T], argument: A) -> T:
    """Run in a thread what takes long for a body that carries a package."""
    return await asyncio.to_thread(work, argument)


def read_object(request: Request) -> dict[str, Any]:
    """Return the body as an object; an empty body is an empty one."""
    if not request.body.strip():
        return {}
    try:
        document = json.loads(request.body)
    except (ValueError, RecursionError) as error:
        raise MalformedDocument(f"Could not parse request body into json: {error}") from None
    if not isinstance(document, dict):
        raise InvalidRequest("The request body must be a JSON object.")
    return document


def field(document: Mapping[str, Any], name: str, kind: type[T]) -> T | None:
    """Return the field, None where it is absent or null. Raises ``InvalidRequest`` for another
    type.
    """
    value = document.get(name)
    if value is None:
        return None
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise InvalidRequest(f"'{name}' must be a {_NAMES[kind]}.")
    return value


_NAMES: dict[type, str] = {str: "string", int: "number", bool: "boolean", dict: "object", list: "list"}


def text_map(document: Mapping[str, Any], name: str) -> dict[str, str] | None:
    found = field(document, name, dict)
    if found is None:
        return None
    if not all(isinstance(key, str) and isinstance(value, str) for key, value in found.items()):
        raise InvalidRequest(f"'{name}' must map strings to strings.")
    return found


def shares(document: Mapping[str, Any]) -> dict[str, float] | None:
    """Return ``RoutingConfig``'s weights by version, None where it is absent."""
    routing = field(document, "RoutingConfig", dict)
    if routing is None:
        return None
    weights = field(routing, "AdditionalVersionWeights", dict) or {}
    if not all(isinstance(weight, int | float) and not isinstance(weight, bool) for weight in weights.values()):
        raise InvalidRequest("'AdditionalVersionWeights' must map versions to numbers.")
    return weights


def change(document: Mapping[str, Any], tags: Mapping[str, str] | None = None, *, operator: bool) -> FunctionChange:
    """Read the configuration's fields, the same in both dialects.

    ``Isolation`` and ``Network`` are our own: the operator sends them as fields, others as the tags
    ``alcove:isolation`` and ``alcove:network`` (their SDKs refuse fields that they do not know). The tag
    ``alcove:isolation`` stays with the function: the isolation policy reads it.
    """
    environment = field(document, "Environment", dict)
    tags = tags or {}
    dead_letter = field(document, "DeadLetterConfig", dict)
    isolation = field(document, "Isolation", str) if operator else None
    network = field(document, "Network", bool) if operator else None
    if network is None and "alcove:network" in tags:
        network = tags["alcove:network"] not in ("none", "false", "off")
    return FunctionChange(
        runtime=field(document, "Runtime", str),
        handler=field(document, "Handler", str),
        memory_mib=field(document, "MemorySize", int),
        timeout_s=field(document, "Timeout", int),
        environment=None if environment is None else text_map(environment, "Variables") or {},
        description=field(document, "Description", str),
        role=field(document, "Role", str),
        isolation=isolation,
        network=network,
        dead_letter=None if dead_letter is None else field(dead_letter, "TargetArn", str) or "",
        layers=_layers(document),
        scratch_mib=_scratch(document),
        logging=_logging(document),
    )


def _scratch(document: Mapping[str, Any]) -> int | None:
    """Return what ``EphemeralStorage`` asks for; a size must be said."""
    storage = field(document, "EphemeralStorage", dict)
    if storage is None:
        return None
    size = field(storage, "Size", int)
    if size is None:
        raise InvalidRequest("'EphemeralStorage.Size' is required.", hint="in MB, 512 to 10240")
    return size


def _logging(document: Mapping[str, Any]) -> Logging | None:
    config = field(document, "LoggingConfig", dict)
    if config is None:
        return None
    return Logging(
        field(config, "LogFormat", str) or "Text",
        field(config, "ApplicationLogLevel", str) or "",
        field(config, "SystemLogLevel", str) or "",
    )


def _layers(document: Mapping[str, Any]) -> tuple[str, ...] | None:
    """AWS's clients name layer versions by ARN, Baidu's by objects with a ``Brn``."""
    found = field(document, "Layers", list)
    if found is None:
        return None
    names = tuple(one.get("Brn") if isinstance(one, dict) else one for one in found)
    if not all(isinstance(name, str) for name in names):
        raise InvalidRequest("'Layers' must be the ARNs of layer versions.")
    return cast("tuple[str, ...]", names)


def words(document: Mapping[str, Any], name: str) -> tuple[str, ...]:
    """Return a list of strings, empty where it is absent."""
    found = field(document, name, list) or []
    if not all(isinstance(word, str) for word in found):
        raise InvalidRequest(f"'{name}' must be a list of strings.")
    return tuple(found)


def number(query: Mapping[str, str], name: str, default: int) -> int:
    text = query.get(name)
    if not text:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise InvalidRequest(f"'{name}' must be a number.")
    return int(text)
