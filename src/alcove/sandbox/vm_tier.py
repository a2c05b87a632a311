"""The tier ``vm``: starts machines, adopts what an earlier daemon left running, reaps what a crash left.

A start is a restore where a template fits and a cold boot where none does; a published version's start is a restore
of its snapshot.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import tempfile
from collections.abc import AsyncIterator, Callable, Iterable
from pathlib import Path
from typing import Any

from alcove.errors import SandboxError, SandboxLost
from alcove.host.cgroup import Cgroup
from alcove.host.memory import create_memory
from alcove.host.process import Process, ProcessIdentity, spawn
from alcove.host.threads import to_the_end
from alcove.sandbox.agent import AgentClient
from alcove.sandbox.protocol import Adopts, Isolation, Runtime, SandboxId, SnapshotUnfit, Start, Workload, adopt_none
from alcove.sandbox.snapshots import Snapshots
from alcove.sandbox.templates import BOOT_TIMEOUT_S, Templates
from alcove.sandbox.vm import VmSandbox
from alcove.sandbox.vm_launcher import MEMORY_MIB, Launcher
from alcove.sandbox.waiting import WaitingMachines
from alcove.vmm.jail import PROGRAM, remove_other_jails
from alcove.vmm.machine import Machine, RestoreError
from alcove.vmm.qmp import Monitor, listen
from alcove.vmm.spec import MIB, render
from alcove.vmm.template import SavedMachine

log = logging.getLogger(__name__)


class VmTier:
    """See the module's docstring. ``snapshot_bytes`` is the memory that ready snapshots may take."""

    isolation = Isolation.VM

    def __init__(self, launcher: Launcher, state: Path, *, waiting: int = 1, snapshot_bytes: int = 4 << 30) -> None:
        self.launcher = launcher
        self.templates = Templates(launcher, state / "templates")
        self.snapshots = Snapshots(launcher, self.templates, state / "snapshots", limit_bytes=snapshot_bytes)
        self.waiting = WaitingMachines(launcher, waiting)
        for shelf in (self.templates.shelf, self.snapshots.shelf):
            shelf.removed = self.waiting.forget

    async def prepare(self, runtime: Runtime, progress: Callable[[str], None] | None = None) -> None:
        await self.templates.get(runtime, progress or log.info)

    def has_image(self, runtime: Runtime) -> bool:
        return self.launcher.images.find(runtime) is not None

    async def prepare_kernel(
        self, runtime: Runtime, kernel: str, progress: Callable[[str], None] | None = None
    ) -> None:
        await self.templates.get(runtime, progress or log.info, kernel=kernel)

    def has_kernel(self, runtime: Runtime, kernel: str) -> bool:
        return self.has_image(runtime) and self.templates.key(runtime, kernel) in self.templates.shelf

    async def keep_waiting(self, runtime: Runtime, count: int) -> None:
        """Keep ``count`` QEMUs of this runtime's template waiting from now on."""
        await self.waiting.keep(runtime, await self.templates.get(runtime), count)

    # Starts

    async def start(self, runtime: Runtime, how: Start | None = None) -> VmSandbox:
        """Start a machine without code. ``how`` None restores, and boots cold where the template does not fit."""
        return await self._start(runtime, how, "")

    async def start_kernel(self, runtime: Runtime, kernel: str) -> VmSandbox:
        """As ``start``, on the kernel of that digest."""
        return await self._start(runtime, None, kernel)

    async def _start(self, runtime: Runtime, how: Start | None, kernel: str) -> VmSandbox:
        if how is Start.BOOTED:
            return await self._boot(runtime, kernel)
        saved = await self.templates.get(runtime, kernel=kernel)
        try:
            return await self._restore(runtime, saved, Start.RESTORED)
        except RestoreError as error:
            if how is Start.RESTORED:
                raise
            log.warning("template %s does not fit, booting cold: %s", runtime, error)
            await self.templates.discard(saved)
            return await self._boot(runtime, kernel)

    async def _boot(self, runtime: Runtime, kernel: str) -> VmSandbox:
        memory = create_memory("alcove-boot", MEMORY_MIB * MIB)
        try:
            sandbox = await self.launcher.launch(
                runtime,
                Start.BOOTED,
                memory_fd=memory,
                scratch_fd=self.launcher.empty_scratch_fd,
                boot=True,
                kernel=kernel,
            )
        finally:
            os.close(memory)
        try:
            await sandbox.boot(BOOT_TIMEOUT_S)
            await sandbox.agent.batch(sandbox.personality())
            sandbox.personalised = True
        except BaseException:
            await sandbox.close()
            raise
        return sandbox

    async def _restore(self, runtime: Runtime, saved: SavedMachine, start: Start) -> VmSandbox:
        with saved.held():
            sandbox = await self.waiting.take(runtime, saved, start)
            state = saved.state()
            try:
                await sandbox.restore(state)
            except BaseException:
                await sandbox.close()
                raise
            finally:
                os.close(state)
            return sandbox

    @contextlib.asynccontextmanager
    async def bare_restore(self, runtime: Runtime) -> AsyncIterator[AgentClient]:
        """Restore the template by QEMU alone, for a floor to measure against: no jail, cgroup, network or record."""
        saved = await self.templates.get(runtime)
        with tempfile.TemporaryDirectory(prefix="alcove-bare-") as name, contextlib.ExitStack() as stack:
            folder = Path(name)
            sockets = {
                part: stack.enter_context(listen(folder / f"{part}.sock")) for part in ("qmp", "agent", "invoke")
            }
            image = await self.launcher.images.get(runtime)
            root = os.open(image.root, os.O_RDONLY | os.O_CLOEXEC)
            stack.callback(os.close, root)
            spec = self.launcher.spec("bare", saved.memory_fd, root, sockets)
            state = saved.state()
            stack.callback(os.close, state)
            # No cgroup tells of it after a crash: it ends with us.
            argv = ["/usr/bin/setpriv", "--pdeathsig", "KILL", "--", str(PROGRAM), *render(spec)]
            machine = Machine("bare", spawn(argv, pass_fds=spec.descriptors()), Monitor())
            try:
                await machine.monitor.connect(folder / "qmp.sock")
                await machine.expect_state()
                agent = await AgentClient.connect(folder / "agent.sock")
                stack.callback(agent.close)
                await machine.restore(state)
                await machine.resume()
                yield agent
            finally:
                await machine.kill()

    # Snapshots of published versions

    async def snapshot(self, workload: Workload) -> None:
        """Save the version after its init code. Raises ``InitError`` where the code fails."""
        await self.snapshots.take(workload)

    def has_snapshot(self, workload: Workload) -> bool:
        return self.snapshots.key(workload) in self.snapshots.shelf

    async def start_snapshot(self, workload: Workload) -> VmSandbox:
        """Restore the version's snapshot: loaded, its init code run. Raises ``SnapshotUnfit`` where there is
        none; one that does not fit is dropped.
        """
        try:
            return await self._wake(workload)
        except SandboxLost as lost:
            # QEMU 7.2's emulation crashes once in some thousand starts.
            log.warning("a machine for %s was lost while it started, another is started: %s", workload.arn, lost)
            return await self._wake(workload)

    async def _wake(self, workload: Workload) -> VmSandbox:
        key = self.snapshots.key(workload)
        saved = await self.snapshots.shelf.find(key)
        if saved is None:
            raise SnapshotUnfit("this version has no snapshot")
        try:
            sandbox = await self._restore(workload.runtime, saved, Start.SNAPSHOT)
        except RestoreError as error:
            log.warning("the snapshot of %s does not fit: %s", workload.arn, error)
            await self.snapshots.discard(saved)
            raise SnapshotUnfit(str(error)) from error
        try:
            await sandbox.wake(workload)
        except BaseException:
            await sandbox.close()
            raise
        return sandbox

    async def drop_snapshot(self, workload: Workload) -> None:
        await self.snapshots.drop(workload)

    async def retain(self, published: Iterable[Workload]) -> None:
        """After ``recover``: remove what nothing here can use again, which is old guest images, QEMUs and templates,
        and snapshots of versions that are not published.
        """
        await self.templates.retain_current()
        await self.snapshots.retain(published)
        await to_the_end(self.launcher.images.remove_others)
        # Pods' machines too, which are adopted later.
        if not any(name.startswith(("s-", "p-")) for name in Cgroup.list_children(self.launcher.tag)):
            await to_the_end(remove_other_jails, self.launcher.jail)

    # After a crash, and at the end

    async def recover(self, adopt: Adopts = adopt_none) -> list[VmSandbox]:
        """Adopt the loaded machines that ``adopt`` accepts (by record) and destroy every other leftover.

        Order matters: processes die by their cgroup first, so that a machine whose record was never completed
        is reaped too.
        """
        adopted: list[VmSandbox] = []
        records = self.launcher.records
        for id, record in records.all().items():
            if record.get("tier", "vm") != "vm":
                continue
            sandbox = await self._adopt(id, record) if record.get("step") == "loaded" and adopt(record) else None
            if sandbox is not None:
                adopted.append(sandbox)
            else:
                await self._reap(id, record)
        kept = {sandbox.id for sandbox in adopted}
        for name in Cgroup.list_children(self.launcher.tag):
            if name.startswith("s-") and name not in kept and name not in records.all():
                stray = Cgroup(self.launcher.tag, name)
                await to_the_end(stray.kill_all)
                await to_the_end(stray.remove)
        return adopted

    async def _adopt(self, id: SandboxId, record: dict[str, Any]) -> VmSandbox | None:
        launcher = self.launcher
        process: Process | None = None
        sandbox: VmSandbox | None = None
        try:
            identity = ProcessIdentity.from_json(record["process"])
            process = Process.adopt(identity)
            if process is None:
                return None
            machine = await Machine.adopt(id, process, launcher.records.folder / id / "qmp.sock")
            resources = launcher.resources(id, int(record["user"]), machine)
            if record.get("address") and launcher.network is not None:
                resources.tap = await launcher.network.adopt(record["address"], record.get("tenant"))
            sandbox = launcher.sandbox(resources, Runtime(record["runtime"]), Start(record["start"]))
            sandbox.personalised = True
            sandbox.revision = str(record.get("revision") or "")
            await sandbox.connect()
            await sandbox.ping(timeout_s=10)
        except (SandboxError, KeyError, TypeError, ValueError, OSError, TimeoutError) as error:
            log.warning("sandbox %s cannot be adopted: %s", id, error)
            if sandbox is not None:
                # Its processes are reaped by their cgroup, like any other's.
                await sandbox.close()
            elif process is not None:
                process.release()
            return None
        launcher.adopted(sandbox)
        return sandbox

    async def _reap(self, id: SandboxId, record: dict[str, Any]) -> None:
        process = None
        with contextlib.suppress(KeyError, TypeError, ValueError):
            process = Process.adopt(ProcessIdentity.from_json(record["process"]))
        if process is not None:
            process.signal(signal.SIGKILL)
            await process.wait()
            process.release()
        cgroup = Cgroup(self.launcher.tag, id)
        await to_the_end(cgroup.kill_all)
        await to_the_end(cgroup.remove)
        self.launcher.records.remove(id)
        log.info("reaped sandbox %s, left by an earlier daemon", id)

    async def close(self, *, keep: Callable[[VmSandbox], bool] = lambda sandbox: False) -> None:
        """Destroy every machine but those to ``keep``, which a later daemon adopts."""
        self.launcher.closing = True
        await self.waiting.close()
        await self.launcher.close(keep)
        self.templates.shelf.close()
        self.snapshots.shelf.close()
        await self.waiting.close()
