"""Invocations in hand: those that the bootstrap has not fetched yet, and those that it has and must answer."""

from __future__ import annotations

import os
from collections import deque
from typing import Any

from alcove.guest.runtimes.channel import Channel
from alcove.wire.frame import MAX_CHUNK, Kind


class Call:
    """One invocation. ``metadata`` as INVOKE has it; ``answer`` is called once. ``begun``: its answer is being
    streamed.
    """

    def __init__(self, channel: Channel, frame_id: int, metadata: dict[str, Any], event: bytes) -> None:
        self._channel = channel
        self._frame_id = frame_id
        self.request_id: str = metadata["request_id"]
        self.metadata = metadata
        self.event = event
        self.begun = False

    @property
    def shared(self) -> bool:
        """Whether others may be in hand with it."""
        return bool(self.metadata.get("shared"))

    def begin(self, content_type: str) -> None:
        self.begun = True
        self._channel.send(Kind.STREAM, self._frame_id, content_type.encode())

    def write(self, data: bytes) -> None:
        """Waits while the host has no room; the bootstrap then waits too."""
        for start in range(0, len(data), MAX_CHUNK):
            self._channel.send(Kind.CHUNK, self._frame_id, data[start : start + MAX_CHUNK])

    def answer(self, kind: Kind, payload: bytes) -> None:
        """Send RESULT or FAILURE, and mark the end of what was printed meanwhile."""
        if self.begun:
            kind, payload = Kind.END, b"" if kind is Kind.RESULT else payload
        self._channel.send(kind, self._frame_id, payload)
        try:
            os.write(2, b"\0alcove:end:%s\0" % self.request_id.encode())
        except OSError:
            pass


class Calls:
    """All that are in hand, ``len`` of them. ``limit`` is how many the bootstrap may have fetched at once."""

    def __init__(self) -> None:
        self.limit = 1
        self._waiting: deque[Call] = deque()
        self._fetched: dict[str, Call] = {}
        self._settled: list[tuple[Call, Kind, bytes]] = []

    def __len__(self) -> int:
        return len(self._waiting) + len(self._fetched)

    @property
    def full(self) -> bool:
        return len(self._fetched) >= self.limit

    @property
    def alone(self) -> bool:
        """Whether one is in hand beside which the host sends no other."""
        return any(not call.shared for call in (*self._waiting, *self._fetched.values()))

    def add(self, call: Call) -> None:
        self._waiting.append(call)

    def fetch(self) -> Call | None:
        """Return the one that has waited longest; the bootstrap must answer it. Two of one id are not out at once."""
        for call in self._waiting:
            if call.request_id not in self._fetched and not self.full:
                self._waiting.remove(call)
                self._fetched[call.request_id] = call
                return call
        return None

    def find(self, request_id: str) -> Call | None:
        return self._fetched.get(request_id)

    def settle(self, call: Call, kind: Kind, payload: bytes) -> None:
        """It is over. The host is told by ``deliver``: the bootstrap does not wait for the host."""
        del self._fetched[call.request_id]
        self._settled.append((call, kind, payload))

    def deliver(self) -> None:
        settled, self._settled = self._settled, []
        for call, kind, payload in settled:
            call.answer(kind, payload)

    def take_all(self) -> list[Call]:
        """Return what is in hand, and have nothing in hand any more."""
        found = [*self._fetched.values(), *self._waiting]
        self._waiting.clear()
        self._fetched.clear()
        return found
