"""What a flow is: states by name, which hand data on. Made by ``definition``, run by ``interpreter``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from alcove.flows.expression import Expression
from alcove.functions.names import Reference


class Kind(StrEnum):
    """The types of states in CFC's language. ``event_name`` is how the history writes it."""

    PASS = "pass"  # noqa: S105
    SWITCH = "switch"
    WAIT = "wait"
    FAIL = "fail"
    SUCCEED = "succeed"
    OPERATION = "operation"
    PARALLEL = "parallel"
    FOREACH = "foreach"

    @property
    def event_name(self) -> str:
        return self.value.capitalize()


@dataclass(frozen=True, slots=True)
class Retry:
    errors: tuple[str, ...]
    interval_s: int
    max_interval_s: int
    attempts: int
    multiplier: float

    def delay_s(self, attempt: int) -> float:
        """Return how long to wait before attempt 1, 2, .. of this rule."""
        try:
            return float(min(self.max_interval_s, self.interval_s * self.multiplier ** (attempt - 1)))
        except OverflowError:
            return float(self.max_interval_s)


@dataclass(frozen=True, slots=True)
class Catch:
    errors: tuple[str, ...]
    next: str


@dataclass(frozen=True, slots=True)
class Choice:
    condition: Expression
    next: str


@dataclass(frozen=True, slots=True)
class Filters:
    """``input`` and ``output`` are ``stateDataFilter``; the rest ``actionDataFilter``."""

    input: Expression | None = None
    output: Expression | None = None
    argument: Expression | None = None
    result: Expression | None = None
    target: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class State:
    """Fields that a kind has not are at their defaults. ``next`` None: the scope ends here."""

    name: str
    kind: Kind
    next: str | None = None
    filters: Filters = Filters()
    retry: tuple[Retry, ...] = ()
    catch: tuple[Catch, ...] = ()
    data: Any = None  # pass
    choices: tuple[Choice, ...] = ()  # switch
    default: str | None = None
    seconds: int | Expression | None = None  # wait
    until_ms: int | None = None
    error: str = ""  # fail
    cause: str = ""
    function: Reference | None = None  # operation
    scopes: tuple[Scope, ...] = ()  # branches of parallel, the iterator of foreach
    collection: Expression | None = None  # foreach
    parameter: str = ""
    results: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Scope:
    """States that lead to each other: the flow's, a branch's, or an iterator's."""

    start: str
    states: Mapping[str, State]


@dataclass(frozen=True, slots=True)
class Definition:
    name: str
    scope: Scope
    timeout_s: int
