"""Our own terminal and streams, joined to a program's in an instance, over WebSocket."""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import selectors
import signal
import socket
import struct
import sys
import termios
import tty
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Ping

from alcove.cli.client import UnixConnection, error_for
from alcove.cli.exits import ServerUnreachable
from alcove.cli.pod_client import NOT_STARTED
from alcove.errors import AlcoveError

PROTOCOL = "v5.channel.k8s.io"
STDIN, STDOUT, STDERR, ERROR, RESIZE, CLOSE = 0, 1, 2, 3, 4, 255
_READ = 32 << 10
# As runtimes say it.
_NOT_THERE = ("not found in $path", "no such file or directory")


def talk(
    run: Path, path: str, *, tenant: str = "", stdin: bool = False, terminal: bool = False, silent: bool = False
) -> int:
    """Join until the program has ended; return its exit code. ``silent``: print nothing. Raises ``AlcoveError``."""
    connection, rest = connect(run, path, tenant)
    with connection, _raw(terminal):
        return _Talk(connection, rest, stdin=stdin, terminal=terminal, silent=silent).run()


def attach(run: Path, path: str, *, tenant: str = "", terminal: bool = False) -> bool:
    """As ``talk`` with our stdin; return whether anything was printed: what has ended meanwhile may have said all
    before, or cannot be attached to any more.
    """
    connection, rest = connect(run, path, tenant)
    with connection, _raw(terminal):
        one = _Talk(connection, rest, stdin=True, terminal=terminal, silent=False)
        try:
            one.run()
        except AlcoveError:
            if one.printed:
                raise
        return one.printed


class _Talk:
    def __init__(self, connection: socket.socket, rest: bytes, *, stdin: bool, terminal: bool, silent: bool) -> None:
        self._socket = connection
        self._frames = Connection(ConnectionType.CLIENT)
        self._rest = rest
        self._stdin = stdin
        self._terminal = terminal
        self._silent = silent
        self._status = b""
        self._partial = b""
        self.printed = False

    def run(self) -> int:
        selector = selectors.DefaultSelector()
        selector.register(self._socket, selectors.EVENT_READ)
        if self._stdin:
            with contextlib.suppress(PermissionError):
                selector.register(sys.stdin, selectors.EVENT_READ)
        if self._terminal:
            self._send_size()
            signal.signal(signal.SIGWINCH, self._resized)
        open_ = self._receive(self._rest)
        while open_:
            for key, _ in selector.select():
                if key.fileobj is self._socket:
                    open_ = self._read_socket()
                elif not self._read_input():
                    selector.unregister(sys.stdin)
        return self._exit_code()

    def _resized(self, number: int, frame: FrameType | None) -> None:
        self._send_size()

    def _read_socket(self) -> bool:
        data = self._socket.recv(_READ)
        return self._receive(data) if data else False

    def _receive(self, data: bytes) -> bool:
        if data:
            self._frames.receive_data(data)
        for event in self._frames.events():
            if isinstance(event, BytesMessage):
                self._partial += bytes(event.data)
                if event.message_finished:
                    self._take(self._partial)
                    self._partial = b""
            elif isinstance(event, Ping):
                self._socket.sendall(self._frames.send(event.response()))
            elif isinstance(event, CloseConnection):
                return False
        return True

    def _take(self, message: bytes) -> None:
        channel, data = message[0], message[1:]
        if channel == ERROR:
            self._status = data
            return
        if self._silent:
            return
        self.printed = True
        out = sys.stderr.buffer if channel == STDERR else sys.stdout.buffer
        out.write(data)
        out.flush()

    def _read_input(self) -> bool:
        data = os.read(sys.stdin.fileno(), _READ)
        self._send(STDIN, data) if data else self._send(CLOSE, bytes((STDIN,)))
        return bool(data)

    def _send_size(self) -> None:
        packed = fcntl.ioctl(sys.stdout.fileno(), termios.TIOCGWINSZ, bytes(8))
        height, width, _, _ = struct.unpack("4H", packed)
        self._send(RESIZE, json.dumps({"Width": width, "Height": height}).encode())

    def _send(self, channel: int, data: bytes) -> None:
        self._socket.sendall(self._frames.send(BytesMessage(data=bytes((channel,)) + data)))

    def _exit_code(self) -> int:
        if not self._status:
            raise AlcoveError("the connection to the program broke", hint="whether it goes on is not known")
        document: dict[str, Any] = json.loads(self._status)
        if document.get("status") == "Success":
            return 0
        for cause in document.get("details", {}).get("causes", []):
            if cause["reason"] == "ExitCode":
                return int(cause["message"])
        message = str(document.get("message", "the program could not be run"))
        if any(words in message.lower() for words in _NOT_THERE):
            print(f"error: {message.rpartition('exec: ')[2]}", file=sys.stderr)
            return NOT_STARTED
        raise AlcoveError(message)


def connect(run: Path, path: str, tenant: str) -> tuple[socket.socket, bytes]:
    """Return the connection behind HTTP's answer, and what came after that already."""
    connection = UnixConnection(run / "api.sock", 60)
    headers = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": base64.b64encode(os.urandom(16)).decode(),
        "Sec-WebSocket-Protocol": PROTOCOL,
        **({"X-Alcove-Tenant": tenant} if tenant else {}),
    }
    lines = [f"GET {path} HTTP/1.1", "Host: localhost", *(f"{name}: {value}" for name, value in headers.items())]
    try:
        connection.connect()
        connection.sock.sendall("\r\n".join((*lines, "", "")).encode())
        head, rest = _head(connection.sock)
    except OSError as error:
        hint = "start it with: alcove serve (or name its folder with --run)"
        raise ServerUnreachable(f"no server runs at {run / 'api.sock'}", hint=hint) from error
    status = int(head.split(b" ", 2)[1])
    if status != 101:
        raise _refusal(status, rest)
    connection.sock.settimeout(None)
    return connection.sock, rest


def _head(connection: socket.socket) -> tuple[bytes, bytes]:
    data = b""
    while b"\r\n\r\n" not in data:
        piece = connection.recv(_READ)
        if not piece:
            raise ConnectionError("it closed the connection")
        data += piece
    head, _, rest = data.partition(b"\r\n\r\n")
    return head, rest


def _refusal(status: int, body: bytes) -> AlcoveError:
    try:
        document = {key.lower(): value for key, value in json.loads(body).items()}
    except (ValueError, AttributeError):
        document = {}
    return error_for(status, str(document.get("message", f"status {status}")), str(document.get("hint", "")))


@contextlib.contextmanager
def _raw(wanted: bool) -> Iterator[None]:
    """Hand every key on as it is, where there is a terminal."""
    if not (wanted and sys.stdin.isatty()):
        yield
        return
    before = termios.tcgetattr(sys.stdin)
    try:
        tty.setraw(sys.stdin)
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)
