"""Metrics for Prometheus: GET /metrics, for the operator by the UNIX socket, for anyone on a listener of its own."""

from __future__ import annotations

from alcove.api.context import Call, require_operator
from alcove.api.dialect import AWS
from alcove.api.router import Route
from alcove.api.schema import TEXT, Detail
from alcove.gateway.message import Request, Response
from alcove.telemetry.metrics import CONTENT_TYPE, Metrics


async def metrics(call: Call) -> Response:
    require_operator(call)
    return Response(200, {"Content-Type": CONTENT_TYPE}, await call.faces.services.metrics.render())


class MetricsApp:
    """All that the listener of ``--metrics-listen`` answers."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    async def handle(self, request: Request) -> Response:
        if request.raw_path != "/metrics":
            return Response(404, {"Content-Type": "text/plain"}, b"only /metrics is here\n")
        if request.method not in ("GET", "HEAD"):
            return Response(405, {"Content-Type": "text/plain", "Allow": "GET, HEAD"}, b"GET, please\n")
        return Response(200, {"Content-Type": CONTENT_TYPE}, await self._metrics.render())


_TEXT = Detail(answer=TEXT, media="text/plain")
ROUTES = (Route("GET", "/metrics", metrics, AWS, detail=_TEXT),)
