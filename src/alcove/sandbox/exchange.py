"""One request on the invocation channel, and its answer: a frame, or the parts of one that is streamed."""

from __future__ import annotations

import asyncio

from alcove.sandbox.protocol import AnswerSink
from alcove.wire.frame import MAX_CHUNK, Frame, FrameError, Kind

ANSWERS = {
    Kind.LOAD: (Kind.LOADED, Kind.FAILURE),
    Kind.INVOKE: (Kind.RESULT, Kind.FAILURE, Kind.END),
    Kind.HOOK: (Kind.DONE, Kind.FAILURE),
    Kind.UNLOAD: (Kind.DONE,),
    Kind.PING: (Kind.PONG,),
}
_STREAMED = (Kind.STREAM, Kind.CHUNK, Kind.END)
_TYPE_LIMIT = 256


class Exchange:
    """``answer`` is done with the last frame; ``content_type`` is that of an answer that is being streamed; ``room``
    says whether its sink takes more.
    """

    __slots__ = ("answer", "content_type", "kind", "room", "shared", "sink", "streamed")

    def __init__(self, loop: asyncio.AbstractEventLoop, kind: Kind, *, shared: bool, sink: AnswerSink | None) -> None:
        self.kind = kind
        self.shared = shared
        self.sink = sink
        self.content_type: str | None = None
        self.room = True
        self.streamed = 0  # bytes of the answer so far
        self.answer: asyncio.Future[Frame] = loop.create_future()

    def receive(self, frame: Frame) -> bool:
        """Take a frame; return whether the answer is whole. Raises ``FrameError`` for what is not due."""
        if self.sink is not None and (frame.kind in _STREAMED or self.content_type is not None):
            self._receive_part(frame, self.sink)
            if frame.kind is not Kind.END:
                return False
        elif frame.kind not in ANSWERS[self.kind]:
            raise FrameError(f"{frame.kind.name} is no answer to {self.kind.name}")
        # A shared one that has timed out is still answered.
        if not self.answer.done():
            self.answer.set_result(frame)
        return True

    def _receive_part(self, frame: Frame, sink: AnswerSink) -> None:
        """STREAM, CHUNKs, END: in this order, within the limits."""
        if (frame.kind is Kind.STREAM) is not (self.content_type is None) or frame.kind not in _STREAMED:
            raise FrameError(f"{frame.kind.name} does not come at this point of an answer")
        if frame.kind is Kind.STREAM:
            self.content_type = _content_type(frame.payload)
            sink.begin(self.content_type)
        elif frame.kind is Kind.CHUNK:
            if len(frame.payload) > MAX_CHUNK:
                raise FrameError(f"a part of {len(frame.payload)} bytes is over the limit of {MAX_CHUNK}")
            self.streamed += len(frame.payload)
            self.room = self.answer.done() or sink.write(frame.payload)

    def fail(self, failure: Exception) -> None:
        if not self.answer.done():
            self.answer.set_exception(failure)
            # Nobody may be waiting any more.
            self.answer.exception()


def _content_type(payload: bytes) -> str:
    """Read STREAM. What is no header's value would harm whoever hands it on."""
    text = payload.decode("ascii", "replace")
    if not 0 < len(text) <= _TYPE_LIMIT or not text.isprintable():
        raise FrameError("a streamed answer's type is malformed")
    return text
