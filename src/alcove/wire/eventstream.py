"""AWS's event streams: ``application/vnd.amazon.eventstream``, the framing of streamed answers.

A message is, big-endian: its length, the length of its headers, the CRC-32 of both, the headers, the payload, the
CRC-32 of all before it. Source: "Amazon event stream encoding" in the smithy.io specification.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping

CONTENT_TYPE = "application/vnd.amazon.eventstream"
_PRELUDE = struct.Struct(">II")
_CRC = struct.Struct(">I")
# The type of a header's value that is a string.
_STRING = 7


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


def _header(name: str, value: str) -> bytes:
    key, text = name.encode(), value.encode()
    return bytes((len(key),)) + key + struct.pack(">BH", _STRING, len(text)) + text
