"""Probes of containers that run: each on its own clock; their results decide readiness, starts and restarts."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from urllib.parse import quote

from alcove.errors import AlcoveError
from alcove.host.clock import now_ms
from alcove.instances import health
from alcove.instances.cri import Cri
from alcove.instances.manifest import Container, HttpGet, Pod, Probe
from alcove.instances.probe_state import Streak, first_rest_s, next_s
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


# What is taken for so until probes have told: alive, and ready where it was.
_INITIAL: dict[Kind, Callable[[_Watched], bool | None]] = {
    Kind.STARTUP: lambda known: None,
    Kind.LIVENESS: lambda known: True,
    Kind.READINESS: lambda known: known.ready,
}


class Probes:
    """Of one pod. ``changed`` is called when a result makes a difference; ``close`` at the end."""

    def __init__(self, pod: Pod, changed: Callable[[], None], before: Mapping[str, Any]) -> None:
        """``before`` is the status that was written last: what it says of a container that still runs is still so."""
        self._before = {
            str(one.get("containerID", "")).removeprefix("containerd://"): one
            for one in before.get("containerStatuses", ())
            if one.get("started")
        }
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
                self._begin(_Target(cri, one.id, container, address, one.started_ms))

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
        return self._watched.get(one.id) or self._fresh(one.id, self._containers[one.name])

    def _fresh(self, id: str, container: Container) -> _Watched:
        started, simple = container.startup_probe is None, container.readiness_probe is None
        before = self._before.get(id)
        if before is not None:
            return _Watched(True, simple or bool(before.get("ready")), simple, [])
        return _Watched(started, started and simple, simple, [])

    def _begin(self, target: _Target) -> None:
        container = target.container
        known = self._watched[target.id] = self._fresh(target.id, container)
        for kind, probe in (
            (Kind.STARTUP, container.startup_probe),
            (Kind.LIVENESS, container.liveness_probe),
            (Kind.READINESS, container.readiness_probe),
        ):
            if probe is not None and not (kind is Kind.STARTUP and known.started):
                known.tasks.append(asyncio.create_task(self._probe(kind, probe, target, known)))

    async def _probe(self, kind: Kind, probe: Probe, target: _Target, known: _Watched) -> None:
        await asyncio.sleep(first_rest_s(probe.initial_delay_seconds, target.started_ms, now_ms()))
        clock = asyncio.get_running_loop().time
        begun_s = clock()
        streak = Streak(probe.success_threshold, probe.failure_threshold, _INITIAL[kind](known))
        while True:
            if (kind is Kind.STARTUP or known.started) and streak.add(await target.ask(probe)):
                assert streak.state is not None
                self._result(kind, streak.state, target.id, known)
                # It is started, or is to be started anew: there is no more to ask of this container.
                if kind is Kind.STARTUP or (kind is Kind.LIVENESS and not streak.state):
                    return
            await asyncio.sleep(next_s(begun_s, probe.period_seconds, clock()) - clock())

    def _result(self, kind: Kind, good: bool, id: str, known: _Watched) -> None:
        if kind is Kind.READINESS:
            known.ready = good
        elif not good:
            self.unhealthy[id] = kind
        elif kind is Kind.STARTUP:
            known.started = True
            known.ready = known.ready_when_started
        self._changed()


@dataclass(frozen=True, slots=True)
class _Target:
    cri: Cri
    id: str
    container: Container
    address: str
    started_ms: int

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
