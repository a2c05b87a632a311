"""Conditions and ranges of requests for objects (RFC 9110, sections 13 and 14)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from email.utils import parsedate_to_datetime

from alcove.buckets.errors import InvalidRange, NotModified, PreconditionFailed
from alcove.buckets.model import StoredObject

_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.ASCII)


def check(headers: Mapping[str, str], found: StoredObject, *, prefix: str = "") -> None:
    """Raises ``PreconditionFailed``, ``NotModified``. ``prefix`` is that of the headers on a copy's source."""
    if_match, if_none = headers.get(f"{prefix}if-match"), headers.get(f"{prefix}if-none-match")
    if if_match is not None:
        if not _names(if_match, found.etag):
            raise PreconditionFailed("At least one of the pre-conditions you specified did not hold")
    elif _is_later(found, headers.get(f"{prefix}if-unmodified-since")) is True:
        raise PreconditionFailed("At least one of the pre-conditions you specified did not hold")
    unchanged = NotModified("Not Modified") if not prefix else PreconditionFailed("The source has not changed")
    if if_none is not None:
        if _names(if_none, found.etag):
            raise unchanged
    elif _is_later(found, headers.get(f"{prefix}if-modified-since")) is False:
        raise unchanged


def parse_range(header: str, size: int) -> tuple[int, int] | None:
    """Return (start, length), or None for all of it: also where there are several ranges, or it is not one of bytes.

    Raises ``InvalidRange``.
    """
    found = _RANGE.fullmatch(header.strip())
    if found is None or found[0] == "bytes=-":
        return None
    first, last = found[1], found[2]
    if not first:
        length = min(int(last), size)
        start, end = size - length, size
    else:
        start, end = int(first), min(int(last) + 1, size) if last else size
        if last and int(last) < start:
            return None
    if start >= size or start >= end:
        raise InvalidRange("The requested range is not satisfiable")
    return start, end - start


def _names(header: str, etag: str) -> bool:
    return any(one.strip().removeprefix("W/").strip('"') in (etag, "*") for one in header.split(","))


def _is_later(found: StoredObject, header: str | None) -> bool | None:
    """Tell whether the object was written after the date; None where there is no date."""
    if header is None:
        return None
    try:
        return found.modified_ms // 1000 > parsedate_to_datetime(header).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None
