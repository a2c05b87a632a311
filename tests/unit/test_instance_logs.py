"""Logs of containers: read over rotations and restarts, each line once; and kept bounded."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alcove.errors import InvalidRequest
from alcove.instances import log_chain, log_lines
from alcove.instances.log_files import Range, _Reader, read
from alcove.instances.log_lines import Line
from alcove.instances.log_rotation import HURRY_S, LOOK_EVERY_S, Growth

TIME = b"2026-11-25T08:09:10.123456789Z"


async def texts(folder: Path, *, over: int | None = None, **options: object) -> list[bytes]:
    left = over or 0

    async def is_over() -> bool:
        nonlocal left
        left -= 1
        return left <= 0

    chosen = Range(**options)  # type: ignore[arg-type]
    return [line.text async for line in read(folder, chosen, follow=is_over if over else None)]


def write(path: Path, *lines: bytes, time: bytes = TIME, tag: bytes = b"F") -> None:
    with path.open("ab") as file:
        file.writelines(b"%b stdout %b %b\n" % (time, tag, text) for text in lines)


@given(st.lists(st.tuples(st.sampled_from([b"stdout", b"stderr"]), st.binary(max_size=40)), max_size=20))
def test_lines_are_read_as_they_were_written(rows: list[tuple[bytes, bytes]]) -> None:
    for stream, text in rows:
        text = text.replace(b"\n", b"")
        whole = b" ".join((TIME, stream, b"F", text))
        assert log_lines.parse(whole) == Line(TIME.decode(), stream.decode(), text + b"\n")
        assert log_lines.is_whole(whole)
        raw = b" ".join((TIME, stream, b"P", text))
        part = log_lines.parse(raw)
        assert part is not None
        assert part.text == text
        assert not log_lines.is_whole(raw)


@given(st.binary(max_size=60))
def test_any_bytes_are_a_line_or_none(raw: bytes) -> None:
    assert log_lines.parse(raw) is None or raw[20:].count(b" ") >= 2


class Runtime:
    """Writes as containerd does: on under the old name until it is told, and the last of the old file after that."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.attempt, self.count = folder, 0, 0
        self.files: list[list[bytes]] = []
        self.draining: tuple[int, list[bytes]] | None = None
        self.current = self.begin()

    def begin(self) -> tuple[int, list[bytes]]:
        self.files.append([])
        path = self.folder / f"{self.attempt}.log"
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), self.files[-1]

    def put(self, where: tuple[int, list[bytes]]) -> None:
        self.count += 1
        text = b"%d\n" % self.count
        os.write(where[0], b"%b stdout F %b" % (TIME, text))
        where[1].append(text)

    def act(self, step: str) -> None:
        if step == "write":
            self.put(self.current)
        elif step == "rotate":
            log_chain.rotate(self.folder / f"{self.attempt}.log")
        elif step == "reopen":
            self.end_draining()
            self.draining, self.current = self.current, self.begin()
        elif step == "drain" and self.draining is not None:
            self.put(self.draining)
        elif step == "drained":
            self.end_draining()
        elif step == "restart":
            self.end()
            self.attempt += 1
            self.current = self.begin()

    def end_draining(self) -> None:
        if self.draining is not None:
            os.close(self.draining[0])
        self.draining = None

    def end(self) -> None:
        self.end_draining()
        os.close(self.current[0])

    def written(self) -> list[bytes]:
        return [text for file in self.files for text in file]


# Who is told to begin anew finds the old file away.
STEPS = st.lists(
    st.sampled_from([("write",), ("rotate",), ("rotate", "reopen"), ("drain",), ("drained",), ("restart",), ("read",)]),
    max_size=40,
)


@contextmanager
def bench(kept: int) -> Iterator[tuple[Runtime, Path]]:
    with tempfile.TemporaryDirectory() as name, patch.object(log_chain, "KEPT", kept):
        yield Runtime(Path(name)), Path(name)


def follow(steps: list[tuple[str, ...]], runtime: Runtime, folder: Path) -> list[bytes]:
    reader, found = _Reader(folder, Range()), []
    reader.open()

    def more() -> None:
        while lines := reader.more():
            found.extend(line.text for line in lines)

    for step in [name for names in steps for name in names]:
        more() if step == "read" else runtime.act(step)
    runtime.end()
    more()
    assert reader.at_end()
    reader.close()
    return found


@settings(max_examples=300)
@given(STEPS)
def test_who_follows_reads_each_line_once_however_files_move(steps: list[tuple[str, ...]]) -> None:
    with bench(kept=1000) as (runtime, folder):
        assert follow(steps, runtime, folder) == runtime.written()


@settings(max_examples=200)
@given(STEPS, st.integers(1, 2))
def test_who_reads_too_slowly_misses_whole_files_but_reads_none_twice(steps: list[tuple[str, ...]], kept: int) -> None:
    with bench(kept) as (runtime, folder):
        found = [int(text) for text in follow(steps, runtime, folder)]
        order = {number: place for place, number in enumerate(map(int, runtime.written()))}
        places = [order[number] for number in found]
        assert places == sorted(set(places))


