"""Making and removing containers, and the end of the shim itself.

The pod's first container brings the machine, its removal ends it. A shim that has no container, because making the
first one failed or containerd was killed before it asked for one, ends by itself and leaves nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from alcove.shim.container import Container
from alcove.shim.events import Publisher
from alcove.shim.loop import Loop, Timer
from alcove.shim.pod import Pod
from alcove.shim.process import SIGNALLED, Process
from alcove.shim.provision import read_spec
from alcove.shim.stdio import Stdio
from alcove.wire.ttrpc import ALREADY_EXISTS, FAILED_PRECONDITION, INVALID_ARGUMENT, Failure

CONTAINER_TYPE = "io.kubernetes.cri.container-type"
MAX_CONTAINERS = 256
# How long a shim without a container waits for one: before the first request, and after one that failed.
IDLE_S, FAILED_IDLE_S = 15.0, 10.0
_FLUSH_S = 3.0
_ENDING_SIGNALS = (2, 3, 9, 15)


class Life:
    """``on_ending`` is called when the shim takes no more containers, ``on_end`` when nothing is left to do."""

    def __init__(self, loop: Loop, pod: Pod, *, on_ending: Callable[[], None], on_end: Callable[[], None]) -> None:
        self._loop = loop
        self._pod = pod
        self._on_ending = on_ending
        self._on_end = on_end
        self._ended = False
        self._idle: Timer | None = None
        self._wait_idle(IDLE_S)

    async def create(self, request: dict[str, Any]) -> Container:
        """Make a container, with the machine where it is the first. Leaves nothing where it fails."""
        if request["checkpoint"]:
            raise Failure(INVALID_ARGUMENT, "containers are not restored from checkpoints")
        if self._ended:
            raise Failure(FAILED_PRECONDITION, "the shim is ending")
        if request["id"] in self._pod.containers:
            raise Failure(ALREADY_EXISTS, f"container {request['id']} exists already")
        if len(self._pod.containers) >= MAX_CONTAINERS:
            raise Failure(FAILED_PRECONDITION, f"the pod has {MAX_CONTAINERS} containers already")
        spec = read_spec(request["bundle"])
        sandbox = (spec.get("annotations") or {}).get(CONTAINER_TYPE) == "sandbox"
        container = Container(self._loop, request, sandbox=sandbox)
        self._pod.containers[container.id] = container
        try:
            await self._make(container, spec)
        except BaseException:
            await self._undo(container)
            raise
        return container

    async def _make(self, container: Container, spec: dict[str, Any]) -> None:
        provisioner = self._pod.provisioner
        if container.id == self._pod.id:
            provisioner = await self._pod.start(spec)
        if provisioner is None or not self._pod.alive:
            raise Failure(FAILED_PRECONDITION, f"the machine of pod {self._pod.id} does not run")
        if container.sandbox:
            await provisioner.set_up(spec)
            return
        init = container.init
        init.stdio = self.open_stdio(init)
        await provisioner.make(container, spec, {**self._pod.annotations, **(spec.get("annotations") or {})})
        if init.number is not None:
            self._pod.registered(init, init.number)

    async def _undo(self, container: Container) -> None:
        self._pod.containers.pop(container.id, None)
        self._pod.forget(container.init)
        if self._pod.provisioner is not None:
            await self._pod.provisioner.remove(container)
        if container.id == self._pod.id:
            await self._pod.stop()
        if not self._pod.containers:
            self._wait_idle(FAILED_IDLE_S)

    async def delete(self, container: Container) -> None:
        """Remove a container that does not run; with the pod's own the machine ends."""
        if self._pod.provisioner is not None:
            await self._pod.provisioner.remove(container)
        self._pod.end_unstarted(container)
        for process in container.execs.values():
            self._pod.forget(process)
        if container.id == self._pod.id:
            await self._pod.stop()
        self._pod.containers.pop(container.id, None)

    async def kill_sandbox(self, container: Container, signal: int) -> None:
        """Of a sandbox's own container only what would end it has an effect: the machine ends."""
        if signal in _ENDING_SIGNALS:
            container.ending = SIGNALLED + signal
            await self._pod.stop()
            self._pod.end_unstarted(container)

    def open_stdio(self, process: Process) -> Stdio:
        """Raises ``Failure``."""
        try:
            return Stdio(
                self._loop,
                stdin=process.stdin,
                stdout=process.stdout,
                stderr="" if process.terminal else process.stderr,
                acknowledge=lambda count: self._pod.acknowledge(process, count),
            )
        except (OSError, ValueError) as error:
            raise Failure(INVALID_ARGUMENT, f"the process's streams cannot be opened: {error}") from error

    # The end

    async def shut_down(self) -> None:
        """End the shim, unless it still has containers."""
        if self._pod.containers or self._ended:
            return
        self._ended = True
        # Whoever starts a pod of this name from now on gets a shim of its own.
        self._on_ending()
        await self._pod.stop()
        # After the answer is on its way.
        self._loop.background(self._flush_and_end(self._pod.events))

    async def _flush_and_end(self, events: Publisher) -> None:
        try:
            await self._loop.within(_FLUSH_S, events.idle)
        except TimeoutError:
            pass
        self._on_end()

    def _wait_idle(self, delay_s: float) -> None:
        if self._idle is not None:
            self._idle.cancel()
        self._idle = self._loop.call_later(delay_s, lambda: self._loop.background(self.shut_down()))
