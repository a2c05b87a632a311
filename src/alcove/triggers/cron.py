"""Cron expressions, in two dialects: which minutes of local time they name.

Six fields are EventBridge's (minute, hour, day of month, month, day of week, year; one of the two days must be ``?``).
Five are Unix's: where both days are restricted, either is enough, and ``?`` is read as ``*``, as Baidu CFC writes it.
No library covers both (cronsim knows neither years nor ``15W``); it and pyawscron are the oracles of the tests.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from alcove.errors import InvalidRequest
from alcove.triggers.cron_field import (
    AWS_WEEKDAY,
    HOUR,
    MINUTE,
    MONTH,
    UNIX_WEEKDAY,
    YEAR,
    DayOfMonth,
    DayOfWeek,
    parse_day_of_month,
    parse_day_of_week,
)

LENGTH_LIMIT = 256


@dataclass(frozen=True)
class Cron:
    """A parsed expression. ``either_day``: a day is meant that matches one of the two day fields, not both; None for
    a day field is ``?``.
    """

    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    day_of_month: DayOfMonth | None
    months: frozenset[int]
    day_of_week: DayOfWeek | None
    years: frozenset[int]
    either_day: bool = False

    def after(self, moment: datetime) -> Iterator[datetime]:
        """Yield the naive local minutes later than ``moment``, in order, until the years end."""
        start = moment.replace(second=0, microsecond=0) + timedelta(minutes=1)
        year, month = start.year, start.month
        while year <= YEAR.high:
            if year in self.years and month in self.months:
                yield from self._in_month(year, month, start)
            year, month = (year, month + 1) if month < 12 else (year + 1, 1)

    def _in_month(self, year: int, month: int, start: datetime) -> Iterator[datetime]:
        first_month = (year, month) == (start.year, start.month)
        for day in self.days(year, month):
            if first_month and day < start.day:
                continue
            first_day = first_month and day == start.day
            for hour in self.hours:
                if first_day and hour < start.hour:
                    continue
                for minute in self.minutes:
                    if not (first_day and hour == start.hour and minute < start.minute):
                        yield datetime(year, month, day, hour, minute)

    def days(self, year: int, month: int) -> list[int]:
        """Return the days of that month that match, in order."""
        if self.day_of_month is None or self.day_of_week is None:
            one = self.day_of_month or self.day_of_week
            return sorted(one.of(year, month)) if one is not None else []
        by_month, by_week = self.day_of_month.of(year, month), self.day_of_week.of(year, month)
        return sorted(by_month | by_week if self.either_day else by_month & by_week)


@functools.lru_cache(maxsize=4096)
def parse_cron(text: str) -> Cron:
    """Read five or six fields. Raises ``InvalidRequest``, also for what never comes."""
    if len(text) > LENGTH_LIMIT:
        raise InvalidRequest(f"A cron expression has at most {LENGTH_LIMIT} characters.")
    parts = text.upper().split()
    if len(parts) not in (5, 6):
        raise InvalidRequest(
            f"A cron expression has five fields, or six as EventBridge writes it; this one has {len(parts)}.",
            hint="for example: cron(0 12 * * ? *)",
        )
    cron = _aws(parts) if len(parts) == 6 else _unix(parts)
    if next(cron.after(datetime(YEAR.low, 1, 1) - timedelta(minutes=1)), None) is None:
        raise InvalidRequest(f"The cron expression {text!r} never comes.")
    return cron


def _aws(parts: list[str]) -> Cron:
    minute, hour, day, month, weekday, year = parts
    if (day == "?") == (weekday == "?"):
        raise InvalidRequest("One of day of month and day of week must be '?', the other must not.")
    return Cron(
        tuple(sorted(MINUTE.values(minute))),
        tuple(sorted(HOUR.values(hour))),
        None if day == "?" else parse_day_of_month(day),
        MONTH.values(month),
        None if weekday == "?" else parse_day_of_week(weekday, AWS_WEEKDAY),
        YEAR.values(year),
    )


def _unix(parts: list[str]) -> Cron:
    minute, hour, day, month, weekday = parts
    day, weekday = ("*" if text == "?" else text for text in (day, weekday))
    return Cron(
        tuple(sorted(MINUTE.values(minute))),
        tuple(sorted(HOUR.values(hour))),
        parse_day_of_month(day),
        MONTH.values(month),
        parse_day_of_week(weekday, UNIX_WEEKDAY),
        frozenset(range(YEAR.low, YEAR.high + 1)),
        # crontab(5): "if both fields are restricted (i.e., do not contain the * character)".
        either_day=not (day.startswith("*") or weekday.startswith("*")),
    )
