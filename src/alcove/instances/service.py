"""Instances of tenants: pods that run container images, each in the isolation tier that it is meant for.

A pod is written down before anything of it is made, and a worker brings it there (``worker``). A daemon that starts
finds the rows, and the workers find what the runtime has.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec

from alcove.errors import AccessDenied, AlcoveError, Conflict, InvalidRequest, NotFound, ThrottledError
from alcove.host.clock import now_ms
from alcove.instances import cri_config, log_chain, log_files, manifest, ports, volumes
from alcove.instances.caches import ImageCaches
from alcove.instances.containerd_config import KATA
from alcove.instances.cri import Cri
from alcove.instances.cri_tables import SANDBOX_READY
from alcove.instances.events import Listener
from alcove.instances.fetching import Progress
from alcove.instances.image_access import ImageAccess
from alcove.instances.intake import Intake, Made, Order
from alcove.instances.ledger import Ledger
from alcove.instances.log_files import Range
from alcove.instances.log_lines import Line
from alcove.instances.log_rotation import Growth
from alcove.instances.manifest import Pod
from alcove.instances.place import Place
from alcove.instances.runtime import Runtime
from alcove.instances.samples import ContainerUse, by_pod
from alcove.instances.tier import PodTier
from alcove.instances.traffic import Traffic
from alcove.instances.worker import Context, Worker
from alcove.pods.model import Defaults
from alcove.sandbox.protocol import TenantId
from alcove.store import instances as rows
from alcove.store.client_tokens import forget_tokens
from alcove.store.database import Database
from alcove.store.instances import PodEventRow, PodRow
from alcove.tenants.quotas import Quotas

log = logging.getLogger(__name__)

PAGE_LIMIT = 500
_SWEEP_RETRY_S = 10.0
# Of one tenant at once, over WebSocket.
SESSIONS_LIMIT = 100
# As long as whoever scrapes is let wait for the runtime.
SAMPLE_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What may run where."""

    allowed: frozenset[PodTier] = frozenset(PodTier)
    floor: PodTier = PodTier.PROCESS
    default: PodTier = PodTier.VM


@dataclass(frozen=True)
class Instance:
    """A pod as it is told of; what is not asked for is not read."""

    row: PodRow

    @cached_property
    def pod(self) -> Pod:
        return manifest.load(self.row.manifest)

    @cached_property
    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = msgspec.json.decode(self.row.status)
        return found

    @property
    def ended(self) -> bool:
        return self.status.get("phase") in ("Succeeded", "Failed")


@dataclass(frozen=True, slots=True)
class Sample:
    """What a pod uses now, and its row."""

    row: PodRow
    containers: Sequence[ContainerUse]
    traffic: Traffic


