"""A language runtime as a process on this host, with a socket pair in place of the guest's port."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from alcove.functions.request_log import RequestLog
from alcove.guest.runtimes.java_command import command as java_command
from alcove.wire.frame import HEADER, MAX_CHUNK, Frame, Kind, encode, parse_header

SOURCES = Path(__file__).parents[1] / "src"
RUNTIMES = SOURCES / "alcove/guest/runtimes"
ARN = "arn:aws:lambda:local:000000000000:function:sample"


class RuntimeProcess:
    """Speaks the invocation channel's protocol with a runtime of its own."""

    def __init__(self, argv: Sequence[str], *, channel_fd: int = 0) -> None:
        self.socket, theirs = socket.socketpair()
        self.socket.settimeout(30)
        self._number = 0
        self._out = tempfile.TemporaryFile()
        self._err = tempfile.TemporaryFile()
        environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(SOURCES)}
        command = list(argv)
        if channel_fd:
            # As the agent does it: a descriptor that is named in the environment.
            environment["ALCOVE_CHANNEL_FD"] = str(channel_fd)
            command = ["/bin/sh", "-c", f'exec "$@" {channel_fd}<&0 0</dev/null', "sh", *argv]
        self.process = subprocess.Popen(
            command,
            stdin=theirs.fileno(),
            stdout=self._out,
            stderr=self._err,
            env=environment,
            start_new_session=True,
        )
        theirs.close()
        try:
            ready = self.receive()
            assert ready.kind is Kind.READY, ready
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self.socket.close()
        try:
            self.process.wait(0.5)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        self._out.close()
        self._err.close()

    # Frames

    def _read(self, count: int) -> bytes:
        data = bytearray()
        while len(data) < count:
            chunk = self.socket.recv(min(count - len(data), 1 << 20))
            if not chunk:
                raise EOFError(self.stderr())
            data += chunk
        return bytes(data)

    def receive(self) -> Frame:
        length, kind, id = parse_header(self._read(HEADER.size))
        return Frame(kind, id, self._read(length))

    def send(self, kind: Kind, payload: bytes = b"") -> int:
        self._number += 1
        self.socket.sendall(encode(kind, self._number, payload))
        return self._number

    def request(self, kind: Kind, payload: bytes = b"") -> Frame:
        number = self.send(kind, payload)
        frame = self.receive()
        assert frame.id == number
        return frame

    # Operations

    def load(self, root: Path, handler: str = "app.handler", **fields: Any) -> Frame:
        return self.request(Kind.LOAD, load_payload(root, handler, **fields))

    def loaded(self, root: Path, handler: str = "app.handler", **fields: Any) -> Self:
        frame = self.load(root, handler, **fields)
        assert frame.kind is Kind.LOADED, frame.payload
        assert json.loads(frame.payload)["init_ms"] >= 0
        return self

    def fails_to_load(self, root: Path, handler: str = "app.handler", **fields: Any) -> Any:
        frame = self.load(root, handler, **fields)
        assert frame.kind is Kind.FAILURE, frame
        return json.loads(frame.payload)

    def invoke(self, event: bytes = b"{}", **call: Any) -> Frame:
        return self.request(Kind.INVOKE, invoke_payload(event, **call))

    def streamed(self, event: Any = None, **call: Any) -> tuple[str, bytes, Any]:
        """Return a streamed answer's type, its bytes and the error that ended it, if any."""
        number = self.send(Kind.INVOKE, invoke_payload(json.dumps(event).encode(), **call))
        frame = self.receive()
        assert (frame.kind, frame.id) == (Kind.STREAM, number), frame
        content_type, data = frame.payload.decode(), b""
        while (frame := self.receive()).kind is Kind.CHUNK:
            assert frame.id == number
            assert len(frame.payload) <= MAX_CHUNK
            data += frame.payload
        assert (frame.kind, frame.id) == (Kind.END, number), frame
        return content_type, data, json.loads(frame.payload) if frame.payload else None

    def result(self, event: Any = None, **call: Any) -> Any:
        frame = self.invoke(json.dumps(event).encode(), **call)
        assert frame.kind is Kind.RESULT, frame.payload[:4096]
        return json.loads(frame.payload)

    def failure(self, event: Any = None, **call: Any) -> Any:
        frame = self.invoke(json.dumps(event).encode(), **call)
        assert frame.kind is Kind.FAILURE, frame
        return json.loads(frame.payload)

    def hook(self, name: str) -> Frame:
        return self.request(Kind.HOOK, json.dumps({"hook": name}).encode())

    def unload(self) -> None:
        assert self.request(Kind.UNLOAD).kind is Kind.DONE

    # What it printed

    def stdout(self) -> str:
        return os.pread(self._out.fileno(), 1 << 24, 0).decode(errors="replace")

    def stderr(self) -> str:
        return os.pread(self._err.fileno(), 1 << 24, 0).decode(errors="replace")

    def marked(self, request_id: str = "r-1") -> bool:
        """Wait a moment for the marker of a request's end."""
        marker = f"\0alcove:end:{request_id}\0"
        return eventually(lambda: marker in self.stderr())


