"""Pods in the metrics: how many there are by phase, and of some what each uses, as ``alcove stats`` has it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from alcove.instances.service import InstanceService, Sample
from alcove.telemetry.metrics import Gauge, Source

# The oldest that have not ended have series; how many do not is a number of its own.
SERIES_LIMIT = 1000
LIVE = ("Pending", "Running")
PHASES = (*LIVE, "Succeeded", "Failed")
STATES = ("running", "terminated", "waiting")


def instances(service: InstanceService) -> Source:
    async def look() -> list[Gauge]:
        phases = {**dict.fromkeys(PHASES, 0), **await service.phases()}
        samples = await service.samples(SERIES_LIMIT)
        found = [Gauge("alcove_instances", "Instances.", count, {"phase": phase}) for phase, count in phases.items()]
        left = max(0, sum(phases[phase] for phase in LIVE) - len(samples))
        found.append(Gauge("alcove_instances_without_series", "Live ones that have no series of their own.", left))
        return found + [gauge for sample in samples for gauge in (*_pod(sample), *_containers(sample))]

    return look


def _pod(sample: Sample) -> Iterator[Gauge]:
    labels = {"tenant": sample.row.tenant_id, "instance": sample.row.name}
    received, sent = sample.traffic.received_bytes, sample.traffic.sent_bytes
    yield Gauge("alcove_instance_received_bytes", "What its interface received.", received, labels, counts=True)
    yield Gauge("alcove_instance_sent_bytes", "What its interface sent.", sent, labels, counts=True)


def _containers(sample: Sample) -> Iterator[Gauge]:
    pod = {"tenant": sample.row.tenant_id, "instance": sample.row.name}
    for one in sample.containers:
        labels = {**pod, "container": one.name}
        cpu_s = one.cpu_ns / 1e9
        yield Gauge("alcove_instance_cpu_seconds", "Processor time of a container.", cpu_s, labels, counts=True)
        yield Gauge("alcove_instance_memory_bytes", "Working set of a container.", one.memory_bytes, labels)
        yield Gauge("alcove_instance_disk_bytes", "Writable layer of a container.", one.disk_bytes, labels)
    for told in _told(msgspec.json.decode(sample.row.status)):
        labels = {**pod, "container": str(told["name"])}
        restarts = int(told.get("restartCount", 0))
        yield Gauge("alcove_instance_restarts", "Restarts of a container.", restarts, labels, counts=True)
        for state in STATES:
            here = state in told.get("state", {})
            yield Gauge("alcove_instance_state", "1 for the state of a container.", here, {**labels, "state": state})


def _told(document: dict[str, Any]) -> Sequence[dict[str, Any]]:
    return (*document.get("initContainerStatuses", ()), *document.get("containerStatuses", ()))
