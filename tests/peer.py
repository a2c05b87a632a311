"""The other end of our WebSockets: websocket-client, as Kubernetes' Python client has it."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any

import websocket

TIMEOUT_S = 20


class Refused(Exception):
    def __init__(self, status: int) -> None:
        super().__init__(f"status {status}")
        self.status = status


class Peer:
    """A connection, as a context manager; iterating yields messages until the server ends it."""

    def __init__(self, url: str, sock: socket.socket, headers: Mapping[str, str], protocols: tuple[str, ...]) -> None:
        sock.settimeout(TIMEOUT_S)
        self._connection = sock
        self.close_code = 0
        try:
            self._socket: Any = websocket.create_connection(
                url, socket=sock, header=dict(headers), subprotocols=list(protocols) or None, timeout=TIMEOUT_S
            )
        except websocket.WebSocketBadStatusException as error:
            sock.close()
            raise Refused(error.status_code) from None
        self.subprotocol: str | None = self._socket.subprotocol

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        try:
            self._socket.close()
        finally:
            self._connection.close()

    def __iter__(self) -> Iterator[bytes]:
        while (message := self._next()) is not None:
            yield message

    def recv(self) -> bytes:
        message = self._next()
        assert message is not None, f"closed: {self.close_code}"
        return message

    def send(self, data: bytes) -> None:
        self._socket.send_binary(data)

    def _next(self) -> bytes | None:
        opcode, data = self._socket.recv_data()
        if opcode == websocket.ABNF.OPCODE_CLOSE:
            self.close_code = int.from_bytes(data[:2])
            return None
        return bytes(data)
