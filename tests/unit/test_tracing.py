"""Traces against a collector that speaks OTLP over HTTP; what a slow or absent one may cost."""

from __future__ import annotations

import gzip
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from tests.fakes import FakeTier
from tests.unit.test_dispatcher import function

from alcove.errors import InvalidRequest
from alcove.functions.logs import LogStore
from alcove.functions.observed import ObservedDispatcher
from alcove.sandbox.protocol import Isolation
from alcove.telemetry import tracing
from alcove.telemetry.tracing import Tracer, traces_url

CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0"


class Collector(ThreadingHTTPServer):
    """Keeps the spans that it is sent; answers with ``status``, not before ``open`` is set."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.status = 200
        self.open = threading.Event()
        self.open.set()
        self.spans: list[Any] = []
        self.services: set[str] = set()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        self.server.open.wait(10)
        assert self.path == "/v1/traces"
        if self.server.status == 200:
            for group in ExportTraceServiceRequest.FromString(body).resource_spans:
                names = {one.key: one.value.string_value for one in group.resource.attributes}
                self.server.services.add(names["service.name"])
                self.server.spans += [span for scope in group.scope_spans for span in scope.spans]
        self.send_response(self.server.status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.open.set()
        server.shutdown()
        thread.join()


async def invoke(folder: Path, tracer: Tracer, *traces: str, handler: str = "echo", sample: float = 0.0) -> list[Any]:
    tier = FakeTier()
    dispatcher = ObservedDispatcher({Isolation.VM: tier}, LogStore(folder / "logs"), pool_sizes={})
    dispatcher.observers, dispatcher.sample = (tracer,), sample
    results = [await dispatcher.invoke(function(handler), b"1", trace_id=trace) for trace in traces]
    await dispatcher.close()
    await tier.close()
    return results


async def test_an_invocation_is_a_span_with_its_phases(tmp_path: Path, collector: Collector) -> None:
    tracer = Tracer(collector.endpoint)
    tracer.start()
    before = time.time_ns()
    cold, warm = await invoke(tmp_path, tracer, CALLER + "1", CALLER + "1")
    tracer.close()
    assert collector.services == {"alcove"}
    roots = [span for span in collector.spans if span.parent_span_id.hex() == "b7ad6b7169203331"]
    assert [span.span_id.hex() for span in roots] == [cold.trace.span_id, warm.trace.span_id]
    assert {span.trace_id.hex() for span in collector.spans} == {"0af7651916cd43dd8448eb211c80319c"}
    for span, result in zip(roots, (cold, warm), strict=True):
        attributes = {one.key: one.value for one in span.attributes}
        assert span.name == attributes["faas.name"].string_value == "f"
        assert attributes["faas.invocation_id"].string_value == result.request_id
        assert attributes["faas.coldstart"].bool_value == (result is cold)
        assert before <= span.start_time_unix_nano <= span.end_time_unix_nano <= time.time_ns()
        phases = [one for one in collector.spans if one.parent_span_id == span.span_id]
        assert [one.name for one in phases] == list(result.phases_ms)
        for one in phases:
            assert span.start_time_unix_nano <= one.start_time_unix_nano <= one.end_time_unix_nano
            assert one.end_time_unix_nano <= span.end_time_unix_nano
    assert len({span.span_id for span in collector.spans}) == len(collector.spans)


async def test_an_error_is_told(tmp_path: Path, collector: Collector) -> None:
    tracer = Tracer(collector.endpoint)
    tracer.start()
    await invoke(tmp_path, tracer, CALLER + "1", handler="raise")
    tracer.close()
    statuses = {span.name: span.status.code for span in collector.spans if span.name == "f"}
    assert statuses == {"f": 2}


async def test_only_what_is_sampled_goes_out(tmp_path: Path, collector: Collector) -> None:
    tracer = Tracer(collector.endpoint)
    tracer.start()
    await invoke(tmp_path, tracer, CALLER + "0", "", sample=0.0)
    own, *_ = await invoke(tmp_path, tracer, "", CALLER + "0", sample=1.0)
    tracer.close()
    assert {span.trace_id.hex() for span in collector.spans} == {own.trace.trace_id}


async def test_a_collector_that_hangs_holds_nobody_up(
    tmp_path: Path, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Calls go on, and what is kept for it is bounded."""
    monkeypatch.setattr(tracing, "EVERY_S", 0.01)
    monkeypatch.setattr(tracing, "QUEUE_LIMIT", 10)
    collector.open.clear()
    tracer = Tracer(collector.endpoint)
    tracer.start()
    await invoke(tmp_path, tracer, *[CALLER + "1"] * 100)
    assert len(tracer._queue) <= 10
    assert tracer.dropped > 0
    collector.open.set()
    tracer.close()
    assert 0 < len([span for span in collector.spans if span.name == "f"]) < 100


async def test_an_absent_collector_costs_a_warning(tmp_path: Path, collector: Collector, caplog: Any) -> None:
    collector.status = 400
    tracer = Tracer(collector.endpoint)
    tracer.start()
    await invoke(tmp_path, tracer, CALLER + "1")
    tracer.close()
    assert tracer.dropped == 1
    assert "traces cannot be exported" in caplog.text


def test_where_traces_are_posted() -> None:
    assert traces_url("http://h:4318") == traces_url("http://h:4318/") == "http://h:4318/v1/traces"
    assert traces_url("https://h/otlp/v1/traces") == "https://h/otlp/v1/traces"
    for bad in ("", "h:4318", "ftp://h", "http://"):
        with pytest.raises(InvalidRequest):
            traces_url(bad)
