"""``_X_AMZN_TRACE_ID`` of requests that share a process: each finds its own in ``os.environ``, as on AWS, where each
has a process of its own.

Tasks of asyncio and what ``contextvars`` is copied to inherit it; threads that a function starts itself find none.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextvars import ContextVar

NAME = "_X_AMZN_TRACE_ID"
_trace: ContextVar[str] = ContextVar("trace", default="")


class RequestEnviron(os._Environ[str]):
    """The process's environment, and the running request's variable."""

    def __getitem__(self, key: str) -> str:
        if key == NAME and (own := _trace.get()):
            return own
        return super().__getitem__(key)

    def __iter__(self) -> Iterator[str]:
        if _trace.get():
            yield NAME
        yield from (key for key in super().__iter__() if key != NAME or not _trace.get())

    def __len__(self) -> int:
        return sum(1 for _ in self)


def install() -> None:
    """``os.environ`` stays the object that others have taken hold of."""
    os.environ.__class__ = RequestEnviron


def begin(trace_id: str) -> None:
    """What this thread reads from now on is that request's."""
    _trace.set(trace_id)
