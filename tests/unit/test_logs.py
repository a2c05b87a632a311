"""Logs of functions: bounded in memory and on the disk, found by request, gone with their function."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from tests.fakes import FakeSnapshotTier
from tests.unit.test_dispatcher import function

from alcove.functions import logs
from alcove.functions.dispatcher import Dispatcher
from alcove.functions.logs import LogStore
from alcove.functions.platform_log import Spent, around
from alcove.sandbox.protocol import Isolation


def texts(found: list[logs.LogLine]) -> list[str]:
    return [line.text for line in found]


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


async def test_memory_holds_the_end_and_the_files_the_rest(tmp_path: Path) -> None:
    store = LogStore(tmp_path)
    for number in range(300):
        store.append("f", f"r{number:03}", [f"{number} " + "x" * 2000])
    log = store.of("f")
    held = log.lines()
    assert sum(len(line.text) for line in held) <= logs.RING_BYTES
    assert 0 < len(held) < 300
    assert [line.number for line in await log.read(tail=1000)] == list(range(1, 301))
    assert await log.read(after=298) == held[-2:]
    assert [line.number for line in await log.read(after=5, tail=3)] == [298, 299, 300]
    assert [line.number for line in await log.read(after=5)] == list(range(6, 301))
    again = LogStore(tmp_path).of("f")
    assert again.lines(tail=1)[0].number == 300
    store.close()


async def test_a_request_is_found_however_long_ago(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "RING_BYTES", 1000)
    monkeypatch.setattr(logs, "FILE_BYTES", 12_000)
    store = LogStore(tmp_path)
    for number in range(200):
        store.append("f", f"{number:03}-request", [f"one {number}", f"two {number}"])
    log = store.of("f")
    assert texts(await log.read(request="150-request")) == ["one 150", "two 150"]
    assert texts(await log.read(request="199")) == ["one 199", "two 199"]
    assert texts(await log.read(request="19", tail=3)) == ["two 198", "one 199", "two 199"]
    # It was in a file that is gone.
    assert await log.read(request="000") == []
    assert {path.suffix for path in tmp_path.iterdir()} == {".jsonl", ".old"}
    assert await log.read(request="199", after=log.lines(tail=1)[0].number) == []
    store.close()


def test_the_numbers_go_on_where_the_file_was_just_renamed(tmp_path: Path) -> None:
    store = LogStore(tmp_path)
    store.append("f", "r", ["one", "two"])
    store.close()
    (tmp_path / "f.jsonl").rename(tmp_path / "f.old")
    again = LogStore(tmp_path)
    again.append("f", "r", ["three"])
    assert [(line.number, line.text) for line in again.of("f").lines()] == [(1, "one"), (2, "two"), (3, "three")]
    again.close()


def test_few_logs_are_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "OPEN_LOGS", 3)
    store = LogStore(tmp_path)
    for turn in range(2):
        for number in range(10):
            store.append(f"f{number}", "r", [f"turn {turn}"])
            assert len(store._logs) <= 3
    assert texts(store.of("f0").lines()) == ["turn 0", "turn 1"]
    store.close()


async def test_all_logs_together_have_a_limit(tmp_path: Path) -> None:
    store = LogStore(tmp_path, limit=10_000)
    for number in range(20):
        store.append(f"f{number:02}", "r", ["x" * 1000])
        path = tmp_path / f"f{number:02}.jsonl"
        os.utime(path, (number, number))
    assert store.size == sum(path.stat().st_size for path in tmp_path.iterdir()) > 20_000
    await store.trim()
    left = names(tmp_path)
    assert store.size == sum(path.stat().st_size for path in tmp_path.iterdir()) <= 9000
    assert left == {f"f{number:02}.jsonl" for number in range(20 - len(left), 20)}
    assert len(left) >= 5
    # One that was trimmed starts anew.
    store.append("f00", "r", ["again"])
    assert texts(store.of("f00").lines()) == ["again"]
    assert LogStore(tmp_path).size == store.size
    store.close()


async def test_a_deleted_functions_log_is_not_made_anew_by_its_last_call(tmp_path: Path) -> None:
    store = LogStore(tmp_path)
    store.append("f", "r", ["one"])
    store.append("g", "r", ["one"])
    store.remove("f")
    store.append("f", "r", ["late"])
    assert names(tmp_path) == {"g.jsonl"}
    assert store.size == (tmp_path / "g.jsonl").stat().st_size
    store.close()


def test_a_start_removes_the_logs_of_functions_that_are_no_more(tmp_path: Path) -> None:
    store = LogStore(tmp_path)
    for key in ("kept", "gone"):
        store.append(key, "r", ["one"])
    (tmp_path / "gone.old").write_bytes(b"")
    store.retain({"kept", "unused"})
    assert names(tmp_path) == {"kept.jsonl"}
    assert store.size == (tmp_path / "kept.jsonl").stat().st_size
    store.close()


@pytest.mark.parametrize("torn", [b"", b"{", b"\xff\n", b'{"number": "x"}\n', b"[]\n"])
def test_a_torn_line_is_passed_over(tmp_path: Path, torn: bytes) -> None:
    store = LogStore(tmp_path)
    store.append("f", "r", ["one"])
    store.close()
    with (tmp_path / "f.jsonl").open("ab") as file:
        file.write(torn)
    assert texts(LogStore(tmp_path).of("f").lines()) == ["one"]


def test_the_report_is_worded_as_on_aws() -> None:
    _, (_, report) = around(function(), "id", Spent(12.345, init_ms=100), 38)
    assert report.split("\t") == [
        "REPORT RequestId: id",
        "Duration: 12.35 ms",
        "Billed Duration: 13 ms",
        "Memory Size: 128 MB",
        "Max Memory Used: 38 MB",
        "Init Duration: 100.00 ms",
    ]
    assert around(function(), "id", Spent(1, restore_ms=5))[1][1].endswith("\tRestore Duration: 5.00 ms")


async def test_the_first_request_of_an_instance_is_told_its_start(tmp_path: Path) -> None:
    tier = FakeSnapshotTier()
    dispatcher = Dispatcher({Isolation.VM: tier}, LogStore(tmp_path), pool_sizes={})

    async def report(**changes: Any) -> str:
        result = await dispatcher.invoke(function(**changes), b"1", want_log=True)
        return result.log_tail.decode().splitlines()[-1]

    assert "Init Duration: " in await report()
    assert "Duration: " not in (await report()).partition("Memory Size")[2]
    published = function(version="1")
    await dispatcher.snapshot(published)
    first = await report(version="1")
    assert "Restore Duration: " in first
    assert "Init Duration: " not in first
    assert "Restore Duration: " not in await report(version="1")
    await dispatcher.close()
    await tier.close()
