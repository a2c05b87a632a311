"""``alcove bench instances``: what many instances cost the control plane. No container is started.

The records are of instances that have ended, each with a manifest, a status and events as real ones have; they are
written into the store of a server that is started then, in a process of its own. The client asks over its UNIX socket,
one request after the other.
"""

from __future__ import annotations

import asyncio
import json
import random
import shutil
import sqlite3
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from alcove.bench.figures import Figures, Ratio, percentile
from alcove.bench.registry import Connection, rss_mib, serving
from alcove.instances.manifest import dump, read
from alcove.store import instances as rows
from alcove.store.database import Database
from alcove.store.instances import PodRow

TIER = "records"
LIMIT_MS = 20.0
# What is held to the limit; the others are for comparison.
HELD = (
    *("get", "list page of 100", "list page of 1000", "list page by name"),
    *("kubernetes get", "kubernetes list page of 100"),
)
INSTANCES = "/v2/instance"
PODS = "/alcove/v1/pods"
_AT_ONCE = 5000
_FIRST_MS = 1_760_000_000_000


@dataclass(slots=True)
class Found:
    figures: Figures = field(default_factory=Figures)
    rss_mib: float = 0.0
    start_s: float = 0.0


def measure(state: Path, *, instances: int, rounds: int, progress: Callable[[str], None]) -> Found:
    shutil.rmtree(state, ignore_errors=True)
    with serving(state) as (connection, _):
        tenant = json.loads(connection.ask("GET", "/alcove/v1/tenants")[1])["tenants"][0]["id"]
    asyncio.run(fill(state / "instances.db", tenant, instances, progress))
    found = Found()
    progress("starting the server")
    began = time.perf_counter()
    with serving(state) as (connection, pid):
        found.start_s = time.perf_counter() - began
        progress("asking")
        ask(connection, found.figures, instances, rounds)
        found.rss_mib = rss_mib(pid)
    return found


def ratios(found: Found) -> list[Ratio]:
    def p99(mode: str) -> float:
        return percentile(found.figures.samples[TIER, mode, "instance"], 0.99)

    return [Ratio(f"{mode} p99, ms", p99(mode), LIMIT_MS) for mode in HELD]


async def fill(path: Path, tenant: str, count: int, progress: Callable[[str], None]) -> None:
    """Write the records, a second between one and the next."""
    database = await Database.open(path, schema="instances")
    try:
        for first in range(0, count, _AT_ONCE):
            progress(f"writing {first}/{count}")
            numbers = range(first, min(first + _AT_ONCE, count))
            await database.write(lambda c, numbers=numbers: _insert(c, tenant, numbers))  # type: ignore[misc]
    finally:
        await database.close()


def _insert(connection: sqlite3.Connection, tenant: str, numbers: range) -> None:
    for number in numbers:
        row = _row(tenant, number)
        rows.insert_pod(connection, row)
        for reason in ("Pulled", "Created", "Started"):
            rows.add_event(connection, row.uid, "Normal", reason, f"{reason} container main", row.created_ms)


def _row(tenant: str, number: int) -> PodRow:
    container = {
        "name": "main",
        "image": "registry.example/shop/worker:7",
        "command": ["worker", "--queue", "orders"],
        "env": [{"name": f"SETTING_{one}", "value": "x" * 40} for one in range(8)],
        "resources": {"limits": {"cpu": 0.25, "memory": "512Mi"}},
        "volumeMounts": [{"name": "scratch", "mountPath": "/scratch"}],
        "ports": [{"containerPort": 8080}],
    }
    spec = {
        "containers": [container],
        "volumes": [{"name": "scratch", "emptyDir": {"sizeLimit": "1Gi"}}],
        "restartPolicy": "Never",
    }
    pod = read({"metadata": {"name": _name(number), "labels": {"team": "shop"}}, "spec": spec})
    text = json.dumps(_status())
    made_ms = _FIRST_MS + 1000 * number
    return PodRow(str(_uid(number)), tenant, _name(number), dump(pod), "vm", made_ms, status=text)


def _status() -> dict[str, Any]:
    ending = {
        "exitCode": 0,
        "reason": "Completed",
        "startedAt": "2026-01-01T00:00:00Z",
        "containerID": "containerd://0",
    }
    container = {"name": "main", "ready": False, "restartCount": 0, "state": {"terminated": ending}, "lastState": {}}
    conditions = [{"type": name, "status": "True"} for name in ("Initialized", "Ready", "PodScheduled")]
    return {
        "phase": "Succeeded",
        "conditions": conditions,
        "containerStatuses": [container],
        "podIP": "10.0.0.1",
        "startTime": "2026-01-01T00:00:00Z",
    }


def ask(connection: Connection, figures: Figures, count: int, rounds: int) -> None:
    """Ask for instances and pages anywhere in the list."""
    dice = random.Random(1)
    for _ in range(rounds):
        number = dice.randrange(count)
        id = f"p-{_uid(number).hex[:16]}"
        for mode, path in (
            ("get", f"{INSTANCES}/{id}"),
            ("list page of 100", f"{INSTANCES}?maxKeys=100&marker={id}"),
            ("list page of 1000", f"{INSTANCES}?maxKeys=1000&marker={id}"),
            ("list page by name", f"{INSTANCES}?keywordType=name&keyword={_name(number)}"),
            ("kubernetes get", f"{PODS}/{_name(number)}"),
            ("kubernetes list page of 100", f"{PODS}?limit=100&after={_name(number)}"),
        ):
            figures.add(TIER, mode, "instance", connection.ask("GET", path)[0])


def _uid(number: int) -> uuid.UUID:
    return uuid.UUID(int=random.Random(number).getrandbits(128), version=4)


def _name(number: int) -> str:
    return f"bench-{number:06d}"
