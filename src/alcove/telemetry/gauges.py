"""What is there at the moment that somebody asks: pools, sandboxes, events that wait, timers, what is not added up."""

from __future__ import annotations

from collections import Counter

from alcove.events.queue import EventQueue
from alcove.flows.service import FlowService
from alcove.functions.dispatcher import Dispatcher
from alcove.host.clock import now_ms
from alcove.metering.meter import Meter
from alcove.queues.service import QueueService
from alcove.sources.mappings import MappingService
from alcove.store.events import oldest_event_ms
from alcove.telemetry.metrics import Gauge, Source
from alcove.triggers.runs import TimerRuns

_MIB = 1 << 20


def pools(dispatcher: Dispatcher) -> Source:
    async def look() -> list[Gauge]:
        found = []
        for pool in dispatcher.pools():
            labels = {"isolation": str(pool["isolation"]), "runtime": str(pool["runtime"])}
            found += [
                Gauge("alcove_pool_ready", "Started sandboxes that wait for code.", pool["ready"], labels),
                Gauge("alcove_pool_target", "Sandboxes that the pool wants to have ready.", pool["target"], labels),
            ]
        return found

    return look


def sandboxes(dispatcher: Dispatcher) -> Source:
    async def look() -> list[Gauge]:
        states = Counter({"busy": 0, "idle": 0})
        instances = dispatcher.instances()
        states.update(str(instance["state"]) for instance in instances)
        limits, peaks = (
            sum((one[name] or 0) * _MIB for one in instances) for name in ("memory_mib", "memory_peak_mib")
        )
        return [
            *(
                Gauge("alcove_sandboxes", "Sandboxes that have a function loaded.", count, {"state": state})
                for state, count in states.items()
            ),
            Gauge("alcove_sandboxes_memory_limit_bytes", "What the functions in them may use together.", limits),
            Gauge("alcove_sandboxes_memory_peak_bytes", "The most that each has used so far, together.", peaks),
        ]

    return look


def waiting(dispatcher: Dispatcher) -> Source:
    async def look() -> list[Gauge]:
        count = sum(int(line["waiting"]) for line in dispatcher.queues())
        return [Gauge("alcove_calls_waiting", "Calls that wait for a sandbox.", count)]

    return look


def events(queue: EventQueue) -> Source:
    async def look() -> list[Gauge]:
        oldest = await queue.database.read(oldest_event_ms)
        age_s = 0.0 if oldest is None else max(0, now_ms() - oldest) / 1000
        return [
            Gauge("alcove_events_waiting", "Asynchronous invocations that are not done.", len(queue)),
            Gauge("alcove_events_oldest_age_seconds", "Age of the oldest of them.", age_s),
        ]

    return look


def queues(service: QueueService) -> Source:
    async def look() -> list[Gauge]:
        return [
            Gauge("alcove_queue_messages", "Messages in the queues of tenants.", service.room.messages),
            Gauge("alcove_queue_bytes", "Their bytes, attributes included.", service.room.bytes),
        ]

    return look


def mappings(service: MappingService) -> Source:
    async def look() -> list[Gauge]:
        counts = Counter({"ok": 0, "problem": 0})
        counts.update(service.health())
        return [
            Gauge("alcove_event_source_mappings", "Mappings that read their sources.", count, {"state": state})
            for state, count in counts.items()
        ]

    return look


def timers(runs: TimerRuns) -> Source:
    async def look() -> list[Gauge]:
        return [Gauge("alcove_timers", "Timers that are enabled.", len(runs))]

    return look


def flows(service: FlowService) -> Source:
    async def look() -> list[Gauge]:
        return [Gauge("alcove_flow_executions", "Executions of flows that run.", len(service))]

    return look


def metering(meter: Meter) -> Source:
    async def look() -> list[Gauge]:
        return [Gauge("alcove_metering_unsaved_calls", "Calls that are not in the sums yet.", meter.unsaved)]

    return look
