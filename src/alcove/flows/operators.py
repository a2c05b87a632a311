"""What expressions do to values: jq's operators and some of its functions, with their cost."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Callable, Sequence
from typing import Any

from alcove.flows.data import load
from alcove.flows.faults import Fault, runtime_fault

STEPS = 200_000
TEXT_LIMIT = 256 << 10
# Whole numbers beyond this become floats, as they do in jq.
WHOLE = 1 << 63


class Meter:
    """Counts what one evaluation costs."""

    def __init__(self) -> None:
        self._left = STEPS

    def charge(self, steps: int) -> None:
        self._left -= steps
        self.check()

    def check(self) -> None:
        """Raises ``Fault`` once it has cost too much."""
        if self._left < 0:
            raise runtime_fault("it takes too long")

    def weigh(self, value: Any) -> Any:
        """Charge for all that a new value holds, shared or not; return it."""
        waiting = [value]
        while waiting:
            one = waiting.pop()
            self.charge(1 + (len(one) >> 4 if isinstance(one, str) else 0))
            if isinstance(one, dict):
                waiting += one.values()
            elif isinstance(one, list):
                waiting += one
        return value


def truth(value: Any) -> bool:
    return value is not None and value is not False


def kind(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int | float):
        return "number"
    if isinstance(value, str):
        return "string"
    return "array" if isinstance(value, list) else "object"


def items(value: Any) -> list[Any]:
    if isinstance(value, list):
        return value
    if isinstance(value, dict):
        return list(value.values())
    raise runtime_fault(f"cannot iterate over {kind(value)}")


def index(value: Any, key: Any) -> Any:
    if value is None and kind(key) in ("null", "number", "string"):
        return None
    if isinstance(value, dict) and isinstance(key, str):
        return value.get(key)
    if isinstance(value, list) and kind(key) == "number":
        at = math.floor(key)
        return value[at] if -len(value) <= at < len(value) else None
    shown = json.dumps(key[:40]) if isinstance(key, str) else kind(key)
    raise runtime_fault(f"cannot index {kind(value)} with {shown}")


def piece(value: Any, low: Any, high: Any, meter: Meter) -> Any:
    if not all(one is None or kind(one) == "number" for one in (low, high)):
        raise runtime_fault("a slice is given by numbers")
    if value is None:
        return None
    if not isinstance(value, list | str):
        raise runtime_fault(f"cannot slice {kind(value)}")
    start, end = (None if one is None else math.floor(one) for one in (low, high))
    return meter.weigh(value[start:end])


# Order: null, false, true, numbers, strings, arrays, objects.
_RANKS = {"null": 0, "boolean": 1, "number": 2, "string": 3, "array": 4, "object": 5}


def compare(first: Any, second: Any) -> int:
    """Return less than, equal to or more than 0, as jq orders."""
    one, other = kind(first), kind(second)
    if one != other:
        return _RANKS[one] - _RANKS[other]
    if one == "array":
        return _compare_lists(first, second)
    if one == "object":
        by_keys = _compare_lists(sorted(first), sorted(second))
        return by_keys or _compare_lists([first[key] for key in sorted(first)], [second[key] for key in sorted(first)])
    return 0 if one == "null" else int(first > second) - int(first < second)


def _compare_lists(first: Sequence[Any], second: Sequence[Any]) -> int:
    for one, other in zip(first, second, strict=False):
        found = compare(one, other)
        if found:
            return found
    return len(first) - len(second)


ORDER = functools.cmp_to_key(compare)
_ORDERS: dict[str, Callable[[int], bool]] = {
    "==": lambda found: found == 0,
    "!=": lambda found: found != 0,
    "<": lambda found: found < 0,
    "<=": lambda found: found <= 0,
    ">": lambda found: found > 0,
    ">=": lambda found: found >= 0,
}


def binary(mark: str, first: Any, second: Any, meter: Meter) -> Any:
    if mark in _ORDERS:
        meter.weigh(first)
        meter.weigh(second)
        return _ORDERS[mark](compare(first, second))
    if kind(first) == kind(second) == "number":
        return _calculate(mark, first, second)
    if mark == "+":
        return _joined(first, second, meter)
    if mark == "-" and isinstance(first, list) and isinstance(second, list):
        meter.charge(len(first) * (1 + len(second)))
        meter.weigh(first)
        return [one for one in first if all(compare(one, other) for other in second)]
    raise runtime_fault(f"{kind(first)} and {kind(second)} cannot be combined by {mark}")


def _calculate(mark: str, first: float, second: float) -> int | float:
    if mark in "/%" and not second:
        raise runtime_fault("division by zero")
    try:
        first, second = _bounded(first), _bounded(second)
        if mark == "%":
            found: float = int(math.fmod(int(first), int(second) or 1))
        elif mark == "/":
            found = first / second
            found = int(found) if found == math.floor(found) and abs(found) < 2**53 else found
        else:
            found = {"+": first + second, "-": first - second, "*": first * second}[mark]
        found = _bounded(found)
    except (OverflowError, ValueError):
        raise runtime_fault("the number is too large") from None
    if not math.isfinite(found):
        raise runtime_fault("the number is too large")
    return found


def _bounded(number: float) -> int | float:
    return float(number) if isinstance(number, int) and abs(number) > WHOLE else number


def _joined(first: Any, second: Any, meter: Meter) -> Any:
    if first is None or second is None:
        return second if first is None else first
    if isinstance(first, str) and isinstance(second, str):
        if len(first) + len(second) > TEXT_LIMIT:
            raise runtime_fault("the string is too long")
        return meter.weigh(first + second)
    if isinstance(first, list) and isinstance(second, list):
        return meter.weigh(first + second)
    if isinstance(first, dict) and isinstance(second, dict):
        return meter.weigh({**first, **second})
    raise runtime_fault(f"{kind(first)} and {kind(second)} cannot be added")


# Functions


def _length(value: Any) -> int | float:
    if value is None:
        return 0
    if kind(value) == "boolean":
        raise runtime_fault("boolean has no length")
    return abs(value) if kind(value) == "number" else len(value)


def _keys(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return sorted(value)
    return list(range(len(_list(value))))


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise runtime_fault(f"{kind(value)} is not an array")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise runtime_fault(f"{kind(value)} is not a string")
    return value


def _number(value: Any) -> int | float:
    if kind(value) == "number":
        return _bounded(value)
    text = _text(value)
    try:
        found = load(text)
    except Fault:
        found = None
    if kind(found) != "number":
        raise runtime_fault(f"{text[:40]!r} is not a number")
    return _bounded(found)


def _ascii(value: Any, change: Callable[[str], str]) -> str:
    return "".join(change(one) if one.isascii() else one for one in _text(value))


def _to_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _unique(value: Any) -> list[Any]:
    found: list[Any] = []
    for one in sorted(_list(value), key=ORDER):
        if not found or compare(found[-1], one):
            found.append(one)
    return found


def _entries(value: Any) -> list[Any]:
    if not isinstance(value, dict):
        raise runtime_fault(f"{kind(value)} is not an object")
    return [{"key": key, "value": one} for key, one in value.items()]


def _from_entries(value: Any) -> dict[str, Any]:
    found = {}
    for one in _list(value):
        if not isinstance(one, dict) or not isinstance(one.get("key"), str):
            raise runtime_fault("entries are objects with a key and a value")
        found[one["key"]] = one.get("value")
    return found


def _add(value: Any, meter: Meter) -> Any:
    total = None
    for one in items(value):
        total = binary("+", total, one, meter) if total is not None else one
    return total


def _floor(value: Any) -> int:
    number = _number(value) if kind(value) == "number" else math.nan
    if not math.isfinite(number):
        raise runtime_fault(f"{kind(value)} is not a number")
    return math.floor(number)


_SIMPLE: dict[str, Callable[[Any], Any]] = {
    "all": lambda value: all(truth(one) for one in items(value)),
    "any": lambda value: any(truth(one) for one in items(value)),
    "ascii_downcase": lambda value: _ascii(value, str.lower),
    "ascii_upcase": lambda value: _ascii(value, str.upper),
    "first": lambda value: index(_list(value), 0),
    "floor": _floor,
    "from_entries": _from_entries,
    "fromjson": lambda value: load(_text(value)),
    "keys": _keys,
    "last": lambda value: index(_list(value), -1),
    "length": _length,
    "max": lambda value: max(_list(value), key=ORDER, default=None),
    "min": lambda value: min(_list(value), key=ORDER, default=None),
    "not": lambda value: not truth(value),
    "reverse": lambda value: _list(value)[::-1],
    "sort": lambda value: sorted(_list(value), key=ORDER),
    "to_entries": _entries,
    "tojson": _to_json,
    "tonumber": _number,
    "tostring": lambda value: value if isinstance(value, str) else _to_json(value),
    "type": kind,
    "unique": _unique,
}


def _has(value: Any, key: Any) -> bool:
    if isinstance(value, dict) and isinstance(key, str):
        return key in value
    if isinstance(value, list) and kind(key) == "number":
        return bool(0 <= key < len(value))
    raise runtime_fault(f"cannot look for {kind(key)} in {kind(value)}")


def _join(value: Any, separator: Any) -> str:
    words = ["" if one is None else one if isinstance(one, str) else _to_json(one) for one in _list(value)]
    if sum(map(len, words)) + len(words) * len(_text(separator)) > TEXT_LIMIT:
        raise runtime_fault("the string is too long")
    return _text(separator).join(words)


def _split(value: Any, separator: Any) -> list[str]:
    return _text(value).split(_text(separator)) if separator else list(_text(value))


def _contains(value: Any, part: Any) -> bool:
    if kind(value) != kind(part):
        raise runtime_fault(f"{kind(value)} cannot contain {kind(part)}")
    return _holds(value, part)


def _holds(value: Any, part: Any) -> bool:
    if isinstance(value, str) and isinstance(part, str):
        return part in value
    if isinstance(value, list) and isinstance(part, list):
        return all(any(_holds(one, other) for one in value) for other in part)
    if isinstance(value, dict) and isinstance(part, dict):
        return all(key in value and _holds(value[key], one) for key, one in part.items())
    return compare(value, part) == 0


_WITH_ARGUMENT: dict[str, Callable[[Any, Any], Any]] = {
    "contains": _contains,
    "endswith": lambda value, end: _text(value).endswith(_text(end)),
    "has": _has,
    "join": _join,
    "split": _split,
    "startswith": lambda value, start: _text(value).startswith(_text(start)),
}
_SORTING = ("sort", "unique")
# Functions that look at each item by an expression.
BY_KEY = ("max_by", "min_by", "sort_by")
KNOWN = {
    ("add", 0), ("empty", 0), ("map", 1), ("select", 1),
    *((name, 0) for name in _SIMPLE), *((name, 1) for name in (*_WITH_ARGUMENT, *BY_KEY)),
}  # fmt: skip


def call(name: str, value: Any, argument: Any, meter: Meter) -> Any:
    meter.weigh(value)
    if name in _SORTING:
        meter.charge(8 * len(_list(value)))
    if name == "add":
        return _add(value, meter)
    if name in _SIMPLE:
        return meter.weigh(_SIMPLE[name](value))
    meter.weigh(argument)
    if isinstance(value, list) and isinstance(argument, list):
        meter.charge(len(value) * len(argument))
    return meter.weigh(_WITH_ARGUMENT[name](value, argument))


def by_key(name: str, value: Any, keys: list[list[Any]], meter: Meter) -> Any:
    meter.weigh(keys)
    meter.charge(8 * len(keys))
    pairs = list(zip(keys, _list(value), strict=True))
    ordered = [item for _, item in sorted(pairs, key=lambda pair: ORDER(pair[0]))]
    if name == "sort_by":
        return ordered
    return index(ordered, 0 if name == "min_by" else -1)
