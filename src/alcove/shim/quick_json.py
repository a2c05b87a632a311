"""JSON objects read by ``json``'s own C scanner alone: ``json`` imports ``re``, half of all that a start would load."""

from __future__ import annotations

from _json import make_scanner

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class _AsJsonReads:
    strict = True
    object_hook = object_pairs_hook = None
    parse_float, parse_int, parse_constant = float, int, float


_scan = make_scanner(_AsJsonReads())  # type: ignore[arg-type]  # typeshed asks for a scanner.


def read_object(text: str) -> dict[str, Any]:
    """Return the object that the text begins with. Raises ``ValueError`` where it is none."""
    try:
        found, _ = _scan(text, text.index("{"))
    except StopIteration as end:
        raise ValueError(f"no JSON at {end.value}") from end
    except RecursionError as error:
        raise ValueError("JSON nested too deeply") from error
    return dict(found)
