"""What is to be done next for a pod: a pure function of what is wanted, what is there and what is remembered.

It is asked again after each step, so it may stop at the first thing that must be there before the next. The rules are
Kubernetes': init containers one after the other, restarts with a pause that doubles, a sandbox that is lost is made
anew with all that was in it, a pod that has ended stays ended.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from alcove.instances.manifest import Container, Pod
from alcove.instances.view import ContainerView, Memory, PodView

FIRST_PAUSE_S = 10.0
LONGEST_PAUSE_S = 300.0
# A container that ran for so long is as one that never failed.
FORGIVEN_MS = 600_000
# With the containers that run on when the last of the others has told the pod's end.
SUCCEEDED, FAILED = "Succeeded", "Failed"


@dataclass(frozen=True, slots=True)
class StartSandbox:
    attempt: int


@dataclass(frozen=True, slots=True)
class EndSandbox:
    """Stop it with all that is in it, and remove it where ``remove``."""

    id: str
    remove: bool


@dataclass(frozen=True, slots=True)
class StartContainer:
    container: Container
    attempt: int
    # One that was created but not started.
    id: str = ""


@dataclass(frozen=True, slots=True)
class StopContainers:
    ids: tuple[str, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class RemoveContainer:
    id: str


@dataclass(frozen=True, slots=True)
class End:
    """The pod has come to its end."""

    phase: str
    reason: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True)
class Forget:
    """Nothing of it is left."""


Action = StartSandbox | EndSandbox | StartContainer | StopContainers | RemoveContainer | End | Forget


@dataclass(slots=True)
class Plan:
    """``wake_ms`` is when to look again though nothing has happened; 0: never."""

    actions: list[Action] = field(default_factory=list)
    wake_ms: int = 0

    def wake(self, moment_ms: int) -> None:
        self.wake_ms = min(self.wake_ms or moment_ms, moment_ms)


@dataclass(frozen=True, slots=True)
class Wanted:
    """``deleted``: it shall go. ``unhealthy``: ids of containers whose probes say that they must be started anew."""

    pod: Pod
    deleted: bool = False
    unhealthy: Mapping[str, str] = field(default_factory=dict)


def plan(wanted: Wanted, view: PodView, memory: Memory, now_ms: int) -> Plan:
    """Return what is to be done now."""
    found = Plan()
    spec = wanted.pod.spec
    if wanted.deleted:
        found.actions += _leave(view)
    elif memory.phase:
        found.actions += _rest(view)
    elif _overdue(wanted.pod, memory, now_ms, found):
        found.actions.append(End(FAILED, "DeadlineExceeded", "Pod was active on the node longer than its deadline"))
    elif view.sandbox is None:
        if (end := _ended(wanted.pod, memory)) is not None:
            found.actions.append(end)
        else:
            found.actions += [EndSandbox(one.id, remove=True) for one in view.sandboxes]
            found.actions.append(StartSandbox(memory.sandbox_attempt + 1))
    elif _initialised(spec.init_containers, spec.containers, wanted, view, memory, now_ms, found):
        _run(spec.containers, wanted, view, memory, now_ms, found)
        found.actions += _old_containers(wanted.pod, view)
    return found


def _leave(view: PodView) -> Iterator[Action]:
    running = tuple(one.id for one in view.containers if one.running)
    if running:
        yield StopContainers(running, "deleted")
    elif view.sandboxes:
        yield from (EndSandbox(one.id, remove=True) for one in view.sandboxes)
    else:
        yield Forget()


def _rest(view: PodView) -> Iterator[Action]:
    running = tuple(one.id for one in view.containers if one.running)
    if running:
        yield StopContainers(running, "ended")
    else:
        yield from (EndSandbox(one.id, remove=False) for one in view.sandboxes if one.ready)


def _overdue(pod: Pod, memory: Memory, now_ms: int, found: Plan) -> bool:
    deadline_s = pod.spec.active_deadline_seconds
    if deadline_s is None or not memory.started_ms:
        return False
    due_ms = memory.started_ms + deadline_s * 1000
    found.wake(due_ms)
    return now_ms >= due_ms


def _ended(pod: Pod, memory: Memory) -> End | None:
    """Return the end of a pod whose containers are not there to ask, by how they ended; None where it must run."""
    policy = pod.spec.restart_policy
    if policy == "Always":
        return None
    codes = [memory.endings[one.name].exit_code for one in pod.spec.containers if one.name in memory.endings]
    if len(codes) < len(pod.spec.containers):
        return None
    if policy == "OnFailure" and any(codes):
        return None
    return End(FAILED if any(codes) else SUCCEEDED)


def _initialised(
    init: list[Container],
    main: list[Container],
    wanted: Wanted,
    view: PodView,
    memory: Memory,
    now_ms: int,
    found: Plan,
) -> bool:
    """Tell whether the init containers are through; else plan the next one."""
    if any(view.newest(one.name) is not None for one in main):
        return True
    for one in init:
        seen = view.newest(one.name)
        if seen is not None and seen.exited and seen.exit_code == 0:
            continue
        if seen is not None and seen.exited and wanted.pod.spec.restart_policy == "Never":
            found.actions.append(End(FAILED, "Error", f"init container {one.name} failed ({seen.exit_code})"))
        elif seen is None or not seen.running:
            _start(one, seen, memory, now_ms, found)
        return False
    return True


def _run(containers: list[Container], wanted: Wanted, view: PodView, memory: Memory, now_ms: int, found: Plan) -> None:
    policy, codes = wanted.pod.spec.restart_policy, []
    for one in containers:
        seen = view.newest(one.name)
        if seen is not None and seen.running:
            if seen.id in wanted.unhealthy:
                found.actions.append(StopContainers((seen.id,), "unhealthy"))
        elif seen is not None and seen.exited and not _again(policy, seen):
            codes.append(seen.exit_code)
        else:
            _start(one, seen, memory, now_ms, found)
    if len(codes) == len(containers):
        found.actions.append(End(FAILED if any(codes) else SUCCEEDED))


def _again(policy: str, seen: ContainerView) -> bool:
    return policy == "Always" or (policy == "OnFailure" and seen.exit_code != 0)


def _start(one: Container, seen: ContainerView | None, memory: Memory, now_ms: int, found: Plan) -> None:
    """Plan the start of a container, now or when its pause is over."""
    due_ms = due(one.name, seen, memory)
    if due_ms > now_ms:
        found.wake(due_ms)
    elif seen is not None and seen.created:
        found.actions.append(StartContainer(one, seen.attempt, seen.id))
    else:
        found.actions.append(StartContainer(one, memory.attempts.get(one.name, -1) + 1))


def due(name: str, seen: ContainerView | None, memory: Memory) -> int:
    """Return when a container may start, in ms: after the pause since its end, or since its image was refused."""
    waiting = memory.waiting.get(name)
    after_refusal = waiting.until_ms if waiting is not None else 0
    ending = memory.endings.get(name)
    if seen is None or not seen.exited or ending is None:
        return after_refusal
    return max(after_refusal, seen.finished_ms + int(pause_s(name, seen, memory) * 1000))


def pause_s(name: str, seen: ContainerView, memory: Memory) -> float:
    """Return how long a container rests after this end of it: the first time not at all."""
    if seen.finished_ms - seen.started_ms >= FORGIVEN_MS:
        return 0.0
    return memory.pauses_s.get(name, 0.0)


def next_pause_s(pause: float) -> float:
    """Return the pause after the next failure."""
    return min(max(FIRST_PAUSE_S, 2 * pause), LONGEST_PAUSE_S)


def _old_containers(pod: Pod, view: PodView) -> Iterator[Action]:
    """Of each name only the newest stays, and the one before it while that is not started."""
    for one in [*pod.spec.init_containers, *pod.spec.containers]:
        own = [seen for seen in view.containers if seen.name == one.name]
        yield from (RemoveContainer(seen.id) for seen in own[:-1] if seen.exited)
