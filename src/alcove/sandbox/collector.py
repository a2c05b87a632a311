"""A streamed answer put together, for who wants it whole."""

from __future__ import annotations

import json
from collections.abc import Callable

# What a synchronous answer may have.
RESULT_LIMIT = 6 * 1024 * 1024


class Collector:
    """An ``AnswerSink`` without a reader: it always has room, and keeps no more than an answer may have."""

    def __init__(self, limit: int = RESULT_LIMIT) -> None:
        self.on_room: Callable[[], None] = lambda: None
        self._limit = limit
        self._data = bytearray()
        self._size = 0

    def begin(self, content_type: str) -> None:
        return None

    def write(self, data: bytes) -> bool:
        self._size += len(data)
        if self._size > self._limit:
            self._data.clear()
        else:
            self._data += data
        return True

    def payload(self) -> bytes:
        return bytes(self._data)

    def problem(self) -> bytes | None:
        return too_large(self._size, self._limit) if self._size > self._limit else None


def too_large(size: int, limit: int) -> bytes:
    """Return the document of an answer over its limit, as AWS words it."""
    message = f"Response payload size ({size} bytes) exceeded maximum allowed payload size ({limit} bytes)."
    return json.dumps({"errorType": "Function.ResponseSizeTooLarge", "errorMessage": message}).encode()
