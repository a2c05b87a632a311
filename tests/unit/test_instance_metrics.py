"""Pods in the metrics and in ``alcove stats``: the same numbers, for a bounded number of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from unittest.mock import patch

from prometheus_client.parser import text_string_to_metric_families

from alcove.errors import HostError
from alcove.instances.cri_config import CONTAINER, UID
from alcove.instances.ledger import Ledger
from alcove.instances.samples import ContainerUse, by_pod
from alcove.instances.service import InstanceService, Rules
from alcove.instances.traffic import Traffic
from alcove.instances.view import ContainerView, PodView
from alcove.pods.model import Defaults
from alcove.sandbox.protocol import TenantId
from alcove.store import instances as rows
from alcove.store.instances import PodRow
from alcove.store.pod_usage import Payer
from alcove.telemetry import instance_gauges
from alcove.telemetry.metrics import Metrics

TENANT = "1" * 12
STATUS = {
    "phase": "Running",
    "containerStatuses": [{"name": "c", "restartCount": 3, "state": {"running": {}}}],
}


class Runtime:
    """Tells what one container of each pod uses; or nothing at all."""

    def __init__(self) -> None:
        self.works = True

    async def cri(self) -> Runtime:
        if not self.works:
            raise HostError("it does not work")
        return self

    async def call(self, name: str, request: Any) -> dict[str, Any]:
        return {"stats": [stat(f"u{number}", "c", 1_500_000_000, 2048, 7) for number in range(4)]}

    async def close(self) -> None:
        pass


def stat(uid: str, name: str, cpu: int, memory: int, disk: int) -> dict[str, Any]:
    return {
        "attributes": {"labels": {UID: uid, CONTAINER: name}},
        "cpu": {"usage_core_nano_seconds": {"value": cpu}},
        "memory": {"working_set_bytes": {"value": memory}},
        "writable_layer": {"used_bytes": {"value": disk}},
    }


async def service(folder: Path, phases: list[str]) -> tuple[InstanceService, Runtime]:
    runtime = Runtime()
    found = await InstanceService.open(folder, runtime, "i", Rules(), defaults=Defaults())  # type: ignore[arg-type]
    for number, phase in enumerate(phases):
        status = json.dumps({**STATUS, "phase": phase})
        row = PodRow(f"u{number}", TENANT, f"p{number}", "{}", "vm", number, status=status)
        await found.database.write(lambda c, row=row: rows.insert_pod(c, row))
    return found, runtime


async def series(found: InstanceService) -> dict[tuple[str, str], float]:
    metrics = Metrics()
    metrics.sources = (instance_gauges.instances(found),)
    text = (await metrics.render()).decode()
    return {
        (sample.name, ",".join(f"{key}={value}" for key, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def test_what_stats_tells_is_in_the_metrics(tmp_path: Path) -> None:
    found, _ = await service(tmp_path, ["Running", "Failed"])
    found.ledger.read_traffic = lambda spaces: {key: Traffic(10, 20) for key in spaces}
    await open_sandbox(found.ledger, "u0")
    told = await found.stats(TenantId(TENANT), "p0")
    assert (told.containers, told.traffic) == ([ContainerUse("c", 1_500_000_000, 2048, 7)], Traffic(10, 20))
    samples = await series(found)
    pod, container = f"instance=p0,tenant={TENANT}", f"container=c,instance=p0,tenant={TENANT}"
    assert samples["alcove_instance_cpu_seconds_total", container] == 1.5
    assert samples["alcove_instance_memory_bytes", container] == 2048
    assert samples["alcove_instance_disk_bytes", container] == 7
    assert samples["alcove_instance_restarts_total", container] == 3
    assert samples["alcove_instance_received_bytes_total", pod] == 10
    assert samples["alcove_instance_sent_bytes_total", pod] == 20
    states = {
        state: samples["alcove_instance_state", f"{container},".replace(",tenant", f",state={state},tenant")[:-1]]
        for state in instance_gauges.STATES
    }
    assert states == {"running": 1, "terminated": 0, "waiting": 0}
    assert samples["alcove_instances", "phase=Running"] == samples["alcove_instances", "phase=Failed"] == 1
    assert not any("p1" in labels for _, labels in samples), "what has ended has no series"
    await found.close()


async def open_sandbox(ledger: Ledger, uid: str) -> None:
    view = PodView(containers=(ContainerView("c", "s", "c", 0, 1, started_ms=5),))
    await ledger.note(Payer(uid, TENANT, "p0", 1, 1, 1), view, 10, {"s": "/netns"})


async def test_so_many_have_series_and_the_others_are_counted(tmp_path: Path) -> None:
    found, _ = await service(tmp_path, ["Running"] * 4)
    with patch.object(instance_gauges, "SERIES_LIMIT", 3):
        samples = await series(found)
    assert {labels for name, labels in samples if name == "alcove_instance_sent_bytes_total"} == {
        f"instance=p{number},tenant={TENANT}" for number in range(3)
    }
    assert samples["alcove_instances_without_series", ""] == 1
    await found.close()


async def test_a_runtime_that_does_not_answer_leaves_the_rest(tmp_path: Path) -> None:
    found, runtime = await service(tmp_path, ["Running"])
    runtime.works = False
    samples = await series(found)
    assert samples["alcove_instances", "phase=Running"] == 1
    assert samples["alcove_instance_restarts_total", f"container=c,instance=p0,tenant={TENANT}"] == 3
    assert not any(name == "alcove_instance_memory_bytes" for name, _ in samples)
    await found.close()


def test_stats_of_what_is_not_ours_are_left_out() -> None:
    assert by_pod([{"attributes": {"labels": {}}}, {"attributes": None}]) == {}
    assert by_pod([{**stat("u", "c", 1, 2, 3), "cpu": None, "memory": {"working_set_bytes": None}}]) == {
        "u": [ContainerUse("c", 0, 0, 3)]
    }
