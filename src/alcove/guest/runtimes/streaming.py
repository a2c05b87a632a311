"""Streamed answers of Python functions: what a handler yields goes to the host part by part.

AWS has no streaming for Python; this is our own. A handler that is a generator, or returns an iterator, streams: each
item is bytes, or text that is sent as UTF-8. Where the first item is an object it is the head of an HTTP answer
(statusCode, headers, cookies), framed as AWS's runtimes for other languages frame it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from alcove.guest.runtimes.channel import Channel
from alcove.wire.frame import MAX_CHUNK, Kind

HTTP_INTEGRATION = b"application/vnd.awslambda.http-integration-response"


class AnswerWriter:
    """Sends the parts of one answer; ``begun`` tells whether the host knows of it yet."""

    def __init__(self, channel: Channel, id: int) -> None:
        self._channel = channel
        self._id = id
        self.begun = False

    @property
    def failed(self) -> Kind:
        """What an error is told with: an answer that has begun ends with it."""
        return Kind.END if self.begun else Kind.FAILURE

    def send_all(self, items: Iterator[Any]) -> None:
        """Send every item. Raises what the iterator raises, and ``TypeError`` for what is neither bytes nor text."""
        for item in items:
            if not self.begun and isinstance(item, dict):
                self._begin(HTTP_INTEGRATION)
                self._send(json.dumps(item).encode() + bytes(8))
                continue
            data = _bytes(item)
            self._begin(b"text/plain; charset=utf-8" if isinstance(item, str) else b"application/octet-stream")
            self._send(data)
        self._begin(b"application/octet-stream")

    def _begin(self, content_type: bytes) -> None:
        if not self.begun:
            self.begun = True
            self._channel.send(Kind.STREAM, self._id, content_type)

    def _send(self, data: bytes) -> None:
        for start in range(0, len(data), MAX_CHUNK):
            self._channel.send(Kind.CHUNK, self._id, data[start : start + MAX_CHUNK])


def _bytes(item: Any) -> bytes:
    if isinstance(item, bytes):
        return item
    if isinstance(item, str):
        return item.encode()
    if isinstance(item, bytearray | memoryview):
        return bytes(item)
    raise TypeError(f"a streamed answer is made of bytes or text, not of {type(item).__name__}")