class InstanceService:
    """``open``, ``start``, ``close``."""

    def __init__(
        self,
        database: Database,
        runtime: Runtime,
        folder: Path,
        instance: str,
        rules: Rules,
        defaults: Defaults,
        dns: tuple[str, ...] = (),
        limit: Callable[[TenantId], int] = lambda tenant: Quotas().instances,
    ) -> None:
        self.database = database
        self.runtime = runtime
        self._folder = folder
        self._rules = rules
        self._limit = limit
        self._access = access = ImageAccess(database, runtime)
        self.ledger = Ledger(database, runtime, instance)
        self._context = Context(
            database=database,
            runtime=runtime,
            folder=self.place,
            instance=instance,
            ledger=self.ledger,
            defaults=defaults,
            access=access,
            dns=dns,
        )
        self.caches = ImageCaches(database, runtime, access)
        # The node service's way into machines, where there is one.
        self.machines: ports.Machines = ports.nobodys
        self._sessions: Counter[TenantId] = Counter()
        self._workers: dict[str, Worker] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._listener = Listener(runtime, self._ended)
        self._chores: list[asyncio.Task[None]] = []

    @classmethod
    async def open(
        cls,
        state: Path,
        runtime: Runtime,
        instance: str,
        rules: Rules,
        *,
        defaults: Defaults,
        dns: tuple[str, ...] = (),
        limit: Callable[[TenantId], int] = lambda tenant: Quotas().instances,
    ) -> InstanceService:
        database = await Database.open(state / "instances.db", schema="instances")
        return cls(database, runtime, state / "instances", instance, rules, defaults, dns, limit)

    async def start(self) -> None:
        """Go on with the pods that an earlier daemon had; containerd is started for them, if there are any."""
        found = await self.database.read(rows.every_pod)
        for row in found:
            if row.deleted_ms or msgspec.json.decode(row.status).get("phase") not in ("Succeeded", "Failed"):
                self._work(row)
        if found or self.runtime.begun:
            self._begin_chores()
        await self.caches.start()

    async def close(self) -> None:
        """Stop looking after the pods; they go on."""
        await self.caches.close()
        await self._listener.close()
        await self.ledger.close()
        tasks = [*self._tasks.values(), *self._chores]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.runtime.close()
        await self.database.close()

    def place(self, uid: str) -> Place:
        return Place(self._folder, uid)

    # What tenants do

    async def create(self, tenant: TenantId, pod: Pod, *, operator: bool, isolation: PodTier | None = None) -> Instance:
        """Write a pod down and set it going. Raises the ``RequestError`` that fits."""
        made = await self.create_all(tenant, pod, Order(), operator=operator, isolation=isolation)
        return Instance(made.rows[0])

    async def create_all(
        self, tenant: TenantId, pod: Pod, order: Order, *, operator: bool, isolation: PodTier | None = None
    ) -> Made:
        """As ``create``, of as many as are ordered, or none where they were ordered before."""
        tier = self._judge(pod, operator=operator, chosen=isolation)
        if tier is PodTier.KATA and not self.runtime.has_kata:
            raise InvalidRequest(
                f"Kata Containers is not installed here: there is no {KATA}.",
                hint="install it and restart the server, or choose another isolation",
            )
        if tier is not PodTier.VM and pod.metadata.annotations.get(cri_config.KERNEL):
            raise InvalidRequest(
                f"There is no kernel of an instance's own with the isolation {tier}.", hint="choose vm"
            )
        volumes.check(pod, tier)
        intake = Intake(tenant, pod, tier, order, self._limit(tenant), now_ms())
        # Where containerd cannot be had, say so now.
        await self.runtime.cri()
        made = await self.database.write(intake.write)
        self._begin_chores()
        for row in made.rows:
            self._work(row)
        return made

    async def get(self, tenant: TenantId, name: str) -> Instance:
        return Instance(await self._row(tenant, name))

    def pulling(self, one: Instance) -> tuple[str, Progress] | None:
        """Return an image of the pod that is being fetched now, and how far that is; of all fetches together."""
        if not self._access.progress or one.ended:
            return None
        images = (item.image for item in [*one.pod.spec.init_containers, *one.pod.spec.containers])
        return next(((image, self._access.progress[image]) for image in images if image in self._access.progress), None)

    async def count(self, tenant: TenantId) -> int:
        return await self.database.read(lambda c: rows.count_pods(c, tenant))

    async def list(self, tenant: TenantId, *, after: str = "", limit: int = PAGE_LIMIT) -> Sequence[Instance]:
        """Return a page of instances with names after ``after``."""
        limit = max(1, min(limit, PAGE_LIMIT))
        found = await self.database.read(lambda c: rows.list_pods(c, tenant, after, limit))
        return [Instance(row) for row in found]

    async def delete(self, tenant: TenantId, name: str, *, grace_s: int | None = None) -> Instance:
        """Have an instance stopped and removed; it is there until that is done."""
        row = await self._row(tenant, name)
        await self.delete_rows([row], grace_s=grace_s)
        return Instance(row)

    async def delete_rows(self, found: Sequence[PodRow], *, grace_s: int | None = None) -> None:
        """As ``delete``, of all of them at once."""
        graces = {row.uid: row.grace_s if grace_s is None else min(grace_s, row.grace_s) for row in found}
        await self.database.write(lambda c: rows.mark_all_deleted(c, graces, now_ms()))
        for uid in graces.keys() & self._workers.keys():
            self._workers[uid].delete(graces[uid])
        left = graces.keys() - self._workers.keys()
        for row in await self.database.read(lambda c: rows.pods_of(c, left)) if left else ():
            if row.uid not in self._workers:
                self._work(row)

    async def delete_every(self, tenant: TenantId) -> None:
        """Remove all instances of the tenant, and wait until they are gone; its caches and tokens too."""
        await self.caches.delete_every(tenant)
        await self.database.write(lambda c: forget_tokens(c, tenant))
        while page := await self.list(tenant):
            for one in page:
                await self.delete(tenant, one.row.name, grace_s=0)
            tasks = [self._tasks[one.row.uid] for one in page if one.row.uid in self._tasks]
            await asyncio.wait(tasks) if tasks else None

    async def events(self, tenant: TenantId, name: str) -> Sequence[PodEventRow]:
        return await self.events_of((await self._row(tenant, name)).uid)

    async def events_of(self, uid: str) -> Sequence[PodEventRow]:
        return await self.database.read(lambda c: rows.list_events(c, uid))

    async def logs(
        self, tenant: TenantId, name: str, chosen: Range, *, container: str = "", follow: bool = False
    ) -> AsyncGenerator[Line, None]:
        """Return what a container printed, and with ``follow`` what it prints until it is not started again."""
        one = await self.get(tenant, name)
        named = _container(one.pod, container)
        folder = self.place(one.row.uid).logs / named

        async def over() -> bool:
            return await self._log_is_whole(tenant, name, named)

        return log_files.read(folder, chosen, follow=over if follow and not chosen.previous else None)

    async def _log_is_whole(self, tenant: TenantId, name: str, container: str) -> bool:
        try:
            one = await self.get(tenant, name)
        except NotFound:
            return True
        reason = waiting_reason(one.status, container)
        if reason in ("ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "CreateContainerConfigError"):
            raise InvalidRequest(f"The container {container} does not start: {reason}: {waiting_message(one.status)}")
        return one.ended or one.row.deleted_ms > 0

    async def container_id(self, tenant: TenantId, name: str, container: str = "") -> tuple[Cri, str]:
        """Return the runtime and the id of a container that runs. Raises ``Conflict`` where it does not."""
        one = await self.get(tenant, name)
        chosen = _container(one.pod, container)
        for told in (*one.status.get("containerStatuses", ()), *one.status.get("initContainerStatuses", ())):
            if told["name"] == chosen and "running" in told["state"]:
                return await self.runtime.cri(), str(told["containerID"]).removeprefix("containerd://")
        raise Conflict(f"The container {chosen} does not run.", hint=f"alcove inspect {name}")

    async def sandbox_id(self, tenant: TenantId, name: str) -> str:
        """Return the id of the sandbox that an instance has now. Raises ``Conflict`` where it has none."""
        row = await self._row(tenant, name)
        cri = await self.runtime.cri()
        for item in await cri.sandboxes({cri_config.UID: row.uid}):
            if item["state"] == SANDBOX_READY:
                return str(item["id"])
        raise Conflict(f"The instance {name[:80]} does not run.", hint=f"alcove inspect {name[:80]}")

    async def carry(self, sandbox: str, port: int, near: ports.Near) -> None:
        """Connect to a port in a sandbox, and carry both ways to their ends. Raises ``AlcoveError``."""
        await ports.carry(await self.runtime.cri(), self.machines, sandbox, port, near)

    def require_session(self, tenant: TenantId) -> None:
        """Refuse one more exec, attach or followed log where there are too many. Raises ``ThrottledError``."""
        if self._sessions[tenant] >= SESSIONS_LIMIT:
            raise ThrottledError(f"A tenant has at most {SESSIONS_LIMIT} sessions.", hint="end one, and try again")

    @contextmanager
    def session_of(self, tenant: TenantId) -> Iterator[None]:
        """Count one while it lasts. Raises ``ThrottledError``."""
        self.require_session(tenant)
        self._sessions[tenant] += 1
        try:
            yield
        finally:
            self._sessions[tenant] -= 1
            if not self._sessions[tenant]:
                del self._sessions[tenant]

    async def stats(self, tenant: TenantId, name: str) -> Sample:
        """Return what an instance uses now."""
        row = await self._row(tenant, name)
        return (await self._samples([row], {cri_config.UID: row.uid}))[0]

    async def phases(self) -> dict[str, int]:
        return await self.database.read(rows.count_phases)

    async def samples(self, limit: int) -> Sequence[Sample]:
        """Return what instances use now that have not ended, the oldest first, at most so many. What the runtime does
        not tell in time is left out.
        """
        found = await self.database.read(lambda c: rows.live_pods(c, limit))
        try:
            async with asyncio.timeout(SAMPLE_S):
                return await self._samples(found, {cri_config.INSTANCE: self._context.instance})
        except (AlcoveError, TimeoutError) as error:
            log.warning("what instances use cannot be looked up now: %s", error)
            return [Sample(row, [], Traffic()) for row in found]

    async def _samples(self, found: Sequence[PodRow], labels: dict[str, str]) -> Sequence[Sample]:
        uses: dict[str, list[ContainerUse]] = {}
        if found:
            cri = await self.runtime.cri()
            request = {"filter": {"label_selector": labels}}
            uses = by_pod((await cri.call("ListContainerStats", request))["stats"])
        traffic = await self.ledger.traffic({row.uid for row in found})
        return [Sample(row, uses.get(row.uid, []), traffic.get(row.uid, Traffic())) for row in found]

    def _judge(self, pod: Pod, *, operator: bool, chosen: PodTier | None) -> PodTier:
        asked = chosen or pod.spec.isolation
        tier = asked or self._rules.default
        if tier not in self._rules.allowed or tier.strength < self._rules.floor.strength:
            raise InvalidRequest(f"The isolation {tier} is not offered here.", hint="see --isolation-allowed")
        if operator:
            return tier
        if tier not in (PodTier.VM, self._rules.default):
            raise AccessDenied("Only the operator may choose an isolation other than vm.", code="operator")
        if any(one.host_path is not None for one in pod.spec.volumes):
            raise AccessDenied("Only the operator may mount paths of the host.", code="operator")
        if any(port.host_port for one in pod.spec.containers for port in one.ports):
            raise AccessDenied("Only the operator may take ports of the host.", code="operator")
        if any(one.security_context.privileged for one in [*pod.spec.containers, *pod.spec.init_containers]):
            raise AccessDenied("Only the operator may run privileged containers.", code="operator")
        return tier

    async def _row(self, tenant: TenantId, name: str) -> PodRow:
        found = await self.database.read(lambda c: rows.find_pod(c, tenant, name))
        if found is None:
            raise NotFound(f"There is no instance {name[:80]!r}.", hint="alcove ps lists them")
        return found

    # What goes on by itself

    def _work(self, row: PodRow) -> None:
        worker = self._workers[row.uid] = Worker(row, self._context)
        task = self._tasks[row.uid] = asyncio.create_task(self._guard(worker))
        task.add_done_callback(lambda _: self._done(worker))

    async def _guard(self, worker: Worker) -> None:
        """A worker that breaks is a fault of ours: say so, and go on with the pod."""
        while True:
            try:
                await worker.run()
                return
            except AlcoveError as error:
                log.warning("pod %s: %s", worker.name, error)
            except Exception:
                log.exception("pod %s: its worker failed", worker.name)
            await asyncio.sleep(1)

    def _done(self, worker: Worker) -> None:
        if self._workers.get(worker.uid) is worker:
            del self._workers[worker.uid], self._tasks[worker.uid]

    def _ended(self, container: str) -> None:
        for worker in self._workers.values():
            if not container or container in worker.ids:
                worker.stir()

    def _begin_chores(self) -> None:
        if not self._chores:
            self._listener.start()
            self.ledger.start()
            self._chores = [asyncio.create_task(self._sweep()), asyncio.create_task(self._rotate())]

    async def _sweep(self) -> None:
        """Once after a start: remove what the runtime has of pods that no row knows."""
        while True:
            try:
                cri = await self.runtime.cri()
                found = await cri.sandboxes({cri_config.INSTANCE: self._context.instance})
                known = {row.uid for row in await self.database.read(rows.every_pod)}
                for item in found:
                    if item["labels"].get(cri_config.UID) not in known:
                        log.info("removing sandbox %s, which no instance has", item["id"])
                        await cri.stop_sandbox(item["id"])
                        await cri.remove_sandbox(item["id"])
                return
            except AlcoveError as error:
                log.warning("the runtime cannot be looked through: %s", error)
            await asyncio.sleep(_SWEEP_RETRY_S)

    async def _rotate(self) -> None:
        """Keep the logs of containers bounded."""
        growth = Growth()
        while True:
            growth.begin()
            workers = list(self._workers.values())
            for worker in workers:
                try:
                    for path in await asyncio.to_thread(growth.look, self.place(worker.uid).logs):
                        await self._reopen(worker, path)
                except (AlcoveError, OSError) as error:
                    log.warning("the logs of pod %s are not rotated: %s", worker.name, error)
            await asyncio.sleep(growth.pause_s(len(workers)))

    async def _reopen(self, worker: Worker, path: Path) -> None:
        """Put a log away that is written; where that was done already, have it begun anew."""
        one = await self.get(TenantId(worker.tenant), worker.name)
        for told in (*one.status.get("containerStatuses", ()), *one.status.get("initContainerStatuses", ())):
            if told["name"] == path.parent.name and "running" in told["state"]:
                await asyncio.to_thread(log_chain.rotate, path)
                cri = await self.runtime.cri()
                id = str(told["containerID"]).removeprefix("containerd://")
                await cri.call("ReopenContainerLog", {"container_id": id})


def waiting_reason(status: dict[str, Any], container: str = "") -> str:
    for told in (*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())):
        if not container or told["name"] == container:
            return str(told["state"].get("waiting", {}).get("reason", ""))
    return ""


def waiting_message(status: dict[str, Any]) -> str:
    every = (*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ()))
    return next((str(one["state"]["waiting"].get("message", "")) for one in every if "waiting" in one["state"]), "")


def _container(pod: Pod, name: str) -> str:
    """Return the container that is named, or the first."""
    names = [one.name for one in [*pod.spec.containers, *pod.spec.init_containers]]
    if name and name not in names:
        raise NotFound(f"There is no container {name[:80]!r} in it.", hint=f"it has {', '.join(names)}")
    return name or names[0]
