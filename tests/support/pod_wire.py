"""The words between shim, node service and agent, from the other side: what fakes of both are made of."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from alcove.wire.frame import PROTOCOL_VERSION, Decoder, Kind, encode

Fields = dict[str, Any]
Operation = Callable[[Fields], Awaitable[Fields | None]]


class Refused(Exception):
    """Answered as an error with this ``code``."""

    def __init__(self, code: str, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.hint = hint


class NodeServer:
    """The node service's socket: one line of JSON each way. ``operations`` by name; others are refused."""

    def __init__(self, operations: dict[str, Operation]) -> None:
        self.operations = operations
        self._server: asyncio.Server | None = None

    async def listen(self, path: Path) -> None:
        self._server = await asyncio.start_unix_server(self._serve, str(path))

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            writer.write(json.dumps(await self._answer(await reader.readline())).encode() + b"\n")
            await writer.drain()
        writer.close()

    async def _answer(self, line: bytes) -> Fields:
        request = json.loads(line)
        try:
            operation = self.operations.get(request.pop("op"))
            if operation is None:
                raise Refused("invalid", "no such operation")
            return {"ok": await operation(request) or {}}
        except Refused as error:
            return {"error": {"code": error.code, "message": str(error), "hint": error.hint}}
        except Exception as error:
            return {"error": {"code": "failed", "message": f"{type(error).__name__}: {error}", "hint": ""}}


class AgentServer:
    """The agent's end of the control channel, for one client. Requests are carried out in order."""

    def __init__(self, operations: dict[str, Operation]) -> None:
        self.operations: dict[str, Operation] = {"hello": self._hello, "batch": self._batch, **operations}
        self.data: Callable[[int, bytes], None] = lambda stream, chunk: None
        self._server: asyncio.Server | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def listen(self, path: Path) -> None:
        self._server = await asyncio.start_unix_server(self._serve, str(path))

    async def close(self) -> None:
        if self._writer is not None:
            self._writer.transport.abort()
            self._writer = None
        if self._server is not None:
            self._server.close()
            self._server = None

    def send(self, kind: Kind, id: int, payload: bytes) -> None:
        if self._writer is not None:
            self._writer.write(encode(kind, id, payload))

    def output(self, process: int, stream: int, data: bytes) -> None:
        self.send(Kind.LOG, process, bytes([stream]) + data)

    def event(self, **fields: Any) -> None:
        self.send(Kind.EVENT, 0, json.dumps(fields).encode())

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        decoder = Decoder()
        with contextlib.suppress(ConnectionError):
            while chunk := await reader.read(65536):
                for frame in decoder.feed(chunk):
                    if frame.kind is Kind.DATA:
                        self.data(frame.id, frame.payload)
                    else:
                        await self._carry_out(frame.id, json.loads(frame.payload))
        writer.close()

    async def _carry_out(self, id: int, request: Fields) -> None:
        try:
            reply = await self._do(request)
        except Exception as error:
            words = {"code": getattr(error, "code", type(error).__name__), "message": str(error)}
            self.send(Kind.ERROR, id, json.dumps(words).encode())
        else:
            self.send(Kind.REPLY, id, json.dumps(reply).encode())

    async def _do(self, request: Fields) -> Fields:
        fields = dict(request)
        operation = self.operations.get(fields.pop("op"))
        if operation is None:
            raise Refused("unknown", f"no operation is named {request['op']!r}")
        return await operation(fields) or {}

    async def _hello(self, fields: Fields) -> Fields:
        return {"protocol": PROTOCOL_VERSION, "version": "fake", "kernel": "fake", "processes": []}

    async def _batch(self, fields: Fields) -> Fields:
        return {"replies": [await self._do(op) for op in fields["ops"]]}
