"""Schedules: text and time zone to instants.

``cron(...)`` names minutes of local time in an IANA time zone. ``rate(5 minutes)`` is every so many minutes, hours or
days since the timer was made, whatever clocks show.

Where clocks are put forward, a minute that does not exist means the first moment that exists again: ``30 2`` fires at
03:00, once, together with all else that was skipped. Where clocks are put back, a minute that comes twice means the
first of the two.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Protocol
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from alcove.errors import InvalidRequest
from alcove.triggers.cron import Cron, parse_cron

_MINUTE_MS = 60_000
_UNITS = {"minute": _MINUTE_MS, "hour": 60 * _MINUTE_MS, "day": 24 * 60 * _MINUTE_MS}
_RATE = re.compile(r"rate\(\s*([0-9]{1,9})\s+(minute|hour|day)(s?)\s*\)")
_CRON = re.compile(r"cron\((.*)\)")
_KNOWN_LIMIT = 16
# Nothing is planned that lies beyond.
_LAST_MS = int(datetime(2200, 1, 1, tzinfo=UTC).timestamp()) * 1000


class Schedule(Protocol):
    """When something is due. Instants are milliseconds of Unix time."""

    def next_after(self, instant_ms: int) -> int | None:
        """Return the first instant later than this one, None where none comes."""
        ...

    def last_until(self, after_ms: int, until_ms: int) -> int | None:
        """Return the last instant later than ``after_ms`` and not later than ``until_ms``, None where none is."""
        ...


@dataclass(frozen=True, slots=True)
class Rate:
    period_ms: int
    anchor_ms: int

    def next_after(self, instant_ms: int) -> int | None:
        passed = max(0, (instant_ms - self.anchor_ms) // self.period_ms)
        found = self.anchor_ms + (passed + 1) * self.period_ms
        return found if found < _LAST_MS else None

    def last_until(self, after_ms: int, until_ms: int) -> int | None:
        periods = (until_ms - self.anchor_ms) // self.period_ms
        found = self.anchor_ms + periods * self.period_ms
        return found if periods >= 1 and found > after_ms else None


@dataclass(frozen=True, slots=True)
class CronSchedule:
    """Equal schedules share one object, and it remembers what it answered last: many are due at the same instants."""

    cron: Cron
    zone: ZoneInfo
    _known: dict[int, int | None] = field(default_factory=dict, compare=False)

    def next_after(self, instant_ms: int) -> int | None:
        # What is due is due at whole seconds, so all of one second have the same next instant.
        second = instant_ms // 1000
        if second not in self._known:
            if len(self._known) >= _KNOWN_LIMIT:
                self._known.clear()
            self._known[second] = self._next_after(second * 1000)
        return self._known[second]

    def _next_after(self, instant_ms: int) -> int | None:
        local = datetime.fromtimestamp(instant_ms // 1000, self.zone).replace(tzinfo=None, fold=0)
        # One minute earlier, for what was skipped or comes twice may fall on the minute itself.
        for naive in self.cron.after(local - timedelta(minutes=1)):
            found = to_instant_ms(naive, self.zone)
            if found > instant_ms:
                return found
        return None

    def last_until(self, after_ms: int, until_ms: int) -> int | None:
        last = None
        due = self.next_after(after_ms)
        while due is not None and due <= until_ms:
            last, due = due, self.next_after(due)
        return last


def to_instant_ms(naive: datetime, zone: ZoneInfo) -> int:
    """Return the instant that a local time means: the first of two, or the end of the gap that it lies in."""
    aware = naive.replace(tzinfo=zone, fold=0)
    instant = aware.astimezone(UTC)
    if instant.astimezone(zone).replace(tzinfo=None, fold=0) != naive:
        instant = _end_of_gap(instant, aware.replace(fold=1).astimezone(UTC), zone)
    return int(instant.timestamp()) * 1000


def _end_of_gap(above: datetime, below: datetime, zone: ZoneInfo) -> datetime:
    """Return the first instant of the new offset, between ``below`` (the old one still holds) and ``above``."""
    offset = above.astimezone(zone).utcoffset()
    low, high = int(below.timestamp()), int(above.timestamp())
    while high - low > 1:
        middle = (low + high) // 2
        if datetime.fromtimestamp(middle, zone).utcoffset() == offset:
            high = middle
        else:
            low = middle
    return datetime.fromtimestamp(high, UTC)


def parse_zone(name: str) -> ZoneInfo:
    """Return the IANA time zone. Raises ``InvalidRequest``."""
    try:
        # Names come from clients: never a path.
        if not re.fullmatch(r"[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+){0,3}", name) or len(name) > 64:
            raise ValueError(name)
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise InvalidRequest(
            f"{name[:64]!r} is not a time zone.", hint="use an IANA name, such as Europe/Berlin"
        ) from error


def parse_schedule(text: str, zone: str = "UTC", anchor_ms: int = 0) -> Schedule:
    """Read ``rate(...)``, ``cron(...)`` or a bare cron expression. Raises ``InvalidRequest``."""
    known_zone = parse_zone(zone)
    text = text.strip()
    rate = _RATE.fullmatch(text)
    if rate is not None:
        return Rate(_period_ms(int(rate[1]), rate[2], plural=bool(rate[3])), anchor_ms)
    if text.startswith("rate"):
        raise InvalidRequest(f"{text[:80]!r} is not a rate.", hint="for example: rate(5 minutes)")
    cron = _CRON.fullmatch(text)
    return _cron_schedule(cron[1] if cron else text, known_zone)


@functools.lru_cache(maxsize=4096)
def _cron_schedule(text: str, zone: ZoneInfo) -> CronSchedule:
    return CronSchedule(parse_cron(text), zone)


def _period_ms(count: int, unit: str, *, plural: bool) -> int:
    # EventBridge: "rate(1 hours)" and "rate(5 hour)" are not valid; zero never is.
    if count < 1 or plural != (count > 1):
        raise InvalidRequest(f"rate({count} {unit}{'s' if plural else ''}) is not a rate.", hint="try: rate(5 minutes)")
    return count * _UNITS[unit]
