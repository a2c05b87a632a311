"""gRPC's health protocol (grpc.health.v1), for probes.

Who answers is a tenant's program: of what it sends only so many bytes are read, which gRPC's libraries do not promise.
"""

from __future__ import annotations

import asyncio
import struct

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, StreamEnded, StreamReset, TrailersReceived
from h2.exceptions import H2Error

from alcove.wire.protobuf import INT64, STRING, Field, Message, ProtobufError

ANSWER_LIMIT = 64 << 10
_CHECK = "/grpc.health.v1.Health/Check"
_REQUEST = Message("HealthCheckRequest", Field(1, "service", STRING))
_ANSWER = Message("HealthCheckResponse", Field(1, "status", INT64))
_SERVING = 1
# Of a message: whether it is compressed, and its length.
_PREFIX = struct.Struct(">?I")
_PIECE = 16 << 10


async def serves(address: str, port: int, service: str) -> bool:
    """Tell whether the service there says that it serves. Raises ``OSError`` where nobody listens."""
    reader, writer = await asyncio.open_connection(address, port)
    try:
        call = _Call(f"{address}:{port}", service)
        read = 0
        while not call.ended and read < ANSWER_LIMIT:
            writer.write(call.connection.data_to_send())
            await writer.drain()
            data = await reader.read(_PIECE)
            if not data:
                break
            read += len(data)
            call.take(data)
        return call.serves
    except (H2Error, ProtobufError, UnicodeError):
        return False
    finally:
        writer.close()


class _Call:
    """One question over HTTP/2, without the socket."""

    def __init__(self, authority: str, service: str) -> None:
        self.connection = H2Connection(H2Configuration(client_side=True, header_encoding="utf-8"))
        self.connection.initiate_connection()
        self.ended = False
        self._body = b""
        self._status = ""
        headers = {
            ":method": "POST",
            ":scheme": "http",
            ":path": _CHECK,
            ":authority": authority,
            "te": "trailers",
            "content-type": "application/grpc",
        }
        message = _REQUEST.encode({"service": service})
        self.connection.send_headers(1, list(headers.items()))
        self.connection.send_data(1, _PREFIX.pack(False, len(message)) + message, end_stream=True)

    def take(self, data: bytes) -> None:
        for event in self.connection.receive_data(data):
            if isinstance(event, DataReceived):
                self._body += event.data or b""
            elif isinstance(event, TrailersReceived):
                told = {str(name): str(value) for name, value in event.headers or ()}
                self._status = told.get("grpc-status", "")
            elif isinstance(event, StreamEnded | StreamReset):
                self.ended = True

    @property
    def serves(self) -> bool:
        if self._status != "0" or len(self._body) < _PREFIX.size:
            return False
        compressed, length = _PREFIX.unpack_from(self._body)
        message = self._body[_PREFIX.size :]
        return not compressed and len(message) == length and bool(_ANSWER.decode(message)["status"] == _SERVING)
