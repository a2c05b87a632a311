"""Time that pods are billed for: from the first container's start in a sandbox to the last one's end, as the runtime
tells both.

There is no clock of ours that runs: what the runtime says at a look is a proof (``store.pod_usage``), and a proof that
is told twice, or by another daemon after a crash, adds nothing. While nobody looks the pod runs on, and the next look
proves the time between. Of a sandbox that was lost without an end (the host was restarted) the last proof is the end.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace

from alcove.errors import AlcoveError
from alcove.host.clock import now_ms
from alcove.host.months import months_ago
from alcove.instances import cri_config, traffic
from alcove.instances.cri_tables import RUNNING
from alcove.instances.runtime import Runtime
from alcove.instances.traffic import Traffic
from alcove.instances.view import ContainerView, PodView
from alcove.store import pod_usage as rows
from alcove.store.database import Database
from alcove.store.pod_usage import Interval, Payer, Proof

log = logging.getLogger(__name__)

LOOK_EVERY_S = 10.0
# Who asks what was used has it looked up, but no oftener.
FRESH_S = 1.0
TRIM_EVERY_S = 3600.0
MONTHS_KEPT = 25
INTERVALS_KEPT_MS = 400 * 86_400_000
# What containerd says of containers whose end nobody saw: it finds them gone when it starts, and says now.
_UNKNOWN = "Unknown"


def proofs(view: PodView, looked_ms: int) -> Iterator[tuple[str, Proof]]:
    """Yield what a look, begun at ``looked_ms``, proves of each sandbox in which a container has started."""
    for sandbox in sorted({one.sandbox for one in view.containers}):
        own = [one for one in view.containers if one.sandbox == sandbox and one.started_ms]
        if own:
            yield sandbox, _proof(own, looked_ms)


def _proof(own: list[ContainerView], looked_ms: int) -> Proof:
    begin = min(one.started_ms for one in own)
    ends = [one.finished_ms for one in own if one.exited and one.reason != _UNKNOWN]
    return Proof(
        begin_ms=begin,
        running_ms=looked_ms if any(one.running for one in own) else 0,
        ended_ms=max(ends, default=0),
        final=len(ends) == len(own),
    )


@dataclass(slots=True)
class _Open:
    """A sandbox that is there. ``final_s`` is when a look had found nothing running in it."""

    payer: Payer
    namespace: str
    interval: Interval | None = None
    final_s: float = 0.0


class Ledger:
    """``note`` each look at a pod; ``settle`` before a sandbox goes, ``forget`` after. ``start`` to ``close``."""

    def __init__(self, database: Database, runtime: Runtime, instance: str) -> None:
        self._database = database
        self._runtime = runtime
        self._instance = instance
        self._open: dict[str, _Open] = {}
        self._looking = asyncio.Lock()
        self._looked_s = -FRESH_S
        self._task: asyncio.Task[None] | None = None
        self.read_traffic: Callable[[Mapping[str, str]], dict[str, Traffic]] = traffic.read

    def start(self) -> None:
        if self._task is None:
            self._task = asyncio.create_task(self._look_again_and_again())

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def note(self, payer: Payer, view: PodView, looked_ms: int, namespaces: Mapping[str, str]) -> None:
        """Write down what a look proved, before anything of what it saw is removed. That something runs on is left to
        the next look at all.
        """
        for sandbox, proof in proofs(view, looked_ms):
            one = self._open.setdefault(sandbox, _Open(payer, ""))
            one.namespace = namespaces.get(sandbox, "")
            if proof.final:
                one.final_s = time.monotonic()
            if one.interval is None or (not proof.running_ms and one.interval.after(proof) != one.interval):
                await self._prove({sandbox: proof})

    async def settle(self, sandbox: str) -> None:
        """Count the traffic of a sandbox that is about to go."""
        one = self._open.get(sandbox)
        if one is not None and one.namespace:
            counted = await asyncio.to_thread(self.read_traffic, {sandbox: one.namespace})
            await self._prove({sandbox: _with(Proof(), counted.get(sandbox))})

    def forget(self, sandbox: str) -> None:
        self._open.pop(sandbox, None)

    async def look(self) -> None:
        """Prove what runs now; just after another look, nothing. Raises ``AlcoveError``."""
        async with self._looking:
            if self._open and time.monotonic() - self._looked_s >= FRESH_S:
                await self._look()
                self._looked_s = time.monotonic()

    async def traffic(self, uids: Collection[str]) -> dict[str, Traffic]:
        """Return what went through the interfaces of these pods' sandboxes until now; none of one that has none."""
        here = {one.payer.uid: one.namespace for one in self._open.values() if one.namespace and one.payer.uid in uids}
        return await asyncio.to_thread(self.read_traffic, here) if here else {}

    async def _look(self) -> None:
        looked_ms, looked_s = now_ms(), time.monotonic()
        filters = {"state": {"state": RUNNING}, "label_selector": {cri_config.INSTANCE: self._instance}}
        cri = await self._runtime.cri()
        running = (await cri.call("ListContainers", {"filter": filters}))["containers"]
        here = {sandbox: one.namespace for sandbox, one in self._open.items() if one.namespace}
        counted = await asyncio.to_thread(self.read_traffic, here) if here else {}
        found = {sandbox: _with(Proof(), counted.get(sandbox)) for sandbox in here}
        for sandbox in {item["pod_sandbox_id"] for item in running} & self._open.keys():
            # A look of the pod's own that is newer saw it end: this list is older news.
            if self._open[sandbox].final_s < looked_s:
                found[sandbox] = replace(found.get(sandbox, Proof()), running_ms=looked_ms)
        await self._prove(found)

    async def _prove(self, found: Mapping[str, Proof]) -> None:
        known = {sandbox: one for sandbox in found if (one := self._open.get(sandbox)) is not None}
        now = now_ms()

        def change(connection: sqlite3.Connection) -> dict[str, Interval | None]:
            return {key: rows.prove(connection, key, one.payer, found[key], now) for key, one in known.items()}

        if known:
            for sandbox, interval in (await self._database.write(change)).items():
                known[sandbox].interval = interval

    async def _look_again_and_again(self) -> None:
        trim_s = 0.0
        while True:
            try:
                await self.look()
                if time.monotonic() >= trim_s:
                    await self._database.write(_trim)
                    trim_s = time.monotonic() + TRIM_EVERY_S
            except (AlcoveError, OSError) as error:
                log.warning("what pods use cannot be looked up now: %s", error)
            await asyncio.sleep(LOOK_EVERY_S)


def _with(proof: Proof, counted: Traffic | None) -> Proof:
    if counted is None:
        return proof
    return replace(proof, received_bytes=counted.received_bytes, sent_bytes=counted.sent_bytes)


def _trim(connection: sqlite3.Connection) -> None:
    rows.trim_pod_usage(connection, months_ago(MONTHS_KEPT), now_ms() - INTERVALS_KEPT_MS)
