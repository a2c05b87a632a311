"""What an operation takes and answers, said beside its route in a few words, for the OpenAPI document."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Schema = Mapping[str, Any]

TEXT: Schema = {"type": "string"}
NUMBER: Schema = {"type": "integer"}
DECIMAL: Schema = {"type": "number"}
FLAG: Schema = {"type": "boolean"}
ANYTHING: Schema = {}
TEXTS: Schema = {"type": "array", "items": TEXT}
MAP: Schema = {"type": "object", "additionalProperties": TEXT}

JSON = "application/json"


class Named(dict[str, Any]):
    """A schema that stands once in the document, under ``name``, however many operations refer to it."""

    def __init__(self, name: str, schema: Schema) -> None:
        super().__init__(schema)
        self.name = name


@dataclass(frozen=True, slots=True)
class Detail:
    """``body`` is the schema of its JSON; ``query`` and ``headers`` name optional parameters, ``needs`` those of the
    query that must be there. It answers ``status`` and ``answer`` when all is well (None: nothing), or one of
    ``also``; ``media`` is the type of all that; ``tells`` names the headers that the answer may have.
    """

    body: Schema | None = None
    query: tuple[str, ...] = ()
    headers: tuple[str, ...] = ()
    status: int = 200
    answer: Schema | None = None
    needs: tuple[str, ...] = ()
    media: str = JSON
    also: Mapping[int, Schema | None] = field(default_factory=dict)
    tells: tuple[str, ...] = ()

    @property
    def answers(self) -> dict[int, Schema | None]:
        """What it answers by status; None stands for an empty body."""
        return {self.status: self.answer, **self.also}


NO_DETAIL = Detail()
# What answers nothing.
EMPTY = Detail(status=204)


def one_of(*values: str) -> Schema:
    return {"type": "string", "enum": list(values)}


def object_of(*required: str, **properties: Schema) -> Schema:
    """Return an object's schema; whatever is not named may be there too."""
    schema: dict[str, Any] = {"type": "object", "properties": properties}
    if required:
        schema["required"] = list(required)
    return schema


def record(optional: Mapping[str, Schema] | None = None, /, **always: Schema) -> Schema:
    """Return the schema of an answer: ``always`` is in it, ``optional`` may be, nothing else is."""
    properties = {**always, **(optional or {})}
    return {"type": "object", "properties": properties, "required": list(always), "additionalProperties": False}


def list_of(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def or_null(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


def page(name: str, items: Schema, marker: str = "NextMarker") -> Schema:
    """Return the schema of a page of a list, with ``marker`` where there are more."""
    return record({marker: TEXT}, **{name: list_of(items)})
