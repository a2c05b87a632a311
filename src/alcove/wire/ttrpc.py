"""ttrpc: the remote procedure calls of containerd and its shims, bytes <-> messages.

A frame is a header of ten bytes, ``>IIBB`` (length of the data, stream, type, flags), and at most 4 MiB of data. A
client's streams are odd and rise; each carries one request and one response here (streaming is for services that shims
of version 2 do not have). Types that are unknown are ignored, as the protocol asks.
"""

from __future__ import annotations

import struct

from alcove.wire.protobuf import BYTES, INT32, INT64, STRING, Field, Message

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

HEADER = struct.Struct(">IIBB")
MAX_DATA = 4 * 1024 * 1024
REQUEST, RESPONSE = 1, 2

# The codes of gRPC that we answer with.
OK = 0
UNKNOWN = 2
INVALID_ARGUMENT = 3
DEADLINE_EXCEEDED = 4
NOT_FOUND = 5
ALREADY_EXISTS = 6
RESOURCE_EXHAUSTED = 8
FAILED_PRECONDITION = 9
UNIMPLEMENTED = 12
INTERNAL = 13
UNAVAILABLE = 14

ANY = Message("google.protobuf.Any", Field(1, "type_url", STRING), Field(2, "value", BYTES))
EMPTY = Message("google.protobuf.Empty")
TIMESTAMP = Message("google.protobuf.Timestamp", Field(1, "seconds", INT64), Field(2, "nanos", INT32))
STATUS = Message(
    "google.rpc.Status", Field(1, "code", INT32), Field(2, "message", STRING), Field(3, "details", ANY, repeated=True)
)
KEY_VALUE = Message("ttrpc.KeyValue", Field(1, "key", STRING), Field(2, "value", STRING))
REQUEST_MESSAGE = Message(
    "ttrpc.Request",
    Field(1, "service", STRING),
    Field(2, "method", STRING),
    Field(3, "payload", BYTES),
    Field(4, "timeout_nano", INT64),
    Field(5, "metadata", KEY_VALUE, repeated=True),
)
RESPONSE_MESSAGE = Message("ttrpc.Response", Field(1, "status", STATUS), Field(2, "payload", BYTES))


class TtrpcError(ValueError):
    """The peer broke the protocol; the connection is of no use any more."""


class Failure(Exception):
    """A call that is answered with an error: ``code`` is one of gRPC's."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


def encode(stream: int, type: int, data: bytes) -> bytes:
    """Return the frame's bytes. Raises ``TtrpcError`` where the data is over ``MAX_DATA``."""
    if len(data) > MAX_DATA:
        raise TtrpcError(f"{len(data)} bytes are over the limit of {MAX_DATA}")
    return HEADER.pack(len(data), stream, type, 0) + data


def request(stream: int, service: str, method: str, payload: bytes, *, timeout_ns: int = 0) -> bytes:
    message = {"service": service, "method": method, "payload": payload, "timeout_nano": timeout_ns}
    return encode(stream, REQUEST, REQUEST_MESSAGE.encode(message))


def response(stream: int, payload: bytes) -> bytes:
    return encode(stream, RESPONSE, RESPONSE_MESSAGE.encode({"payload": payload}))


def error_response(stream: int, failure: Failure) -> bytes:
    status = {"code": failure.code, "message": str(failure)}
    return encode(stream, RESPONSE, RESPONSE_MESSAGE.encode({"status": status}))


def result(data: bytes) -> bytes:
    """Return the payload of a response. Raises ``Failure`` for one that is an error, ``ProtobufError``."""
    message: dict[str, Any] = RESPONSE_MESSAGE.decode(data)
    status = message["status"]
    if status is not None and status["code"] != OK:
        raise Failure(status["code"], status["message"])
    payload: bytes = message["payload"]
    return payload


class Decoder:
    """Turns chunks of a byte stream into (stream, type, data), holding at most one unfinished frame."""

    __slots__ = ("_buffer",)

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, chunk: bytes) -> Iterator[tuple[int, int, bytes]]:
        """Yield each frame that ``chunk`` completes. Raises ``TtrpcError``; the decoder is then of no use."""
        buffer = self._buffer
        buffer += chunk
        while len(buffer) >= HEADER.size:
            length, stream, type, _ = HEADER.unpack_from(buffer)
            if length > MAX_DATA:
                raise TtrpcError(f"a frame of {length} bytes is over the limit of {MAX_DATA}")
            end = HEADER.size + length
            if len(buffer) < end:
                return
            data = bytes(buffer[HEADER.size : end])
            del buffer[:end]
            yield stream, type, data
