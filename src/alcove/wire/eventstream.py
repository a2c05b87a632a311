"""AWS's event streams: ``application/vnd.amazon.eventstream``, the framing of streamed answers.

A message is, big-endian: its length, the length of its headers, the CRC-32 of both, the headers, the payload, the
CRC-32 of all before it. Source: "Amazon event stream encoding" in the smithy.io specification.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Mapping
from typing import NamedTuple

CONTENT_TYPE = "application/vnd.amazon.eventstream"
_PRELUDE = struct.Struct(">II")
_CRC = struct.Struct(">I")
_OVERHEAD = _PRELUDE.size + 2 * _CRC.size
# The type of a header's value that is a string.
_STRING = 7
# The specification's limit of a message.
MAX_MESSAGE = 16 * 1024 * 1024


class Message(NamedTuple):
    headers: dict[str, str]
    payload: bytes


class EventStreamError(ValueError):
    """What came is no event stream, or has headers of other types than we send."""


def encode_message(headers: Mapping[str, str], payload: bytes) -> bytes:
    """Return one message; its headers' values are strings."""
    encoded = b"".join(_header(name, value) for name, value in headers.items())
    total = _PRELUDE.size + _CRC.size + len(encoded) + len(payload) + _CRC.size
    prelude = _PRELUDE.pack(total, len(encoded))
    message = prelude + _CRC.pack(zlib.crc32(prelude)) + encoded + payload
    return message + _CRC.pack(zlib.crc32(message))


def encode_event(kind: str, payload: bytes, content_type: str) -> bytes:
    """Return the message of one event."""
    headers = {":event-type": kind, ":content-type": content_type, ":message-type": "event"}
    return encode_message(headers, payload)


class Decoder:
    """Turns chunks of bytes into messages."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[Message]:
        """Yield each message that is complete. Raises ``EventStreamError``."""
        self._buffer += data
        while len(self._buffer) >= _PRELUDE.size:
            total, headers = _PRELUDE.unpack_from(self._buffer)
            if not _OVERHEAD + headers <= total <= MAX_MESSAGE:
                raise EventStreamError("the lengths of a message are malformed")
            if len(self._buffer) < total:
                return
            message = bytes(self._buffer[:total])
            del self._buffer[:total]
            yield _decode(message, headers)


def _decode(message: bytes, headers: int) -> Message:
    start = _PRELUDE.size + _CRC.size
    for end in (_PRELUDE.size, len(message) - _CRC.size):
        if _CRC.unpack_from(message, end)[0] != zlib.crc32(message[:end]):
            raise EventStreamError("a message was damaged")
    return Message(_headers(message[start : start + headers]), message[start + headers : -_CRC.size])


def _headers(data: bytes) -> dict[str, str]:
    found: dict[str, str] = {}
    try:
        while data:
            split = 1 + data[0]
            kind, length = struct.unpack_from(">BH", data, split)
            value = data[split + 3 : split + 3 + length]
            if kind != _STRING or len(value) != length:
                raise EventStreamError("a header is malformed")
            found[data[1:split].decode()] = value.decode()
            data = data[split + 3 + length :]
    except (struct.error, UnicodeDecodeError, IndexError) as error:
        raise EventStreamError("a header is malformed") from error
    return found


def _header(name: str, value: str) -> bytes:
    key, text = name.encode(), value.encode()
    return bytes((len(key),)) + key + struct.pack(">BH", _STRING, len(text)) + text
