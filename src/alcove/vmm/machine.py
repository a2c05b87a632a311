"""One machine: a jailed QEMU, from its launch to its end.

A machine owns its process, its monitor and its user id, nothing else: cgroup, tap, memory and folder belong to
whoever launched it.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from alcove.errors import SandboxError, SandboxGone
from alcove.host.process import Process, spawn
from alcove.vmm.jail import LARGEST_FILE, Jail
from alcove.vmm.qmp import Command, CommandError, Monitor
from alcove.vmm.spec import DiskIo, MachineSpec, render

_IGNORE_SHARED = {"capabilities": [{"capability": "x-ignore-shared", "state": True}]}
_fd_sets = itertools.count(1000)


class RestoreError(SandboxError):
    """A saved state does not fit this machine: boot cold instead."""


class Machine:
    """A running QEMU. Methods raise ``SandboxGone`` once it has died. ``output`` is the file that it prints to."""

    def __init__(
        self,
        name: str,
        process: Process,
        monitor: Monitor,
        disk_io: DiskIo = DiskIo.THREADS,
        output: IO[bytes] | None = None,
    ) -> None:
        self.name = name
        self.process = process
        self.monitor = monitor
        self._output = output
        self._disk_io = disk_io
        self._backing: dict[str, tuple[str, int]] = {}
        self._unused: list[tuple[str, int]] = []

    @classmethod
    async def launch(
        cls,
        spec: MachineSpec,
        jail: Jail,
        *,
        user: int,
        cgroup_files: Sequence[Path],
        monitor_path: Path,
        largest_file: int = LARGEST_FILE,
    ) -> Machine:
        """Start QEMU and connect to its monitor. Raises ``SandboxError`` with QEMU's own words where it does
        not start.
        """
        with contextlib.ExitStack() as stack:
            output = stack.enter_context(tempfile.TemporaryFile())
            argv = jail.command(render(spec), user=user, cgroup_files=cgroup_files, largest_file=largest_file)
            process = spawn(argv, pass_fds=spec.descriptors(), output=output.fileno())
            monitor = Monitor()
            connecting = asyncio.ensure_future(monitor.connect(monitor_path))
            dying = asyncio.ensure_future(process.wait())
            try:
                await asyncio.wait({connecting, dying}, return_when=asyncio.FIRST_COMPLETED)
                if not connecting.done():
                    raise SandboxError(f"QEMU did not start: {_words(output) or 'no message'}")
                await connecting
            except BaseException:
                process.signal(signal.SIGKILL)
                connecting.cancel()
                await asyncio.gather(connecting, return_exceptions=True)
                await monitor.close()
                await dying
                process.release()
                raise
            finally:
                if not dying.done():
                    dying.cancel()
                    await asyncio.gather(dying, return_exceptions=True)
            stack.pop_all()
        machine = cls(spec.name, process, monitor, spec.disk_io, output)
        if spec.boot is None:
            try:
                await machine.expect_state()
            except BaseException:
                await machine.kill()
                raise
        return machine

    async def expect_state(self) -> None:
        """Prepare for ``restore``, ahead of it."""
        await self.monitor.execute("migrate-set-capabilities", _IGNORE_SHARED)
        # The guest's kernel need not be told to announce its address: it gets another.
        await self.monitor.execute("migrate-set-parameters", {"announce-rounds": 0})

    @classmethod
    async def adopt(cls, name: str, process: Process, monitor_path: Path) -> Machine:
        """Take over a machine that an earlier daemon launched."""
        monitor = Monitor()
        try:
            await monitor.connect(monitor_path, timeout_s=5)
        except BaseException:
            await monitor.close()
            raise
        return cls(name, process, monitor)

    async def restore(self, state: int) -> None:
        """Load the saved device state from the descriptor; the machine stays paused. Raises ``RestoreError``."""
        try:
            await self.monitor.execute_all(
                ("getfd", {"fdname": "state"}), ("migrate-incoming", {"uri": "fd:state"}), fd=state
            )
            await self._await_migration()
        except (CommandError, SandboxGone) as error:
            raise RestoreError(f"the saved state does not fit: {error}") from error

    async def save(self, state: int) -> None:
        """Pause, and write the device state to the descriptor; the memory is in its shared file."""
        await self.monitor.execute("stop")
        await self.monitor.execute("migrate-set-capabilities", _IGNORE_SHARED)
        await self.monitor.execute("getfd", {"fdname": "state"}, fd=state)
        await self.monitor.execute("migrate", {"uri": "fd:state"})
        await self._await_migration()

    async def saved_state(self) -> bytes:
        """As ``save``; return the device state."""
        state = anonymous_file("alcove-state")
        try:
            await self.save(state)
            return os.pread(state, os.fstat(state).st_size, 0)
        finally:
            os.close(state)

    async def _await_migration(self) -> None:
        pause = 0.001
        while True:
            status = await self.monitor.execute("query-migrate")
            match status.get("status"):
                case "completed":
                    return
                case "failed" | "cancelled":
                    raise RestoreError(f"migration failed: {status.get('error-desc', 'no reason given')}")
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, 0.02)

    async def resume(self) -> None:
        await self.monitor.execute("cont")

    async def pause(self) -> None:
        await self.monitor.execute("stop")

    async def swap(self, drive: str, fd: int | None, *, size: int = 0) -> None:
        """Put another file (or nothing, ``size`` bytes of it) behind a live drive, read-only; the guest sees
        the same disk.
        """
        number = next(_fd_sets)
        node = f"{drive}-{number}"
        commands: list[Command] = []
        if fd is None:
            options: dict[str, object] = {"driver": "null-co", "size": size, "read-zeroes": True}
        else:
            commands.append(("add-fd", {"fdset-id": number}))
            options = {"driver": "file", "filename": f"/dev/fdset/{number}", "locking": "off", "aio": self._disk_io}
        commands.append(("blockdev-add", {"node-name": node, "read-only": True, **options}))
        reopened = {"driver": "raw", "node-name": drive, "file": node, "read-only": True}
        commands.append(("blockdev-reopen", {"options": [reopened]}))
        await self.monitor.execute_all(*commands, fd=fd)
        previous, self._backing[drive] = self._backing.get(drive), (node, number)
        if previous is not None:
            self._unused.append(previous)

    async def resize(self, drive: str, size: int) -> None:
        """Give the file behind a live drive that size, and tell the guest."""
        await self.monitor.execute("block_resize", {"node-name": drive, "size": size})

    async def drop_unused(self) -> None:
        """Close the files that were swapped out: apart from ``swap``, which is on the path of a cold start."""
        while self._unused:
            node, number = self._unused.pop()
            with contextlib.suppress(CommandError):
                await self.monitor.execute("blockdev-del", {"node-name": node})
                await self.monitor.execute("remove-fd", {"fdset-id": number})

    async def console(self) -> str:
        """Return what the guest's console holds, at most its last 64 KiB; reading empties it."""
        with contextlib.suppress(CommandError, SandboxGone):
            return str(await self.monitor.execute("ringbuf-read", {"device": "console", "size": 65536}))
        return ""

    async def ended(self) -> str:
        """Wait until it has ended by itself; return how, and QEMU's last words, as far as they are known."""
        status = await self.process.wait()
        how = "by itself" if status is None else f"with status {status}"
        if status is not None and status < 0:
            how = f"by {signal.Signals(-status).name}"
        words = "" if self._output is None or self._output.closed else _words(self._output)
        return f"QEMU ended {how}{': ' + words if words else ''}"

    async def kill(self) -> None:
        """End it and wait until it is gone. Idempotent."""
        self.process.signal(signal.SIGKILL)
        await self.monitor.close()
        await self.process.wait()
        self._let_go()

    async def detach(self) -> None:
        """Let go without ending it: the next daemon adopts it."""
        await self.monitor.close()
        self._let_go()

    def _let_go(self) -> None:
        self.process.release()
        if self._output is not None:
            self._output.close()


def _words(output: IO[bytes]) -> str:
    """Return the last of what QEMU printed."""
    end = output.seek(0, os.SEEK_END)
    output.seek(max(0, end - 2048))
    return output.read(2048).decode(errors="replace").strip()


def anonymous_file(name: str) -> int:
    """Return the descriptor of an empty file in memory, for device state."""
    return os.memfd_create(name, os.MFD_CLOEXEC)
