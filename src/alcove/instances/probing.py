"""Probes of containers that run: each on its own clock; their results decide readiness, starts and restarts."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from alcove.errors import AlcoveError
from alcove.host.clock import now_ms
from alcove.instances import health, http_probe
from alcove.instances.cri import Cri
from alcove.instances.http_probe import Finding
from alcove.instances.manifest import Container, HttpGet, Pod, Probe
from alcove.instances.probe_state import Allowance, Streak, first_rest_s, next_s
from alcove.instances.view import ContainerView, PodView

# Of one pod: so many events of probes at once, and one more each time that this has passed, as Kubernetes has it.
TOLD_AT_ONCE, TOLD_EVERY_S = 25, 300.0
_WORDS_LIMIT = 800

# type, reason, message
Tell = Callable[[str, str, str], Awaitable[None]]


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

    def __init__(self, pod: Pod, changed: Callable[[], None], before: Mapping[str, Any], tell: Tell) -> None:
        """``before`` is the status that was written last: what it says of a container that still runs is still so.
        ``tell`` writes an event.
        """
        self._before = {
            str(one.get("containerID", "")).removeprefix("containerd://"): one
            for one in before.get("containerStatuses", ())
            if one.get("started")
        }
        self._containers = {one.name: one for one in pod.spec.containers}
        self._changed = changed
        self._watched: dict[str, _Watched] = {}
        self.unhealthy: dict[str, str] = {}
        self._tell = tell
        self._allowance = Allowance(TOLD_AT_ONCE, TOLD_EVERY_S)

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
            if (kind is Kind.STARTUP or known.started) and streak.add(await self._ask(kind, probe, target)):
                assert streak.state is not None
                self._result(kind, streak.state, target.id, known)
                # It is started, or is to be started anew: there is no more to ask of this container.
                if kind is Kind.STARTUP or (kind is Kind.LIVENESS and not streak.state):
                    return
            await asyncio.sleep(next_s(begun_s, probe.period_seconds, clock()) - clock())

    async def _ask(self, kind: Kind, probe: Probe, target: _Target) -> bool:
        found = await target.ask(probe)
        if (found.words or not found.good) and self._allowance.take(asyncio.get_running_loop().time()):
            reason, how = ("ProbeWarning", "warning") if found.good else ("Unhealthy", "failed")
            words = f"{kind.capitalize()} probe {how}: {found.words[:_WORDS_LIMIT]}"
            await self._tell("Warning", reason, words)
        return found.good

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

    async def ask(self, probe: Probe) -> Finding:
        """Tell whether the probe succeeds within its time, and what is to be said of that."""
        try:
            async with asyncio.timeout(probe.timeout_seconds):
                if probe.exec is not None:
                    code, out, err = await self.cri.run_command(self.id, probe.exec.command, probe.timeout_seconds)
                    return Finding(code == 0, "" if code == 0 else (out + err).decode(errors="replace"))
                if probe.http_get is not None:
                    return await self._get(probe.http_get)
                if probe.grpc is not None:
                    serves = await health.serves(self.address, probe.grpc.port, probe.grpc.service)
                    return Finding(serves, "" if serves else "service unhealthy")
                assert probe.tcp_socket is not None
                _, writer = await asyncio.open_connection(self.address, self.container.port(probe.tcp_socket.port))
                writer.close()
                return Finding(True)
        except TimeoutError:
            return Finding(False, f"no answer in {probe.timeout_seconds} s")
        except (OSError, AlcoveError, ValueError) as error:
            return Finding(False, str(error))

    async def _get(self, asked: HttpGet) -> Finding:
        host = f"[{self.address}]" if ":" in self.address else self.address
        path = asked.path if asked.path.startswith("/") else f"/{asked.path}"
        url = f"{asked.scheme.lower()}://{host}:{self.container.port(asked.port)}{path}"
        return await http_probe.ask(url, {one.name: one.value for one in asked.http_headers})
