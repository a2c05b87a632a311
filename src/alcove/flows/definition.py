"""Reads CFC's flow definition language (FDL): ``name``, ``start``, ``states``. What is wrong is told with its place.

Everything that can be known before a flow runs is checked here: types, names that lead nowhere, states that nothing
leads to, expressions, bounds.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, TypeVar

from alcove.errors import InvalidRequest
from alcove.flows import yaml_text
from alcove.flows.data import dump
from alcove.flows.expression import Expression
from alcove.flows.faults import Fault
from alcove.flows.model import Catch, Choice, Definition, Filters, Kind, Retry, Scope, State
from alcove.flows.yaml_text import BadDefinition
from alcove.functions import names

T = TypeVar("T")
STATES_LIMIT = 200  # in the whole definition
BRANCHES_LIMIT = 20
CHOICES_LIMIT = 50
SCOPES_DEPTH = 4
LONGEST_S = 172_800  # "timeoutSeconds" of CFC
RETRIES_LIMIT = 100
RULES_LIMIT = 20
_NAME = re.compile(r"[^\x00-\x1f\x7f]{1,128}")
_CODE = re.compile(r"[A-Za-z0-9_.:-]{1,128}")
_COMMON = ("type", "name", "description")
_GOING_ON = ("next", "end")
_FALLIBLE = ("retry", "catch")
_FIELDS: Mapping[Kind, tuple[str, ...]] = {
    Kind.PASS: (*_GOING_ON, "data", "stateDataFilter"),
    Kind.SWITCH: ("conditions", "default", "stateDataFilter"),
    Kind.WAIT: (*_GOING_ON, "seconds", "timestamp", "stateDataFilter"),
    Kind.FAIL: ("error", "cause"),
    Kind.SUCCEED: ("stateDataFilter",),
    Kind.OPERATION: (*_GOING_ON, *_FALLIBLE, "resource", "stateDataFilter", "actionDataFilter"),
    Kind.PARALLEL: (*_GOING_ON, *_FALLIBLE, "branches", "stateDataFilter"),
    Kind.FOREACH: (
        *(*_GOING_ON, *_FALLIBLE, "iterator", "inputCollection", "iterationParam", "outputCollection"),
        "stateDataFilter",
    ),
}


def parse(text: str) -> Definition:
    """Raises ``BadDefinition``, ``TooLarge``."""
    document = yaml_text.load(text)
    reader = _Reader()
    try:
        return reader.definition(document)
    except BadDefinition:
        raise
    except InvalidRequest as error:
        raise BadDefinition(f"{reader.place}: {error}", hint=error.hint) from None


class _Reader:
    def __init__(self) -> None:
        self.place = "the definition"
        self._states = 0
        self._depth = 0

    def definition(self, document: dict[str, Any]) -> Definition:
        self._known(document, ("name", "start", "states", "version", "timeoutSeconds", "description"))
        name = self._need(document, "name", str)
        self._get(document, "description", str)
        timeout = self._count(document, "timeoutSeconds", 1, LONGEST_S, LONGEST_S)
        return Definition(name[:128], self._scope(document), timeout)

    # Fields

    def _wrong(self, message: str, hint: str = "") -> BadDefinition:
        return BadDefinition(f"{self.place}: {message}", hint=hint)

    def _known(self, document: Mapping[str, Any], fields: Iterable[str]) -> None:
        unknown = sorted(set(document) - set(fields))
        if unknown:
            raise self._wrong(f"there is no field {unknown[0][:60]!r} here", hint=f"known: {', '.join(fields)}")

    def _get(self, document: Mapping[str, Any], name: str, kind: type[T]) -> T | None:
        value = document.get(name)
        if value is None:
            return None
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise self._wrong(f"{name!r} must be a {_KINDS[kind]}")
        return value

    def _need(self, document: Mapping[str, Any], name: str, kind: type[T]) -> T:
        found = self._get(document, name, kind)
        if found is None or found == "":
            raise self._wrong(f"{name!r} is required")
        return found

    def _count(self, document: Mapping[str, Any], name: str, low: int, high: int, default: int) -> int:
        found = self._get(document, name, int)
        if found is None:
            return default
        if not low <= found <= high:
            raise self._wrong(f"{name!r} must be {low} to {high}")
        return found

    def _list(self, document: Mapping[str, Any], name: str, limit: int) -> list[Any]:
        found = self._need(document, name, list)
        if not 1 <= len(found) <= limit:
            raise self._wrong(f"{name!r} must have 1 to {limit} entries")
        return found

    def _mapping(self, value: Any, what: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise self._wrong(f"{what} must be a mapping")
        return value

    def _expression(self, document: Mapping[str, Any], name: str) -> Expression | None:
        text = self._get(document, name, str)
        if text is None:
            return None
        try:
            return Expression(text)
        except InvalidRequest as error:
            raise self._wrong(f"{name!r}: {error}", hint=error.hint) from None

    def _needed_expression(self, document: Mapping[str, Any], name: str) -> Expression:
        self._need(document, name, str)
        found = self._expression(document, name)
        assert found is not None
        return found

    def _path(self, document: Mapping[str, Any], name: str) -> tuple[str, ...] | None:
        found = self._expression(document, name)
        return None if found is None else found.path()

    # Scopes and states

    def _scope(self, document: Mapping[str, Any]) -> Scope:
        self._depth += 1
        if self._depth > SCOPES_DEPTH:
            raise self._wrong(f"branches and iterators may be nested {SCOPES_DEPTH - 1} deep")
        place, states = self.place, {}
        for number, entry in enumerate(self._list(document, "states", STATES_LIMIT), 1):
            self.place = f"state {number} of {place}"
            state = self._state(self._mapping(entry, "a state"))
            if state.name in states:
                raise self._wrong(f"there are two states {state.name!r}")
            states[state.name] = state
        self.place = place
        scope = Scope(self._need(document, "start", str), states)
        self._check_ways(scope)
        self._depth -= 1
        return scope

    def _check_ways(self, scope: Scope) -> None:
        """Each name must be there, and each state be led to."""
        reached: set[str] = set()
        waiting = [("'start'", scope.start)]
        while waiting:
            whence, name = waiting.pop()
            if name not in scope.states:
                raise self._wrong(f"{whence} leads to {name[:60]!r}, which is not a state here")
            if name not in reached:
                reached.add(name)
                waiting += [(f"state {name!r}", other) for other in _ways(scope.states[name])]
        lost = sorted(set(scope.states) - reached)
        if lost:
            raise self._wrong(f"nothing leads to the state {lost[0]!r}")

    def _state(self, document: dict[str, Any]) -> State:
        self._states += 1
        if self._states > STATES_LIMIT:
            raise self._wrong(f"a definition has at most {STATES_LIMIT} states")
        name = self._need(document, "name", str)
        if not _NAME.fullmatch(name):
            raise self._wrong("'name' must have 1 to 128 characters")
        self.place = f"state {name!r}"
        kind = self._need(document, "type", str)
        if kind not in list(Kind):
            raise self._wrong(f"there is no type {kind[:40]!r}", hint=f"types: {', '.join(Kind)}")
        self._known(document, (*_COMMON, *_FIELDS[Kind(kind)]))
        self._get(document, "description", str)
        common: dict[str, Any] = {"name": name, "kind": Kind(kind), "filters": self._filters(document)}
        if "next" in _FIELDS[Kind(kind)]:
            common["next"] = self._next(document)
        if "retry" in _FIELDS[Kind(kind)]:
            common |= {"retry": self._retries(document), "catch": self._catches(document)}
        place = self.place
        own = _OWN[Kind(kind)](self, document)
        self.place = place
        return State(**common, **own)

    def _next(self, document: Mapping[str, Any]) -> str | None:
        end, following = self._get(document, "end", bool), self._get(document, "next", str)
        if bool(end) == (following is not None):
            raise self._wrong("one of 'next' and 'end: true' is required")
        return following

    def _filters(self, document: Mapping[str, Any]) -> Filters:
        state = self._get(document, "stateDataFilter", dict) or {}
        action = self._get(document, "actionDataFilter", dict) or {}
        self._known(state, ("input", "output"))
        self._known(action, ("fromStateData", "results", "toStateData"))
        return Filters(
            self._expression(state, "input"),
            self._expression(state, "output"),
            self._expression(action, "fromStateData"),
            self._expression(action, "results"),
            self._path(action, "toStateData"),
        )

    def _errors(self, rule: Mapping[str, Any]) -> tuple[str, ...]:
        found = self._list(rule, "errors", RULES_LIMIT)
        if not all(isinstance(code, str) and _CODE.fullmatch(code) for code in found):
            raise self._wrong("'errors' must be codes, such as XFlow.ALL")
        return tuple(found)

    def _rules(self, document: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
        found = self._get(document, name, list) or []
        if len(found) > RULES_LIMIT:
            raise self._wrong(f"{name!r} has at most {RULES_LIMIT} rules")
        return [self._mapping(rule, f"a rule of {name!r}") for rule in found]

    def _retries(self, document: Mapping[str, Any]) -> tuple[Retry, ...]:
        return tuple(self._retry(rule) for rule in self._rules(document, "retry"))

    def _retry(self, rule: dict[str, Any]) -> Retry:
        self._known(rule, ("errors", "intervalSeconds", "maxIntervalSeconds", "maxAttempts", "multiplier"))
        multiplier = rule.get("multiplier", 2)
        if isinstance(multiplier, bool) or not isinstance(multiplier, int | float) or not 1 <= multiplier <= 100:
            raise self._wrong("'multiplier' must be 1 to 100")
        return Retry(
            self._errors(rule),
            self._count(rule, "intervalSeconds", 0, LONGEST_S, 1),
            self._count(rule, "maxIntervalSeconds", 0, LONGEST_S, 10),
            self._count(rule, "maxAttempts", 0, RETRIES_LIMIT, 2),
            float(multiplier),
        )

    def _catches(self, document: Mapping[str, Any]) -> tuple[Catch, ...]:
        found = []
        for rule in self._rules(document, "catch"):
            self._known(rule, ("errors", "next"))
            found.append(Catch(self._errors(rule), self._need(rule, "next", str)))
        return tuple(found)

    # What each kind has of its own

    def pass_(self, document: Mapping[str, Any]) -> dict[str, Any]:
        try:
            dump(document.get("data"))
        except Fault as fault:
            raise self._wrong(f"'data': {fault.cause}") from None
        return {"data": document.get("data")}

    def switch(self, document: Mapping[str, Any]) -> dict[str, Any]:
        choices = []
        for entry in self._list(document, "conditions", CHOICES_LIMIT):
            choice = self._mapping(entry, "a condition")
            self._known(choice, ("condition", "next"))
            choices.append(Choice(self._needed_expression(choice, "condition"), self._need(choice, "next", str)))
        default = self._get(document, "default", dict)
        if default is not None:
            self._known(default, ("next",))
        return {
            "choices": tuple(choices),
            "default": None if default is None else self._need(default, "next", str),
        }

    def wait(self, document: Mapping[str, Any]) -> dict[str, Any]:
        seconds, timestamp = document.get("seconds"), self._get(document, "timestamp", str)
        if (seconds is None) == (timestamp is None):
            raise self._wrong("one of 'seconds' and 'timestamp' is required")
        if timestamp is not None:
            return {"until_ms": self._moment(timestamp)}
        if isinstance(seconds, str):
            return {"seconds": self._expression(document, "seconds")}
        return {"seconds": self._count(document, "seconds", 0, LONGEST_S, 0)}

    def _moment(self, text: str) -> int:
        try:
            found = datetime.fromisoformat(text)
            moment = found if found.tzinfo else found.replace(tzinfo=UTC)
            return math.floor(moment.timestamp() * 1000)
        except (ValueError, OverflowError):
            raise self._wrong("'timestamp' must look like 2026-01-31T23:59:59Z") from None

    def fail(self, document: Mapping[str, Any]) -> dict[str, Any]:
        error = self._get(document, "error", str) or ""
        if error and not _CODE.fullmatch(error):
            raise self._wrong("'error' must be a code of letters, digits, points and hyphens")
        return {"error": error, "cause": self._get(document, "cause", str) or ""}

    def succeed(self, document: Mapping[str, Any]) -> dict[str, Any]:
        return {}

    def operation(self, document: Mapping[str, Any]) -> dict[str, Any]:
        resource = self._need(document, "resource", str)
        try:
            return {"function": names.parse(resource)}
        except InvalidRequest as error:
            raise self._wrong(f"'resource': {error}", hint="give the BRN of a function") from None

    def parallel(self, document: Mapping[str, Any]) -> dict[str, Any]:
        place, scopes = self.place, []
        for number, entry in enumerate(self._list(document, "branches", BRANCHES_LIMIT), 1):
            self.place = f"branch {number} of {place}"
            branch = self._mapping(entry, "a branch")
            self._known(branch, ("start", "states"))
            scopes.append(self._scope(branch))
        return {"scopes": tuple(scopes)}

    def foreach(self, document: Mapping[str, Any]) -> dict[str, Any]:
        own = {
            "collection": self._needed_expression(document, "inputCollection"),
            "parameter": self._need(document, "iterationParam", str)[:128],
            "results": self._path(document, "outputCollection"),
        }
        self.place = f"the iterator of {self.place}"
        iterator = self._need(document, "iterator", dict)
        self._known(iterator, ("start", "states"))
        return {**own, "scopes": (self._scope(iterator),)}


def _ways(state: State) -> list[str]:
    """Return the states that may follow."""
    found = [state.next, state.default, *(one.next for one in state.choices), *(one.next for one in state.catch)]
    return [name for name in found if name is not None]


_KINDS: dict[type, str] = {str: "string", int: "whole number", bool: "boolean", dict: "mapping", list: "list"}
_OWN: Mapping[Kind, Callable[[_Reader, Mapping[str, Any]], dict[str, Any]]] = {
    Kind.PASS: _Reader.pass_,
    Kind.SWITCH: _Reader.switch,
    Kind.WAIT: _Reader.wait,
    Kind.FAIL: _Reader.fail,
    Kind.SUCCEED: _Reader.succeed,
    Kind.OPERATION: _Reader.operation,
    Kind.PARALLEL: _Reader.parallel,
    Kind.FOREACH: _Reader.foreach,
}
