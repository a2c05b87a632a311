"""Patterns of events, as EventBridge has them and Lambda's filters use them ("Filter rule syntax", AWS Lambda developer
guide): read once, then matched against documents.

A pattern is an object: each field names rules (a list, of which one must hold), or is an object again. ``$or`` is a
list of objects of which one must hold. A field of the document that is a list holds where one of its elements does.

Patterns and documents are both strangers': patterns are bounded in length and depth, and ``matches`` in what it looks
at.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar

from alcove.errors import InvalidRequest
from alcove.sources.rules import Rule, read_rule

T = TypeVar("T")
# "Pattern" of a filter in the Lambda API.
PATTERN_LIMIT = 4096
DEPTH_LIMIT = 16
# Comparisons for one document; some hundredths of a second.
WORK_LIMIT = 20_000
OR = "$or"


class BadPattern(InvalidRequest):
    def __init__(self, why: str) -> None:
        super().__init__(f"Invalid filter pattern definition: {why}.", hint='such as {"body": {"kind": ["order"]}}')


class TooMuchWork(Exception):
    """The document is too large for the pattern."""


@dataclass(slots=True)
class Work:
    """What may still be done for a document."""

    left: int = WORK_LIMIT

    def do(self, count: int) -> None:
        self.left -= count
        if self.left < 0:
            raise TooMuchWork


@dataclass(frozen=True, slots=True)
class _Field:
    """The rules of one field."""

    rules: tuple[Rule, ...]

    def holds(self, given: bool, value: Any, work: Work) -> bool:
        values = _leaves(value) if given else []
        for rule in self.rules:
            work.do(rule.cost * (1 + len(values)))
            if rule.holds(values):
                return True
        return False


@dataclass(frozen=True, slots=True)
class _Object:
    """Everything must hold: each field, and of each ``$or`` one."""

    fields: Mapping[str, _Field | _Object]
    either: tuple[_Object, ...]

    def holds(self, given: bool, value: Any, work: Work) -> bool:
        work.do(1)
        if isinstance(value, list):
            return any(self.holds(True, one, work) for one in value)
        if given and not isinstance(value, dict):
            return False
        document = value if given else {}
        if self.either and not any(one.holds(True, document, work) for one in self.either):
            return False
        return all(one.holds(name in document, document.get(name), work) for name, one in self.fields.items())


@dataclass(frozen=True, slots=True)
class Pattern:
    """``read`` makes one."""

    root: _Object

    @classmethod
    def read(cls, text: str) -> Pattern:
        """Raises ``BadPattern``."""
        if len(text) > PATTERN_LIMIT:
            raise BadPattern(f"it has at most {PATTERN_LIMIT} characters")
        try:
            document = json.loads(text, parse_constant=_no_number)
        except (ValueError, RecursionError):
            raise BadPattern("it is not JSON") from None
        return cls(_read_object(document, 1))

    def matches(self, document: Mapping[str, Any], work: Work) -> bool:
        """Raises ``TooMuchWork``."""
        return self.root.holds(True, document, work)


def _leaves(value: Any) -> list[Any]:
    """Return what rules look at: a value, or a list's elements; objects are none."""
    if not isinstance(value, list):
        return [] if isinstance(value, dict) else [value]
    found: list[Any] = []
    lists = [value]
    while lists:
        for one in lists.pop():
            if isinstance(one, list):
                lists.append(one)
            elif not isinstance(one, dict):
                found.append(one)
    return found


def _no_number(text: str) -> NoReturn:
    raise ValueError(text)


def _read_object(document: Any, depth: int) -> _Object:
    if not isinstance(document, dict) or not document:
        raise BadPattern("it must be an object, and not an empty one")
    if depth > DEPTH_LIMIT:
        raise BadPattern(f"it has at most {DEPTH_LIMIT} levels")
    fields: dict[str, _Field | _Object] = {}
    either: tuple[_Object, ...] = ()
    for name, value in document.items():
        if name == OR:
            either = _read_either(value, depth)
        elif isinstance(value, dict):
            fields[name] = _read_object(value, depth + 1)
        else:
            fields[name] = _Field(_read_list(value, name, read_rule))
    return _Object(fields, either)


def _read_either(value: Any, depth: int) -> tuple[_Object, ...]:
    return _read_list(value, OR, lambda one: _read_object(one, depth + 1))


def _read_list(value: Any, name: str, read: Callable[[Any], T]) -> tuple[T, ...]:
    if not isinstance(value, list) or not value:
        raise BadPattern(f"{name[:80]!r} must have a list of rules, and not an empty one")
    try:
        return tuple(read(one) for one in value)
    except ValueError as error:
        raise BadPattern(f"{name[:80]!r}: {error}") from None
