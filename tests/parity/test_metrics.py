"""GET /metrics: the operator's on the UNIX socket, a listener's own over TCP, never on the tenants' port."""

from __future__ import annotations

import asyncio
import http.client
from typing import Any

from tests.parity.conftest import Platform
from tests.parity.signing import send

from alcove.api.metrics import MetricsApp
from alcove.cli.client import Client
from alcove.gateway.http import Server
from alcove.telemetry.metrics import CONTENT_TYPE, Gauge, Metrics


def test_the_operator_reads_all(platform: Platform, aws: Any, function: str) -> None:
    aws.invoke(FunctionName=function, Payload=b"{}")
    answer = Client(platform.socket.parent).request("GET", "/metrics")
    assert answer.headers["content-type"] == CONTENT_TYPE
    text = answer.body.decode()
    for name in (
        *("alcove_invocations_total", "alcove_starts_total", "alcove_invocation_duration_seconds_bucket"),
        *("alcove_queue_messages", "alcove_queue_bytes", "alcove_event_source_mappings"),
        *("alcove_events_waiting", "alcove_events_oldest_age_seconds", "alcove_sandboxes", "alcove_calls_waiting"),
        *("alcove_timer_lateness_seconds_count", "alcove_metering_unsaved_calls"),
    ):
        assert f"\n{name}" in text
    # Instances alone have series of their own, which say whose they are.
    rest = [line for line in text.splitlines() if not line.startswith("alcove_instance_")]
    assert function not in text
    assert not [line for line in rest if platform.tenant in line]


def test_tenants_do_not(platform: Platform) -> None:
    keys = {"access_key": platform.access_key, "secret": platform.secret}
    assert send(platform.port, "GET", "/metrics", **keys)[0] == 403
    connection = http.client.HTTPConnection("127.0.0.1", platform.port)
    connection.request("GET", "/metrics")
    answer = connection.getresponse()
    assert (answer.status, b"alcove_" in answer.read()) == (403, False)
    connection.close()


async def test_the_listener_has_nothing_else() -> None:
    metrics = Metrics()

    async def source() -> list[Gauge]:
        return [Gauge("alcove_test", "A test.", 7, {"a": 'quo"te'})]

    metrics.sources = (source,)
    server = Server(MetricsApp(metrics).handle)
    port = await server.listen_tcp("127.0.0.1", 0)

    def ask(method: str, path: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", port)
        connection.request(method, path)
        answer = connection.getresponse()
        data = answer.read()
        connection.close()
        return answer.status, data

    status, data = await asyncio.to_thread(ask, "GET", "/metrics")
    assert status == 200
    assert b'\nalcove_test{a="quo\\"te"} 7.0\n' in data
    assert (await asyncio.to_thread(ask, "POST", "/metrics"))[0] == 405
    assert (await asyncio.to_thread(ask, "GET", "/alcove/v1/health"))[0] == 404
    await server.close()
