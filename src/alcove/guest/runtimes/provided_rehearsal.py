"""A walk along the Runtime API's own paths, as a bootstrap would take it, before any bootstrap is there."""

from __future__ import annotations

import socket

from alcove.guest.runtimes.channel import Channel
from alcove.guest.runtimes.provided_api import PATH
from alcove.guest.runtimes.provided_calls import Call
from alcove.guest.runtimes.provided_loop import Loop
from alcove.wire.frame import Kind

_NEXT = b"GET %sinvocation/next HTTP/1.1\r\n\r\n" % PATH.encode()
_POST = b"POST %sinvocation/rehearsal/response HTTP/1.1\r\nContent-Length: %%d\r\n\r\n" % PATH.encode()
_CHUNK = 256 * 1024


class RehearsalCall(Call):
    """Answered to us, not to the host."""

    result = b""

    def __init__(self, channel: Channel, event: bytes) -> None:
        super().__init__(channel, 0, {"request_id": "rehearsal", "deadline_ms": 0, "arn": "rehearsal"}, event)

    def answer(self, kind: Kind, payload: bytes) -> None:
        self.result = payload


def walk(loop: Loop, address: tuple[str, int]) -> None:
    """Fetch the event that waits, and answer with it."""
    with socket.create_connection(address) as client:
        client.setblocking(False)
        fetched = _ask(loop, client, _NEXT)
        _ask(loop, client, _POST % len(fetched) + fetched)


def _ask(loop: Loop, client: socket.socket, request: bytes) -> bytes:
    client.sendall(request)
    loop.watch(client.fileno(), lambda events: None)
    answer = b""
    while b"\r\n\r\n" not in answer:
        loop.step()
        try:
            answer += client.recv(_CHUNK)
        except BlockingIOError:
            continue
    loop.forget(client.fileno())
    return answer.partition(b"\r\n\r\n")[2]
