"""Frames: the bytes that host and guest exchange on a channel.

A frame is a nine-byte header, ``>IBI`` (payload length, kind, id), and the payload. Both ends bound what
they accept, so that neither can make the other hold more than one frame of ``MAX_PAYLOAD`` bytes. The
peer of a decoder may be hostile: anything but a known kind within the limit raises ``FrameError``, and the
channel is then closed, never resynchronised.

This module runs in the guest too: standard library only.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from enum import IntEnum
from typing import Any, NamedTuple

PROTOCOL_VERSION = 1
HEADER = struct.Struct(">IBI")
# A synchronous payload may have 6 MiB; the rest is room for its metadata.
MAX_PAYLOAD = 6 * 1024 * 1024 + 64 * 1024
# A part of a streamed answer: what a stalled reader makes its peer hold is a few of these.
MAX_CHUNK = 64 * 1024


class Kind(IntEnum):
    """What a frame carries. Control: REQUEST to DATA. Invocation: READY to END."""

    # An enumeration's own hash is slow, and kinds are looked up for each frame.
    __hash__ = int.__hash__

    REQUEST = 1
    REPLY = 2
    ERROR = 3
    EVENT = 4
    LOG = 5
    DATA = 6

    READY = 16
    LOAD = 17
    LOADED = 18
    INVOKE = 19
    RESULT = 20
    FAILURE = 21
    HOOK = 22
    DONE = 23
    UNLOAD = 24
    PING = 25
    PONG = 26
    STREAM = 27
    CHUNK = 28
    END = 29


KINDS = {int(kind): kind for kind in Kind}


_decode_json = json.JSONDecoder().raw_decode


class FrameError(ValueError):
    """The peer sent something that is not a frame, or one over the limit."""


class Frame(NamedTuple):
    kind: Kind
    id: int
    payload: bytes


def document(payload: bytes) -> Any:
    """Return the JSON document that the host sent. Raises ``ValueError``.

    Unlike ``json.loads`` it guesses no encoding and looks for nothing around the document: in a guest that was just
    restored each path not taken is time saved. Not for what a tenant or a client has written.
    """
    return _decode_json(payload.decode())[0]


def encode(kind: Kind, id: int, payload: bytes = b"") -> bytes:
    """Return the frame's bytes. Raises ``FrameError`` where the payload is over ``MAX_PAYLOAD``."""
    if len(payload) > MAX_PAYLOAD:
        raise FrameError(f"payload of {len(payload)} bytes is over the limit of {MAX_PAYLOAD}")
    return HEADER.pack(len(payload), kind, id) + payload


def parse_header(header: bytes) -> tuple[int, Kind, int]:
    """Return payload length, kind and id. Raises ``FrameError`` for what no peer may send."""
    length, kind, id = HEADER.unpack(header)
    known = KINDS.get(kind)
    if known is None:
        raise FrameError(f"unknown frame kind {kind}")
    if length > MAX_PAYLOAD:
        raise FrameError(f"frame of {length} bytes is over the limit of {MAX_PAYLOAD}")
    return length, known, id


class Decoder:
    """Turns chunks of a byte stream into frames, holding at most one unfinished frame."""

    __slots__ = ("_buffer", "_header")

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._header: tuple[int, Kind, int] | None = None

    def feed(self, chunk: bytes) -> Iterator[Frame]:
        """Yield each frame that ``chunk`` completes. Raises ``FrameError``; the decoder is then of no use."""
        buffer = self._buffer
        buffer += chunk
        while True:
            if self._header is None:
                if len(buffer) < HEADER.size:
                    return
                self._header = parse_header(bytes(buffer[: HEADER.size]))
                del buffer[: HEADER.size]
            length, kind, id = self._header
            if len(buffer) < length:
                return
            payload = bytes(buffer[:length])
            del buffer[:length]
            self._header = None
            yield Frame(kind, id, payload)
