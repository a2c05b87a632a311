"""Invocations of type ``Event``: accepted, answered 202, run afterwards.

They are kept in memory: what waits when the daemon ends is lost, and a function's error is not
retried. The queue that survives and retries belongs to a later release. What the host has no room
for now is tried again for ``PATIENCE_S``.
"""

from __future__ import annotations

import asyncio
import logging
import time

from alcove.errors import RetryLater, ThrottledError
from alcove.functions.model import DispatcherProtocol, FunctionVersion

log = logging.getLogger(__name__)

QUEUE_LIMIT = 1000
PATIENCE_S = 300.0
_MAX_DELAY_S = 20.0


class BackgroundInvocations:
    def __init__(self, dispatcher: DispatcherProtocol) -> None:
        self._dispatcher = dispatcher
        self._tasks: set[asyncio.Task[None]] = set()

    def accept(self, function: FunctionVersion, event: bytes, trace_id: str) -> None:
        """Take the event over. Raises ``ThrottledError`` where too many wait."""
        if len(self._tasks) >= QUEUE_LIMIT:
            raise ThrottledError("Rate Exceeded.", hint="too many asynchronous invocations wait")
        task = asyncio.get_running_loop().create_task(self._run(function, event, trace_id))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self, grace_s: float = 5.0) -> None:
        """Let what runs finish for ``grace_s``; then it is dropped, and the log says how much."""
        if self._tasks:
            _, left = await asyncio.wait(self._tasks, timeout=grace_s)
            if left:
                log.warning("%d asynchronous invocations are dropped", len(left))
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)

    async def _run(self, function: FunctionVersion, event: bytes, trace_id: str) -> None:
        give_up_s = time.monotonic() + PATIENCE_S
        delay_s = 0.5
        while True:
            try:
                result = await self._dispatcher.invoke(function, event, trace_id=trace_id)
            except RetryLater as error:
                if time.monotonic() + delay_s > give_up_s:
                    log.warning("event for %s dropped: %s", function.arn, error)
                    return
            except Exception:
                log.exception("event for %s dropped", function.arn)
                return
            else:
                if result.error:
                    log.info("event for %s ended in an error: %s", function.arn, result.error)
                return
            await asyncio.sleep(delay_s)
            delay_s = min(2 * delay_s, _MAX_DELAY_S)
