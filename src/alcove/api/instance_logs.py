"""What instances print, as it is printed.

``format=text`` is the bytes of both streams as they came; ``frames`` puts 8 bytes before each piece, as Docker's API
does: 1 for stdout or 2 for stderr, three zeros, the length (big-endian), so that a client can tell them apart.

Over WebSocket each line is a message (``binary.k8s.io``, as Kubernetes has it), in ``frames`` with its stream's number
before it, as programs' output has it (``instance_exec``).
"""

from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing

from alcove.api.context import Call
from alcove.api.dialect import AWS
from alcove.api.instances import whole
from alcove.api.router import Route
from alcove.api.schema import ANYTHING, Detail
from alcove.api.websocket import WebSocket, accept
from alcove.errors import InvalidRequest
from alcove.gateway.message import Response
from alcove.instances.log_files import Range
from alcove.instances.log_lines import Line, since

PROTOCOL = "binary.k8s.io"
STREAMS = {"stdout": 1, "stderr": 2}
_YES = ("1", "true")


async def pod_logs(call: Call, name: str) -> Response:
    """What a container of an instance printed; with follow until it has ended for good."""
    query = call.request.query
    form = query.get("format", "text")
    if form not in ("text", "frames"):
        raise InvalidRequest("'format' must be text or frames.")
    chosen = Range(
        tail=whole(query.get("tail", ""), "tail"),
        since_ns=since(query["since"], time.time_ns()) if query.get("since") else 0,
        previous=query.get("previous", "") in _YES,
    )
    lines = await call.faces.services.instances.logs(
        call.tenant,
        name,
        chosen,
        container=query.get("container", ""),
        follow=query.get("follow", "") in _YES,
    )
    stamped = query.get("timestamps", "") in _YES
    if call.request.headers.get("upgrade", "").lower() == "websocket":
        return _over_websocket(call, lines, framed=form == "frames", stamped=stamped)
    headers = {"Content-Type": "application/octet-stream", "x-amzn-RequestId": call.request_id}
    return Response(200, headers, parts=_pieces(lines, framed=form == "frames", stamped=stamped))


def _over_websocket(call: Call, lines: AsyncGenerator[Line, None], *, framed: bool, stamped: bool) -> Response:
    instances = call.faces.services.instances

    async def talk(socket: WebSocket) -> None:
        with instances.session_of(call.tenant):
            leaving = asyncio.create_task(_hear(socket))
            telling = asyncio.create_task(_tell(socket, lines, framed=framed, stamped=stamped))
            try:
                await asyncio.wait((leaving, telling), return_when=asyncio.FIRST_COMPLETED)
            finally:
                leaving.cancel()
                telling.cancel()
                await asyncio.gather(leaving, telling, return_exceptions=True)

    instances.require_session(call.tenant)
    return accept(call, (PROTOCOL,), talk)


async def _hear(socket: WebSocket) -> None:
    """Return when the client leaves; what it says has no meaning here."""
    async for _ in socket.messages():
        pass


async def _tell(socket: WebSocket, lines: AsyncGenerator[Line, None], *, framed: bool, stamped: bool) -> None:
    async with aclosing(lines):
        async for line in lines:
            text = _text(line, stamped=stamped)
            await socket.send(bytes((STREAMS[line.stream],)) + text if framed else text)


async def _pieces(lines: AsyncGenerator[Line, None], *, framed: bool, stamped: bool) -> AsyncGenerator[bytes, None]:
    async with aclosing(lines):
        async for line in lines:
            text = _text(line, stamped=stamped)
            yield struct.pack(">B3xI", STREAMS[line.stream], len(text)) + text if framed else text


def _text(line: Line, *, stamped: bool) -> bytes:
    return b"%b %b" % (line.time.encode(), line.text) if stamped else line.text


_LOGS = Detail(
    query=("container", "follow", "tail", "since", "previous", "timestamps", "format"),
    answer=ANYTHING,
    media="application/octet-stream",
    also={101: None},
)

ROUTES = (Route("GET", "/alcove/v1/pods/{name}/logs", pod_logs, AWS, detail=_LOGS),)
