"""A process's standard input and output: the FIFOs that containerd names, and never a wait for whoever has them open.

Output: at most what the agent may send without being told that it was written (its credit, 256 KiB a process) waits
here; where nobody reads, the FIFO fills, then this, then the process in the guest waits, and nothing else does. Input:
read only while the guest has taken what was read before.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from urllib.parse import unquote

from alcove.shim.loop import READ, WRITE, Future, Loop

CHUNK = 64 * 1024
# The agent is told of so much at a time; well under its credit.
ACK_STEP = 64 * 1024
# What the agent ever sends that it was not told of (guest/streams.py): its credit, a chunk of each stream beyond it,
# and of each what was in its pipe when the process ended.
MOST_WAITING = 256 * 1024 + 2 * (32 * 1024 + 1024 * 1024)


class UnsupportedStdio(ValueError):
    """containerd named something that is neither a FIFO nor a file."""


class Overdrawn(ValueError):
    """The agent sent more than it ever does: what runs in the guest is not our agent any more."""


class Output:
    """One of a process's streams. ``on_written(bytes)`` says that so much has left us."""

    def __init__(self, loop: Loop, uri: str, on_written: Callable[[int], None]) -> None:
        """Open the stream. Raises ``OSError``, ``UnsupportedStdio``."""
        self._loop = loop
        self._on_written = on_written
        self._waiting = bytearray()
        self._ending = False
        self.ended: Future[None] = loop.future()
        self._fd = _open_output(uri)
        if self._fd < 0:
            self.ended.set_result(None)

    def write(self, data: bytes) -> None:
        if self._fd < 0:
            # Nobody wants it: the process must not wait for anyone.
            self._on_written(len(data))
            return
        self._waiting += data
        self._flush()

    def end(self) -> None:
        """No more comes: the reader is told so as soon as it has taken what waits."""
        self._ending = True
        if not self._waiting:
            self.close()

    def close(self) -> None:
        if self._fd >= 0:
            self._loop.unwatch(self._fd)
            os.close(self._fd)
            self._fd = -1
        self._waiting.clear()
        self.ended.set_result(None)

    def _flush(self) -> None:
        written = 0
        try:
            while self._waiting:
                written += (count := os.write(self._fd, self._waiting[:CHUNK]))
                del self._waiting[:count]
        except BlockingIOError:
            self._loop.watch(self._fd, WRITE, lambda events: self._flush())
        except OSError:
            # A full disk under a log file, say: what cannot be written is lost, the process goes on.
            written += len(self._waiting)
            self._waiting.clear()
        if not self._waiting:
            self._loop.unwatch(self._fd)
        if written:
            self._on_written(written)
        if self._ending and not self._waiting:
            self.close()


def _open_output(uri: str) -> int:
    """Return the descriptor, or -1 where no output is wanted."""
    if not uri:
        return -1
    scheme, separator, path = uri.partition("://")
    if not separator:
        # Both ends of a FIFO: opening waits for no reader, and one that goes away and comes back is no error.
        return os.open(uri, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    if scheme == "fifo":
        return os.open(unquote(path), os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    if scheme == "file":
        return os.open(unquote(path), os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    raise UnsupportedStdio(f"output to {scheme}:// is not supported: use a FIFO or file://")


class Input:
    """A process's standard input. It ends when ``close_writer`` was called and every other writer has gone."""

    def __init__(self, loop: Loop, path: str) -> None:
        """Open the FIFO. Raises ``OSError``."""
        self._loop = loop
        self._fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        # Our own writer: a client that detaches, and may attach again, is not the end.
        self._writer = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        self._arrival: Future[None] | None = None

    async def read(self) -> bytes:
        """Return what was written, or nothing at the end."""
        while self._fd >= 0:
            try:
                return os.read(self._fd, CHUNK)
            except BlockingIOError:
                await self._wait()
        return b""

    def close_writer(self) -> None:
        if self._writer >= 0:
            os.close(self._writer)
            self._writer = -1

    def close(self) -> None:
        self.close_writer()
        if self._fd >= 0:
            self._loop.unwatch(self._fd)
            os.close(self._fd)
            self._fd = -1
        self._wake()

    async def _wait(self) -> None:
        arrival: Future[None] = self._loop.future()
        self._arrival = arrival
        self._loop.watch(self._fd, READ, lambda events: self._wake())
        await arrival
        if self._fd >= 0:
            self._loop.unwatch(self._fd)

    def _wake(self) -> None:
        if self._arrival is not None:
            self._arrival.set_result(None)
            self._arrival = None


class Stdio:
    """All three of a process. ``acknowledge(bytes)`` gives the agent credit for output that has left us."""

    def __init__(self, loop: Loop, *, stdin: str, stdout: str, stderr: str, acknowledge: Callable[[int], None]) -> None:
        self._acknowledge = acknowledge
        self._written = 0
        # Sent to us and not acknowledged.
        self._held = 0
        self._outputs: list[Output] = []
        self.input: Input | None = None
        try:
            for uri in (stdout, stderr):
                self._outputs.append(Output(loop, uri, self._on_written))
            self.input = Input(loop, stdin) if stdin else None
        except BaseException:
            self.close()
            raise

    def write(self, stream: int, data: bytes) -> None:
        """Take what the process wrote on ``stream``: 1 or 2. Raises ``Overdrawn``."""
        self._held += len(data)
        if self._held > MOST_WAITING:
            raise Overdrawn(f"{self._held} bytes of output were sent, of at most {MOST_WAITING} that wait")
        self._outputs[1 if stream == 2 else 0].write(data)

    def end(self) -> None:
        """The process has ended: its readers are told when they have read what waits."""
        for output in self._outputs:
            output.end()
        if self.input is not None:
            self.input.close()

    async def drained(self) -> None:
        """Wait until every reader has taken everything."""
        for output in self._outputs:
            await output.ended

    def close(self) -> None:
        for output in self._outputs:
            output.close()
        if self.input is not None:
            self.input.close()

    def _on_written(self, count: int) -> None:
        self._written += count
        if self._written >= ACK_STEP:
            self._held -= self._written
            self._acknowledge(self._written)
            self._written = 0
