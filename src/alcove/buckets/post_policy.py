"""The policy of a form that uploads: what its fields and its file must be, said by who signed it.

Source: "POST Policy" in the Amazon S3 API reference. Every field must meet all conditions that name it, and each must
be named by one, but for those of the signature and ``x-ignore-``; every condition must be met. Names are taken in small
letters. Pure: no I/O, no clock of its own.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from alcove.buckets.errors import BadPolicy, PolicyViolated
from alcove.buckets.model import OBJECT_LIMIT

# What nobody can name in a policy, or need not.
_FREE = frozenset(("awsaccesskeyid", "file", "policy", "signature", "x-amz-signature"))
_IGNORED = "x-ignore-"
_RANGE = "content-length-range"
_BYTES = re.compile(r"[0-9]{1,15}")
_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z", re.ASCII)
# "Character escaping": two that JSON has not. The first alternative keeps pairs of backslashes together.
_ESCAPES = re.compile(r"\\\\|\\\$|\\v")
_OF_ESCAPE = {r"\$": "$", r"\v": r"\u000b"}


@dataclass(frozen=True, slots=True)
class Condition:
    """``starts``: the field begins so; else it is so."""

    field: str
    value: str
    starts: bool = False

    def holds(self, found: str) -> bool:
        if not self.starts:
            return found == self.value
        # "Content-Type": a list, each of which must begin so.
        parts = [one.strip() for one in found.split(",")] if self.field == "content-type" else [found]
        return all(one.startswith(self.value) for one in parts)

    def __str__(self) -> str:
        return json.dumps(["starts-with" if self.starts else "eq", f"${self.field}", self.value])


@dataclass(frozen=True, slots=True)
class PostPolicy:
    """``least`` and ``most`` are bytes of the file."""

    ends_s: float
    conditions: tuple[Condition, ...]
    least: int = 0
    most: int = OBJECT_LIMIT

    def check(self, fields: Mapping[str, str], now_s: float) -> None:
        """``fields`` with ``bucket``, and all variables replaced. Raises ``PolicyViolated``."""
        if now_s >= self.ends_s:
            raise PolicyViolated("Invalid according to Policy: Policy expired.")
        for one in self.conditions:
            if one.field not in fields or not one.holds(fields[one.field]):
                # Also where the field is absent and the condition lets anything through: so does S3.
                raise PolicyViolated(f"Invalid according to Policy: Policy Condition failed: {one}"[:400])
        named = _FREE | {one.field for one in self.conditions}
        extra = [name for name in fields if name not in named and not name.startswith(_IGNORED)]
        if extra:
            raise PolicyViolated(f"Invalid according to Policy: Extra input fields: {', '.join(sorted(extra))}"[:400])


def parse(text: str) -> PostPolicy:
    """Read the policy as a form has it: base64 of JSON. Raises ``BadPolicy``."""
    try:
        decoded = base64.b64decode("".join(text.split()), validate=True).decode()
        document = json.loads(_ESCAPES.sub(lambda found: _OF_ESCAPE.get(found[0], found[0]), decoded))
    except (binascii.Error, ValueError, RecursionError):
        raise BadPolicy("Invalid Policy: Invalid JSON.") from None
    if not isinstance(document, dict) or set(document) != {"expiration", "conditions"}:
        raise BadPolicy("Invalid Policy: it has 'expiration' and 'conditions', and nothing else.")
    conditions: list[Condition] = []
    least, most = 0, OBJECT_LIMIT
    for one in _list(document["conditions"]):
        if isinstance(one, list) and one and one[0] == _RANGE:
            low, high = _range(one)
            least, most = max(least, low), min(most, high)
        else:
            conditions.append(_condition(one))
    return PostPolicy(_moment(document["expiration"]), tuple(conditions), least, most)


def _condition(given: Any) -> Condition:
    if isinstance(given, dict) and len(given) == 1:
        ((name, value),) = given.items()
        return Condition(name.lower(), _text(value))
    if isinstance(given, list) and len(given) == 3 and isinstance(given[0], str):
        kind, name, value = given[0].lower(), given[1], given[2]
        if kind in ("eq", "starts-with") and isinstance(name, str) and name.startswith("$"):
            return Condition(name[1:].lower(), _text(value), starts=kind == "starts-with")
    raise BadPolicy(f"Invalid Policy: Invalid Condition: {json.dumps(given)[:200]}")


def _list(given: Any) -> list[Any]:
    if not isinstance(given, list):
        raise BadPolicy("Invalid Policy: 'conditions' is a list.")
    return given


def _text(given: Any) -> str:
    if not isinstance(given, str):
        raise BadPolicy("Invalid Policy: Invalid Simple-Condition: value must be a string.")
    return given


def _range(given: list[Any]) -> tuple[int, int]:
    numbers = [str(one) for one in given[1:]]
    if len(numbers) != 2 or not all(_BYTES.fullmatch(one) for one in numbers):
        raise BadPolicy(f"Invalid Policy: Invalid {_RANGE}: it has two numbers.")
    return int(numbers[0]), int(numbers[1])


def _moment(given: Any) -> float:
    try:
        if isinstance(given, str) and _MOMENT.fullmatch(given):
            return datetime.fromisoformat(given).timestamp()
    except ValueError:
        pass
    raise BadPolicy(
        "Invalid Policy: Invalid 'expiration' value.", hint="it is in UTC, and looks like 2030-12-31T23:59:59.000Z"
    )
