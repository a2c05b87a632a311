"""The tier ``vm``: launches machines, builds templates and snapshots, keeps QEMUs waiting, reaps what a crash left.

A start is a restore where a template fits and a cold boot where none does. QEMU's own start (some 50 ms) is taken off
the path by machines that are launched ahead and wait for their state. A template is built by one machine
on shared memory that is sealed afterwards; every other machine maps it privately.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import tempfile
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any

from alcove.errors import CapacityError, HostError, SandboxError
from alcove.host.cgroup import Cgroup
from alcove.host.files import private_folder
from alcove.host.io_uring import io_uring_works
from alcove.host.memory import copy_sparse, create_memory
from alcove.host.network import Network
from alcove.host.process import Process, ProcessIdentity, spawn
from alcove.host.resources import start_failure
from alcove.host.threads import to_the_end
from alcove.images.code import IMAGE_SIZE
from alcove.images.guest import GuestImage
from alcove.sandbox.agent import AgentClient
from alcove.sandbox.protocol import Adopts, Isolation, Runtime, SandboxId, Start, Workload, adopt_none
from alcove.sandbox.record import RecordStore, new_id
from alcove.sandbox.vm import CODE_DRIVE, VmResources, VmSandbox, destroy, personality
from alcove.vmm.accelerator import Accelerator
from alcove.vmm.jail import FIRST_USER, PROGRAM, USERS, Jail
from alcove.vmm.machine import Machine, RestoreError, anonymous_file
from alcove.vmm.qmp import Monitor, listen
from alcove.vmm.spec import KERNEL_COMMAND_LINE, MIB, AcceleratorKind, Boot, Channel, DiskIo, Drive, MachineSpec, render
from alcove.vmm.template import MachineStore, SavedMachine, machine_key

log = logging.getLogger(__name__)

# The largest function (3,008 MB) and what the guest's kernel and agent need. The file is sparse and shared: one
# template serves every size, and cgroups inside and outside hold each function to its own.
MEMORY_MIB = 3328
# Outside a function's own limit: QEMU itself, its translation buffer, the guest's kernel.
OVERHEAD_MIB = 512
HOST_PIDS = 64
BOOT_TIMEOUT_S = 120.0
# How many times a template's machine rehearses before it is saved: the second finds the paths of the first warm.
REHEARSALS = 2
# What the guest's kernel has put off (RCU callbacks, work queues) it does before it is saved: else each restored
# machine would do it, before its first answer.
SETTLE_S = 1.0
# Published versions for whose snapshot a QEMU waits (some 18 MiB each).
WAITING_SNAPSHOTS = 4
# Emulation takes 10 to 30 times the processor time for the same work. A function is limited to its share of work, not
# of time, or the smallest would take a minute to start; among themselves functions keep the proportion by their
# weights.
EMULATION_COST = 10.0
# Bump when the engine changes what a saved machine holds.
ENGINE = 1


class VmTier:
    """See the module's docstring."""

    isolation = Isolation.VM

    def __init__(
        self,
        *,
        state: Path,
        tag: str,
        image: GuestImage,
        jail: Jail,
        accelerator: Accelerator,
        network: Network | None,
        rehearsal_image: Path,
        waiting: int = 1,
    ) -> None:
        self._tag = tag
        self._image = image
        self._jail = jail
        self._accelerator = accelerator
        self._network = network
        self._rehearsal_image = rehearsal_image
        self._records = RecordStore(state / "sandboxes")
        self._templates = MachineStore(state / "templates")
        self._snapshots = MachineStore(state / "snapshots")
        self._loaded: dict[str, SavedMachine] = {}
        self._waiting: dict[str, deque[VmSandbox]] = {}
        self._waiting_size = waiting
        self._cpu_scale = EMULATION_COST if accelerator.kind is AcceleratorKind.TCG else 1.0
        self._disk_io = DiskIo.IO_URING if io_uring_works() else DiskIo.THREADS
        self._users = iter(range(FIRST_USER, FIRST_USER + USERS))
        self._taken: set[int] = set()
        self._snapshot_keys: list[str] = []
        self._live: set[VmSandbox] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._prepare_lock = asyncio.Lock()
        self._closing = False
        private_folder(state / "sandboxes")

    # Launch

    async def _launch(
        self,
        runtime: Runtime,
        start: Start,
        *,
        memory_fd: int,
        share: bool,
        boot: bool = False,
        network: bool = True,
    ) -> VmSandbox:
        """Launch a machine and connect to it; everything is freed again where that fails."""
        if self._closing:
            raise CapacityError("the service is stopping")
        id = new_id()
        user = self._take_user()
        folder = self._records.create(id, {"tier": "vm", "step": "launching", "user": user})
        resources = VmResources(id, folder, Cgroup(self._tag, id), user, cpu_scale=self._cpu_scale)
        sandbox: VmSandbox | None = None
        try:
            await to_the_end(resources.cgroup.create)
            resources.cgroup.set_limits(memory_bytes=(MEMORY_MIB + OVERHEAD_MIB) * MIB, pids=HOST_PIDS)
            if network and self._network is not None:
                resources.tap = await self._network.tap()
            resources.machine = await self._start_machine(resources, memory_fd, share=share, boot=boot)
            if resources.tap is not None:
                resources.tap.close()
            sandbox = VmSandbox(
                resources,
                runtime,
                start,
                network=self._network,
                records=self._records,
                rehearsal_image=self._rehearsal_image,
                release=self._released,
            )
            sandbox.record("launched")
            await sandbox.connect()
        except BaseException as error:
            if sandbox is not None:
                sandbox.detach()
            await destroy(resources, self._network, self._records)
            self._taken.discard(user)
            if isinstance(error, OSError):
                raise start_failure(error, "machine") from error
            raise
        self._live.add(sandbox)
        return sandbox

    async def _start_machine(self, resources: VmResources, memory_fd: int, *, share: bool, boot: bool) -> Machine:
        with contextlib.ExitStack() as stack:
            sockets = {
                name: stack.enter_context(listen(resources.folder / f"{name}.sock"))
                for name in ("qmp", "agent", "invoke")
            }

            def open_file(path: Path) -> int:
                fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
                stack.callback(os.close, fd)
                return fd

            boot_from = (
                Boot(open_file(self._image.kernel), open_file(self._image.initrd), KERNEL_COMMAND_LINE)
                if boot
                else None
            )
            spec = self._spec(
                resources.id,
                memory_fd,
                open_file(self._image.root),
                sockets,
                share=share,
                boot=boot_from,
                tap_fd=resources.tap.fd if resources.tap is not None else None,
            )
            return await Machine.launch(
                spec,
                self._jail,
                user=resources.user,
                cgroup_files=resources.cgroup.procs_files(),
                monitor_path=resources.folder / "qmp.sock",
            )

    def _spec(
        self,
        name: str,
        memory_fd: int,
        root_fd: int,
        sockets: Mapping[str, socket.socket],
        *,
        share: bool = False,
        boot: Boot | None = None,
        tap_fd: int | None = None,
    ) -> MachineSpec:
        return MachineSpec(
            name=name,
            accelerator=self._accelerator.kind,
            memory_mib=MEMORY_MIB,
            memory_fd=memory_fd,
            share=share,
            drives=(Drive("root", root_fd), Drive(CODE_DRIVE, None, size=IMAGE_SIZE)),
            channels=(
                Channel("alcove.agent", sockets["agent"].fileno()),
                Channel("alcove.invoke", sockets["invoke"].fileno()),
            ),
            qmp_fd=sockets["qmp"].fileno(),
            tap_fd=tap_fd,
            boot=boot,
            disk_io=self._disk_io,
        )

    def _take_user(self) -> int:
        for _ in range(USERS):
            user = next(self._users, None)
            if user is None:
                self._users = iter(range(FIRST_USER, FIRST_USER + USERS))
                continue
            if user not in self._taken:
                self._taken.add(user)
                return user
        raise CapacityError("every machine user is taken", hint="stop sandboxes, then try again")

    def _released(self, sandbox: VmSandbox) -> None:
        self._live.discard(sandbox)
        self._taken.discard(sandbox.resources.user)

    # Templates

    def template_key(self, runtime: Runtime) -> str:
        """Return the name of the template: a change of anything it depends on gives another."""
        return machine_key(
            engine=ENGINE,
            image=self._image.digest,
            qemu=self._jail.digest,
            accelerator=str(self._accelerator.kind),
            cpu=self._accelerator.kind.cpu(),
            memory_mib=MEMORY_MIB,
            command_line=KERNEL_COMMAND_LINE,
            runtime=str(runtime),
        )

    async def prepare(self, runtime: Runtime, progress: Callable[[str], None] | None = None) -> None:
        await self._template(runtime, progress or (lambda line: None))

    async def _template(self, runtime: Runtime, progress: Callable[[str], None]) -> SavedMachine:
        key = self.template_key(runtime)
        async with self._prepare_lock:
            saved = self._loaded.get(key)
            if saved is None:
                saved = await to_the_end(self._templates.load, key)
            if saved is None:
                progress(f"template {runtime}: booting a machine to save")
                saved = await self._build_template(runtime, key)
                progress(f"template {runtime}: saved, {saved.memory_bytes() >> 20} MiB")
            self._loaded[key] = saved
            return saved

    async def _build_template(self, runtime: Runtime, key: str) -> SavedMachine:
        memory = create_memory(f"alcove-{key[:8]}", MEMORY_MIB * MIB)
        try:
            # Without a tap: the state must fit machines with and without a network.
            sandbox = await self._launch(runtime, Start.BOOTED, memory_fd=memory, share=True, boot=True, network=False)
            try:
                await sandbox.boot(BOOT_TIMEOUT_S)
                for _ in range(REHEARSALS):
                    await sandbox.agent.batch(self.sample_personality(), {"op": "release_address"})
                    sandbox.personalised = True
                    await sandbox.rehearse()
                state = await self._save(sandbox)
            except SandboxError as error:
                console = await sandbox.machine.console()
                log.warning("template %s failed: %s\n%s", runtime, error, console[-2000:])
                raise
            finally:
                await sandbox.close()
            facts = {"runtime": str(runtime), "image": self._image.digest, "qemu": self._jail.digest}
            return await to_the_end(self._templates.save, key, memory, state, facts)
        except BaseException:
            os.close(memory)
            raise

    def sample_personality(self) -> dict[str, Any]:
        """Return a machine's personalising, with an address that is nobody's."""
        return personality(new_id(), None if self._network is None else self._network.sample_config())

    async def _save(self, sandbox: VmSandbox) -> bytes:
        """Bring the guest to rest and return the device state."""
        await sandbox.prepare_to_save()
        await asyncio.sleep(SETTLE_S)
        await sandbox.machine.pause()
        await sandbox.machine.swap(CODE_DRIVE, None, size=IMAGE_SIZE)
        await sandbox.machine.drop_unused()
        state = anonymous_file("alcove-state")
        try:
            await sandbox.machine.save(state)
            size = os.fstat(state).st_size
            return os.pread(state, size, 0)
        finally:
            os.close(state)

    # Starts

    async def start(self, runtime: Runtime, how: Start | None = None) -> VmSandbox:
        """Start a machine without code. ``how`` None restores, and boots cold where the template does not fit."""
        if how is Start.BOOTED:
            return await self._boot(runtime)
        saved = await self._template(runtime, log.info)
        try:
            return await self._restore(runtime, saved, Start.RESTORED)
        except RestoreError as error:
            if how is Start.RESTORED:
                raise
            log.warning("template %s does not fit, booting cold: %s", runtime, error)
            await self._discard(saved)
            return await self._boot(runtime)

    async def _discard(self, saved: SavedMachine) -> None:
        """Forget a template, with the QEMUs that hold its memory: the next of this key has other memory."""
        if self._loaded.get(saved.key) is saved:
            del self._loaded[saved.key]
            self._templates.remove(saved.key)
            for sandbox in self._waiting.pop(saved.key, ()):
                await sandbox.close()
        saved.close()

    async def _boot(self, runtime: Runtime) -> VmSandbox:
        memory = create_memory("alcove-boot", MEMORY_MIB * MIB)
        try:
            sandbox = await self._launch(runtime, Start.BOOTED, memory_fd=memory, share=False, boot=True)
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
            sandbox = await self._take_waiting(runtime, saved, start)
            state = saved.state()
            try:
                await sandbox.restore(state)
            except BaseException:
                await sandbox.close()
                raise
            finally:
                os.close(state)
            return sandbox

    async def _take_waiting(self, runtime: Runtime, saved: SavedMachine, start: Start) -> VmSandbox:
        """Return a QEMU that waits for this state: one launched ahead, or a new one."""
        queue = self._waiting.get(saved.key)
        while queue:
            sandbox = queue.popleft()
            if not sandbox.ended:
                self._refill(runtime, saved, start)
                return sandbox
            await sandbox.close()
        if start is Start.SNAPSHOT:
            self._expect_again(runtime, saved)
        began = asyncio.get_running_loop().time()
        sandbox = await self._launch(runtime, start, memory_fd=saved.memory_fd, share=False)
        sandbox.phases_ms["launch"] = (asyncio.get_running_loop().time() - began) * 1000
        return sandbox

    def _expect_again(self, runtime: Runtime, saved: SavedMachine) -> None:
        """A version that started cold may do so again: have a QEMU wait for its snapshot, for the latest few
        versions.
        """
        queue = self._waiting.pop(saved.key, deque())
        self._waiting[saved.key] = queue
        self._snapshot_keys = [key for key in self._snapshot_keys if key != saved.key] + [saved.key]
        while len(self._snapshot_keys) > WAITING_SNAPSHOTS:
            for forgotten in self._waiting.pop(self._snapshot_keys.pop(0), ()):
                self._background(forgotten.close())
        self._refill(runtime, saved, Start.SNAPSHOT)

    async def keep_waiting(self, runtime: Runtime, count: int) -> None:
        """Keep ``count`` QEMUs of this runtime's template waiting from now on."""
        saved = await self._template(runtime, log.info)
        self._waiting_size = count
        queue = self._waiting.setdefault(saved.key, deque())
        while len(queue) < count:
            queue.append(await self._launch(runtime, Start.RESTORED, memory_fd=saved.memory_fd, share=False))

    def _refill(self, runtime: Runtime, saved: SavedMachine, start: Start) -> None:
        async def refill() -> None:
            # After the start that emptied the place has had the processors for itself.
            await asyncio.sleep(0.3)
            queue = self._waiting.setdefault(saved.key, deque())
            if not self._closing and not saved.closed and len(queue) < self._waiting_size:
                try:
                    with saved.held():
                        sandbox = await self._launch(runtime, start, memory_fd=saved.memory_fd, share=False)
                    if saved.closed or self._waiting.get(saved.key) is not queue:
                        await sandbox.close()
                    else:
                        queue.append(sandbox)
                except (SandboxError, CapacityError, HostError) as error:
                    log.warning("no machine could be launched ahead: %s", error)

        self._background(refill())

    def _background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    @contextlib.asynccontextmanager
    async def bare_restore(self, runtime: Runtime) -> AsyncIterator[AgentClient]:
        """Restore the template by QEMU alone, for a floor to measure against: no jail, cgroup, network or record."""
        saved = await self._template(runtime, log.info)
        with tempfile.TemporaryDirectory(prefix="alcove-bare-") as name, contextlib.ExitStack() as stack:
            folder = Path(name)
            sockets = {
                part: stack.enter_context(listen(folder / f"{part}.sock")) for part in ("qmp", "agent", "invoke")
            }
            root = os.open(self._image.root, os.O_RDONLY | os.O_CLOEXEC)
            stack.callback(os.close, root)
            spec = self._spec("bare", saved.memory_fd, root, sockets)
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

    def snapshot_key(self, workload: Workload) -> str:
        """Return the name of the version's snapshot: template, code, and all that its init code may have read."""
        return machine_key(
            template=self.template_key(workload.runtime),
            tenant=workload.tenant,
            arn=workload.arn,
            version=workload.version,
            code=workload.code.digest,
            handler=workload.handler,
            memory_mib=workload.memory_mib,
            environment=dict(workload.environment),
        )

    async def snapshot(self, workload: Workload) -> str:
        """Run the version's init code in a machine of its own and save it. Raises ``InitError`` where the code
        fails.
        """
        key = self.snapshot_key(workload)
        if key in self._loaded or await self._load_snapshot(key) is not None:
            return key
        template = await self._template(workload.runtime, log.info)
        memory = create_memory(f"alcove-{key[:8]}", MEMORY_MIB * MIB)
        try:
            await to_the_end(copy_sparse, template.memory_fd, memory)
            sandbox = await self._launch(
                workload.runtime, Start.RESTORED, memory_fd=memory, share=True, network=workload.network
            )
            try:
                state = template.state()
                try:
                    await sandbox.restore(state)
                finally:
                    os.close(state)
                await sandbox.load(workload)
                saved_state = await self._save(sandbox)
            finally:
                await sandbox.close()
            facts = {"arn": workload.arn, "version": workload.version, "template": template.key}
            saved = await to_the_end(self._snapshots.save, key, memory, saved_state, facts)
        except BaseException:
            os.close(memory)
            raise
        self._loaded[key] = saved
        return key

    async def _load_snapshot(self, key: str) -> SavedMachine | None:
        saved = self._loaded.get(key)
        if saved is None:
            saved = await to_the_end(self._snapshots.load, key)
            if saved is not None:
                self._loaded[key] = saved
        return saved

    async def has_snapshot(self, workload: Workload) -> bool:
        return await self._load_snapshot(self.snapshot_key(workload)) is not None

    async def start_snapshot(self, workload: Workload) -> VmSandbox:
        """Restore the version's snapshot: loaded, its init code run. Raises ``RestoreError`` where there is
        none that fits.
        """
        key = self.snapshot_key(workload)
        saved = await self._load_snapshot(key)
        if saved is None:
            raise RestoreError("this version has no snapshot")
        sandbox = await self._restore(workload.runtime, saved, Start.SNAPSHOT)
        try:
            await sandbox.wake(workload)
        except BaseException:
            await sandbox.close()
            raise
        return sandbox

    async def drop_snapshot(self, workload: Workload) -> None:
        key = self.snapshot_key(workload)
        for sandbox in self._waiting.pop(key, ()):
            await sandbox.close()
        saved = self._loaded.pop(key, None)
        if saved is not None:
            saved.close()
        await to_the_end(self._snapshots.remove, key)

    # After a crash, and at the end

    async def recover(self, adopt: Adopts = adopt_none) -> list[VmSandbox]:
        """Adopt the loaded machines that ``adopt`` accepts (by record) and destroy every other leftover.

        Order matters: processes die by their cgroup first, so that a machine whose record was never completed
        is reaped too.
        """
        adopted: list[VmSandbox] = []
        for id, record in self._records.all().items():
            if record.get("tier", "vm") != "vm":
                continue
            sandbox = await self._adopt(id, record) if record.get("step") == "loaded" and adopt(record) else None
            if sandbox is not None:
                adopted.append(sandbox)
            else:
                await self._reap(id, record)
        kept = {sandbox.id for sandbox in adopted}
        for name in Cgroup.list_children(self._tag):
            if name.startswith("s-") and name not in kept and name not in self._records.all():
                stray = Cgroup(self._tag, name)
                await to_the_end(stray.kill_all)
                await to_the_end(stray.remove)
        return adopted

    async def _adopt(self, id: SandboxId, record: dict[str, Any]) -> VmSandbox | None:
        process: Process | None = None
        sandbox: VmSandbox | None = None
        try:
            identity = ProcessIdentity.from_json(record["process"])
            process = Process.adopt(identity)
            if process is None:
                return None
            folder = self._records.folder / id
            machine = await Machine.adopt(id, process, folder / "qmp.sock")
            resources = VmResources(
                id, folder, Cgroup(self._tag, id), int(record["user"]), None, machine, self._cpu_scale
            )
            if record.get("address") and self._network is not None:
                resources.tap = await self._network.adopt(record["address"], record.get("tenant"))
            sandbox = VmSandbox(
                resources,
                Runtime(record["runtime"]),
                Start(record["start"]),
                network=self._network,
                records=self._records,
                rehearsal_image=self._rehearsal_image,
                release=self._released,
            )
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
        self._taken.add(resources.user)
        self._live.add(sandbox)
        return sandbox

    async def _reap(self, id: SandboxId, record: dict[str, Any]) -> None:
        process = None
        with contextlib.suppress(KeyError, TypeError, ValueError):
            process = Process.adopt(ProcessIdentity.from_json(record["process"]))
        if process is not None:
            process.signal(signal.SIGKILL)
            await process.wait()
            process.release()
        cgroup = Cgroup(self._tag, id)
        await to_the_end(cgroup.kill_all)
        await to_the_end(cgroup.remove)
        self._records.remove(id)
        log.info("reaped sandbox %s, left by an earlier daemon", id)

    async def close(self, *, keep: Callable[[VmSandbox], bool] = lambda sandbox: False) -> None:
        """Destroy every machine but those to ``keep``, which a later daemon adopts."""
        self._closing = True
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for sandbox in list(self._live):
            if keep(sandbox):
                await sandbox.leave()
            else:
                await sandbox.close()
        for saved in self._loaded.values():
            saved.close()
        self._loaded.clear()
