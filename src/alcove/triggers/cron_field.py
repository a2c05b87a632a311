"""One field of a cron expression: text to the values that it allows.

The grammar is that of "Cron expressions" in the Amazon EventBridge user guide and of crontab(5): lists, ranges, steps,
names, and for days ``L``, ``W`` and ``#``.
"""

from __future__ import annotations

import calendar
from dataclasses import dataclass

from alcove.errors import InvalidRequest

MONTHS = {
    name: number
    for number, name in enumerate(
        ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"], 1
    )
}
DAYS = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"]


@dataclass(frozen=True, slots=True)
class Field:
    """A field's name, its range (both ends included) and the names of its values."""

    name: str
    low: int
    high: int
    names: tuple[tuple[str, int], ...] = ()

    def number(self, text: str) -> int:
        """Return one value. Raises ``InvalidRequest``."""
        named = dict(self.names).get(text)
        value = int(text) if named is None and text.isascii() and text.isdigit() and len(text) < 5 else named
        if value is None or not self.low <= value <= self.high:
            raise InvalidRequest(
                f"{text[:20]!r} is not a {self.name} of a cron expression ({self.low} to {self.high})."
            )
        return value

    def values(self, text: str) -> frozenset[int]:
        """Return the values that a list of numbers, ranges and steps allows."""
        found: set[int] = set()
        for term in text.split(","):
            found |= self._term(term)
        return frozenset(found)

    def _term(self, term: str) -> set[int]:
        body, slash, step_text = term.partition("/")
        step = 1
        if slash:
            if not (step_text.isascii() and step_text.isdigit() and len(step_text) < 5 and int(step_text)):
                raise InvalidRequest(f"{term[:20]!r}: the step of a {self.name} must be a positive number.")
            step = int(step_text)
        if body == "*":
            return set(range(self.low, self.high + 1, step))
        first, dash, last = body.partition("-")
        low = self.number(first)
        # ``5/10`` goes on to the end of the range; a plain ``5`` is itself.
        high = self.number(last) if dash else (self.high if slash else low)
        if high < low:
            raise InvalidRequest(f"{term[:20]!r}: the range of a {self.name} must not run backwards.")
        return set(range(low, high + 1, step))


MINUTE = Field("minute", 0, 59)
HOUR = Field("hour", 0, 23)
DAY = Field("day of month", 1, 31)
MONTH = Field("month", 1, 12, tuple(MONTHS.items()))
YEAR = Field("year", 1970, 2199)
# EventBridge counts Sunday as 1; Unix as 0, and as 7 too.
AWS_WEEKDAY = Field("day of week", 1, 7, tuple((name, number) for number, name in enumerate(DAYS, 1)))
UNIX_WEEKDAY = Field("day of week", 0, 7, tuple((name, number) for number, name in enumerate(DAYS)))


@dataclass(frozen=True, slots=True)
class DayOfMonth:
    """``days``, and by ``before_last`` days counted from the month's end (0: the last one), by ``near`` the weekday
    nearest to a day in the same month (0: the last weekday).
    """

    days: frozenset[int] = frozenset()
    before_last: frozenset[int] = frozenset()
    near: frozenset[int] = frozenset()

    def of(self, year: int, month: int) -> set[int]:
        """Return the days of that month that match."""
        first, length = calendar.monthrange(year, month)
        found = {day for day in self.days if day <= length}
        found |= {length - back for back in self.before_last if back < length}
        found |= {nearest_weekday(first, length, day or length) for day in self.near if day <= length}
        return found


def nearest_weekday(first: int, length: int, day: int) -> int:
    """Return the Monday to Friday nearest to ``day`` without leaving the month; ``first`` is the weekday of its
    first day, Monday 0.
    """
    weekday = (first + day - 1) % 7
    if weekday == 5:
        return day - 1 if day > 1 else day + 2
    if weekday == 6:
        return day + 1 if day < length else day - 2
    return day


def parse_day_of_month(text: str) -> DayOfMonth:
    """Read ``*``, numbers, ``L``, ``L-3``, ``15W`` and ``LW``."""
    days: set[int] = set()
    before_last: set[int] = set()
    near: set[int] = set()
    for term in text.split(","):
        if term == "LW":
            near.add(0)
        elif term == "L":
            before_last.add(0)
        elif term.startswith("L-"):
            before_last.add(Field("day before the last", 1, 30).number(term[2:]))
        elif term.endswith("W"):
            near.add(DAY.number(term[:-1]))
        else:
            days |= DAY.values(term)
    return DayOfMonth(frozenset(days), frozenset(before_last), frozenset(near))


@dataclass(frozen=True, slots=True)
class DayOfWeek:
    """Weekdays (Sunday 0): all of ``days``; those of ``nth`` only as the n-th of their month, -1 the last."""

    days: frozenset[int] = frozenset()
    nth: frozenset[tuple[int, int]] = frozenset()

    def of(self, year: int, month: int) -> set[int]:
        """Return the days of that month that match."""
        first, length = calendar.monthrange(year, month)
        found: set[int] = set()
        for day in range(1, length + 1):
            weekday = (first + day) % 7
            number = -1 if day + 7 > length else 0
            wanted = {(weekday, (day + 6) // 7), (weekday, number)}
            if weekday in self.days or wanted & self.nth:
                found.add(day)
        return found


def parse_day_of_week(text: str, field: Field) -> DayOfWeek:
    """Read ``*``, numbers, names, ``5L`` (the last one), ``6#3`` (the third one); ``L`` alone is Saturday."""
    days: set[int] = set()
    nth: set[tuple[int, int]] = set()

    def sunday_0(value: int) -> int:
        return (value - field.low) % 7

    for term in text.split(","):
        if term == "L":
            days.add(6)
        elif "#" in term:
            weekday, _, number = term.partition("#")
            nth.add((sunday_0(field.number(weekday)), Field("number of a weekday", 1, 5).number(number)))
        elif term.endswith("L"):
            nth.add((sunday_0(field.number(term[:-1])), -1))
        else:
            days |= {sunday_0(value) for value in field.values(term)}
    return DayOfWeek(frozenset(days), frozenset(nth))
