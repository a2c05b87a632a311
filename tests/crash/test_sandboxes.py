"""SIGKILL of the engine at each step of a machine's life: the next one adopts what runs and leaves nothing else."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from tests.machine.lab import PLAIN, ROOT, Guest, Lab, instance_leftovers, leftovers, open_lab, until

from alcove.host.files import instance_tag
from alcove.host.process import start_time
from alcove.images.code import CodeStore
from alcove.sandbox.engine import open_engine
from alcove.sandbox.protocol import Isolation
from alcove.sandbox.vm_tier import VmTier

pytestmark = pytest.mark.machine

STATE = ROOT / "crash"


@pytest.fixture
def state() -> Iterator[Path]:
    """Templates are kept between runs; after each test nothing else of the instance is left."""
    assert os.geteuid() == 0, "these tests start real machines: run them as root"
    yield STATE
    shutil.rmtree(STATE / "snapshots", ignore_errors=True)
    assert not instance_leftovers(STATE)


def kill_at(state: Path, step: str, delay: float) -> list[str]:
    """Run the driver until it has killed itself; return what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.crash.driver", str(state), step, str(delay)],
        stdout=subprocess.PIPE,
        text=True,
        timeout=120,
        check=False,
    )
    lines = done.stdout.splitlines()
    assert done.returncode == -signal.SIGKILL, lines
    assert f"at {step}" in lines
    return lines


@pytest.mark.parametrize(
    ("step", "delay"),
    [
        ("launch", 0.01),
        ("launch", 0.05),
        ("launch", 0.3),
        ("boot", 1.0),
        ("restore", 0.06),
        ("restore", 0.12),
        ("restore", 0.4),
        ("load", 0.01),
        ("load", 0.08),
        ("invoke", 0.1),
        ("snapshot", 0.2),
        ("snapshot", 0.6),
        ("snapshot", 1.0),
        ("close", 0.01),
        ("close", 0.03),
    ],
)
async def test_nothing_is_left(state: Path, step: str, delay: float) -> None:
    kill_at(state, step, delay)
    async with open_lab(state) as lab:
        # Recovered already.
        assert not leftovers(state)
        for store in ("templates", "snapshots"):
            assert not [entry for entry in (state / store).iterdir() if entry.name.startswith(".")]
        guest = await lab.load(PLAIN)
        assert await guest.call(1) == 1
        await lab.close(show=True)


async def test_a_loaded_machine_is_adopted_and_answers(state: Path) -> None:
    token = kill_at(state, "idle", 0.05)[-2]
    seen: list[Mapping[str, Any]] = []

    def adopt(record: Mapping[str, Any]) -> bool:
        seen.append(record)
        return record["tenant"] == "tenant-a"

    async with AsyncExitStack() as stack:
        tiers, network = await open_engine(stack, state=state, isolations=frozenset({Isolation.VM}))
        tier = tiers[Isolation.VM]
        assert isinstance(tier, VmTier)
        stack.push_async_callback(tier.close)
        (sandbox,) = await tier.recover(adopt)
        assert len(seen) == 1
        assert sandbox.resources.tap is not None
        await network.recover({sandbox.resources.tap.address})
        guest = Guest(sandbox)
        assert await guest.do("result = TOKEN") == token
        await sandbox.close()
        await until(lambda: not leftovers(state))


@pytest.mark.parametrize("what", ["stopped", "killed", "record"])
async def test_a_machine_that_does_not_answer_is_reaped(state: Path, what: str) -> None:
    kill_at(state, "idle", 0.05)
    tag = instance_tag(state)
    (group,) = {path.name for path in Path("/sys/fs/cgroup").glob(f"**/alcove-{tag}/s-*")}
    (pid,) = {
        int(line)
        for path in Path("/sys/fs/cgroup").glob(f"**/alcove-{tag}/{group}/cgroup.procs")
        for line in path.read_text().split()
    }
    if what == "record":
        (state / "sandboxes" / group / "record.json").write_text('{"tier": "vm", "step": "loaded", "process": null}')
    else:
        os.kill(pid, signal.SIGSTOP if what == "stopped" else signal.SIGKILL)
    async with AsyncExitStack() as stack:
        tiers, network = await open_engine(stack, state=state, isolations=frozenset({Isolation.VM}))
        tier = tiers[Isolation.VM]
        assert isinstance(tier, VmTier)
        stack.push_async_callback(tier.close)
        assert await tier.recover(lambda record: True) == []
        await network.recover(set())
        assert not leftovers(state)
        # A process that this machine's init has yet to collect is no process any more.
        assert start_time(pid) is None


async def test_a_machine_can_be_left_to_a_later_engine(state: Path) -> None:
    """A daemon that lets go of its machines leaves them answering."""
    async with AsyncExitStack() as stack:
        tiers, network = await open_engine(stack, state=state, isolations=frozenset({Isolation.VM}))
        first = tiers[Isolation.VM]
        assert isinstance(first, VmTier)
        code = CodeStore(state / "code")
        stack.callback(code.close)
        guest = await Lab(state, first, network, code).load()
        token = await guest.do("result = TOKEN")
        await first.close(keep=lambda sandbox: True)
        tiers, _ = await open_engine(stack, state=state, isolations=frozenset({Isolation.VM}))
        second = tiers[Isolation.VM]
        assert isinstance(second, VmTier)
        stack.push_async_callback(second.close)
        (sandbox,) = await second.recover(lambda record: True)
        assert await Guest(sandbox).do("result = TOKEN") == token
        await sandbox.close()
