"""One rule of a pattern: an exact value, or an object with one operator. A rule is held against the values that a field
has: none where it is absent, several where it is a list.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Test = Callable[[Any], bool]
# What "numeric" has.
_COMPARISONS: Mapping[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
}


@dataclass(frozen=True, slots=True)
class Rule:
    """Holds where one of the values passes the test; without a test, where there is none. ``cost``: what is compared
    with each value.
    """

    test: Test | None
    cost: int = 1

    def holds(self, values: Sequence[Any]) -> bool:
        return not values if self.test is None else any(map(self.test, values))


def read_rule(document: Any) -> Rule:
    """Raises ``ValueError`` where it is none."""
    if not isinstance(document, dict):
        return Rule(_equal_to(document))
    name, value = _only(document)
    if name == "exists":
        if not isinstance(value, bool):
            raise ValueError("exists is true or false")
        return Rule((lambda found: True) if value else None)
    if name not in _TESTS:
        raise ValueError(f"there is no operator {name[:40]!r}")
    return Rule(_TESTS[name](value), _count(value))


def _count(value: Any) -> int:
    """Return the number of values in a rule."""
    if isinstance(value, dict):
        return sum(map(_count, value.values()))
    return len(value) if isinstance(value, list) else 1


def _only(document: Mapping[str, Any]) -> tuple[str, Any]:
    if len(document) != 1:
        raise ValueError("a rule has one operator")
    return next(iter(document.items()))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _equal_to(wanted: Any) -> Test:
    if isinstance(wanted, list):
        raise ValueError("a rule is no list")  # noqa: TRY004
    if _is_number(wanted):
        return lambda value: _is_number(value) and bool(value == wanted)
    # True is no 1.
    return lambda value: type(value) is type(wanted) and bool(value == wanted)


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError("a text must be given, and not an empty one")
    return value


def _of_text(test: Callable[[str], bool]) -> Test:
    return lambda value: isinstance(value, str) and test(value)


def _ignoring_case(value: Any) -> Test:
    if not isinstance(value, str):
        raise ValueError("equals-ignore-case has a text")  # noqa: TRY004
    wanted = value.casefold()
    # Folding makes no text shorter; what a document says may be long.
    return _of_text(lambda text: len(text) <= len(wanted) and text.casefold() == wanted)


def _prefix(value: Any) -> Test:
    folded = _folded(value)
    if folded is not None:
        return _of_text(lambda text: text[: len(folded)].casefold().startswith(folded))
    start = _text(value)
    return _of_text(lambda text: text.startswith(start))


def _suffix(value: Any) -> Test:
    folded = _folded(value)
    if folded is not None:
        return _of_text(lambda text: text[-len(folded) :].casefold().endswith(folded))
    end = _text(value)
    return _of_text(lambda text: text.endswith(end))


def _folded(value: Any) -> str | None:
    """Return the text of ``{"equals-ignore-case": TEXT}``, None for another value."""
    if not isinstance(value, dict):
        return None
    name, text = _only(value)
    if name != "equals-ignore-case":
        raise ValueError(f"{name[:40]!r} cannot stand here")
    return _text(text).casefold()


def _anything_but(value: Any) -> Test:
    """A value, values, or what ``prefix``, ``suffix`` and ``equals-ignore-case`` say (of one text, or of several)."""
    tests: list[Test]
    if isinstance(value, dict):
        name, inner = _only(value)
        if name not in ("prefix", "suffix", "equals-ignore-case"):
            raise ValueError(f"{name[:40]!r} cannot stand in anything-but")
        tests = [_TESTS[name](one) for one in _several(inner)]
    else:
        tests = [_equal_to(one) for one in _several(value) if not isinstance(one, dict)]
        if len(tests) != len(_several(value)):
            raise ValueError("anything-but has values, or one operator")
    return lambda found: not any(test(found) for test in tests)


def _several(value: Any) -> list[Any]:
    if value == []:
        raise ValueError("a list must not be empty")
    return value if isinstance(value, list) else [value]


def _numeric(value: Any) -> Test:
    """``["=", 5]``, ``[">", 0, "<=", 5]``."""
    signs, bounds = (value[::2], value[1::2]) if isinstance(value, list) else ([], [])
    lower, upper = {">", ">="}, {"<", "<="}
    good = len(signs) == len(bounds) and all(_is_number(one) for one in bounds)
    good = good and all(isinstance(sign, str) and sign in _COMPARISONS for sign in signs)
    if not good or (len(signs) != 1 and not (len(signs) == 2 and signs[0] in lower and signs[1] in upper)):
        raise ValueError('numeric has one comparison, or a range such as [">", 0, "<=", 5]')
    if len(signs) == 2 and bounds[0] > bounds[1]:
        raise ValueError("the range of numeric is empty")
    pairs = [(_COMPARISONS[sign], bound) for sign, bound in zip(signs, bounds, strict=True)]
    return lambda found: _is_number(found) and all(compare(found, bound) for compare, bound in pairs)


_TESTS: Mapping[str, Callable[[Any], Test]] = {
    "prefix": _prefix,
    "suffix": _suffix,
    "equals-ignore-case": _ignoring_case,
    "anything-but": _anything_but,
    "numeric": _numeric,
}
