"""RESP2 answers of a Redis that a tenant names: bounded, since it can be anything."""

from __future__ import annotations

from typing import Any

from redis._parsers import _AsyncRESP2Parser
from redis.exceptions import ConnectionError as RedisConnectionError

# A read of ``READ_LIMIT`` entries.
ANSWER_BYTES = 64 * 1024 * 1024
# What an element costs in memory whatever it holds.
_ELEMENT_BYTES = 64


class BoundedParser(_AsyncRESP2Parser):
    """Breaks the connection at an answer of more than ``ANSWER_BYTES``."""

    _taken = 0

    async def read_response(self, *arguments: Any, **options: Any) -> Any:
        self._taken = 0
        return await super().read_response(*arguments, **options)

    async def _read(self, length: int) -> bytes:
        self._take(length)
        return bytes(await super()._read(length))

    async def _readline(self) -> bytes:
        line = bytes(await super()._readline())
        self._take(len(line))
        return line

    def _take(self, count: int) -> None:
        self._taken += max(0, count) + _ELEMENT_BYTES
        if self._taken > ANSWER_BYTES or count < 0:
            raise RedisConnectionError("the answer is too large")
