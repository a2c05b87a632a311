"""Probes of containers that run: each on its own clock; their results decide readiness, starts and restarts."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import quote

from alcove.errors import AlcoveError
from alcove.instances import health
from alcove.instances.cri import Cri
from alcove.instances.manifest import Container, HttpGet, Pod, Probe
from alcove.instances.view import ContainerView, PodView

# Of an HTTP probe's answer nothing but its first line is read.
_LINE_LIMIT = 4096


class Kind(StrEnum):
    STARTUP = "startup"
    LIVENESS = "liveness"
    READINESS = "readiness"


@dataclass(slots=True)
class _Watched:
    """One container's probes. ``started`` gates the other two kinds."""

    started: bool
    ready: bool
    ready_when_started: bool
    tasks: list[asyncio.Task[None]]


class Probes:
    """Of one pod. ``changed`` is called when a result makes a difference; ``close`` at the end."""

    def __init__(self, pod: Pod, changed: Callable[[], None]) -> None:
        self._containers = {one.name: one for one in pod.spec.containers}
        self._changed = changed
        self._watched: dict[str, _Watched] = {}
        self.unhealthy: dict[str, str] = {}

    def watch(self, cri: Cri, running: Sequence[ContainerView], address: str) -> None:
        """Probe these containers, and no others any more."""
        for id in self._watched.keys() - {one.id for one in running}:
            self.forget(id)
        for one in running:
            container = self._containers.get(one.name)
            if container is not None and one.id not in self._watched:
                self._begin(_Target(cri, one.id, container, address))

    def forget(self, id: str) -> None:
        self.unhealthy.pop(id, None)
        known = self._watched.pop(id, None)
        for task in known.tasks if known is not None else ():
            task.cancel()

    async def close(self) -> None:
        tasks = [task for one in self._watched.values() for task in one.tasks]
        for id in list(self._watched):
            self.forget(id)
        await asyncio.gather(*tasks, return_exceptions=True)

    def ready(self, view: PodView) -> dict[str, bool]:
        """By ids of containers that run: without a readiness probe one is ready when it has started."""
        return {one.id: self._of(one).ready for one in self._main(view)}

    def started(self, view: PodView) -> dict[str, bool]:
        return {one.id: self._of(one).started for one in self._main(view)}

    def _main(self, view: PodView) -> list[ContainerView]:
        return [one for one in view.containers if one.running and one.name in self._containers]

    def _of(self, one: ContainerView) -> _Watched:
        return self._watched.get(one.id) or _fresh(self._containers[one.name])

    def _begin(self, target: _Target) -> None:
        container = target.container
        known = self._watched[target.id] = _fresh(container)
        for kind, probe in (
            (Kind.STARTUP, container.startup_probe),
            (Kind.LIVENESS, container.liveness_probe),
            (Kind.READINESS, container.readiness_probe),
        ):
            if probe is not None:
                known.tasks.append(asyncio.create_task(self._probe(kind, probe, target, known)))

    async def _probe(self, kind: Kind, probe: Probe, target: _Target, known: _Watched) -> None:
        await asyncio.sleep(probe.initial_delay_seconds)
        row, last = 0, False
        while True:
            if kind is Kind.STARTUP or known.started:
                good = await target.ask(probe)
                row = row + 1 if good is last else 1
                last = good
                if row == (probe.success_threshold if good else probe.failure_threshold):
                    self._result(kind, good, target.id, known)
                if kind is Kind.STARTUP and known.started:
                    return
            await asyncio.sleep(probe.period_seconds)

    def _result(self, kind: Kind, good: bool, id: str, known: _Watched) -> None:
        if kind is Kind.READINESS:
            known.ready = good
        elif not good:
            self.unhealthy[id] = kind
        elif kind is Kind.STARTUP:
            known.started = True
            known.ready = known.ready_when_started
        self._changed()


def _fresh(container: Container) -> _Watched:
    started, simple = container.startup_probe is None, container.readiness_probe is None
    return _Watched(started, started and simple, simple, [])


@dataclass(frozen=True, slots=True)
class _Target:
    cri: Cri
    id: str
    container: Container
    address: str

    async def ask(self, probe: Probe) -> bool:
        """Tell whether the probe succeeds within its time."""
        try:
            async with asyncio.timeout(probe.timeout_seconds):
                if probe.exec is not None:
                    return (await self.cri.run_command(self.id, probe.exec.command, probe.timeout_seconds))[0] == 0
                if probe.http_get is not None:
                    return await self._get(probe.http_get)
                if probe.grpc is not None:
                    return await health.serves(self.address, probe.grpc.port, probe.grpc.service)
                assert probe.tcp_socket is not None
                _, writer = await asyncio.open_connection(self.address, self.container.port(probe.tcp_socket.port))
                writer.close()
                return True
        except (OSError, TimeoutError, AlcoveError, ValueError):
            return False

    async def _get(self, asked: HttpGet) -> bool:
        context = None
        if asked.scheme == "HTTPS":
            # As Kubernetes: a probe asks whether it lives, not who it is.
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        port = self.container.port(asked.port)
        reader, writer = await asyncio.open_connection(self.address, port, ssl=context, limit=_LINE_LIMIT)
        try:
            own = {one.name.lower(): one.value for one in asked.http_headers}
            headers = {"host": f"{self.address}:{port}", "user-agent": "alcove-probe", "connection": "close"} | own
            head = "".join(f"{_line(name)}: {_line(value)}\r\n" for name, value in headers.items())
            path = quote(asked.path, safe="/?&=%:@!$'()*+,;~-._") or "/"
            writer.write(f"GET {path} HTTP/1.1\r\n{head}\r\n".encode())
            await writer.drain()
            words = (await reader.readline()).split()
            return len(words) > 1 and words[1].isdigit() and 200 <= int(words[1]) < 400
        finally:
            writer.close()


def _line(text: str) -> str:
    return "".join(char for char in text if char.isprintable())
