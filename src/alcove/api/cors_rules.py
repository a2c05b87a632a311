"""CORS rules as clients write and read them, of function URLs and of custom routes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from alcove.api.body import field
from alcove.api.schema import FLAG, NUMBER, TEXTS, object_of
from alcove.errors import InvalidRequest
from alcove.triggers.endpoint import Cors

CORS = object_of(
    AllowCredentials=FLAG,
    AllowHeaders=TEXTS,
    AllowMethods=TEXTS,
    AllowOrigins=TEXTS,
    ExposeHeaders=TEXTS,
    MaxAge=NUMBER,
)


def read_cors(document: Mapping[str, Any] | None) -> Cors | None:
    """Return the rules, None where nothing is said. Raises ``InvalidRequest``; values are looked at later."""
    if not document:
        return None
    found = dict(document)
    return Cors(
        origins=_texts(found, "AllowOrigins"),
        methods=_texts(found, "AllowMethods"),
        headers=_texts(found, "AllowHeaders"),
        expose=_texts(found, "ExposeHeaders"),
        credentials=bool(field(found, "AllowCredentials", bool)),
        max_age_s=field(found, "MaxAge", int) or 0,
    )


def describe_cors(cors: Cors) -> dict[str, Any]:
    return {
        "AllowCredentials": cors.credentials,
        "AllowHeaders": list(cors.headers),
        "AllowMethods": list(cors.methods),
        "AllowOrigins": list(cors.origins),
        "ExposeHeaders": list(cors.expose),
        "MaxAge": cors.max_age_s,
    }


def _texts(document: Mapping[str, Any], name: str) -> tuple[str, ...]:
    found = document.get(name)
    if found is None:
        return ()
    if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
        raise InvalidRequest(f"'{name}' must be a list of strings.")
    return tuple(found)
