"""Lists in pages, as all services of this floor give them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

from alcove.errors import InvalidRequest

T = TypeVar("T")
PAGE_LIMIT = 50


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """Part of a list; ``marker`` asks for the next part, None where there is none."""

    items: list[T]
    marker: str | None = None


def page_limit(limit: int) -> int:
    if limit < 1:
        raise InvalidRequest("MaxItems must be at least 1.")
    return min(limit, PAGE_LIMIT)


def marker_number(marker: str) -> int:
    """Return the number in a marker, 0 in none. Raises ``InvalidRequest``."""
    if marker and not (marker.isascii() and marker.isdigit() and len(marker) < 10):
        raise InvalidRequest("The marker is not one that was given out.")
    return int(marker or 0)
