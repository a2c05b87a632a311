"""What the runtime has of a pod, and what we remember of it beyond that."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from alcove.instances.cri_tables import CREATED, EXITED, RUNNING, SANDBOX_READY


@dataclass(frozen=True, slots=True)
class SandboxView:
    id: str
    attempt: int
    ready: bool
    created_ms: int


@dataclass(frozen=True, slots=True)
class ContainerView:
    """One container, that runs, will run or has run. Times are in ms since 1970, 0 where they are not known."""

    id: str
    sandbox: str
    name: str
    attempt: int
    state: int  # as CRI counts
    created_ms: int = 0
    started_ms: int = 0
    finished_ms: int = 0
    exit_code: int = 0
    reason: str = ""
    message: str = ""
    image_ref: str = ""

    @property
    def running(self) -> bool:
        return self.state == RUNNING

    @property
    def exited(self) -> bool:
        return self.state == EXITED

    @property
    def created(self) -> bool:
        return self.state == CREATED

    def end(self) -> Ending:
        reason = self.reason or ("Completed" if self.exit_code == 0 else "Error")
        return Ending(
            id=self.id,
            attempt=self.attempt,
            exit_code=self.exit_code,
            reason=reason,
            message=self.message,
            started_ms=self.started_ms,
            finished_ms=self.finished_ms,
        )


@dataclass(frozen=True, slots=True)
class PodView:
    """All of one pod, the newest sandbox and containers last."""

    sandboxes: tuple[SandboxView, ...] = ()
    containers: tuple[ContainerView, ...] = ()
    address: str = ""

    @property
    def sandbox(self) -> SandboxView | None:
        """The one that containers can be in."""
        last = self.sandboxes[-1] if self.sandboxes else None
        return last if last is not None and last.ready else None

    def newest(self, name: str) -> ContainerView | None:
        """Return the last container of this name in the sandbox that is ready."""
        here = self.sandbox
        own = [one for one in self.containers if one.name == name and here is not None and one.sandbox == here.id]
        return own[-1] if own else None


class Ending(msgspec.Struct, frozen=True, kw_only=True):
    """How a container ended."""

    id: str
    attempt: int
    exit_code: int
    reason: str
    message: str = ""
    started_ms: int = 0
    finished_ms: int = 0


class Waiting(msgspec.Struct, frozen=True, kw_only=True):
    """Why a container does not run, and since when it is to be tried again."""

    reason: str
    message: str = ""
    until_ms: int = 0
    pause_s: float = 0.0


class Memory(msgspec.Struct, kw_only=True):
    """What is kept in the store of a pod beside what is wanted. By names of containers, but for the sandbox."""

    sandbox_attempt: int = -1
    attempts: dict[str, int] = {}
    pauses_s: dict[str, float] = {}
    waiting: dict[str, Waiting] = {}
    endings: dict[str, Ending] = {}
    # The endings before those.
    earlier: dict[str, Ending] = {}
    # Succeeded or Failed, once it is decided, and why.
    phase: str = ""
    reason: str = ""
    message: str = ""
    started_ms: int = 0
    finished_ms: int = 0
    ready_ms: int = 0

    def remember(self, ending: Ending, name: str) -> None:
        known = self.endings.get(name)
        if known is not None and known.id != ending.id:
            self.earlier[name] = known
        self.endings[name] = ending


def sandbox_view(item: Mapping[str, Any]) -> SandboxView:
    """Return the view of what ListPodSandbox tells."""
    attempt = (item["metadata"] or {}).get("attempt", 0)
    return SandboxView(item["id"], attempt, item["state"] == SANDBOX_READY, item["created_at"] // 1_000_000)


def container_view(item: Mapping[str, Any], status: Mapping[str, Any] | None) -> ContainerView:
    """Return the view of what ListContainers and, where it was asked, ContainerStatus tell."""
    metadata = item["metadata"] or {}
    told = status or item
    return ContainerView(
        id=item["id"],
        sandbox=item["pod_sandbox_id"],
        name=metadata.get("name", ""),
        attempt=metadata.get("attempt", 0),
        state=told["state"],
        created_ms=item["created_at"] // 1_000_000,
        started_ms=told.get("started_at", 0) // 1_000_000,
        finished_ms=told.get("finished_at", 0) // 1_000_000,
        exit_code=told.get("exit_code", 0),
        reason=told.get("reason", ""),
        message=told.get("message", ""),
        image_ref=item["image_ref"],
    )


def ordered(sandboxes: Iterable[SandboxView], containers: Iterable[ContainerView], address: str) -> PodView:
    return PodView(
        tuple(sorted(sandboxes, key=lambda one: (one.attempt, one.created_ms))),
        tuple(sorted(containers, key=lambda one: (one.created_ms, one.attempt))),
        address,
    )
