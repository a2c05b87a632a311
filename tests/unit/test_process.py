"""Processes held by pidfd, and known again by their start time."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import subprocess
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import pytest

from alcove.host.process import Process, ProcessIdentity, boot_id, spawn, start_time


async def test_its_end_is_waited_for() -> None:
    process = spawn(["/bin/sh", "-c", "exit 7"])
    assert await process.wait() == 7
    assert await process.wait() == 7
    assert not process.identity.alive()
    process.release()
    process.release()


async def test_a_wait_that_is_cancelled_leaves_it_running() -> None:
    process = spawn(["/bin/sleep", "60"])
    before = len(os.listdir("/proc/self/fd"))
    waiting = asyncio.ensure_future(process.wait())
    await asyncio.sleep(0.05)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert len(os.listdir("/proc/self/fd")) == before
    assert not process.exited()
    process.signal(signal.SIGKILL)
    assert await process.wait() == -9
    process.release()


async def test_signals_after_its_end_reach_nobody() -> None:
    process = spawn(["/bin/true"])
    await process.wait()
    process.signal(signal.SIGKILL)
    process.release()
    process.signal(signal.SIGKILL)
    assert process.exited()
    assert await process.wait() == 0


async def test_it_is_known_again() -> None:
    process = spawn(["/bin/sleep", "60"])
    identity = ProcessIdentity.from_json(process.identity.to_json())
    assert identity == process.identity
    assert identity.alive()
    adopted = Process.adopt(identity)
    assert adopted is not None
    adopted.signal(signal.SIGTERM)
    await adopted.wait()
    assert await process.wait() == -15
    assert Process.adopt(identity) is None
    adopted.release()
    process.release()


async def test_another_process_with_its_number_is_left_alone() -> None:
    process = spawn(["/bin/sleep", "60"])
    for other in (
        replace(process.identity, started=process.identity.started - 1),
        replace(process.identity, boot="another boot"),
        ProcessIdentity(0, 0, boot_id()),
        ProcessIdentity(-1, 0, boot_id()),
    ):
        assert Process.adopt(other) is None
        assert not other.alive()
    assert process.identity.alive()
    process.signal(signal.SIGKILL)
    await process.wait()
    process.release()


def test_a_zombie_is_no_process() -> None:
    child = subprocess.Popen(["/bin/true"])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert start_time(child.pid) is None
    child.wait()
    assert start_time(child.pid) is None


async def test_it_inherits_what_it_is_given_and_nothing_else() -> None:
    reader, writer = os.pipe()
    with tempfile.TemporaryFile() as output, open("/etc/hostname") as other:
        os.set_inheritable(other.fileno(), False)
        source = "ls -m /proc/$$/fd; env | sort | tr '\\n' ' '; pwd; ps -o sid= -p $$; echo $$"
        process = spawn(["/bin/sh", "-c", source], pass_fds=[writer], output=output.fileno())
        assert await process.wait() == 0
        output.seek(0)
        listing, environment, session, number = output.read().decode().splitlines()
    assert set(listing.replace(" ", "").split(",")) - {"10"} == {"0", "1", "2", str(writer)}
    assert "LANG=C.UTF-8" in environment
    assert "HOME" not in environment
    assert environment.endswith(" /")
    assert session.strip() == number
    os.close(reader)
    os.close(writer)
    process.release()


def test_what_is_not_there_cannot_be_spawned() -> None:
    with pytest.raises(FileNotFoundError):
        spawn(["/no/such/program"])


def test_a_child_that_is_left_running_is_reaped_later() -> None:
    """It used to be collected as garbage while it ran: a warning, and a zombie when it ended."""
    child = spawn(["/bin/sleep", "60"])
    pid = child.pid
    child.release()
    del child
    gc.collect()
    assert Path(f"/proc/{pid}").exists()
    os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + 10
    while Path(f"/proc/{pid}").exists():
        assert time.monotonic() < deadline, "a zombie is left"
        other = spawn(["/bin/true"])
        # Itself it is not to be one that is left.
        while not other.exited():
            time.sleep(0.01)
        other.release()
