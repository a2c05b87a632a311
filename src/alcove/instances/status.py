"""A pod's status, in the words of Kubernetes."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from alcove.instances.manifest import Container, Pod
from alcove.instances.plan import due
from alcove.instances.view import ContainerView, Ending, Memory, PodView

Document = dict[str, Any]


def moment(ms: int) -> str:
    """Return a time as Kubernetes writes it."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(ms // 1000))


def status(
    pod: Pod, view: PodView, memory: Memory, now_ms: int, *, ready: Mapping[str, bool], started: Mapping[str, bool]
) -> Document:
    """Return the status; ``ready`` and ``started`` say of containers' ids what their probes found."""
    init = [_container(one, view, memory, now_ms, ready, started, main=False) for one in pod.spec.init_containers]
    main = [_container(one, view, memory, now_ms, ready, started, main=True) for one in pod.spec.containers]
    initialised = all(one["ready"] for one in init) or any("running" in one["state"] for one in main)
    all_ready = bool(main) and all(one["ready"] for one in main) and not memory.phase
    document: Document = {
        "phase": phase(memory, main),
        "conditions": _conditions(memory, initialised=initialised, ready=all_ready),
        "containerStatuses": main,
        "qosClass": _quality(pod),
    }
    if init:
        document["initContainerStatuses"] = init
    if memory.reason:
        document |= {"reason": memory.reason, "message": memory.message}
    if memory.started_ms:
        document["startTime"] = moment(memory.started_ms)
    if view.address:
        document |= {"podIP": view.address, "podIPs": [{"ip": view.address}]}
    return document


def phase(memory: Memory, main: Sequence[Document]) -> str:
    if memory.phase:
        return memory.phase
    begun = any("waiting" not in one["state"] or "terminated" in one["lastState"] for one in main)
    return "Running" if begun else "Pending"


def _container(
    one: Container,
    view: PodView,
    memory: Memory,
    now_ms: int,
    ready: Mapping[str, bool],
    started: Mapping[str, bool],
    *,
    main: bool,
) -> Document:
    seen = view.newest(one.name)
    ending, earlier = memory.endings.get(one.name), memory.earlier.get(one.name)
    state, last = _state(one, seen, memory, now_ms)
    is_ready = seen is not None and seen.running and ready.get(seen.id, False)
    if not main:
        is_ready = ending is not None and ending.exit_code == 0 and "terminated" in state
    known = ending if last is None and ending is not None and "terminated" not in state else last or earlier
    document: Document = {
        "name": one.name,
        "image": one.image,
        "imageID": seen.image_ref if seen is not None else "",
        "ready": is_ready,
        "started": seen is not None and seen.running and started.get(seen.id, True),
        "restartCount": max(0, memory.attempts.get(one.name, 0)),
        "state": state,
        "lastState": {} if known is None else {"terminated": _ending(known)},
    }
    if (container_id := _id_of(seen, ending)) != "":
        document["containerID"] = f"containerd://{container_id}"
    return document


def _id_of(seen: ContainerView | None, ending: Ending | None) -> str:
    if seen is not None:
        return seen.id
    return ending.id if ending is not None else ""


def _state(one: Container, seen: ContainerView | None, memory: Memory, now_ms: int) -> tuple[Document, Ending | None]:
    """Return the state, and the ending that is the last state where it is another than the state."""
    ending, waiting = memory.endings.get(one.name), memory.waiting.get(one.name)
    if seen is not None and seen.running:
        return {"running": {"startedAt": moment(seen.started_ms)}}, ending
    if waiting is not None:
        return {"waiting": {"reason": waiting.reason, "message": waiting.message}}, ending
    if ending is not None and (memory.phase or seen is None or seen.exited):
        rest_ms = due(one.name, seen, memory) - now_ms
        if rest_ms > 0 and not memory.phase:
            text = f"back-off {-(-rest_ms // 1000)}s restarting failed container {one.name}"
            return {"waiting": {"reason": "CrashLoopBackOff", "message": text}}, ending
        return {"terminated": _ending(ending)}, memory.earlier.get(one.name)
    return {"waiting": {"reason": "ContainerCreating"}}, None


def _ending(ending: Ending) -> Document:
    document: Document = {
        "exitCode": ending.exit_code,
        "reason": ending.reason,
        "startedAt": moment(ending.started_ms),
        "finishedAt": moment(ending.finished_ms),
        "containerID": f"containerd://{ending.id}",
    }
    return document | ({"message": ending.message} if ending.message else {})


def _conditions(memory: Memory, *, initialised: bool, ready: bool) -> list[Document]:
    done = memory.phase == "Succeeded"
    why = "PodCompleted" if done else "ContainersNotReady"
    rows = (
        ("Initialized", initialised or done, "ContainersNotInitialized"),
        ("Ready", ready, why),
        ("ContainersReady", ready, why),
        ("PodScheduled", True, ""),
    )
    return [
        {"type": kind, "status": "True" if value else "False"} | ({} if value else {"reason": reason})
        for kind, value, reason in rows
    ]


def _quality(pod: Pod) -> str:
    """Kubernetes' class of a pod's claims: Guaranteed, Burstable, BestEffort."""
    every = [one.resources for one in [*pod.spec.init_containers, *pod.spec.containers]]
    if not any(one.limits or one.requests for one in every):
        return "BestEffort"
    whole = all({"cpu", "memory"} <= one.limits.keys() for one in every)
    same = all(str(one.requests.get(key, value)) == str(value) for one in every for key, value in one.limits.items())
    return "Guaranteed" if whole and same else "Burstable"
