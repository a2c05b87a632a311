"""Cron expressions and rates: against two other implementations, and the rules of time zones."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim, CronSimError
from hypothesis import given, settings
from hypothesis import strategies as st
from pyawscron import AWSCron

from alcove.errors import InvalidRequest
from alcove.triggers.cron import parse_cron
from alcove.triggers.schedule import parse_schedule, to_instant_ms

MOMENTS = st.datetimes(datetime(2020, 1, 1), datetime(2033, 1, 1))
ZONES = st.sampled_from(
    ["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Pacific/Apia", "Asia/Kathmandu"]
)
MONTHS = ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"]
DAYS = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"]


def terms(low: int, high: int, names: list[str] | None = None) -> st.SearchStrategy[str]:
    number = st.integers(low, high)
    spoken = number.map(lambda n: names[n - low] if names else str(n))
    # cronsim reads ``5-5/2`` as ``5/2``.
    ordered = st.lists(number, min_size=2, max_size=2, unique=True).map(sorted)
    step = st.integers(1, 70)
    return st.one_of(
        st.just("*"),
        number.map(str),
        spoken,
        ordered.map(lambda pair: f"{pair[0]}-{pair[1]}"),
        step.map(lambda n: f"*/{n}"),
        st.tuples(ordered, step).map(lambda both: f"{both[0][0]}-{both[0][1]}/{both[1]}"),
        st.tuples(number, step).map(lambda both: f"{both[0]}/{both[1]}"),
    )


def fields(low: int, high: int, names: list[str] | None = None) -> st.SearchStrategy[str]:
    listed = st.lists(terms(low, high, names).filter(lambda t: t != "*" and "/" not in t), min_size=2, max_size=4)
    return st.one_of(terms(low, high, names), listed.map(",".join))


UNIX = st.tuples(
    fields(0, 59),
    fields(0, 23),
    st.one_of(fields(1, 31), st.sampled_from(["L", "LW"])),
    fields(1, 12, MONTHS),
    st.one_of(
        fields(0, 6, DAYS),
        st.tuples(st.integers(0, 7), st.integers(1, 5)).map(lambda p: f"{p[0]}#{p[1]}"),
        st.integers(0, 7).map(lambda n: f"{n}L"),
    ),
).map(" ".join)

AWS = st.tuples(
    fields(0, 59),
    fields(0, 23),
    st.one_of(
        st.tuples(
            st.one_of(fields(1, 31), st.just("L"), st.integers(1, 31).map(lambda n: f"{n}W")),
            fields(1, 12, MONTHS),
            st.just("?"),
        ),
        st.tuples(
            st.just("?"),
            fields(1, 12, MONTHS),
            st.one_of(
                fields(1, 7, DAYS),
                st.tuples(st.integers(1, 7), st.integers(1, 5)).map(lambda p: f"{p[0]}#{p[1]}"),
                st.integers(1, 7).map(lambda n: f"{n}L"),
            ),
        ),
    ).map(" ".join),
    st.sampled_from(["*", "2020-2040", "*/2", "2024,2028"]),
).map(" ".join)


def ours(expression: str, moment: datetime, count: int) -> list[datetime]:
    found = []
    for one in parse_cron(expression).after(moment):
        found.append(one)
        if len(found) == count:
            break
    return found


@settings(max_examples=400)
@given(UNIX, MOMENTS)
def test_unix_expressions_are_cronsims(expression: str, moment: datetime) -> None:
    try:
        known = CronSim(expression, moment)
        wanted = [next(known) for _ in range(5)]
    except CronSimError:
        with pytest.raises(InvalidRequest):  # 30 February
            parse_cron(expression)
        return
    except StopIteration:
        return  # it gives up on what is rare, such as 30 February or a fifth Sunday in leap years: one in forty
    assert ours(expression, moment, 5) == wanted


@settings(max_examples=400)
@given(AWS, MOMENTS)
def test_eventbridge_expressions_are_pyawscrons(expression: str, moment: datetime) -> None:
    try:
        wanted = AWSCron.get_next_n_schedule(3, moment.replace(tzinfo=UTC, second=0, microsecond=0), expression)
    except (AttributeError, ValueError, RecursionError):
        return  # what it says where it finds nothing ten months ahead, or for 31 June: one in thirty
    except Exception as error:
        assert "this shouldn't happen" in str(error)  # noqa: PT017 (its own guess at how far it must look)
        return
    wanted = [one.replace(tzinfo=None) for one in wanted if one is not None]
    try:
        assert ours(expression, moment, 3)[: len(wanted)] == wanted
    except InvalidRequest as refused:
        assert not wanted, refused  # noqa: PT017


@pytest.mark.parametrize(
    ("expression", "moment", "wanted"),
    [
        ("0 12 * * ? *", "2026-01-01 12:00", "2026-01-02 12:00"),
        ("15 10 ? * 6L 2026-2027", "2026-01-01 00:00", "2026-01-30 10:15"),
        ("0 9 ? * 2#1 *", "2026-01-01 00:00", "2026-01-05 09:00"),
        ("0 0 1W * ? *", "2026-07-31 00:00", "2026-08-03 00:00"),  # 1 August 2026 is a Saturday
        ("0 0 31W * ? *", "2026-05-02 00:00", "2026-05-29 00:00"),  # 31 May 2026 is a Sunday
        ("0 0 15W * ? *", "2026-08-01 00:00", "2026-08-14 00:00"),
        ("0 0 LW * ? *", "2026-05-02 00:00", "2026-05-29 00:00"),
        ("0 0 L-2 * ? *", "2026-02-01 00:00", "2026-02-26 00:00"),
        ("0 0 ? * L *", "2026-01-01 00:00", "2026-01-03 00:00"),
        ("0 0 29 2 ? *", "2096-03-01 00:00", "2104-02-29 00:00"),
        ("0 10 * * ?", "2026-01-01 00:00", "2026-01-01 10:00"),
        ("0 0 13 * 5", "2026-01-03 00:00", "2026-01-09 00:00"),  # either day
    ],
)
def test_examples(expression: str, moment: str, wanted: str) -> None:
    assert ours(expression, datetime.fromisoformat(moment), 1) == [datetime.fromisoformat(wanted)]


@pytest.mark.parametrize(
    "expression",
    [
        *("", "* * * *", "* * * * * * *", "60 * * * *", "* 24 * * *", "* * 0 * *", "* * * 13 *", "* * * * 8"),
        *("5-1 * * * *", "*/0 * * * *", "a * * * *", "1- * * * *", ", * * * *", "٣ * * * *", "1,, * * * *"),
        *("0 12 * * * *", "0 12 ? * ? *", "0 0 30 2 ? *", "0 0 31 4,6 ? *", "0 0 ? * 6#6 *", "0 0 1 1 ? 2200"),
        *("0 0 32W * ? *", "0 0 L-31 * ? *", "0 0 ? * 8L *", "0 0 1 1 ? 1969", "0" * 300, "1/ * * * *", "\0 * * * *"),
    ],
)
def test_what_is_not_one_is_refused(expression: str) -> None:
    with pytest.raises(InvalidRequest):
        parse_schedule(f"cron({expression})")


@given(st.text(max_size=40))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    for one in (text, f"cron({text})", f"rate({text})"):
        try:
            parse_schedule(one)
        except InvalidRequest as refused:
            assert str(refused)  # noqa: PT017


@pytest.mark.parametrize(
    "text", ["rate(0 minutes)", "rate(1 minutes)", "rate(2 minute)", "rate(5 seconds)", "rate(-1 hour)", "rate()"]
)
def test_rates_that_are_none(text: str) -> None:
    with pytest.raises(InvalidRequest):
        parse_schedule(text)


@pytest.mark.parametrize("name", ["../etc/passwd", "/etc/localtime", "Mars/Olympus", "", "Europe/Berlin\0", "a" * 300])
def test_zones_that_are_none(name: str) -> None:
    with pytest.raises(InvalidRequest):
        parse_schedule("rate(1 hour)", name)


def instants(text: str, zone: str, start: str, count: int) -> list[str]:
    schedule = parse_schedule(text, zone)
    at = int(datetime.fromisoformat(start).timestamp() * 1000)
    found = []
    for _ in range(count):
        due = schedule.next_after(at)
        assert due is not None
        at = due
        found.append(f"{datetime.fromtimestamp(at / 1000, UTC):%m-%d %H:%M}")
    return found


def test_a_skipped_time_fires_when_time_goes_on() -> None:
    # Berlin, 29 March 2026: 02:00 is followed by 03:00 (01:00 UTC).
    assert instants("cron(30 2 * * ? *)", "Europe/Berlin", "2026-03-27T12:00Z", 3) == [
        *("03-28 01:30", "03-29 01:00", "03-30 00:30")
    ]
    # All that was skipped fires once.
    assert instants("cron(*/20 2,3 * * ? *)", "Europe/Berlin", "2026-03-28T23:00Z", 3) == [
        *("03-29 01:00", "03-29 01:20", "03-29 01:40")
    ]


def test_a_repeated_time_fires_once() -> None:
    # Berlin, 25 October 2026: 03:00 is followed by 02:00 (01:00 UTC).
    assert instants("cron(30 2 * * ? *)", "Europe/Berlin", "2026-10-24T12:00Z", 2) == ["10-25 00:30", "10-26 01:30"]
    assert instants("cron(*/30 * * * ? *)", "Europe/Berlin", "2026-10-24T23:50Z", 4) == [
        *("10-25 00:00", "10-25 00:30", "10-25 02:00", "10-25 02:30")
    ]


def test_a_day_that_was_skipped() -> None:
    # Samoa had no 30 December 2011.
    assert instants("cron(0 12 30 12 ? *)", "Pacific/Apia", "2011-12-29T00:00Z", 1) == ["12-30 10:00"]


@settings(max_examples=200)
@given(UNIX, ZONES, st.datetimes(datetime(2024, 1, 1), datetime(2028, 1, 1)))
def test_instants_grow_and_mean_their_local_time(expression: str, zone: str, moment: datetime) -> None:
    try:
        schedule = parse_schedule(expression, zone)
    except InvalidRequest:
        return
    place, cron = ZoneInfo(zone), parse_cron(expression)
    at = int(moment.replace(tzinfo=UTC).timestamp() * 1000)
    for _ in range(5):
        due = schedule.next_after(at)
        if due is None:
            return
        assert due > at
        # Nothing that is due was passed over: not after the last one, not before the next.
        assert schedule.last_until(at, due) == due
        assert schedule.last_until(at, due - 1) is None
        local = datetime.fromtimestamp(due / 1000, place).replace(tzinfo=None, fold=0)
        named = next(cron.after(local - timedelta(minutes=1)))
        if named != local:
            before = datetime.fromtimestamp(due / 1000 - 1, place)
            assert before.utcoffset() != datetime.fromtimestamp(due / 1000, place).utcoffset()
        at = due


@given(st.datetimes(datetime(2024, 1, 1), datetime(2028, 1, 1)), st.integers(0, 3000), ZONES)
def test_later_local_times_are_never_earlier_instants(moment: datetime, minutes: int, zone: str) -> None:
    place = ZoneInfo(zone)
    assert to_instant_ms(moment + timedelta(minutes=minutes), place) >= to_instant_ms(moment, place)


@given(st.integers(1, 1000), st.integers(0, 10**13), st.integers(0, 10**13))
def test_rates(count: int, anchor_ms: int, at_ms: int) -> None:
    period = count * 3_600_000
    schedule = parse_schedule(f"rate({count} hour{'s' if count > 1 else ''})", anchor_ms=anchor_ms)
    due = schedule.next_after(at_ms)
    if due is None:
        return
    assert (due - anchor_ms) % period == 0
    assert due > at_ms
    assert due > anchor_ms
    assert due - period <= max(at_ms, anchor_ms)
    assert schedule.last_until(at_ms, due) == due
    assert schedule.last_until(at_ms, due - 1) is None