def eventually(condition: Any, patience_s: float = 5.0) -> bool:
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.01)
    return False


def load_payload(root: Path, handler: str, **fields: Any) -> bytes:
    document = {
        "handler": handler,
        "task_root": str(root),
        "environment": {},
        "function_name": "sample",
        "version": "7",
        "arn": ARN,
        "memory_mib": 256,
        "timeout_s": 3,
        "log_group": "/alcove/sample",
        "log_stream": "[7]",
        "rehearsal": False,
    }
    return json.dumps({**document, **fields}).encode()


def invoke_payload(event: bytes, **call: Any) -> bytes:
    document = {
        "request_id": "r-1",
        "deadline_ms": int(time.time() * 1000) + 3000,
        "arn": ARN,
        "trace_id": None,
        "client_context": None,
    }
    metadata = json.dumps({**document, **call}).encode()
    return len(metadata).to_bytes(2, "big") + metadata + event


def python_runtime() -> RuntimeProcess:
    code = "from alcove.guest.runtimes.python import main; main()"
    return RuntimeProcess([sys.executable, "-B", "-c", code])


def node_runtime() -> RuntimeProcess:
    return RuntimeProcess(["node", str(RUNTIMES / "node.js")], channel_fd=3)


def provided_runtime(*, channel_fd: int = 0) -> RuntimeProcess:
    # Any free port in place of 9001: tests run side by side.
    code = "from alcove.guest.runtimes import provided; provided.PORT = 0; provided.main()"
    return RuntimeProcess([sys.executable, "-B", "-c", code], channel_fd=channel_fd)


def php_runtime() -> RuntimeProcess:
    # The host scans for extensions that the guest names itself.
    command = ["env", "PHP_INI_SCAN_DIR=", "php8.2", "-c", str(RUNTIMES / "php.ini"), str(RUNTIMES / "php.php")]
    return RuntimeProcess(command, channel_fd=3)


def compile_java(target: Path, *sources: Path, classpath: Path | None = None) -> Path:
    """Compile with the compiler that Debian's runtime package brings, as the guest image's builder does."""
    options = ["-d", str(target), *(["-cp", str(classpath)] if classpath else [])]
    command = ["java", "-m", "jdk.compiler/com.sun.tools.javac.Main", "-nowarn", *options, *map(str, sources)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return target


def java_runtime(classes: Path) -> RuntimeProcess:
    return RuntimeProcess(java_command("java", str(classes)), channel_fd=3)


def cut(runtime: RuntimeProcess, request_ids: Sequence[str]) -> dict[str, str]:
    """Return what each of these requests printed, as the host tells it apart."""
    log, found = RequestLog(), dict[str, str]()
    for request_id in request_ids:
        log.expect(request_id)
        log.report(request_id, lambda text, name=request_id: found.__setitem__(name, text.decode()))  # type: ignore[misc]
    for stream, text in ((1, runtime.stdout()), (2, runtime.stderr())):
        log.write(stream, text.encode())
    return found
