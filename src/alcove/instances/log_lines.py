"""Lines of logs as CRI has them: ``TIME STREAM TAG TEXT``.

RFC 3339 with nanoseconds, ``stdout`` or ``stderr``, ``F`` for a whole line or ``P`` for a part of one.
"""

from __future__ import annotations

import calendar
import re
from dataclasses import dataclass

from alcove.errors import InvalidRequest

_LINE = re.compile(rb"(\S{20,40}) (stdout|stderr) ([FP](?::\S*)?) (.*)", re.DOTALL)
_WHOLE = re.compile(rb"\S{20,40} (?:stdout|stderr) F[ :]")
_TIME = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)(?:\.(\d{1,9})\d*)?(?:[Zz]|([+-])(\d\d):(\d\d))", re.ASCII
)


@dataclass(frozen=True, slots=True)
class Line:
    """``text`` has its newline where the line is whole."""

    time: str
    stream: str
    text: bytes


def parse(raw: bytes) -> Line | None:
    """Return the line of a log without its newline, or None where it is none."""
    found = _LINE.fullmatch(raw)
    if found is None:
        return None
    whole = found[3].startswith(b"F")
    return Line(found[1].decode("ascii", "replace"), found[2].decode(), found[4] + (b"\n" if whole else b""))


def is_whole(raw: bytes) -> bool:
    """Tell whether a line of a log, of which the beginning is enough, ends a line of the container."""
    return _WHOLE.match(raw) is not None


def nanoseconds(time: str) -> int | None:
    """Return Unix time in ns of an RFC 3339 time, or None where it is none."""
    found = _TIME.fullmatch(time)
    if found is None:
        return None
    try:
        seconds = calendar.timegm(tuple(int(found[n]) for n in range(1, 7)))
    except (ValueError, OverflowError):
        return None
    offset = (int(found[9]) * 60 + int(found[10])) * 60 if found[8] else 0
    seconds -= -offset if found[8] == "-" else offset
    return seconds * 1_000_000_000 + int((found[7] or "0").ljust(9, "0"))


def since(text: str, now_ns: int) -> int:
    """Return Unix time in ns of a time, or of so many seconds ago. Raises ``InvalidRequest``."""
    if text.isascii() and text.isdecimal() and len(text) < 10:
        return now_ns - int(text) * 1_000_000_000
    found = nanoseconds(text)
    if found is None:
        raise InvalidRequest("'since' must be a number of seconds, or a time such as 2026-11-25T10:00:00Z.")
    return found
