"""Programs run in instances, and instances attached to, over WebSocket.

Messages are as Kubernetes' ``v5.channel.k8s.io`` has them: the first byte is the channel, 0 stdin, 1 stdout, 2 stderr,
3 the end (a Status document), 4 the terminal's size (``{"Width", "Height"}``), 255 the end of the channel that the next
byte names. ``v4.channel.k8s.io`` is the same without 255: stdin ends with the connection.
"""

from __future__ import annotations

import asyncio
import json
import logging
from urllib.parse import parse_qsl

from alcove.api.context import Call
from alcove.api.dialect import AWS
from alcove.api.router import Route
from alcove.api.schema import ANYTHING, Detail
from alcove.api.websocket import WebSocket, accept
from alcove.errors import AlcoveError, InvalidRequest
from alcove.gateway.channel import ChannelClosed
from alcove.gateway.message import Response
from alcove.instances.session import ERROR, RESIZE, STDIN, Session, Wish

log = logging.getLogger(__name__)

PROTOCOLS = ("v5.channel.k8s.io", "v4.channel.k8s.io")
_CLOSE = 255
_YES = ("1", "true")
COMMAND_LIMIT = 1024


async def exec_in_pod(call: Call, name: str) -> Response:
    """Run a program in a container of an instance."""
    pairs = parse_qsl(call.request.raw_query, keep_blank_values=True)
    command = tuple(value for key, value in pairs if key == "command")
    if not command or len(command) > COMMAND_LIMIT:
        raise InvalidRequest(f"'command' is wanted, once for each word, at most {COMMAND_LIMIT} times.")
    return await _open(call, name, command)


async def attach_to_pod(call: Call, name: str) -> Response:
    """Take part in the streams of a container's own program."""
    return await _open(call, name, ())


async def _open(call: Call, name: str, command: tuple[str, ...]) -> Response:
    query = call.request.query
    wish = Wish(command, tty=query.get("tty", "") in _YES, stdin=query.get("stdin", "") in _YES)
    cri, container = await call.faces.services.instances.container_id(call.tenant, name, query.get("container", ""))

    async def talk(socket: WebSocket) -> None:
        with call.faces.services.instances.session_of(call.tenant):
            await _talk(socket, await Session.begin(cri, container, wish))

    call.faces.services.instances.require_session(call.tenant)
    return accept(call, PROTOCOLS, talk)


async def _talk(socket: WebSocket, session: Session) -> None:
    incoming = asyncio.create_task(_hear(socket, session))
    outgoing = asyncio.create_task(_tell(socket, session))
    try:
        # Who goes away ends it: the program gets its streams' end.
        await asyncio.wait((incoming, outgoing), return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (incoming, outgoing):
            task.cancel()
        ends = await asyncio.gather(incoming, outgoing, return_exceptions=True)
        await session.close()
        for end in ends:
            if isinstance(end, Exception) and not isinstance(end, ChannelClosed):
                log.warning("a session broke: %s: %s", type(end).__name__, str(end)[:200])


async def _tell(socket: WebSocket, session: Session) -> None:
    async for channel, data in session.output():
        await socket.send(bytes((channel,)) + data)
    await socket.send(bytes((ERROR,)) + _status(session))


def _status(session: Session) -> bytes:
    try:
        code = session.exit_code
    except AlcoveError as error:
        return json.dumps({"status": "Failure", "message": str(error)}).encode()
    if code == 0:
        return b'{"status": "Success"}'
    causes = [{"reason": "ExitCode", "message": str(code)}]
    return json.dumps({"status": "Failure", "reason": "NonZeroExitCode", "details": {"causes": causes}}).encode()


async def _hear(socket: WebSocket, session: Session) -> None:
    async for message in socket.messages():
        channel, data = message[:1], message[1:]
        if channel == bytes((STDIN,)):
            await session.write(data)
        elif channel == bytes((RESIZE,)):
            await session.resize(*_size(data))
        elif channel == bytes((_CLOSE,)) and data == bytes((STDIN,)):
            await session.end_input()


def _size(data: bytes) -> tuple[int, int]:
    """Return width and height; zeros where that is none."""
    try:
        document = json.loads(data)
        return int(document["Width"]), int(document["Height"])
    except (ValueError, KeyError, TypeError):
        return 0, 0


_QUERY = ("container", "stdin", "tty")
_MEDIA = "application/octet-stream"

ROUTES = (
    Route(
        "GET",
        "/alcove/v1/pods/{name}/exec",
        exec_in_pod,
        AWS,
        detail=Detail(query=_QUERY, needs=("command",), status=101, answer=ANYTHING, media=_MEDIA),
        audited=True,
    ),
    Route(
        "GET",
        "/alcove/v1/pods/{name}/attach",
        attach_to_pod,
        AWS,
        detail=Detail(query=_QUERY, status=101, answer=ANYTHING, media=_MEDIA),
        audited=True,
    ),
)
