"""The node service's socket: one request a connection, one line of JSON each way, for root alone.

A request is bounded in size and time; an answer that nobody waits for any more changes nothing of what it reports.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from alcove.errors import AlcoveError, CapacityError, Conflict, InvalidRequest, NotFound, RequestError, RetryLater

log = logging.getLogger(__name__)

LONGEST_REQUEST = 1 << 20
REQUEST_S = 10.0
MOST_CONNECTIONS = 256

CarryOut = Callable[[dict[str, Any]], Awaitable[Any]]

# The first that fits.
_CODES: tuple[tuple[type[AlcoveError], str], ...] = (
    (NotFound, "not_found"),
    (Conflict, "exists"),
    (CapacityError, "capacity"),
    (RequestError, "invalid"),
    (RetryLater, "unavailable"),
)


class PodSocket:
    """Serves at a path (mode 0600) from ``open`` to ``close``."""

    def __init__(self, path: Path, carry_out: CarryOut) -> None:
        self._path = path
        self._carry_out = carry_out
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        self._path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            # Nobody connects before it is ours alone: it does not listen yet.
            listener.bind(str(self._path))
            os.chmod(self._path, 0o600)
            self._server = await asyncio.start_unix_server(self._serve, sock=listener, limit=LONGEST_REQUEST)
        except BaseException:
            listener.close()
            raise

    async def close(self) -> None:
        """Stop listening; what is being carried out is carried out to its end."""
        if self._server is not None:
            self._server.close()
            self._path.unlink(missing_ok=True)
        if self._connections:
            await asyncio.wait(self._connections)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        if len(self._connections) >= MOST_CONNECTIONS or not _trusted(writer):
            writer.close()
            return
        self._connections.add(task)
        try:
            answer = await self._answer(reader)
            if answer is not None:
                writer.write(json.dumps(answer).encode() + b"\n")
                await writer.drain()
        except OSError as error:
            log.debug("a client of the pods' socket went away: %s", error)
        finally:
            self._connections.discard(task)
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader) -> dict[str, Any] | None:
        try:
            async with asyncio.timeout(REQUEST_S):
                line = await reader.readuntil(b"\n")
        except (TimeoutError, asyncio.IncompleteReadError):
            return None
        except asyncio.LimitOverrunError:
            return _error(InvalidRequest(f"a request has at most {LONGEST_REQUEST} bytes"))
        try:
            request = json.loads(line)
            if b"\\u" in line:
                # Half a surrogate pair is no text: nothing could be opened by it, or written of it.
                json.dumps(request, ensure_ascii=False).encode()
            if not isinstance(request, dict):
                raise InvalidRequest("a request is an object")
        except (ValueError, RecursionError):
            return _error(InvalidRequest("a request is one line of JSON"))
        except InvalidRequest as error:
            return _error(error)
        try:
            return {"ok": await self._carry_out(request)}
        except AlcoveError as error:
            return _error(error)
        except Exception as error:
            log.exception("an operation on pods failed: %s", request.get("op"))
            return {"error": {"code": "failed", "message": f"{type(error).__name__}: {error}", "hint": ""}}


def _error(error: AlcoveError) -> dict[str, Any]:
    code = next((code for kind, code in _CODES if isinstance(error, kind)), "failed")
    return {"error": {"code": code, "message": str(error), "hint": error.hint}}


def _trusted(writer: asyncio.StreamWriter) -> bool:
    """Whether the other end is root's or our own user's (SO_PEERCRED, unix(7))."""
    connection = writer.get_extra_info("socket")
    _, user, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return user in (0, os.geteuid())
