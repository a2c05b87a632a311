"""Saved machines that are damaged or do not fit: discarded, made anew, and whoever asked is served."""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from tests.machine.lab import PLAIN, Lab, leftovers, open_lab, until

from alcove.host.memory import create_memory, seal_memory
from alcove.sandbox.protocol import Runtime, SnapshotUnfit, Start
from alcove.vmm.machine import RestoreError, anonymous_file
from alcove.vmm.template import SavedMachine

pytestmark = [pytest.mark.machine, pytest.mark.asyncio(loop_scope="session")]


@asynccontextmanager
async def fresh(lab: Lab) -> AsyncIterator[Lab]:
    """An engine that starts now, on a copy of the state."""
    state = lab.state.parent / "damaged"
    shutil.rmtree(state, ignore_errors=True)
    state.mkdir(mode=0o700)
    subprocess.run(["cp", "-a", "--sparse=always", lab.state / "templates", state / "templates"], check=True)
    try:
        yield Lab(state, lab.tier, lab.network, lab.code)
    finally:
        shutil.rmtree(state)


@pytest.mark.parametrize("damage", ["truncated", "altered", "state", "manifest"])
async def test_a_damaged_template_is_made_anew(lab: Lab, damage: str, caplog: pytest.LogCaptureFixture) -> None:
    key = lab.tier.templates.key(Runtime.PYTHON)
    async with fresh(lab) as copy:
        folder = copy.state / "templates" / key
        if damage == "truncated":
            os.truncate(folder / "memory", 1 << 30)
        elif damage == "altered":
            with (folder / "memory").open("r+b") as file:
                file.seek(64 << 20)
                file.write(b"altered")
        elif damage == "state":
            with (folder / "state").open("r+b") as file:
                file.write(b"\xff" * 64)
        else:
            (folder / "manifest.json").write_text("[]")
        with caplog.at_level(logging.WARNING):
            async with open_lab(copy.state) as damaged:
                assert "is discarded and will be made anew" in caplog.text
                guest = await damaged.load(PLAIN, how=Start.RESTORED)
                assert await guest.call(1) == 1
                await damaged.close(show=False)
        assert json.loads((folder / "manifest.json").read_text())["memory_sha256"]


def misfit(key: str) -> SavedMachine:
    """A saved machine whose state is garbage, although all that is checked is right."""
    memory = create_memory("misfit", 3328 << 20)
    os.pwrite(memory, b"garbage", 1 << 20)
    seal_memory(memory)
    state = anonymous_file("misfit")
    os.write(state, b"QEVM" + os.urandom(4096))
    return SavedMachine(key, memory, state)


async def test_a_template_that_does_not_fit_boots_cold(lab: Lab, caplog: pytest.LogCaptureFixture) -> None:
    tier = lab.tier
    key = tier.templates.key(Runtime.PYTHON)
    shelf = tier.templates.shelf
    shutil.copytree(lab.state / "templates" / key, lab.state / "kept-template", copy_function=_sparse)
    try:
        shelf.put(bad := misfit(key))
        with pytest.raises(RestoreError):
            await tier.start(Runtime.PYTHON, Start.RESTORED)
        await tier.keep_waiting(Runtime.PYTHON, 1)
        guest = await lab.load(PLAIN)
        assert guest.sandbox.start is Start.BOOTED
        assert await guest.call(1) == 1
        assert "does not fit, booting cold" in caplog.text
        # No QEMU waits with the bad memory for a state of the next template.
        assert not tier.waiting.count(key)
        assert bad.closed
        assert not (lab.state / "templates" / key).exists()
    finally:
        tier.waiting.size = 0
        await shelf.drop(key)
        (lab.state / "kept-template").rename(lab.state / "templates" / key)
    again = await lab.load(PLAIN)
    assert again.sandbox.start is Start.RESTORED


def _sparse(source: str, target: str) -> None:
    subprocess.run(["cp", "-a", "--sparse=always", source, target], check=True)


async def test_a_snapshot_that_does_not_fit_is_refused(lab: Lab) -> None:
    load = await lab.workload(version="21")
    key = lab.tier.snapshots.key(load)
    lab.tier.snapshots.shelf.put(misfit(key))
    with pytest.raises(SnapshotUnfit):
        await lab.tier.start_snapshot(load)
    assert not lab.tier.has_snapshot(load)
    await until(lambda: not leftovers(lab.state))


async def test_a_snapshot_can_be_dropped_while_it_is_restored(lab: Lab) -> None:
    """Its descriptors stay what they are until the restore is through."""
    import asyncio

    load = await lab.workload(version="22")
    await lab.tier.snapshot(load)
    start = asyncio.create_task(lab.tier.start_snapshot(load))
    await asyncio.sleep(0.03)
    await lab.tier.drop_snapshot(load)
    guest = lab.guest(await start)
    assert await guest.do("result = 1") == 1
    # No QEMU is left waiting for what is gone.
    await asyncio.sleep(0.6)
    assert not lab.tier.waiting.count(lab.tier.snapshots.key(load))


async def test_a_change_of_version_gives_another_template(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    key = lab.tier.templates.key(Runtime.PYTHON)
    assert key != lab.tier.templates.key(Runtime.NODE)
    for module, value in (("ENGINE", 1), ("KERNEL_COMMAND_LINE", "other"), ("MEMORY_MIB", 512)):
        with monkeypatch.context() as patch:
            patch.setattr(f"alcove.sandbox.templates.{module}", value)
            assert lab.tier.templates.key(Runtime.PYTHON) != key
    assert Path(lab.state / "templates" / key).exists()
