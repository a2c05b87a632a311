"""What an operation takes, said beside its route in a few words, for the OpenAPI document."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Schema = Mapping[str, Any]

TEXT: Schema = {"type": "string"}
NUMBER: Schema = {"type": "integer"}
FLAG: Schema = {"type": "boolean"}
ANYTHING: Schema = {}
TEXTS: Schema = {"type": "array", "items": TEXT}
MAP: Schema = {"type": "object", "additionalProperties": TEXT}


@dataclass(frozen=True, slots=True)
class Detail:
    """``body`` is the schema of its JSON; ``query`` and ``headers`` name optional parameters; ``status`` is what it
    answers when all is well.
    """

    body: Schema | None = None
    query: tuple[str, ...] = ()
    headers: tuple[str, ...] = ()
    status: int = 200


NO_DETAIL = Detail()


def one_of(*values: str) -> Schema:
    return {"type": "string", "enum": list(values)}


def object_of(*required: str, **properties: Schema) -> Schema:
    """Return an object's schema; whatever is not named may be there too."""
    schema: dict[str, Any] = {"type": "object", "properties": properties}
    if required:
        schema["required"] = list(required)
    return schema
