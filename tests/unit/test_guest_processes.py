"""The agent's process table, on this host: a folder stands for the tenant's cgroup."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from alcove.guest import cgroup
from alcove.guest.processes import TENANT_USER, Process, ProcessTable

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="only root can start processes as another user")


@pytest.fixture
def group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "cgroup.procs").write_text("")
    (tmp_path / "memory.events").write_text("oom 0\noom_kill 0\n")
    monkeypatch.setattr(cgroup, "TENANT", str(tmp_path))
    return tmp_path


class Table(ProcessTable):
    """With what the agent's loop does, in short."""

    def run(self, source: str, **options: Any) -> Process:
        def child() -> None:
            os.execve("/bin/sh", ["/bin/sh", "-c", source], {"PATH": "/usr/bin:/bin"})

        return self.start(child, **options)

    def end(self, process: Process, patience_s: float = 10.0) -> dict[str, Any]:
        deadline = time.monotonic() + patience_s
        while process.report is None:
            assert time.monotonic() < deadline
            self.expire()
            self.reap()
            time.sleep(0.005)
        return process.report


@pytest.fixture
def table(group: Path) -> Iterator[Table]:
    made = Table(keep=3)
    yield made
    for process in made.by_number.values():
        if process.report is None:
            made.signal(process, signal.SIGKILL)
            made.end(process)


def printed(process: Process) -> dict[int, bytes]:
    """Read both outputs to their ends."""
    seen = {1: b"", 2: b""}
    for fd, stream in process.outputs.items():
        while select.select([fd], [], [], 10)[0]:
            data = os.read(fd, 65536)
            if not data:
                break
            seen[stream] += data
        os.close(fd)
    return seen


def test_a_process_is_the_tenants(table: Table, group: Path) -> None:
    process = table.run(
        "id -u; id -g; id -G; cat /proc/self/oom_score_adj; ls /proc/self/fd; readlink /proc/self/fd/0;"
        " grep -E 'NoNewPrivs|SigIgn|SigBlk' /proc/self/status; ulimit -c; ulimit -n;"
        " [ $(cut -d' ' -f6 /proc/$$/stat) = $$ ] && echo leads; echo oops >&2"
    )
    seen = printed(process)
    assert table.end(process) == {
        "process": 1,
        "runtime": False,
        "reason": "exited",
        "code": 0,
        "signal": None,
    }
    lines = seen[1].decode().split()
    user = str(TENANT_USER)
    assert lines[:4] == [user, user, user, "0"]
    # ls itself has the folder open as 3.
    assert lines[4:9] == ["0", "1", "2", "3", "/dev/null"]
    assert lines[9:12] == ["SigBlk:", "0" * 16, "SigIgn:"]
    ignored = int(lines[12], 16)
    for number in (signal.SIGPIPE, signal.SIGCHLD, signal.SIGINT, signal.SIGTERM):
        assert not ignored >> (number - 1) & 1
    assert lines[13:] == ["NoNewPrivs:", "1", "0", "1024", "leads"]
    assert seen[2] == b"oops\n"
    assert (group / "cgroup.procs").read_text() == "0"


@pytest.mark.parametrize(
    ("source", "reason", "code", "number"),
    [
        ("exit 7", "exited", 7, None),
        ("kill -TERM $$", "signal", None, 15),
        ("kill -SEGV $$", "signal", None, 11),
    ],
)
def test_ends_are_reported(table: Table, source: str, reason: str, code: int | None, number: int | None) -> None:
    process = table.run(source, runtime=True)
    printed(process)
    report = table.end(process)
    assert (report["reason"], report["code"], report["signal"]) == (reason, code, number)
    assert report["runtime"] is True


def test_out_of_memory_is_told_from_other_kills(table: Table, group: Path) -> None:
    first = table.run("kill -KILL $$")
    printed(first)
    assert table.end(first)["reason"] == "signal"
    second = table.run("kill -KILL $$")
    printed(second)
    (group / "memory.events").write_text("oom 1\noom_kill 1\n")
    assert table.end(second)["reason"] == "out_of_memory"
    third = table.run("kill -KILL $$")
    printed(third)
    assert table.end(third)["reason"] == "signal"


def test_a_deadline_kills_the_whole_session(table: Table) -> None:
    began = time.monotonic()
    process = table.run("sleep 100 & sleep 100", timeout_s=0.2)
    left = table.expire()
    assert left is not None
    assert 0 < left <= 0.2
    report = table.end(process)
    assert (report["reason"], report["signal"]) == ("timeout", 9)
    # The outputs end with the last process that holds them.
    assert printed(process) == {1: b"", 2: b""}
    assert time.monotonic() - began < 10
    assert table.expire() is None


def test_input_and_the_kept_descriptor(table: Table, tmp_path: Path) -> None:
    (tmp_path / "input").write_text("from stdin")
    kept = os.open("/etc/hostname", os.O_RDONLY)
    stdin = os.open(tmp_path / "input", os.O_RDONLY)

    def child() -> None:
        os.dup2(kept, 3, inheritable=True)
        os.execv("/bin/sh", ["sh", "-c", "cat; readlink /proc/$$/fd/3"])

    try:
        process = table.start(child, stdin=stdin, keep_fd=kept)
    finally:
        os.close(kept)
        os.close(stdin)
    assert printed(process)[1] == b"from stdin/etc/hostname\n"
    table.end(process)


@pytest.mark.parametrize(
    ("act", "text"),
    [
        (lambda: os.execv("/no/such", ["x"]), b"alcove: cannot start: [Errno 2]"),
        (lambda: 1 // 0, b"alcove: cannot start: integer division"),
    ],
)
def test_what_cannot_start_says_so(table: Table, act: Callable[[], Any], text: bytes) -> None:
    process = table.start(act)
    assert printed(process)[2].startswith(text)
    assert table.end(process)["code"] == 126


def test_only_the_last_ends_are_remembered(table: Table) -> None:
    for _ in range(6):
        process = table.run("exit 0")
        printed(process)
        table.end(process)
    assert list(table.by_number) == [4, 5, 6]


def test_signals_to_who_is_gone(table: Table) -> None:
    process = table.run("exit 0")
    printed(process)
    table.end(process)
    assert subprocess.run(["kill", "-0", str(process.pid)], capture_output=True).returncode
    table.signal(process, signal.SIGKILL)
