"""What answers for the stand-in sandboxes: one process that speaks the invocation channel, a connection for each.

An event is a JSON object; ``{"ms": 20}`` is answered after 20 milliseconds, as a handler would that takes so long. The
answer tells how many requests were inside at once: ``{"inside": n, "of_function": n}``, where ``"function"`` in the
event names the second count. ``python -m alcove.bench.responder SOCKET``.
"""

from __future__ import annotations

import asyncio
import json
import struct
import sys
from collections import Counter
from typing import cast

from alcove.wire.frame import Decoder, Frame, Kind, encode

_LENGTH = struct.Struct(">H")
_ALL = ""


class Responder(asyncio.Protocol):
    """One sandbox's end of its channel; ``inside`` counts over all of them."""

    def __init__(self, inside: Counter[str]) -> None:
        self._inside = inside
        self._decoder = Decoder()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.write(encode(Kind.READY, 0, b'{"runtime":"stand-in","protocol":1}'))

    def data_received(self, data: bytes) -> None:
        for frame in self._decoder.feed(data):
            self._receive(frame)

    def _receive(self, frame: Frame) -> None:
        assert self._transport is not None
        if frame.kind is not Kind.INVOKE:
            self._transport.write(encode(Kind.LOADED, frame.id, b'{"init_ms":0}'))
            return
        (length,) = _LENGTH.unpack_from(frame.payload)
        event = json.loads(frame.payload[_LENGTH.size + length :])
        names = (_ALL, str(event.get("function", "?")))
        for name in names:
            self._inside[name] += 1
        answer = {"inside": self._inside[_ALL], "of_function": self._inside[names[1]]}
        delay_ms = event.get("ms", 0)
        if delay_ms:
            asyncio.get_running_loop().call_later(delay_ms / 1000, self._answer, frame.id, names, answer)
        else:
            self._answer(frame.id, names, answer)

    def _answer(self, id: int, names: tuple[str, str], answer: dict[str, int]) -> None:
        self._inside.subtract(names)
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(encode(Kind.RESULT, id, json.dumps(answer).encode()))


async def serve(path: str) -> None:
    inside: Counter[str] = Counter()
    server = await asyncio.get_running_loop().create_unix_server(lambda: Responder(inside), path)
    print("ready", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    import uvloop

    uvloop.run(serve(sys.argv[1]))
