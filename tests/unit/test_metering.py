"""The meter: sums that are exact, once each, over torn lines, full disks and restarts; the bill."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alcove.errors import CapacityError
from alcove.host.months import month_of, months_ago
from alcove.metering.bill import Tariff, bill
from alcove.metering.journal import CallRecord, Segment, decode_line, encode_line, read_segment, segments
from alcove.metering.meter import Meter
from alcove.metering.sums import Sums
from alcove.store.metering import UsageQuery, UsageRow, list_usage, sum_usage

NOWHERE = ("", "", "")


def record(function: str = "f", **changes: Any) -> CallRecord:
    fields: dict[str, Any] = {
        "month": "2026-11",
        "tenant": "1" * 12,
        "function": function,
        "failed": False,
        "billed_ms": 3,
        "memory_mib": 128,
        "streamed_bytes": 0,
        "request_id": "r",
    }
    return CallRecord(**{**fields, **changes})


async def rows(meter: Meter, **query: str) -> list[UsageRow]:
    return await meter.database.read(lambda c: list_usage(c, UsageQuery(**query), NOWHERE, 1000))


async def test_calls_are_added_up_once(tmp_path: Path) -> None:
    meter = await Meter.open(tmp_path)
    for failed in (False, True, False):
        meter.record(record(failed=failed, streamed_bytes=5))
    meter.record(record("g", billed_ms=10, memory_mib=256))
    assert meter.unsaved == 4
    await meter.fold()
    await meter.fold()
    meter.record(record("g"))
    await meter.close()
    again = await Meter.open(tmp_path)
    assert again.unsaved == 0
    assert await rows(again) == [
        UsageRow("2026-11", "1" * 12, "f", 3, 1, 9, 9 * 128, 15),
        UsageRow("2026-11", "1" * 12, "g", 2, 0, 13, 2560 + 384, 0),
    ]
    assert segments(tmp_path / "metering") == []
    await again.close()


async def test_what_a_dead_process_left_is_added_and_nothing_twice(tmp_path: Path) -> None:
    """A segment that is in the sums and still there, one that is not, and one with a torn end."""
    meter = await Meter.open(tmp_path)
    meter.record(record("a"))
    folder = tmp_path / "metering"
    (_, first), kept = segments(folder)[0], segments(folder)[0][1].read_bytes()
    await meter.fold()
    first.write_bytes(kept)
    meter.record(record("b"))
    await meter.database.close()
    torn = Segment(folder, 7)
    torn.append(record("c"))
    torn.close()
    with torn.path.open("ab") as file:
        file.write(encode_line(record("d"))[:-5])
    again = await Meter.open(tmp_path)
    assert [(row.function, row.calls) for row in await rows(again)] == [("a", 1), ("b", 1), ("c", 1)]
    again.record(record("e"))
    assert [number for number, _ in segments(folder)] == [8]
    await again.close()


async def test_a_full_disk_loses_no_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    meter = await Meter.open(tmp_path)
    with monkeypatch.context() as full:
        full.setattr("os.write", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        meter.record(record("a"))
    meter.record(record("b"))

    async def refuse(change: Any) -> None:
        raise CapacityError("no room")

    with monkeypatch.context() as full:
        full.setattr(meter.database, "write", refuse)
        for _ in range(2):
            with pytest.raises(CapacityError):
                await meter.fold()
        meter.record(record("a"))
        with pytest.raises(CapacityError):
            await meter.fold()
    assert meter.unsaved == 3
    await meter.fold()
    assert [(row.function, row.calls) for row in await rows(meter)] == [("a", 2), ("b", 1)]
    await meter.close()


async def test_a_commit_whose_outcome_is_unknown_is_not_done_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    meter = await Meter.open(tmp_path)
    write = meter.database.write

    async def written_and_lost(change: Any) -> None:
        await write(change)
        raise CapacityError("the answer is lost")

    meter.record(record("a"))
    monkeypatch.setattr(meter.database, "write", written_and_lost)
    with pytest.raises(CapacityError):
        await meter.fold()
    monkeypatch.setattr(meter.database, "write", write)
    meter.record(record("a"))
    await meter.fold()
    assert [(row.function, row.calls) for row in await rows(meter)] == [("a", 2)]
    await meter.close()


def test_a_torn_line_does_not_take_the_next_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    segment = Segment(tmp_path, 1)
    write = os.write
    with monkeypatch.context() as full:
        full.setattr("os.write", lambda file, data: write(file, data[:20]))
        with pytest.raises(OSError, match="full"):
            segment.append(record("torn"))
    segment.append(record("whole"))
    segment.close()
    assert [found.function for found in read_segment(segment.path)] == ["whole"]


@given(data=st.binary())
def test_no_other_bytes_are_taken_for_a_line(data: bytes) -> None:
    assert decode_line(data) is None


@given(
    at=st.integers(0, 200), value=st.integers(0, 255), request_id=st.text(max_size=40), billed_ms=st.integers(0, 10**9)
)
def test_a_line_that_was_changed_is_not_taken(at: int, value: int, request_id: str, billed_ms: int) -> None:
    whole = record(request_id=request_id, billed_ms=billed_ms)
    line = bytearray(encode_line(whole))
    assert decode_line(bytes(line)) == whole
    assert line.count(b"\n") == 1
    at %= len(line)
    if line[at] != value:
        line[at] = value
        assert decode_line(bytes(line)) is None


@given(
    calls=st.lists(st.tuples(st.sampled_from("ab"), st.integers(1, 900_000), st.integers(128, 3008))),
    cut=st.integers(0, 50),
)
def test_sums_do_not_depend_on_how_they_are_cut(calls: list[tuple[str, int, int]], cut: int) -> None:
    records = [record(name, billed_ms=billed, memory_mib=memory) for name, billed, memory in calls]
    whole = {row.function: row for row in Sums.of(records).rows()}
    for name in whole:
        mine = [call for call in calls if call[0] == name]
        assert whole[name].mib_ms == sum(billed * memory for _, billed, memory in mine)
        assert whole[name].calls == len(mine)
    parts = Sums.of(records[:cut]).rows() + Sums.of(records[cut:]).rows()
    assert sum(row.mib_ms for row in parts) == sum(row.mib_ms for row in whole.values())


def test_the_free_tier_comes_off_once() -> None:
    def of(calls: int, gb_s: int, tariff: Tariff | None = None) -> dict[str, Any]:
        return bill(UsageRow("2026-11", "t", "", calls, 0, 0, gb_s * 1024 * 1000, 0), tariff or Tariff())

    assert of(1_000_000, 400_000)["billable_calls"] == 0
    assert of(1_000_000, 400_000)["billable_mib_ms"] == 0
    beyond = of(1_000_001, 400_001)
    assert (beyond["billable_calls"], beyond["billable_gb_s"], beyond["free_gb_s"]) == (1, 1.0, 400_000.0)
    assert (beyond["free_calls"], beyond["billable_mib_ms"]) == (1_000_000, 1024 * 1000)
    assert "cost" not in beyond
    assert of(3_000_000, 400_010, Tariff(million_calls_price=0.2, gb_s_price=0.01))["cost"] == 0.5


@pytest.mark.parametrize(
    ("moment", "month", "seconds"),
    [
        (1_795_000_000, "2026-11", 30 * 86400),
        (1_798_761_599.9, "2026-12", 31 * 86400),
        (1_798_761_600, "2027-01", 31 * 86400),
    ],
)
def test_months_begin_at_utc_midnight(moment: float, month: str, seconds: int) -> None:
    name, begin, end = month_of(int(moment * 1000))
    assert (name, end - begin) == (month, seconds * 1000)
    assert begin <= moment * 1000 < end


async def test_old_months_are_forgotten(tmp_path: Path) -> None:
    meter = await Meter.open(tmp_path)
    for month in (months_ago(26), months_ago(25), months_ago(0)):
        meter.record(record(month=month))
    await meter.close()
    again = await Meter.open(tmp_path)
    assert [row.month for row in await rows(again)] == [months_ago(25), months_ago(0)]
    await again.close()


async def test_rows_are_found_by_month_tenant_and_function(tmp_path: Path) -> None:
    meter = await Meter.open(tmp_path)
    for month in ("2026-10", "2026-11"):
        for tenant in ("1" * 12, "2" * 12):
            for function in ("a", "b"):
                meter.record(record(function, month=month, tenant=tenant))
    await meter.fold()
    assert len(await rows(meter)) == 8
    assert len(await rows(meter, month="2026-10", tenant_id="2" * 12)) == 2
    assert [row.tenant_id for row in await rows(meter, month="2026-10", function="b")] == ["1" * 12, "2" * 12]
    totals = await meter.database.read(lambda c: sum_usage(c, UsageQuery(month="2026-11")))
    assert [(row.tenant_id, row.calls) for row in totals] == [("1" * 12, 2), ("2" * 12, 2)]
    page = await meter.database.read(lambda c: list_usage(c, UsageQuery(), ("2026-10", "2" * 12, "a"), 2))
    assert [(row.month, row.tenant_id, row.function) for row in page] == [
        ("2026-10", "2" * 12, "b"),
        ("2026-11", "1" * 12, "a"),
    ]
    await meter.close()


def test_the_schema_holds_whole_numbers_only() -> None:
    from alcove.store.database import migrations

    connection = sqlite3.connect(":memory:")
    for _, script in migrations("metering"):
        connection.executescript(script)
    with pytest.raises(sqlite3.IntegrityError):
        connection.execute("INSERT INTO usage VALUES ('m', 't', 'f', 1, 0, 0.5, 0, 0)")
    connection.close()