@settings(max_examples=200)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 3)), max_size=12), st.integers(0, 40), st.integers(1, 200))
async def test_the_last_lines_are_the_last_lines_over_files(
    rows: list[tuple[bool, int]], tail: int, block: int
) -> None:
    """However the blocks that are read backwards cut them."""
    with tempfile.TemporaryDirectory() as name, patch("alcove.instances.log_files._READ", block):
        folder, expected = Path(name), []
        for turn, (rotated, count) in enumerate(rows):
            lines = [b"%d-%d" % (turn, number) * number for number in range(count)]
            write(folder / "0.log", *lines)
            expected += [line + b"\n" for line in lines]
            with patch.object(log_chain, "KEPT", 1000):
                log_chain.rotate(folder / "0.log") if rotated else None
        assert await texts(folder, tail=tail) == expected[max(0, len(expected) - tail) :]
        assert await texts(folder) == expected


async def test_a_line_in_parts_counts_once(tmp_path: Path) -> None:
    write(tmp_path / "0.log", b"a")
    write(tmp_path / "0.log", b"b1", b"b2", tag=b"P")
    write(tmp_path / "0.log", b"b3", b"c")
    assert await texts(tmp_path, tail=2) == [b"b1", b"b2", b"b3\n", b"c\n"]


async def test_a_log_is_followed_over_rotations_and_attempts(tmp_path: Path) -> None:
    write(tmp_path / "0.log", b"a", b"b")
    log_chain.rotate(tmp_path / "0.log")
    write(tmp_path / "0.log", b"c")
    write(tmp_path / "1.log", b"d")
    assert await texts(tmp_path, over=2) == [b"d\n"]
    assert await texts(tmp_path, previous=True) == [b"a\n", b"b\n", b"c\n"]
    assert await texts(tmp_path, previous=True, tail=2) == [b"b\n", b"c\n"]
    write(tmp_path / "1.log", b"e")
    assert await texts(tmp_path, tail=1) == [b"e\n"]


async def test_a_container_without_a_log_has_nothing_to_read(tmp_path: Path) -> None:
    assert await texts(tmp_path, over=1) == []
    assert await texts(tmp_path, previous=True) == []


async def test_what_is_there_is_read_though_more_is_written_all_the_time(tmp_path: Path) -> None:
    write(tmp_path / "0.log", b"a")
    found = []
    async for line in read(tmp_path):
        found.append(line.text)
        write(tmp_path / "0.log", b"more")
    assert found == [b"a\n"]


async def test_nothing_before_a_time(tmp_path: Path) -> None:
    for hour in range(4):
        write(tmp_path / "0.log", b"%d" % hour, time=b"2026-11-25T0%d:00:00.000000001+01:00" % hour)
        if hour == 1:
            log_chain.rotate(tmp_path / "0.log")
    since_ns = log_lines.since("2026-11-25T01:00:00Z", 0)
    assert await texts(tmp_path, since_ns=since_ns) == [b"2\n", b"3\n"]
    assert await texts(tmp_path, since_ns=since_ns, tail=1) == [b"3\n"]


def test_times() -> None:
    assert log_lines.nanoseconds("1970-01-01T00:00:01.5Z") == 1_500_000_000
    assert log_lines.nanoseconds("1970-01-01T01:00:00.000000007+01:00") == 7
    assert log_lines.nanoseconds("1969-12-31T23:00:00-01:00") == 0
    assert log_lines.since("90", 100_000_000_000) == 10_000_000_000
    for wrong in ("", "x", "10m", "2026-13-41", "٣", "1" * 30):
        with pytest.raises(InvalidRequest):
            log_lines.since(wrong, 0)


def test_full_logs_are_put_away_few_are_kept_and_a_pods_are_bounded(tmp_path: Path) -> None:
    folder = tmp_path / "c"
    folder.mkdir()
    for number in range(log_chain.KEPT + 3):
        write(folder / "2.log", b"%d" % number)
        log_chain.rotate(folder / "2.log")
    assert [path.name for path in log_chain.chain(folder, 2)] == [f"2.log.{n}" for n in (4, 5, 6, 7)]
    assert log_chain.current(tmp_path) == [(folder / "2.log", -1)]
    for attempt in range(4):
        write(folder / f"{attempt}.log", b"x" * 100)
    log_chain.trim(tmp_path)
    assert log_chain.attempts(folder) == [2, 3]
    with patch.object(log_chain, "POD_LIMIT", 300):
        log_chain.trim(tmp_path)
    left = log_chain.chain(folder, 2) + log_chain.chain(folder, 3)
    assert folder / "3.log" in left, "what is written is not taken away"
    assert sum(path.stat().st_size for path in left) <= 300


def test_whoever_prints_fast_is_looked_at_often(tmp_path: Path) -> None:
    folder = tmp_path / "c"
    folder.mkdir()
    growth = Growth()
    write(folder / "0.log", b"x")
    growth.begin()
    assert (growth.look(tmp_path), growth.pause_s(1)) == ([], LOOK_EVERY_S)
    assert growth.pause_s(1000) > LOOK_EVERY_S
    with patch.object(log_chain, "ROTATE_AT", 10_000):
        write(folder / "0.log", b"x" * 9000)
        growth.begin()
        assert (growth.look(tmp_path), growth.pause_s(1)) == ([], HURRY_S)
        write(folder / "0.log", b"x" * 9000)
        growth.begin()
        assert growth.look(tmp_path) == [folder / "0.log"]
        log_chain.rotate(folder / "0.log")
        # The runtime was not told yet, or whoever should was killed: it is told again.
        growth.begin()
        assert growth.look(tmp_path) == [folder / "0.log"]


def test_logs_are_not_followed_through_links(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"%b stdout F secret\n" % TIME)
    (tmp_path / "c").mkdir()
    (tmp_path / "c/0.log").symlink_to(tmp_path / "secret")
    assert log_chain.open_chain(tmp_path / "c", 0) == []
