"""What answers HTTP requests with a function: a function URL or a custom route, and who may call it."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import TypeVar

import msgspec

from alcove.errors import InvalidRequest
from alcove.sandbox.protocol import TenantId

E = TypeVar("E", bound=StrEnum)
# RFC 9110, "token": what header names and methods are made of.
TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
# CreateFunctionUrlConfig in the AWS Lambda API reference, "Cors".
CORS_ITEMS = 100
MAX_AGE_S = 86_400
_METHODS = frozenset({"*", "GET", "PUT", "HEAD", "POST", "PATCH", "DELETE"})
_ORIGIN = re.compile(r"\*|[\x21-\x7e]{1,253}")


class Auth(StrEnum):
    """Who may call: anyone, or who signs as the endpoint's tenant."""

    NONE = "NONE"
    IAM = "AWS_IAM"


class Mode(StrEnum):
    """Whether an answer is sent as a whole or as it is made."""

    BUFFERED = "BUFFERED"
    STREAM = "RESPONSE_STREAM"


@dataclass(frozen=True, slots=True)
class Cors:
    """Which pages of other origins may call, and what they may see (the Fetch standard's CORS protocol)."""

    origins: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    headers: tuple[str, ...] = ()
    expose: tuple[str, ...] = ()
    credentials: bool = False
    max_age_s: int = 0

    def check(self) -> Cors:
        """Raises ``InvalidRequest``."""
        for name, values in (("AllowHeaders", self.headers), ("ExposeHeaders", self.expose)):
            _check_list(name, values, lambda value: len(value) <= 1024 and TOKEN.fullmatch(value) is not None)
        _check_list("AllowOrigins", self.origins, lambda value: _ORIGIN.fullmatch(value) is not None)
        _check_list("AllowMethods", self.methods, lambda value: value in _METHODS)
        if not 0 <= self.max_age_s <= MAX_AGE_S:
            raise InvalidRequest(f"'MaxAge' must be 0 to {MAX_AGE_S} seconds.")
        return self

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Cors | None:
        return msgspec.json.decode(text, type=cls) if text else None


def _check_list(name: str, values: tuple[str, ...], good: Callable[[str], bool]) -> None:
    if len(values) > CORS_ITEMS:
        raise InvalidRequest(f"'{name}' has at most {CORS_ITEMS} entries.")
    for value in values:
        if not good(value):
            raise InvalidRequest(f"{value[:80]!r} is not valid in '{name}'.")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A function with what is needed to serve HTTP requests by it.

    ``function_id`` empty: whichever function has the name now. ``api_id`` and ``route`` are what the event calls
    ``apiId`` and ``routeKey``. ``asks_policy``: who does not sign needs a statement of the function's policy.
    """

    tenant: TenantId
    function: str
    qualifier: str
    auth: Auth
    mode: Mode
    api_id: str
    route: str = "$default"
    function_id: str = ""
    cors: Cors | None = None
    asks_policy: bool = False


def check_auth(text: str) -> Auth:
    return _choose(Auth, "AuthType", text)


def check_mode(text: str) -> Mode:
    return _choose(Mode, "InvokeMode", text)


def _choose(kind: type[E], name: str, text: str) -> E:
    try:
        return kind(text)
    except ValueError:
        raise InvalidRequest(f"{name} {text[:40]!r} is not one of {', '.join(kind)}.") from None


@functools.lru_cache(maxsize=256)
def host_name(header: str) -> str:
    """Return the name of a Host header: no port, no last point, lower case. An IPv6 address keeps its brackets."""
    name = header if header.endswith("]") else header.rpartition(":")[0] or header
    return name.rstrip(".").lower()
