"""Spans of invocations, exported by OpenTelemetry's OTLP over HTTP.

The path of a call does no more than put what was seen into a queue; a thread of its own makes spans of it, one for the
invocation and one for each of its phases, and sends them. What the collector does not take in time is dropped: traces
are never waited for. Only traces that are sampled are exported, by the caller's decision where there is one.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from urllib.parse import urlsplit

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace.export import SpanExportResult

from alcove.errors import AlcoveError, InvalidRequest
from alcove.functions.model import FunctionVersion
from alcove.functions.observed import Observation
from alcove.telemetry.spans import spans_of

log = logging.getLogger(__name__)

QUEUE_LIMIT = 10_000
BATCH = 256
EVERY_S = 1.0
TIMEOUT_S = 5.0
COMPLAIN_EVERY_S = 60.0


class Tracer:
    """An ``Observer`` of the dispatcher: ``start`` to ``close``. ``dropped`` counts invocations without their spans."""

    def __init__(self, endpoint: str) -> None:
        self.dropped = 0
        self._exporter = OTLPSpanExporter(endpoint=traces_url(endpoint), timeout=TIMEOUT_S)
        self._resource = Resource.create({"service.name": "alcove"})
        self._queue: deque[Observation] = deque(maxlen=QUEUE_LIMIT)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="traces", daemon=True)
        self._complained = -COMPLAIN_EVERY_S

    def start(self) -> None:
        self._thread.start()

    def answered(self, seen: Observation) -> None:
        if seen.trace.sampled:
            if len(self._queue) == QUEUE_LIMIT:
                self.dropped += 1
            self._queue.append(seen)

    def refused(self, function: FunctionVersion, error: AlcoveError) -> None:
        """What was not run has no span of its own; its caller's says what happened."""

    def close(self) -> None:
        """Send what is queued; wait for it, not for long."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(TIMEOUT_S + EVERY_S)
        self._exporter.shutdown()  # type: ignore[no-untyped-call]

    def _run(self) -> None:
        while not self._stopping.wait(EVERY_S):
            self._drain()
        self._drain()

    def _drain(self) -> None:
        """Send what is in the queue; after one refusal the rest waits for the next turn."""
        while self._queue:
            batch = [self._queue.popleft() for _ in range(min(BATCH, len(self._queue)))]
            if not self._export(batch):
                self.dropped += len(batch)
                return

    def _export(self, batch: list[Observation]) -> bool:
        try:
            spans = [span for seen in batch for span in spans_of(seen, self._resource)]
            if self._exporter.export(spans) is SpanExportResult.SUCCESS:
                return True
            self._complain("the collector did not take them")
        except Exception as error:
            self._complain(str(error))
        return False

    def _complain(self, why: str) -> None:
        if time.monotonic() - self._complained > COMPLAIN_EVERY_S:
            self._complained = time.monotonic()
            log.warning("traces cannot be exported: %s", why)


def traces_url(endpoint: str) -> str:
    """Return where traces are posted: OTLP's own path, unless the endpoint has one. Raises ``InvalidRequest``."""
    parts = urlsplit(endpoint)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InvalidRequest(f"{endpoint[:200]!r} is not a URL", hint="--otlp-endpoint http://127.0.0.1:4318")
    return endpoint if parts.path.strip("/") else endpoint.rstrip("/") + "/v1/traces"
