"""The audit's files: a line for each change over crashes and full disks, bounded for each tenant."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alcove.audit import intents
from alcove.audit import log as module
from alcove.audit.line import DONE, UNKNOWN, AuditLine, decode_line, encode_line
from alcove.audit.log import AuditLog
from alcove.errors import CapacityError

TENANT, OTHER = "1" * 12, "2" * 12


def line(request_id: str, scope: str = TENANT, **changes: Any) -> AuditLine:
    fields: dict[str, Any] = {
        "time_ms": 1,
        "by": "tenant",
        "key": "AKAL",
        "address": "127.0.0.1",
        "operation": "aws.create_function",
        "resource": "f",
        "outcome": DONE,
    }
    return AuditLine(request_id=request_id, scope=scope, **{**fields, **changes})


async def change(audit: AuditLog, request_id: str, scope: str = TENANT) -> None:
    one = line(request_id, scope)
    audit.end(one, await audit.begin(one))


def ids(lines: list[AuditLine]) -> list[str]:
    return [one.request_id for one in lines]


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


async def test_lines_are_numbered_over_all_tenants_and_restarts(tmp_path: Path) -> None:
    audit = AuditLog(tmp_path)
    for number in range(3):
        await change(audit, f"a{number}", TENANT)
        await change(audit, f"b{number}", OTHER)
    audit.close()
    again = AuditLog(tmp_path)
    await change(again, "last")
    for known in (audit, again):
        assert ids(known.recent())[:6] == ["a0", "b0", "a1", "b1", "a2", "b2"]
    assert [one.number for one in again.recent()] == [1, 2, 3, 4, 5, 6, 7]
    assert again.newest == 7
    assert ids(again.recent(TENANT)) == ids(await again.of(TENANT, 10)) == ["a0", "a1", "a2", "last"]
    assert ids(await again.of(TENANT, 2)) == ids(again.recent(TENANT, tail=2)) == ["a2", "last"]
    assert ids(again.recent(after=5)) == ["b2", "last"]
    again.close()
    assert files(tmp_path) == {f"{TENANT}.jsonl", f"{OTHER}.jsonl"}


async def test_a_change_that_a_crash_cuts_has_its_line(tmp_path: Path) -> None:
    audit = AuditLog(tmp_path)
    await audit.begin(line("cut", outcome=UNKNOWN))
    await change(audit, "whole")
    # No close: the process is gone.
    again = AuditLog(tmp_path)
    assert [(one.request_id, one.outcome) for one in again.recent()] == [("whole", DONE), ("cut", UNKNOWN)]
    again.close()
    assert ids(AuditLog(tmp_path).recent()) == ["whole", "cut"]


async def test_a_long_change_does_not_make_lines_of_others_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intents, "FILE_BYTES", 500)
    monkeypatch.setattr(module, "RING_LINES", 5)
    audit = AuditLog(tmp_path)
    await audit.begin(line("long", outcome=UNKNOWN))
    for number in range(20):
        await change(audit, str(number))
    # One file is kept by the change that is under way, one is written.
    assert len([name for name in files(tmp_path) if name.endswith(".begun")]) == 2
    again = AuditLog(tmp_path)
    found = ids(await again.of(TENANT, 100))
    assert sorted(found) == sorted(["long", *map(str, range(20))])
    assert found[-1] == "long"
    again.close()


async def test_files_are_bounded_and_nobody_writes_away_anothers_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FILE_BYTES", 1000)
    audit = AuditLog(tmp_path)
    await change(audit, "theirs", OTHER)
    for number in range(100):
        await change(audit, str(number))
    mine = [path for path in tmp_path.iterdir() if path.name.startswith(TENANT)]
    assert len(mine) == module.FILES_KEPT
    assert all(path.stat().st_size <= 1000 for path in mine)
    assert ids(await audit.of(OTHER, 10)) == ["theirs"]
    kept = ids(await audit.of(TENANT, 1000))
    assert kept == [str(number) for number in range(100 - len(kept), 100)]
    assert len(kept) >= 10
    audit.close()


async def test_no_change_goes_unnoted_on_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    audit = AuditLog(tmp_path)
    await change(audit, "before")

    def full(*_: Any) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr(os, "write", full)
        with pytest.raises(CapacityError) as caught:
            await audit.begin(line("refused"))
        assert "disk" in caught.value.hint
        # What may make room goes on.
        assert await audit.begin(line("delete"), insist=False) is None
        audit.end(line("delete"), None)
    await change(audit, "after")
    assert ids(audit.recent()) == ["before", "delete", "after"]
    audit.close()
    assert not [name for name in files(tmp_path) if name.endswith(".begun")]


@given(resource=st.text(max_size=50), address=st.text(max_size=20), number=st.integers(0, 2**53))
def test_a_line_is_one_line(resource: str, address: str, number: int) -> None:
    one = line("r", resource=resource, address=address, number=number)
    data = encode_line(one)
    assert data.count(b"\n") == 1
    assert decode_line(data) == one
    assert decode_line(data[:-3]) is None
