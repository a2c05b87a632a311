"""Months in UTC, by which what was used is summed."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def month_of(moment_ms: int) -> tuple[str, int, int]:
    """Return a month such as 2026-11, and when it begins and ends, in Unix milliseconds."""
    begin = (_EPOCH + timedelta(milliseconds=moment_ms)).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    end = begin.replace(year=begin.year + begin.month // 12, month=begin.month % 12 + 1)
    return f"{begin:%Y-%m}", _ms(begin), _ms(end)


def split(begin_ms: int, end_ms: int) -> Iterator[tuple[str, int]]:
    """Yield the months of a time, and how many milliseconds of it are in each."""
    while begin_ms < end_ms:
        month, _, over_ms = month_of(begin_ms)
        upto_ms = min(end_ms, over_ms)
        yield month, upto_ms - begin_ms
        begin_ms = upto_ms


def months_ago(count: int) -> str:
    """Return the month that was so many months before this one."""
    today = datetime.now(UTC)
    year, month = divmod(today.year * 12 + today.month - 1 - count, 12)
    return f"{year:04}-{month + 1:02}"


def _ms(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(milliseconds=1)
