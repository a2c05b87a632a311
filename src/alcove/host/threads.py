"""Work in threads that a cancellation does not cut off from who must undo it.

``asyncio.to_thread`` and ``run_in_executor`` return at once when they are cancelled, and the thread goes on by itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


async def to_the_end(work: Callable[P, T], *arguments: P.args, **keywords: P.kwargs) -> T:
    """Run ``work`` in a thread. A cancellation takes effect after it: nothing is freed that it still uses or makes."""
    return await finish(asyncio.ensure_future(asyncio.to_thread(work, *arguments, **keywords)))


async def finish(running: asyncio.Future[T]) -> T:
    """Wait for ``running``. A cancellation takes effect when it is done; its result is then there for who cleans up."""
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        while not running.done():
            try:
                await asyncio.wait([running])
            except asyncio.CancelledError:
                continue
        if not running.cancelled():
            running.exception()
        raise
