"""Brings one pod to where it shall be: looks, plans, does, and looks again, for as long as the pod is there.

What it is about to do is in the store first. Whatever fails is tried again after a pause; whatever was half done when a
daemon was killed is found by looking.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import astuple, dataclass, field
from typing import Any, TypeVar

import msgspec

from alcove.errors import AlcoveError, InvalidRequest, NotFound
from alcove.host.clock import now_ms
from alcove.instances import cri_config, manifest, volumes
from alcove.instances import plan as plans
from alcove.instances.cri import Cri, Unavailable
from alcove.instances.cri_config import Identity
from alcove.instances.image_access import ImageAccess
from alcove.instances.ledger import Ledger
from alcove.instances.manifest import Container
from alcove.instances.place import Place
from alcove.instances.plan import Action, Wanted, next_pause_s, plan
from alcove.instances.probing import Probes
from alcove.instances.pull_secrets import load_secrets
from alcove.instances.runtime import Runtime
from alcove.instances.size import size_of
from alcove.instances.status import Document, status
from alcove.instances.tier import PodTier
from alcove.instances.view import ContainerView, Memory, PodView, Waiting, container_view, ordered, sandbox_view
from alcove.pods.model import Defaults
from alcove.store import instances as rows
from alcove.store import pull_secrets
from alcove.store.database import Database
from alcove.store.instances import PodRow
from alcove.store.pod_usage import Payer

log = logging.getLogger(__name__)

T = TypeVar("T")
# Events tell what happens; this is for those that were lost.
LOOK_EVERY_S = 15.0
RETRY_S = (0.5, 15.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What all pods of an instance share."""

    database: Database
    runtime: Runtime
    folder: Callable[[str], Place]
    instance: str
    ledger: Ledger
    defaults: Defaults
    access: ImageAccess
    dns: tuple[str, ...] = ()


@dataclass(slots=True)
class _Seen:
    """What never changes once it is known: containers that have ended, addresses of sandboxes."""

    ended: dict[str, ContainerView] = field(default_factory=dict)
    addresses: dict[str, str] = field(default_factory=dict)
    namespaces: dict[str, str] = field(default_factory=dict)


