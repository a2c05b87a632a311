"""Invocations, watched: whoever counts, bills or traces them is told of each at one place.

Observers are told before the answer leaves, on the way of every call: they must return at once.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Sequence
from typing import Protocol, Unpack

import msgspec

from alcove.errors import AlcoveError
from alcove.functions.dispatcher import Dispatcher
from alcove.functions.model import FunctionVersion, InvokeOptions, InvokeResult
from alcove.functions.streaming import AnswerStream
from alcove.wire.trace import TraceContext, continue_trace

log = logging.getLogger(__name__)


class Observation(msgspec.Struct, frozen=True):
    """One invocation that was answered. ``began_ns`` is Unix time; ``duration_s`` is all that the platform took."""

    function: FunctionVersion
    result: InvokeResult
    trace: TraceContext
    began_ns: int
    duration_s: float
    streamed_bytes: int = 0


class Observer(Protocol):
    def answered(self, seen: Observation) -> None:
        """The answer, of the function or of its failure, is about to leave."""
        ...

    def refused(self, function: FunctionVersion, error: AlcoveError) -> None:
        """It was not run."""
        ...


class ObservedDispatcher(Dispatcher):
    """``observers`` are told in their order; ``sample`` is the share of traces that begin here to be recorded."""

    observers: Sequence[Observer] = ()
    sample: float = 0.0

    async def invoke(self, function: FunctionVersion, event: bytes, **options: Unpack[InvokeOptions]) -> InvokeResult:
        sampled = random.random() < self.sample
        trace = options.get("trace") or continue_trace(options.get("trace_id", ""), sample=sampled)
        options |= {"trace": trace, "trace_id": trace.xray}
        sink = options.get("sink")
        if isinstance(sink, AnswerStream):
            sink.trace = trace
        began_ns, clock = time.time_ns(), time.perf_counter()
        try:
            result = await super().invoke(function, event, **options)
        except AlcoveError as error:
            for observer in self.observers:
                _tell(observer.refused, function, error)
            raise
        spent_s = time.perf_counter() - clock
        # Of an answer that was cut short, the sink alone knows.
        streamed = max(result.streamed_bytes, getattr(sink, "size", 0))
        seen = Observation(function, result, trace, began_ns, spent_s, streamed)
        for observer in self.observers:
            _tell(observer.answered, seen)
        return result


def _tell(told: Callable[..., None], *arguments: object) -> None:
    """A mistake of one that watches costs neither the call nor the others."""
    try:
        told(*arguments)
    except Exception:
        log.exception("an observer of invocations failed")
