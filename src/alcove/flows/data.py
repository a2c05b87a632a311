"""The JSON that goes from state to state, and its bounds."""

from __future__ import annotations

import json
import math
from typing import Any

from alcove.flows.faults import Fault, runtime_fault

DATA_LIMIT = 256 << 10
DEPTH_LIMIT = 64
TOO_LARGE = "XFlow.DataLimitExceeded"


def encode(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def dump(value: Any) -> str:
    """Raises ``Fault`` for what is not JSON, or larger than a state may say."""
    check_depth(value)
    try:
        text = encode(value)
        size = len(text.encode())
    except (ValueError, TypeError, RecursionError):
        raise runtime_fault("the data is not JSON") from None
    if size > DATA_LIMIT:
        raise Fault(TOO_LARGE, f"the data has {size} bytes, more than {DATA_LIMIT}")
    return text


def load(text: str | bytes) -> Any:
    """Raises ``Fault`` for what is not JSON, too deep, or too large."""
    if len(text) > DATA_LIMIT:
        raise Fault(TOO_LARGE, f"the data has more than {DATA_LIMIT} bytes")
    try:
        value = json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        raise runtime_fault("the data is not JSON") from None
    check_depth(value)
    return value


def _refuse(word: str) -> Any:
    raise ValueError(word)


def check_depth(value: Any) -> None:
    """Raises ``Fault`` for nesting that is too deep, and numbers that JSON has not. Never recurses."""
    waiting = [(value, 1)]
    while waiting:
        one, depth = waiting.pop()
        if isinstance(one, float) and not math.isfinite(one):
            raise runtime_fault("the data holds a number that JSON has not")
        children = one.values() if isinstance(one, dict) else one if isinstance(one, list) else ()
        if children and depth >= DEPTH_LIMIT:
            raise runtime_fault(f"the data is nested more than {DEPTH_LIMIT} deep")
        waiting += [(child, depth + 1) for child in children]


def put(value: Any, path: tuple[str, ...], content: Any) -> Any:
    """Return the value with the content at the path, whose objects are made where they are missing."""
    if not path:
        return content
    inner = value if isinstance(value, dict) else {}
    return {**inner, path[0]: put(inner.get(path[0]), path[1:], content)}