class Worker:
    """``run`` returns when nothing is left to do: the pod has ended, or is gone."""

    def __init__(self, row: PodRow, context: Context) -> None:
        self.uid = row.uid
        self.tenant = row.tenant_id
        self.name = row.name
        self.deleted = row.deleted_ms > 0
        self.pod = manifest.load(row.manifest)
        self.isolation = PodTier(row.isolation)
        self.ids: set[str] = set()
        self._grace_s = row.grace_s
        self._context = context
        self._memory = msgspec.json.decode(row.memory, type=Memory)
        self._identity = Identity(uid=row.uid, tenant=row.tenant_id, name=row.name, instance=context.instance)
        self._place = context.folder(row.uid)
        self._written = row.status
        self._payer = Payer(row.uid, row.tenant_id, row.name, *astuple(size_of(self.pod, context.defaults)))
        self._seen = _Seen()
        self._stirred = asyncio.Event()
        self._leaving = asyncio.Event()
        self._probes = Probes(self.pod, self.stir, msgspec.json.decode(row.status), self._event)
        if self.deleted:
            self._leaving.set()

    def stir(self) -> None:
        """Something may have changed: look."""
        self._stirred.set()

    def delete(self, grace_s: int) -> None:
        """The row says so already."""
        self.deleted, self._grace_s = True, grace_s
        self._leaving.set()
        self.stir()

    async def run(self) -> None:
        pause_s = RETRY_S[0]
        try:
            while True:
                self._stirred.clear()
                try:
                    wait_s = await self._step()
                    pause_s = RETRY_S[0]
                except Unavailable:
                    # containerd is started anew, or its socket is another's to mend.
                    wait_s = RETRY_S[0]
                except AlcoveError as error:
                    log.info("pod %s: %s", self.name, error)
                    await self._event("Warning", "FailedSync", str(error))
                    wait_s, pause_s = pause_s, min(2 * pause_s, RETRY_S[1])
                if wait_s is None:
                    return
                await self._rest(wait_s)
        finally:
            await self._probes.close()

    async def _rest(self, wait_s: float) -> None:
        try:
            async with asyncio.timeout(wait_s):
                await self._stirred.wait()
        except TimeoutError:
            pass

    async def _step(self) -> float | None:
        """Do what is due; return how long to rest at most, or None at the end."""
        cri = await self._context.runtime.cri()
        view = await self._look_and_bill(cri)
        wanted = Wanted(self.pod, self.deleted, self._probes.unhealthy)
        now = now_ms()
        found = plan(wanted, view, self._memory, now)
        await self._show(view, now)
        for action in found.actions:
            if isinstance(action, plans.Forget):
                await self._forget()
                return None
            await self._do(cri, action, view)
        if found.actions:
            return 0.0
        if self._memory.phase and not self.deleted:
            return None
        self._probes.watch(cri, [one for one in view.containers if one.running], view.address)
        return min(LOOK_EVERY_S, max(0.0, (found.wake_ms - now) / 1000) if found.wake_ms else LOOK_EVERY_S)

    # Looking

    async def _look_and_bill(self, cri: Cri) -> PodView:
        looked_ms = now_ms()
        view = await self._look(cri)
        await self._context.ledger.note(self._payer, view, looked_ms, self._seen.namespaces)
        return view

    async def _look(self, cri: Cri) -> PodView:
        labels = {cri_config.UID: self.uid}
        sandboxes = [sandbox_view(item) for item in await cri.sandboxes(labels)]
        containers = [await self._container(cri, item) for item in await cri.containers(labels)]
        view = ordered(sandboxes, (one for one in containers if one is not None), "")
        if (here := view.sandbox) is not None:
            if here.id not in self._seen.addresses:
                told, self._seen.namespaces[here.id] = await cri.sandbox(here.id)
                self._seen.addresses[here.id] = (told["network"] or {}).get("ip", "")
            view = PodView(view.sandboxes, view.containers, self._seen.addresses[here.id])
        self.ids = {one.id for one in view.sandboxes} | {one.id for one in view.containers}
        for one in view.containers:
            if one.exited:
                self._note_end(one)
        return view

    async def _container(self, cri: Cri, item: Mapping[str, Any]) -> ContainerView | None:
        known = self._seen.ended.get(item["id"])
        if known is not None:
            return known
        try:
            told = await cri.container(item["id"])
        except NotFound:
            return None
        view = container_view(item, told)
        if view.exited:
            self._seen.ended[view.id] = view
        return view

    def _note_end(self, one: ContainerView) -> None:
        """Remember how a container ended, and how long the next pause is."""
        known = self._memory.endings.get(one.name)
        if (known is not None and known.id == one.id) or one.attempt < self._memory.attempts.get(one.name, 0):
            return
        self._memory.remember(one.end(), one.name)
        if plans.pause_s(one.name, one, self._memory) == 0.0:
            self._memory.pauses_s.pop(one.name, None)

    async def _show(self, view: PodView, now: int) -> None:
        document = status(
            self.pod, view, self._memory, now, ready=self._probes.ready(view), started=self._probes.started(view)
        )
        text = msgspec.json.encode(document).decode()
        if text != self._written and not self.deleted:
            memory = self._dump()
            await self._context.database.write(lambda c: rows.set_status(c, self.uid, text, memory))
            self._written = text

    def _dump(self) -> str:
        return msgspec.json.encode(self._memory).decode()

    async def _keep(self) -> None:
        """Write down what is about to be done."""
        memory = self._dump()
        await self._context.database.write(lambda c: rows.set_memory(c, self.uid, memory))

    # Doing

    async def _do(self, cri: Cri, action: Action, view: PodView) -> None:
        if isinstance(action, plans.StartSandbox):
            await self._start_sandbox(cri, action.attempt)
        elif isinstance(action, plans.StartContainer):
            await self._start_container(cri, action, view)
        elif isinstance(action, plans.StopContainers):
            await self._stop(cri, action, view)
        elif isinstance(action, plans.EndSandbox):
            await self._end_sandbox(cri, action)
        elif isinstance(action, plans.RemoveContainer):
            await _unless_gone(cri.remove(action.id))
            self._seen.ended.pop(action.id, None)
        elif isinstance(action, plans.End):
            await self._end(action)

    async def _end_sandbox(self, cri: Cri, action: plans.EndSandbox) -> None:
        await self._context.ledger.settle(action.id)
        await _unless_gone(cri.stop_sandbox(action.id))
        self._seen.namespaces.pop(action.id, None)
        if action.remove:
            # What ended with it is billed before it is forgotten.
            await self._look_and_bill(cri)
            await _unless_gone(cri.remove_sandbox(action.id))
            self._context.ledger.forget(action.id)

    async def _start_sandbox(self, cri: Cri, attempt: int) -> None:
        try:
            await asyncio.to_thread(volumes.make, self.pod, self._place, self.isolation)
        except AlcoveError as error:
            await self._event("Warning", "FailedMount", str(error))
            raise
        self._memory.sandbox_attempt = attempt
        self._memory.started_ms = self._memory.started_ms or now_ms()
        await self._keep()
        config = self._sandbox_config()
        try:
            await cri.run_sandbox(config, self.isolation.handler)
        except AlcoveError as error:
            await self._failed("FailedCreatePodSandBox", error)
            raise

    def _sandbox_config(self) -> Document:
        attempt = self._memory.sandbox_attempt
        return cri_config.sandbox(self.pod, self._identity, self._place, self.isolation, attempt, dns=self._context.dns)

    async def _start_container(self, cri: Cri, action: plans.StartContainer, view: PodView) -> None:
        one, here = action.container, view.sandbox
        assert here is not None
        try:
            container = action.id or await self._create(cri, action, here.id, view.address)
        except _Left:
            return
        except AlcoveError as error:
            await self._refused(one, error)
            return
        self._memory.waiting.pop(one.name, None)
        self._memory.pauses_s[one.name] = self._next_pause(one)
        self.ids.add(container)
        try:
            await cri.start(container)
        except AlcoveError as error:
            # It counts as one that ran and ended.
            await self._failed("Failed", error)
        else:
            await self._event("Normal", "Started", f"Started container {one.name}")

    def _next_pause(self, one: Container) -> float:
        known = self._memory.endings.get(one.name)
        return 0.0 if known is None else next_pause_s(self._memory.pauses_s.get(one.name, 0.0))

    async def _create(self, cri: Cri, action: plans.StartContainer, sandbox: str, address: str) -> str:
        one = action.container
        await self._pull(cri, one)
        await self._context.runtime.isolate()
        config = cri_config.container(self.pod, one, self._identity, self._place, action.attempt, address=address)
        self._memory.attempts[one.name] = action.attempt
        await self._keep()
        container = await cri.create(sandbox, config, self._sandbox_config())
        await self._event("Normal", "Created", f"Created container {one.name}")
        return container

    async def _pull(self, cri: Cri, one: Container) -> None:
        policy = one.image_pull_policy or ("Always" if _floats(one.image) else "IfNotPresent")
        access = self._context.access
        present = await access.usable(cri, self.tenant, one.image)
        if policy == "Never" and not present:
            raise _ImageRefused("ErrImageNeverPull", f"The image {one.image} is not here, and must not be pulled.")
        if policy == "Never" or (present and policy != "Always"):
            return
        await self._event("Normal", "Pulling", f'Pulling image "{one.image}"')
        text = await self._context.database.read(lambda c: pull_secrets.get(c, self.uid))
        try:
            await self._unless_left(access.pull(cri, self.tenant, one.image, load_secrets(text)))
        except AlcoveError as error:
            raise _ImageRefused("ErrImagePull", f"{error}; {error.hint}" if error.hint else str(error)) from error
        await self._event("Normal", "Pulled", f'Pulled image "{one.image}"')

    async def _unless_left(self, work: Awaitable[T]) -> T:
        """Wait for ``work``, but no longer than the pod is wanted."""
        task = asyncio.ensure_future(work)
        leaving = asyncio.create_task(self._leaving.wait())
        try:
            await asyncio.wait((task, leaving), return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                raise _Left
            return task.result()
        finally:
            leaving.cancel()
            task.cancel()
            await asyncio.gather(task, leaving, return_exceptions=True)

    async def _refused(self, one: Container, error: AlcoveError) -> None:
        """The container cannot be made now: say why, and when it is tried again."""
        before = self._memory.waiting.get(one.name)
        pause_s = next_pause_s(before.pause_s if before is not None else 0.0)
        reason = "CreateContainerError"
        if isinstance(error, _ImageRefused):
            again = before is not None and error.reason == "ErrImagePull"
            reason = "ImagePullBackOff" if again else error.reason
        elif isinstance(error, InvalidRequest):
            reason = "CreateContainerConfigError"
        await self._event("Warning", "Failed", str(error))
        self._memory.waiting[one.name] = Waiting(
            reason=reason, message=str(error)[:2000], until_ms=now_ms() + int(pause_s * 1000), pause_s=pause_s
        )
        await self._keep()

    async def _stop(self, cri: Cri, action: plans.StopContainers, view: PodView) -> None:
        names = {one.id: one.name for one in view.containers}
        kinds = dict(self._probes.unhealthy)
        for id in action.ids:
            await self._event("Normal", "Killing", f"Stopping container {names.get(id, id)}")
            self._probes.forget(id)
        stops = [
            asyncio.create_task(_unless_gone(cri.stop(id, self._grace_of(names.get(id, ""), kinds.get(id, "")))))
            for id in action.ids
        ]
        try:
            # What does not end in one container must not keep the pod from being left.
            await (asyncio.gather(*stops) if self.deleted else self._unless_left(asyncio.gather(*stops)))
        except _Left:
            return
        finally:
            for one in stops:
                one.cancel()
            await asyncio.gather(*stops, return_exceptions=True)

    def _grace_of(self, name: str, unhealthy: str) -> int:
        """What a container gets to end in; a probe that ends it may say so itself."""
        if self.deleted:
            return self._grace_s
        one = next((one for one in self.pod.spec.containers if one.name == name), None)
        probes = {} if one is None else {"startup": one.startup_probe, "liveness": one.liveness_probe}
        probe = probes.get(unhealthy)
        own = None if probe is None else probe.termination_grace_period_seconds
        return self.pod.spec.termination_grace_period_seconds if own is None else own

    async def _end(self, end: plans.End) -> None:
        self._memory.phase, self._memory.reason, self._memory.message = end.phase, end.reason, end.message
        self._memory.finished_ms = now_ms()
        await self._keep()

    async def _failed(self, reason: str, error: AlcoveError) -> None:
        """Tell of what the runtime could not start, or of the volume for which it could not."""
        mount = volumes.failed_mount(self.pod, str(error))
        await self._event("Warning", *((reason, str(error)) if mount is None else ("FailedMount", mount)))

    async def _forget(self) -> None:
        """All that the runtime had is gone: then the files, then the row."""
        await asyncio.to_thread(volumes.remove, self._place)
        await self._context.database.write(lambda c: rows.delete_pod(c, self.uid))

    async def _event(self, type: str, reason: str, message: str) -> None:
        text, moment = message[:1000], now_ms()
        await self._context.database.write(lambda c: rows.add_event(c, self.uid, type, reason, text, moment))


class _Left(Exception):
    """The pod is not wanted any more."""


class _ImageRefused(AlcoveError):
    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


async def _unless_gone(work: Awaitable[None]) -> None:
    try:
        await work
    except NotFound:
        pass


def _floats(image: str) -> bool:
    """Tell whether the name may stand for another image tomorrow: its tag is ``latest`` or none."""
    name = image.rpartition("/")[2]
    return "@" not in image and (":" not in name or name.endswith(":latest"))
