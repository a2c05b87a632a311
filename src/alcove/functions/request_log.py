"""What the requests in one sandbox print, told apart by request, bounded.

The runtime writes the marker ``\\0alcove:end:<request id>\\0`` to stderr after each answer; everything before it
belongs to that request. Where requests share an instance, ``\\0alcove:of:<request id>\\0`` says whose the rest of a
stream is until the next marker; with no id, nobody's, which goes to the request that ends first. A function can forge
markers or print for ever: it then only muddles its own log, and what is kept of a request is at most ``REQUEST_BYTES``.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Callable

REQUEST_BYTES = 256 * 1024
# What is kept of each request's own output at least, however many share an instance.
OWN_BYTES = 8 * 1024
# How long an answer that wants its log's tail waits for the marker.
MARKER_WAIT_S = 1.0

_MARKER = re.compile(rb"\0alcove:(?:end:([^\0]{1,128})|of:([^\0]{0,128}))\0")
_ALONE = re.compile(rb"\0alcove:end:([^\0]{1,128})\0")
# The beginning of a marker, whose end has not come yet.
_BEGUN = re.compile(rb"\0(?:a?|al|alc|alco|alcov|alcove|alcove:[^\0]{0,132})\Z")

# Called with a request's whole output, once.
OutputSink = Callable[[bytes], None]


class RequestLog:
    """Collects the output of one sandbox and cuts it by request.

    Answers and output travel on different channels, so a request's output may end after its answer, when the next
    request is already in the sandbox. Only markers of requests that are expected count.
    """

    def __init__(self) -> None:
        # By request, and "": nobody's.
        self._texts: dict[str, bytearray] = {}
        self._dropped: Counter[str] = Counter()
        # By stream: whose it is now, and a marker that has not come whole.
        self._owners: dict[int, str] = {}
        self._begun: dict[int, bytes] = {}
        self._expected: dict[str, OutputSink | None] = {}
        self._complete: dict[str, bytes] = {}
        self._waiters: dict[str, asyncio.Future[None]] = {}

    def expect(self, request_id: str) -> None:
        """A request is about to enter the sandbox."""
        self._expected[request_id] = None

    def write(self, stream: int, data: bytes) -> None:
        """Take output as it comes. Over ``REQUEST_BYTES`` for a request only the end is kept, where markers are."""
        alone = None if self._texts or self._begun else _ALONE.fullmatch(data)
        if alone is not None:
            # Most requests print nothing.
            self._marked(alone[1])
            return
        data = self._begun.pop(stream, b"") + data
        at = 0
        for match in _MARKER.finditer(data):
            self._take(stream, data[at : match.start()])
            at = match.end()
            if match[1] is not None:
                self._marked(match[1])
            else:
                self._owners[stream] = match[2].decode(errors="replace")
        begun = _BEGUN.search(data, at)
        end = begun.start() if begun else len(data)
        if begun:
            self._begun[stream] = data[end:]
        self._take(stream, data[at:end])

    def _take(self, stream: int, text: bytes) -> None:
        if not text:
            return
        owner = self._owners.get(stream, "")
        owner = owner if owner in self._expected else ""
        held = self._texts.setdefault(owner, bytearray())
        held += text
        excess = len(held) - max(OWN_BYTES, REQUEST_BYTES // len(self._texts))
        if excess > 0:
            del held[:excess]
            self._dropped[owner] += excess

    def _marked(self, name: bytes) -> None:
        """A request that was expected gets its text, and nobody's."""
        request_id = name.decode(errors="replace")
        if request_id in self._expected:
            self._end(request_id)

    def report(self, request_id: str, sink: OutputSink) -> None:
        """Have ``sink`` called with the request's output: now if it is complete, else when it is."""
        text = self._complete.pop(request_id, None)
        if text is None:
            self._expected[request_id] = sink
        else:
            sink(text)

    async def settle(self, request_id: str) -> None:
        """Wait, not for ever, until the output of the request is all there."""
        if request_id not in self._expected:
            return
        waiter = self._waiters[request_id] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(MARKER_WAIT_S):
                await waiter
        except TimeoutError:
            pass
        finally:
            self._waiters.pop(request_id, None)

    def flush(self) -> None:
        """The sandbox has ended, or a marker never came: whoever waits gets what is there."""
        for stream in list(self._begun):
            self._take(stream, self._begun.pop(stream))
        for request_id in list(self._expected):
            self._end(request_id)

    def _end(self, request_id: str) -> None:
        dropped = self._dropped.pop(request_id, 0) + self._dropped.pop("", 0)
        text = bytes(self._texts.pop(request_id, b"") + self._texts.pop("", b""))
        if dropped:
            text = f"[alcove: {dropped} bytes of output dropped]\n".encode() + text
        sink = self._expected.pop(request_id)
        if sink is None:
            self._complete[request_id] = text
        else:
            sink(text)
        waiter = self._waiters.get(request_id)
        if waiter is not None and not waiter.done():
            waiter.set_result(None)
